/** @file Chat templates: where they are found, what they are given, and what is said of conversations and templates that are wrong. */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { ChatMessage, ChatTemplateOptions } from "../../../src/tokenizer/chat-template.ts";
import { loadTokenizer } from "../../../src/tokenizer/load.ts";
import type { Tokenizer, TokenizerConfig } from "../../../src/tokenizer/tokenizer.ts";
import { chatTokenizer, chatTokenizerJson, templateText } from "../../support/chat.ts";

const USER: ChatMessage = { role: "user", content: "Hi" };
const small = (template: string, config: TokenizerConfig = {}) =>
  chatTokenizer({ name: "small", template, bos: "<s>", eos: "</s>", adds_bos: false }, config);
const text = (tokenizer: Tokenizer, options?: ChatTemplateOptions, messages = [USER]) =>
  tokenizer.applyChatTemplate(messages, options).text;

describe("where a template is found", () => {
  let dir: string;
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), "chat-"));
    await put("tokenizer.json", JSON.stringify(chatTokenizerJson()));
  });
  afterEach(() => rm(dir, { recursive: true }));
  const put = (name: string, contents: string) => writeFile(join(dir, name), contents);
  const config = (chat_template: unknown) =>
    put("tokenizer_config.json", JSON.stringify({ bos_token: "<s>", eos_token: "</s>", chat_template }));

  it("in tokenizer_config.json, or before that in chat_template.jinja", async () => {
    await config("config {{ bos_token }}");
    expect(text(await loadTokenizer(dir))).toBe("config <s>");
    await put("chat_template.jinja", "file {{ eos_token }}\r\n");
    expect(text(await loadTokenizer(dir))).toBe("file </s>");
  });

  it("one of several by its name, with tools the one for tools", async () => {
    await config([
      { name: "default", template: "plain" },
      { name: "tool_use", template: "with tools" },
      { name: "rag", template: "with documents" },
    ]);
    const tokenizer = await loadTokenizer(dir);
    expect([...tokenizer.chatTemplates.keys()]).toEqual(["default", "tool_use", "rag"]);
    expect(text(tokenizer)).toBe("plain");
    expect(text(tokenizer, { template: "rag" })).toBe("with documents");
    expect(text(tokenizer, { args: { tools: [{ name: "weather" }] } })).toBe("with tools");
    expect(text(tokenizer, { template: "given {{ messages[0].role }}" })).toBe("given user");
    expect(() => text(tokenizer, { template: "rog" })).toThrow(
      `${join(dir, "tokenizer.json")}: found no chat template "rog", expected one of default, tool_use, rag. Fix: name the template, such as "rag"`,
    );
  });

  it("in additional_chat_templates, none of which stands for another", async () => {
    await mkdir(join(dir, "additional_chat_templates"));
    await put("additional_chat_templates/rag.jinja", "documents");
    const tokenizer = await loadTokenizer(dir);
    expect(text(tokenizer, { template: "rag" })).toBe("documents");
    expect(() => text(tokenizer)).toThrow(
      "found several chat templates, none of them called default, expected one of rag. Fix: name the template",
    );
  });

  it("nowhere: the error says what to do", async () => {
    const tokenizer = await loadTokenizer(dir);
    expect(tokenizer.chatTemplates.size).toBe(0);
    expect(() => text(tokenizer)).toThrow(
      `${join(dir, "tokenizer.json")}: found a model without a chat template, expected one that says how a conversation is written: ` +
        "chat_template.jinja, or chat_template in tokenizer_config.json. Fix: use a model that was trained to chat",
    );
  });

  it("a configuration of another kind troubles nobody but who chats", async () => {
    await config([{ name: "default" }]);
    const tokenizer = await loadTokenizer(dir);
    expect(tokenizer.encode("Hi").length).toBeGreaterThan(0);
    expect(() => text(tokenizer)).toThrow(
      'chat_template: found [{"name":"default"}], expected a Jinja template, or a list',
    );
  });
});

describe("a template that is wrong", () => {
  it("one that does not parse is shown with what is wrong with it", () => {
    expect(() => text(small("{% for m in messages %}{{ m.content }}"))).toThrow(
      /tokenizer, chat template: found a template that cannot be read \(.+\): it begins "\{% for m in messages/,
    );
  });

  it("its own error is shown, with the roles it is about", () => {
    const gemma = chatTokenizer({ name: "gemma", bos: "<bos>", eos: "<eos>", adds_bos: true });
    expect(() => text(gemma, {}, [{ role: "system", content: "Be brief." }, USER])).toThrow(
      'messages: found roles (system, user) that the model\'s chat template refuses: "System role not supported", expected a conversation ' +
        "as the template wants it. Fix: change the roles or their order; some models know no system message: put its text into the first user message",
    );
    expect(() => text(gemma, { where: "chat.jsonl, line 3" }, [USER, USER])).toThrow(
      "chat.jsonl, line 3: found roles (user, user) that the model's chat template refuses: \"Conversation roles must alternate",
    );
  });

  it("one that fails, runs for ever or counts too far is named", () => {
    expect(() => text(small("{{ messages[0].content + missing }}"))).toThrow(
      "tokenizer, chat template: found a template that fails on messages (roles user): Cannot perform operation + on undefined",
    );
    expect(() => text(small("{% for i in range(1000000000) %}{% endfor %}"))).toThrow("range() of 1000000000 numbers");
    expect(text(small("{% for i in range(3) %}{{ i }}{% endfor %}{{ range(5, 0, -2) | join }}"))).toBe("012531");
  });

  it("cannot reach what is not data", () => {
    expect(() => text(small("{{ messages.constructor.constructor('return 1')() }}"))).toThrow("chat template");
    expect(text(small("[{{ __proto__.x }}{{ messages[0]['constructor']['name'] }}{{ process }}]"))).toBe("[]");
  });
});

