/** @file Conversations among prompts: in the cells of a file, as a caller gives them, and with a system message before them. */
import { type ChatMessage, checkedMessages, textOfMessage } from "../base/chat-messages.ts";
import { describe } from "../base/describe.ts";
import { fail } from "../base/errors.ts";
import { parseJson } from "../base/json.ts";

/** What a response is written to, and what the file says about it: the reward function gets both. */
export interface Prompt {
  /** The text, spaces at its ends included; of a conversation, what the user said last. */
  readonly prompt: string;
  /** The whole row, by column; {} where a prompt is all there is. */
  readonly row: Readonly<Record<string, unknown>>;
  /**
   * The conversation that is answered; undefined: the prompt is plain text. One that ends with a message of the assistant has that
   * message continued.
   */
  readonly messages?: readonly ChatMessage[];
  /** Of a conversation from a file: its line or row, for errors. */
  readonly where?: string;
}

/** What a caller may give as a prompt: a text, or a conversation, alone or with the rest of its row. */
export type PromptGiven =
  | string
  | Prompt
  | {
      /** The text, or a conversation. */
      readonly prompt: string | readonly ChatMessage[];
      /** What else the reward function gets. Default: nothing. */
      readonly row?: Readonly<Record<string, unknown>>;
    }
  | {
      /** A conversation. One that ends with a message of the assistant has that message continued. */
      readonly messages: readonly ChatMessage[];
      /** What else the reward function gets. Default: nothing. */
      readonly row?: Readonly<Record<string, unknown>>;
    };

/** How conversations are made of prompts. */
export interface ChatOptions {
  /** Plain prompts become the message of a user. Default: only where there is a system message to put before them. */
  chat?: boolean;
  /** A system message for conversations without one of their own. Default "": none. */
  system?: string;
}

/**
 * A prompt, checked.
 * @throws data - neither text nor a conversation
 */
export function asPrompt(given: PromptGiven, place: string): Prompt {
  if (typeof given === "string") return { prompt: given, row: {} };
  const { prompt, messages, row = {}, where } = (given ?? {}) as Partial<Omit<Prompt, "prompt">> & { prompt?: unknown };
  const conversation = messages ?? (Array.isArray(prompt) ? prompt : undefined);
  if (conversation !== undefined) return chatPrompt(checkedMessages(conversation, where ?? place), row, where);
  if (typeof prompt === "string") return { prompt, row };
  return fail("data", {
    where: place,
    found: describe(prompt ?? given),
    expected: "a text, or { messages: [{ role, content }, ...] }",
    fix: "give each prompt as a text or as a list of messages",
  });
}

/** A prompt that is a conversation. Its text is what the user said last. */
function chatPrompt(messages: readonly ChatMessage[], row: Prompt["row"], where?: string): Prompt {
  const asked = messages.findLast(({ role }) => role === "user") ?? messages[messages.length - 1];
  return { prompt: textOfMessage(asked), row, messages, ...(where === undefined ? {} : { where }) };
}

/** The prompt as the conversation that is answered, where it is one or `options` make it one. */
export function inConversation(prompt: Prompt, { chat = false, system = "" }: ChatOptions): Prompt {
  const { messages } = prompt;
  if (messages === undefined && !chat && system === "") return prompt;
  const said = messages ?? [{ role: "user", content: prompt.prompt }];
  const before = system !== "" && said[0].role !== "system" ? [{ role: "system", content: system }] : [];
  return { ...prompt, messages: [...before, ...said] };
}

/** By what a prompt is known: two with the same are the same prompt. */
export const promptKey = ({ prompt, messages }: Prompt): string => JSON.stringify(messages ?? prompt);

/** Whether a conversation ends with the assistant. */
export const endsWithAnswer = (messages: readonly ChatMessage[]): boolean => messages.at(-1)?.role === "assistant";

/** What a cell holds: a conversation, or undefined for anything else. */
export function conversationIn(value: unknown, isText: boolean): readonly unknown[] | undefined {
  if (Array.isArray(value)) return value;
  if (typeof value === "object" && value !== null && "role" in value && "content" in value) {
    // Some data sets keep the roles in one list and the contents in another.
    const { role, content } = value;
    if (Array.isArray(role) && Array.isArray(content) && role.length === content.length)
      return role.map((speaker, i) => ({ role: speaker, content: content[i] }));
  }
  if (!isText || typeof value !== "string" || !/^\s*\[\s*\{/.test(value)) return undefined;
  try {
    const read = parseJson(value);
    return Array.isArray(read) && read.every((item) => item?.role !== undefined) ? read : undefined;
  } catch {
    return undefined; // text that begins like that
  }
}

/**
 * The conversation of a row as a prompt; undefined: there is nothing in the cell.
 * @param isWhole whether it is a whole conversation, whose last answer is not part of the prompt
 * @returns with whether an answer was left out
 * @throws data - no messages
 */
export function rowConversation(
  messages: readonly unknown[],
  row: Prompt["row"],
  where: string,
  isWhole: boolean,
): { prompt: Prompt; answered: boolean } | undefined {
  if (messages.length === 0) return undefined;
  const checked = checkedMessages(messages, where);
  const end = isWhole ? checked.findLastIndex(({ role }) => role !== "assistant") + 1 : checked.length;
  if (end === 0)
    fail("data", {
      where,
      found: "messages of the assistant alone",
      expected: "something to answer",
      fix: "put a message of the user before them, or remove the row",
    });
  return { prompt: chatPrompt(checked.slice(0, end), row, where), answered: end < checked.length };
}
