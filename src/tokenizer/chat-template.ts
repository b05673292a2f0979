/**
 * @file Conversations as text, by the Jinja template that comes with a model: which of its files it is read from, what it is shown and
 * how whitespace counts are those of transformers 5.24 (utils/chat_template_utils.py, tokenization_utils_base.py).
 */
import { Environment, Interpreter, Template } from "@huggingface/jinja";
import { type ChatMessage, checkedMessages } from "../base/chat-messages.ts";
import { describe } from "../base/describe.ts";
import { fail, messageOf } from "../base/errors.ts";
import { nearest } from "../base/nearest.ts";
import { strftime } from "../base/strftime.ts";
import { brief, shorten } from "../base/text.ts";
import { withinTime } from "../platform/time-limit.ts";

export type { ChatMessage, TextPart } from "../base/chat-messages.ts";

/** How a conversation becomes text. */
export interface ChatTemplateOptions {
  /** End with the beginning of an answer, so that the model goes on with the assistant's turn. Default false, as in transformers. */
  addGenerationPrompt?: boolean;
  /** Leave the last message open, so that the model goes on with it. Default false. Not with addGenerationPrompt. */
  continueFinalMessage?: boolean;
  /** The name of one of the model's templates, or a Jinja template. Default: with tools `tool_use` where there is one, else `default`. */
  template?: string;
  /** Further variables for the template: `tools`, `documents`, `enable_thinking`, `date_string`, or in place of a special token. */
  args?: Readonly<Record<string, unknown>>;
  /** The time that a template is told, where it asks for the date. Default: now. */
  now?: Date;
  /** How errors call the conversation. Default: "messages". */
  where?: string;
}

/** Python's limit in Jinja's sandbox. */
const LARGEST_RANGE = 100_000;
/** Seconds for a template, whose loops can be made to run for ever. */
const PATIENCE = 10;
const MARK = "END-OF-FINAL-MESSAGE ";
const PROBE = "1f7a-probe";

/** A template's own `raise_exception`. */
class Raised extends Error {}

type Sent = Readonly<Record<string, unknown>>;

/** Which forms of a message's content a template shows. */
interface Shows {
  text: boolean;
  parts: boolean;
}

/**
 * Jinja texts by name, as transformers finds them: files beside the tokenizer, or else what its configuration says.
 * @param said chat_template of tokenizer_config.json
 */
export function templatesIn(said: unknown, files: ReadonlyMap<string, Uint8Array>, where: string): Map<string, string> {
  const texts = new Map<string, string>();
  for (const [file, bytes] of files) {
    const name =
      file === "chat_template.jinja" ? "default" : /^additional_chat_templates\/(.+)\.jinja$/.exec(file)?.[1];
    if (name !== undefined) texts.set(name, new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes));
  }
  if (texts.size > 0 || said === undefined || said === null) return texts;
  if (typeof said === "string") return texts.set("default", said);
  const named: [unknown, unknown][] = Array.isArray(said)
    ? said.map((item) => [item?.name, item?.template])
    : Object.entries(said as object);
  for (const [name, text] of named) {
    if (typeof name !== "string" || typeof text !== "string")
      fail("checkpoint", {
        where: `${where}, chat_template`,
        found: JSON.stringify(said).slice(0, 60),
        expected: "a Jinja template, or a list of { name, template }",
        fix: "correct it in tokenizer_config.json, or take the original model's file",
      });
    texts.set(name, text);
  }
  return texts;
}

/** The chat templates of a model. */
export class ChatTemplates {
  readonly #where: string;
  /** Name to text; the one that counts unless another is named is `default`. */
  readonly #texts: ReadonlyMap<string, string>;
  /** Special tokens by name, such as `bos_token`: variables of every template. */
  readonly #tokens: ReadonlyMap<string, string>;
  readonly #parsed = new Map<string, Template>();
  readonly #shows = new Map<string, Shows>();

  constructor(where: string, texts: ReadonlyMap<string, string>, tokens: ReadonlyMap<string, string>) {
    this.#where = where;
    this.#texts = texts;
    this.#tokens = tokens;
  }

  /** Name to Jinja text. */
  get texts(): ReadonlyMap<string, string> {
    return this.#texts;
  }

