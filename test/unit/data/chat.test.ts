/** @file Conversations as prompts: read from files, given in code, written by the template of a model. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it, test } from "vitest";
import type { ChatMessage } from "../../../src/base/chat-messages.ts";
import type { PromptGiven } from "../../../src/data/chat.ts";
import { encodePrompts, type PromptOptions } from "../../../src/data/encode.ts";
import { heldOutCount, holdOut } from "../../../src/data/held-out.ts";
import { type Prompt, readPrompts } from "../../../src/data/prompts.ts";
import { packagePath } from "../../../src/platform/files.ts";
import { loadTokenizer } from "../../../src/tokenizer/load.ts";
import { chatGolden, chatTokenizer } from "../../support/chat.ts";
import { goldenPath } from "../../support/golden.ts";

const directory = mkdtempSync(join(tmpdir(), "valuehead-chat-"));
afterAll(() => rmSync(directory, { recursive: true }));
const write = (name: string, content: string) => {
  const path = join(directory, name);
  writeFileSync(path, content);
  return path;
};
const lines = (...rows: unknown[]) => rows.map((row) => `${JSON.stringify(row)}\n`).join("");
async function read(path: string, column?: string): Promise<{ prompts: Prompt[]; notes: string[] }> {
  const notes: string[] = [];
  const onNote = (note: string) => notes.push(note.replace(`${path}: `, ""));
  return { prompts: await readPrompts(path, { column, onNote }), notes };
}
const conversations = ({ prompts }: { prompts: readonly Prompt[] }) => prompts.map(({ messages }) => messages);

const SYSTEM = { role: "system", content: "Be brief." };
const USER = { role: "user", content: "Where is Paris?" };
const ANSWER = { role: "assistant", content: "In France." };
const MORE = { role: "user", content: "And Rome?" };

describe("in a file", () => {
  it("a column of messages, each with its row and its line; the text is what the user said last", async () => {
    const path = write("a.jsonl", lines({ messages: [SYSTEM, USER], id: 1 }, { messages: [USER, ANSWER, MORE] }));
    const { prompts, notes } = await read(path);
    expect(prompts).toEqual([
      {
        prompt: "Where is Paris?",
        row: { messages: [SYSTEM, USER], id: 1 },
        messages: [SYSTEM, USER],
        where: `${path}, line 1, column messages`,
      },
      {
        prompt: "And Rome?",
        row: { messages: [USER, ANSWER, MORE] },
        messages: [USER, ANSWER, MORE],
        where: `${path}, line 2, column messages`,
      },
    ]);
    expect(notes).toEqual([]);
  });

  it("a whole conversation without its answer, and says so; in a column prompt the answer is one begun", async () => {
    const whole = await read(write("b.jsonl", lines({ messages: [USER, ANSWER] }, { messages: [USER] })));
    expect(conversations(whole)).toEqual([[USER], [USER]]);
    expect(whole.prompts[0].row).toEqual({ messages: [USER, ANSWER] });
    expect(whole.notes[0]).toBe(
      "1 of 2 conversations end with the assistant's answer, which is left out of the prompt and is in the row",
    );
    const begun = await read(write("c.jsonl", lines({ prompt: [USER, ANSWER], completion: "x" })));
    expect(conversations(begun)).toEqual([[USER, ANSWER]]);
    expect(begun.notes).toEqual(["1 of 1 prompts end with a message of the assistant, which is continued"]);
  });

  it("texts and conversations in one file, and what is beside a text", async () => {
    const mixed = await read(write("d.jsonl", lines("plain", { prompt: "text" }, { messages: [USER] })));
    expect(mixed.prompts.map(({ prompt, messages }) => [prompt, messages?.length])).toEqual([
      ["plain", undefined],
      ["text", undefined],
      ["Where is Paris?", 1],
    ]);
    const path = write("e.jsonl", lines({ prompt: "Where is Paris?", messages: [USER, ANSWER] }));
    const beside = await read(path);
    expect(conversations(beside)).toEqual([undefined]);
    expect(beside.notes).toEqual(["the prompts are texts; there are conversations too (column messages takes those)"]);
    expect(conversations(await read(path, "messages"))).toEqual([[USER]]);
  });

  it("rows without messages are left out; a conversation that comes twice is told", async () => {
    const rows = lines({ messages: [] }, { messages: null }, { messages: [USER] }, { messages: [USER] });
    const { prompts, notes } = await read(write("f.jsonl", rows));
    expect(prompts).toHaveLength(2);
    expect(notes[0]).toContain("2 without a prompt left out, the first: ");
    expect(notes[1]).toBe("2 prompts, 1 of them different; all are used");
  });

  it("JSON in a cell of CSV; text that only looks like it stays text", async () => {
    const cell = (value: string) => `"${value.replaceAll('"', '""')}"`;
    const csv = [
      "messages,id",
      `${cell(JSON.stringify([USER]))},1`,
      `${cell("[{ not JSON")},2`,
      `${cell('[{"a":1}]')},3`,
    ];
    expect(conversations(await read(write("g.csv", csv.join("\n"))))).toEqual([[USER], undefined, undefined]);
  });

  const { messages: saved } = JSON.parse(readFileSync(goldenPath("chat/parquet.json"), "utf8")) as {
    messages: ChatMessage[][];
  };
  const asked = saved.slice(0, 3).map((m) => (m.at(-1)?.role === "assistant" ? m.slice(0, -1) : m));
  it.each([
    ["messages", asked],
    ["nulls", asked],
    ["lists", asked],
    ["prompt", saved.slice(0, 3)],
    ["parts", [[{ role: "user", content: ["one", "two"].map((text) => ({ type: "text", text })) }]]],
  ])("Parquet as datasets writes it: %s", async (name, expected) => {
    expect(conversations(await read(goldenPath(`chat/${name}.parquet`)))).toEqual(expected);
  });

  it.each<[unknown, string]>([
    [
      { messages: [USER, { role: "assistant" }] },
      "line 1, column messages, message 2, content: found nothing, expected a text",
    ],
    [{ messages: [{ from: "human", value: "x" }] }, "message 1: found the fields from and value (ShareGPT's)"],
    [
      { messages: [ANSWER] },
      "line 1, column messages: found messages of the assistant alone, expected something to answer",
    ],
    [
      { messages: [{ role: "user", content: [{ type: "image" }] }] },
      'part 1: found a part of type "image", expected a text part',
    ],
    [
      { messages: { role: ["user"] } },
      'line 1, column messages: found {"role":["user"]}, expected text, or a list of messages',
    ],
    [{ messages: ["a"] }, 'line 1, column messages: found ["a"], expected text'],
    [{ chat: [USER], id: 1 }, 'expected a column prompt or text or query or messages. Fix: use column "chat"'],
  ])("%j is an error that says where", async (row, message) => {
    await expect(read(write("bad.jsonl", lines(row)))).rejects.toThrow(message);
  });
});

test("conversations are held out by what is said, not by the last message", () => {
  const prompts = Array.from({ length: 100 }, (_, i) => ({
    prompt: "Go on.",
    row: {},
    messages: [{ role: "user", content: `${i % 90}` }, ANSWER, { role: "user", content: "Go on." }],
  }));
  expect(heldOutCount(prompts)).toBe(9);
  const { training, heldOut } = holdOut(prompts, 9, 1);
  expect(new Set(heldOut.map(({ messages }) => messages?.[0].content)).size).toBe(9);
  const first = (p: Prompt) => p.messages?.[0].content;
  expect(training.some((p) => heldOut.some((q) => first(p) === first(q)))).toBe(false);
});

const group = chatGolden.groups.find(({ name }) => name === "smollm2");
const tokenizer = chatTokenizer(group as never);
const golden = (name: string) => group?.cases.find((c) => c.name === name) as (typeof chatGolden.groups)[0]["cases"][0];
const encode = (given: readonly PromptGiven[], options: Partial<PromptOptions> = {}, context = 512) =>
  encodePrompts(given, tokenizer, { context }, { maxNewTokens: 8, ...options });

describe("as ids", () => {
  it("what apply_chat_template gives, with the beginning of an answer", () => {
    const names = ["a question", "with a system message", "several turns, system"];
    const { ids, prompts } = encode(names.map((name) => ({ messages: golden(name).messages })));
    expect(ids.map((x) => Array.from(x))).toEqual(names.map((name) => golden(name).ids));
    expect(prompts[0]).toEqual({
      prompt: "What is the capital of France?",
      row: {},
      messages: golden("a question").messages,
    });
  });

  it("an answer that is begun goes on", () => {
    const { messages, ids } = golden("an answer begun");
    expect(Array.from(encode([{ messages }]).ids[0])).toEqual(ids);
    expect(Array.from(encode([{ prompt: messages }]).ids[0])).toEqual(ids);
  });

  it("chat wraps a text, system does and stands before what has none", () => {
    const [question, system] = [golden("a question"), golden("with a system message")];
    const text = question.messages[0].content as string;
    expect(Array.from(encode([text], { chat: true }).ids[0])).toEqual(question.ids);
    const said = { system: "You answer in one word." };
    const { ids, prompts, notes } = encode([text, { messages: question.messages }], said);
    expect(ids.map((x) => Array.from(x))).toEqual([system.ids, system.ids]);
    expect(prompts.map(({ messages }) => messages)).toEqual([system.messages, system.messages]);
    expect(notes).toEqual([]);
    const own = encode([{ messages: system.messages }], { system: "Speak like a pirate." });
    expect(Array.from(own.ids[0])).toEqual(system.ids);
    expect(own.notes).toEqual(["1 of 1 conversations have a system message of their own, which they keep"]);
  });

  it("plain texts stay plain, and a mixture is told", () => {
    const { ids, notes } = encode(["plain", { messages: golden("a question").messages }]);
    expect(ids[0]).toEqual(tokenizer.encode("plain"));
    expect(notes).toEqual([
      "1 of 2 prompts are conversations, the others plain text (the option chat wraps those too)",
    ]);
  });

  it("variables of the template", () => {
    const qwen = chatGolden.groups.find(({ name }) => name === "qwen3") as (typeof chatGolden.groups)[0];
    const c = qwen.cases.find(({ name }) => name === "no thinking");
    const options = { maxNewTokens: 1, chatArgs: { enable_thinking: false } };
    const { ids } = encodePrompts([{ messages: c?.messages ?? [] }], chatTokenizer(qwen), { context: 512 }, options);
    expect(Array.from(ids[0])).toEqual(c?.ids);
  });

  it("is not cut: neither where it is too long, nor to a length that is drawn", () => {
    const long = { messages: [{ role: "user", content: "word ".repeat(40) }] };
    const room = "the context of 100 less 8 for the response";
    expect(() => encode(["a", long], {}, 100)).toThrow(
      new RegExp(
        `^prompt 2 \\("word .*: found \\d+ tokens, \\d+ of them the chat template's own, expected at most 92: ${room}`,
      ),
    );
    expect(() => encode(["a", long], { longPrompts: "truncate" }, 100)).toThrow(
      "set longPrompts to drop: a conversation is not cut, for it would lose the end of its template",
    );
    const { prompts, notes } = encode(["a", long], { longPrompts: "drop" }, 100);
    expect(prompts).toHaveLength(1);
    expect(notes).toEqual([`1 of 2 prompts left out: longer than 92: ${room}`]);
    const cut = { promptMinTokens: 2, promptMaxTokens: 7 };
    expect(encode(["a text that is cut"], cut).ids[0].length).toBeLessThan(8);
    expect(() => encode(["a", { ...long, where: "x.jsonl, line 2" } as PromptGiven], cut)).toThrow(
      "promptMaxTokens: found a conversation (x.jsonl, line 2), which would lose the end of its template, expected plain prompts",
    );
  });

  it("a template that alone exceeds the context", () => {
    const said = { chat: true, system: "A system message that is much too long for so small a context." };
    expect(() => encode(["Hi"], said, 40)).toThrow(
      /of them the chat template's and the system message's own, expected at most 32: .* Fix: lower maxNewTokens, shorten the system message, or use a model with a longer context/,
    );
  });

  it.each<[unknown, string]>([
    [{ messages: "Hi" }, 'prompt 2: found "Hi", expected a list of messages'],
    [
      { messages: [{ role: "user", content: 3 }] },
      "prompt 2, message 1, content: found 3, expected a text, or a list of text",
    ],
    [{ prompt: 3 }, "prompt 2: found 3, expected a text, or { messages: [{ role, content }, ...] }"],
    [null, "prompt 2: found null, expected a text"],
    [17, "prompt 2: found 17, expected a text"],
  ])("%j is no prompt", (given, message) => {
    expect(() => encode(["a", given as PromptGiven])).toThrow(message);
  });

  it("what the template refuses says which prompt, or which line", () => {
    const gemma = chatTokenizer(chatGolden.groups.find(({ name }) => name === "gemma") as never);
    const given = (prompts: PromptGiven[], options = {}) =>
      encodePrompts(prompts, gemma, { context: 512 }, { maxNewTokens: 8, ...options });
    expect(() => given([{ messages: [USER] }, { messages: [USER, USER] }])).toThrow(
      "prompt 2: found roles (user, user) that the model's chat template refuses: \"Conversation roles must alternate",
    );
    expect(() => given(["Hi"], { system: "Be brief." })).toThrow('refuses: "System role not supported"');
  });

  it("a template that writes nothing", () => {
    const silent = chatTokenizer({ name: "silent", template: "{# none #}", bos: "<s>", eos: "</s>", adds_bos: false });
    expect(() => encodePrompts(["Hi"], silent, { context: 64 }, { maxNewTokens: 8, chat: true })).toThrow(
      "tokenizer, chat template: found a template that writes nothing for prompt 1",
    );
  });

  it("a model without a template", async () => {
    const tiny = await loadTokenizer(packagePath("models", "tiny"));
    const given = (options: object) => encodePrompts(["Hi"], tiny, { context: 64 }, { maxNewTokens: 8, ...options });
    expect(given({}).ids[0].length).toBeGreaterThan(0);
    expect(() => given({ chat: true })).toThrow("found a model without a chat template");
  });
});