describe("messages", () => {
  const chatml = small("{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}");

  it.each<[unknown, string]>([
    ["Hi", 'messages: found "Hi", expected a list of messages: [{"role": "user"'],
    [[], "messages: found no messages, expected at least one"],
    [["Hi"], 'messages, message 1: found "Hi", expected an object with role and content'],
    [[USER, { content: "x" }], "messages, message 2, role: found undefined, expected who speaks"],
    [[{ role: "user" }], "messages, message 1, content: found nothing, expected a text"],
    [[{ role: "user", content: null }], "messages, message 1, content: found nothing, expected a text"],
    [
      [{ role: "user", content: 17 }],
      "messages, message 1, content: found 17, expected a text, or a list of text parts",
    ],
    [[{ from: "human", value: "Hi" }], "messages, message 1: found the fields from and value (ShareGPT's)"],
    [
      [{ role: "user", content: [{ type: "image_url", image_url: "x" }] }],
      'content, part 1: found a part of type "image_url", expected a text part',
    ],
    [[{ role: "user", content: [{ type: "text" }] }], 'content, part 1: found {"type":"text"}, expected a text part'],
  ])("%j", (given, message) => {
    expect(() => chatml.applyChatTemplate(given as ChatMessage[])).toThrow(message);
  });

  it("text parts are joined for a template that shows text, and given as they are to one that shows parts", () => {
    const parts = [
      {
        role: "user",
        content: [
          { type: "text", text: "a" },
          { type: "text", text: "b" },
        ],
      } as const,
    ];
    expect(text(chatml, {}, parts as never)).toBe("<user>a\nb</>");
    const typed = small("{% for m in messages %}{% for p in m.content %}({{ p.text }}){% endfor %}{% endfor %}");
    expect(text(typed, {}, parts as never)).toBe("(a)(b)");
    expect(text(typed)).toBe("(Hi)"); // such a template would lose a text
    const qwen3 = chatTokenizer({ name: "qwen3", bos: null, eos: "<|im_end|>", adds_bos: false });
    expect(text(qwen3, {}, parts as never)).toBe("<|im_start|>user\na\nb<|im_end|>\n");
  });

  it("what a message says is data: no template, no escape", () => {
    const content = "{{ 1 + 1 }} {% if x %} \\n </> {# c #}";
    expect(text(chatml, {}, [{ role: "user", content }])).toBe(`<user>${content}</>`);
  });
});

describe("options", () => {
  it("variables of the template: more than its own, in place of a special token, but not its messages", () => {
    const tokenizer = small("{{ bos_token }}{{ name }}{% if add_generation_prompt %}>{% endif %}");
    expect(text(tokenizer, { args: { name: "x", bos_token: "!" } })).toBe("!x");
    expect(text(tokenizer, { addGenerationPrompt: true })).toBe("<s>>");
    expect(() => text(tokenizer, { args: { messages: [] } })).toThrow(
      "chat template, args, messages: found a variable",
    );
    expect(() => text(tokenizer, { args: [] as never })).toThrow(
      "chat template, args: found an Array, expected an object",
    );
    expect(() => text(tokenizer, { addGenerationPrompt: true, continueFinalMessage: true })).toThrow("leave one out");
  });

  it("a last message that the template leaves out cannot be continued", () => {
    const tokenizer = small("{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}");
    const messages = [USER, { role: "assistant", content: "So" }];
    expect(() => text(tokenizer, { continueFinalMessage: true }, messages)).toThrow(
      'messages, message 2: found a last message (role "assistant") that the model\'s chat template does not write out',
    );
  });

  it("the date is the one that is given", () => {
    const llama = chatTokenizer({ name: "llama3.2", bos: "<|begin_of_text|>", eos: "<|eot_id|>", adds_bos: true });
    expect(text(llama, { now: new Date(2031, 0, 5) })).toContain("Today Date: 05 Jan 2031\n");
    expect(text(llama, { args: { date_string: "today" } })).toContain("Today Date: today\n");
    expect(templateText("llama3.2")).toContain("strftime_now");
  });
});