  /**
   * A conversation as text, with the special tokens that the template writes.
   * @throws input - messages that are none, or that the template refuses
   * @throws checkpoint - no template, or one that does not work
   */
  render(given: unknown, options: ChatTemplateOptions = {}): string {
    const { addGenerationPrompt = false, continueFinalMessage = false, args = {}, where = "messages" } = options;
    const messages = checkedMessages(given, where);
    checkArgs(args, addGenerationPrompt, continueFinalMessage);
    const source = this.#choose(options.template, args);
    const shows = this.#showsOf(source, options);
    const fitted = messages.map((message) => shaped(message, shows));
    const draw = (sent: readonly Sent[]) => this.#draw(source, sent, options, where);
    return continueFinalMessage ? continued(fitted, draw, where) : draw(fitted);
  }

  /** The Jinja text of the template that is meant. */
  #choose(asked: string | undefined, args: Readonly<Record<string, unknown>>): string {
    const names = [...this.#texts.keys()];
    if (asked !== undefined) {
      const named = this.#texts.get(asked) ?? (/[{}]/.test(asked) ? asked : undefined);
      if (named !== undefined) return named;
    }
    const wantsTools = args.tools !== undefined && args.tools !== null;
    const found = asked ?? (wantsTools && this.#texts.has("tool_use") ? "tool_use" : "default");
    const text = this.#texts.get(found);
    if (text !== undefined) return text;
    if (names.length === 0)
      return fail("checkpoint", {
        where: this.#where,
        found: "a model without a chat template",
        expected:
          "one that says how a conversation is written: chat_template.jinja, or chat_template in tokenizer_config.json",
        fix: "use a model that was trained to chat (its name often ends in Instruct, Chat or it), put the chat_template.jinja it was trained with beside its tokenizer, or give prompts as plain text",
      });
    return fail("usage", {
      where: this.#where,
      found:
        asked === undefined
          ? "several chat templates, none of them called default"
          : `no chat template ${JSON.stringify(asked)}`,
      expected: `one of ${names.join(", ")}`,
      fix: `name the template, such as ${JSON.stringify(asked === undefined ? names[0] : nearest(asked, names))}`,
    });
  }

  #draw(source: string, messages: readonly Sent[], options: ChatTemplateOptions, where: string): string {
    try {
      return this.#run(source, messages, options);
    } catch (error) {
      const roles = shorten(messages.map(({ role }) => String(role)).join(", "), 120);
      if (error instanceof Raised)
        return fail(
          "input",
          {
            where,
            found: `roles (${roles}) that the model's chat template refuses: ${JSON.stringify(error.message)}`,
            expected: "a conversation as the template wants it",
            fix:
              messages[0]?.role === "system"
                ? "change the roles or their order; some models know no system message: put its text into the first user message"
                : "change the roles or their order",
          },
          error,
        );
      if (!(error instanceof Error) || error.name === "ValueheadError") throw error;
      return fail(
        "checkpoint",
        {
          where: `${this.#where}, chat template`,
          found: `a template that fails on ${where} (roles ${roles}): ${messageOf(error)}`,
          expected: "a Jinja template for such a conversation",
          fix: "give the messages the fields it reads, or copy the template of the original model",
        },
        error,
      );
    }
  }

  #run(source: string, messages: readonly Sent[], options: ChatTemplateOptions): string {
    const { addGenerationPrompt = false, args = {}, now = new Date() } = options;
    const template = this.#parse(source);
    const environment = new Environment();
    const variables: Record<string, unknown> = {
      true: true,
      false: false,
      none: null,
      True: true,
      False: false,
      None: null,
      range: boundedRange,
      raise_exception: (message: unknown) => {
        throw new Raised(String(message));
      },
      strftime_now: (format: string) => strftime(now, format),
      ...Object.fromEntries(this.#tokens),
      tools: null,
      documents: null,
      ...args,
      messages,
      add_generation_prompt: addGenerationPrompt,
    };
    for (const [name, value] of Object.entries(variables)) if (value !== undefined) environment.set(name, plain(value));
    const draw = () => new Interpreter(environment).run(template.parsed).value as string;
    const done = withinTime(PATIENCE, draw);
    if (done) return done.result;
    throw new Error(`it takes more than ${PATIENCE} seconds`);
  }

