/** @file Conversations: what a message is, and whether something given is a list of them. */
import { fail } from "./errors.ts";
import { brief } from "./text.ts";

/** A piece of a message's content, as OpenAI writes them. Images and sounds are refused. */
export interface TextPart {
  /** The only kind there is here. */
  readonly type: "text";
  /** What it says. */
  readonly text: string;
}

/** One turn of a conversation. Other fields, such as `name`, `tool_calls` or `reasoning_content`, are for the template. */
export interface ChatMessage {
  /** Who speaks: `system`, `user`, `assistant`, or another that the model's template knows. */
  readonly role: string;
  /** What is said. May be missing where another field, such as `tool_calls`, says it. */
  readonly content?: string | readonly TextPart[];
  /** What else there is, for the template. */
  readonly [field: string]: unknown;
}

/**
 * A conversation, checked. Fields that are null are left out, as in transformers.
 * @throws input - anything else, or content that is not text
 */
export function checkedMessages(given: unknown, where = "messages"): ChatMessage[] {
  const bad = (place: string, found: string, expected: string, fix: string): never =>
    fail("input", { where: place, found, expected, fix });
  const shape = '[{"role": "user", "content": "..."}, ...]';
  if (!Array.isArray(given)) return bad(where, brief(given), `a list of messages: ${shape}`, "correct it");
  if (given.length === 0) return bad(where, "no messages", "at least one", `write ${shape}`);
  return given.map((message: unknown, i) => {
    const place = `${where}, message ${i + 1}`;
    if (typeof message !== "object" || message === null || Array.isArray(message))
      return bad(place, brief(message), "an object with role and content", 'write {"role": "user", "content": "..."}');
    const fields = Object.fromEntries(Object.entries(message).filter(([, v]) => v !== null && v !== undefined));
    const { role, content } = fields;
    if (typeof role !== "string" || role === "") {
      if (typeof fields.from === "string" && "value" in fields)
        return bad(
          place,
          "the fields from and value (ShareGPT's)",
          "role and content",
          "rename from to role and value to content, and the speakers human and gpt to user and assistant",
        );
      return bad(`${place}, role`, brief(role), "who speaks: system, user or assistant", "give each message a role");
    }
    if (content === undefined) {
      const meant = ["text", "value", "message"].find((name) => typeof fields[name] === "string");
      if (meant)
        return bad(`${place}, content`, `nothing, and a field ${meant}`, "a text", `rename ${meant} to content`);
      if (Object.keys(fields).length > 1) return fields as ChatMessage;
      return bad(`${place}, content`, "nothing", "a text", "give the message a content");
    }
    if (typeof content === "string") return fields as ChatMessage;
    if (!Array.isArray(content))
      return bad(`${place}, content`, brief(content), "a text, or a list of text parts", "write it as a text");
    const parts = content.map((part: unknown, p): TextPart => {
      const { type, text } = (part ?? {}) as { type?: unknown; text?: unknown };
      if (type === "text" && typeof text === "string") return { type, text };
      const kind = typeof type === "string" && type !== "text" ? `a part of type ${JSON.stringify(type)}` : brief(part);
      return bad(
        `${place}, content, part ${p + 1}`,
        kind,
        'a text part: {"type": "text", "text": "..."}',
        "leave out what is not text: models here read text alone",
      );
    });
    return { ...fields, content: parts } as unknown as ChatMessage;
  });
}

/** What a message says, as one text; "" where it has no content. */
export const textOfMessage = ({ content }: ChatMessage): string =>
  typeof content === "string" ? content : (content ?? []).map(({ text }) => text).join("\n");
