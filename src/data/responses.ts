/** @file Prompts with the responses that are to be learned: reading them from a file, and as token ids. */
import { type ChatMessage, checkedMessages, textOfMessage } from "../base/chat-messages.ts";
import { fail } from "../base/errors.ts";
import { brief } from "../base/text.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { continued } from "./pairs.ts";
import { openTable } from "./tables.ts";

/** A prompt with the response that is learned: both texts, or both lists of messages. */
export interface PromptResponse {
  /** What is answered; nothing of it is learned. */
  readonly prompt: string | readonly ChatMessage[];
  /** The answer, as it continues the prompt. */
  readonly response: string | readonly ChatMessage[];
}

/** What a column of responses may be called. */
const RESPONSES = ["response", "completion"];

/**
 * The rows of files with columns (JSON, JSON lines, CSV, TSV, Parquet), in order: `prompt` and `response` or `completion`, texts or lists of
 * messages; or `messages`, a conversation whose last message, the assistant's, is the response.
 * @throws data - a file of another kind, a row with something else in it
 */
export async function* readResponses(paths: readonly string[]): AsyncGenerator<PromptResponse, void, undefined> {
  for (const path of paths) {
    const table = await openTable(path);
    if (table.kind === "txt")
      fail("data", {
        where: table.name,
        found: "plain text",
        expected: "rows with the columns prompt and response: .json, .jsonl, .csv, .tsv (also .gz) or .parquet",
        fix: 'write one {"prompt": "...", "response": "..."} a line into a .jsonl file; for text leave responses out',
      });
    else for await (const { where, value } of table.rows) yield checkedResponse(value, where);
  }
}

/** Whether a row looks like one of these rather than like a text. */
export const looksLikeResponse = (row: Readonly<Record<string, unknown>>): boolean =>
  (row.prompt !== undefined && RESPONSES.some((name) => row[name] !== undefined)) || Array.isArray(row.messages);

/** Whether nothing is said in a response. */
export const isEmptyResponse = ({ response }: PromptResponse): boolean =>
  (typeof response === "string" ? response : response.map(textOfMessage).join("")).trim() === "";

/** @throws data - not a prompt with a response */
export function checkedResponse(row: unknown, where: string): PromptResponse {
  const fields = (typeof row === "object" && row !== null ? row : {}) as Readonly<Record<string, unknown>>;
  if (fields.prompt === undefined && fields.messages !== undefined && fields.messages !== null) {
    const messages = checkedMessages(fields.messages, `${where}, messages`);
    if (messages.length < 2 || messages[messages.length - 1].role !== "assistant")
      fail("data", {
        where: `${where}, messages`,
        found: messages.length < 2 ? "one message" : `a last message of the ${messages[messages.length - 1].role}`,
        expected: "a conversation that ends with the assistant's answer",
        fix: "add the answer, or leave the row out",
      });
    return { prompt: messages.slice(0, -1), response: messages.slice(-1) };
  }
  const column = RESPONSES.find((name) => fields[name] !== undefined) ?? RESPONSES[0];
  const isChat = Array.isArray(fields[column]);
  for (const name of ["prompt", column]) {
    const value = fields[name];
    if (value === undefined || value === null)
      fail("data", {
        where,
        found: `no ${name} (there are ${Object.keys(fields).slice(0, 8).join(", ") || "no columns"})`,
        expected: "a prompt with its response: prompt and response (or completion), or messages",
        fix: `add ${name}, or leave the row out`,
      });
    if (isChat ? !Array.isArray(value) : typeof value !== "string")
      fail("data", {
        where: `${where}, ${name}`,
        found: brief(value),
        expected: isChat ? "a list of messages" : "a text",
        fix: "give prompt and response both as texts, or both as lists of messages",
      });
  }
  if (!isChat) return { prompt: fields.prompt as string, response: fields[column] as string };
  const messages = (name: string) => checkedMessages(fields[name], `${where}, ${name}`);
  return { prompt: messages("prompt"), response: messages(column) };
}

/** Prompt and response as token ids, and where the response begins. A text is followed by the end of text, which belongs to it. */
export function encodeResponse(
  { prompt, response }: PromptResponse,
  tokenizer: Tokenizer,
): { ids: Int32Array; begin: number } {
  const { alone, whole } = continued(prompt, tokenizer);
  const ids = whole(response);
  let begin = 0;
  while (begin < Math.min(alone.length, ids.length) && alone[begin] === ids[begin]) begin++;
  return { ids, begin };
}