  #parse(source: string): Template {
    const known = this.#parsed.get(source);
    if (known) return known;
    try {
      const template = new Template(source.replace(/\r\n?/g, "\n"));
      this.#parsed.set(source, template);
      return template;
    } catch (error) {
      return fail(
        "checkpoint",
        {
          where: `${this.#where}, chat template`,
          found: `a template that cannot be read (${error instanceof TypeError ? "it ends too soon" : messageOf(error)}): it begins ${JSON.stringify(shorten(source, 60))}`,
          expected: "a Jinja template",
          fix: "copy the template of the original model (chat_template.jinja, or chat_template in tokenizer_config.json)",
        },
        error,
      );
    }
  }

  /** Tried with a message in each form: some templates lose content that is a list, some content that is not. */
  #showsOf(source: string, options: ChatTemplateOptions): Shows {
    const known = this.#shows.get(source);
    if (known) return known;
    this.#parse(source);
    const tried = (content: unknown) => {
      try {
        const drawn = this.#run(source, [{ role: "user", content }], options);
        return drawn.includes(PROBE) && !/['"]type['"]/.test(drawn);
      } catch {
        return false;
      }
    };
    const shows = { text: tried(PROBE), parts: tried([{ type: "text", text: PROBE }]) };
    this.#shows.set(source, shows);
    return shows;
  }
}

/** The conversation without the end of its last message. */
function continued(messages: readonly Sent[], draw: (sent: readonly Sent[]) => string, where: string): string {
  const last = messages[messages.length - 1];
  const { content } = last;
  const marked = Array.isArray(content)
    ? content.map((part, i) => (i === content.length - 1 ? { ...part, text: part.text + MARK } : part))
    : `${(content as string | undefined) ?? ""}${MARK}`;
  const drawn = draw([...messages.slice(0, -1), { ...last, content: marked }]);
  const at = drawn.lastIndexOf(MARK.trim());
  if (at < 0)
    fail("input", {
      where: `${where}, message ${messages.length}`,
      found: `a last message (role ${brief(last.role)}) that the model's chat template does not write out`,
      expected: "one that can be continued",
      fix: "end the conversation with a message of the user",
    });
  const open = drawn.slice(0, at);
  return drawn.startsWith(MARK, at) ? open : open.trimEnd(); // the template trims what is said
}

/** A message's content in a form that the template shows. */
function shaped(message: ChatMessage, { text, parts }: Shows): Sent {
  const { content } = message;
  const aliased = reasoningOf(message);
  if (Array.isArray(content) && !parts) return { ...aliased, content: content.map((part) => part.text).join("\n") };
  if (typeof content === "string" && !text && parts) return { ...aliased, content: [{ type: "text", text: content }] };
  return aliased;
}

/** What was thought before an answer goes by three names. */
function reasoningOf(message: ChatMessage): Sent {
  const reasoning = message.reasoning_content ?? message.thinking ?? message.reasoning;
  return reasoning === undefined ? message : { thinking: reasoning, ...message, reasoning_content: reasoning };
}

function checkArgs(args: unknown, addGenerationPrompt: boolean, continueFinalMessage: boolean): void {
  if (typeof args !== "object" || args === null || Array.isArray(args))
    fail("usage", {
      where: "chat template, args",
      found: describe(args),
      expected: "an object: variables of the template by name",
      fix: 'write {"enable_thinking": false}, for instance',
    });
  const taken = ["messages", "add_generation_prompt"].find((name) => Object.hasOwn(args as object, name));
  if (taken)
    fail("usage", {
      where: `chat template, args, ${taken}`,
      found: "a variable that is set otherwise",
      expected: "variables of the template's own",
      fix: "leave it out",
    });
  if (addGenerationPrompt && continueFinalMessage)
    fail("usage", {
      where: "chat template",
      found: "addGenerationPrompt and continueFinalMessage",
      expected: "one of them: a new answer, or the last message continued",
      fix: "leave one out",
    });
}

function boundedRange(...given: number[]): number[] {
  const [start, stop, step = 1] = given.length === 1 ? [0, given[0]] : given;
  if (step === 0) throw new Error("range() with a step of 0");
  const count = Math.max(0, Math.ceil((stop - start) / step));
  if (!(count <= LARGEST_RANGE)) throw new Error(`range() of ${count} numbers, more than ${LARGEST_RANGE}`);
  return Array.from({ length: count }, (_, i) => start + i * step);
}

/** Data that a template can read: a Parquet file may hold integers that no number holds. */
function plain(value: unknown): unknown {
  if (typeof value === "bigint") return Number(value);
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null || Object.getPrototypeOf(value) !== Object.prototype) return value;
  return Object.fromEntries(Object.entries(value).map(([name, v]) => [name, plain(v)]));
}
