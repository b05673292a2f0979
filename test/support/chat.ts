/** @file The golden conversations, and tokenizers with the templates they were written with. */
import { readFileSync } from "node:fs";
import type { ChatMessage } from "../../src/tokenizer/chat-template.ts";
import { Tokenizer, type TokenizerConfig, type TokenizerJSON } from "../../src/tokenizer/tokenizer.ts";
import { goldenPath } from "./golden.ts";

export interface ChatCase {
  name: string;
  messages: ChatMessage[];
  /** Whether it ends with a generation prompt. */
  prompt: boolean;
  /** Whether its last message is continued. */
  open: boolean;
  args: Record<string, unknown>;
  /** What transformers writes; undefined: it refuses. */
  text?: string;
  ids?: number[];
  error?: string;
}

export interface ChatGroup {
  name: string;
  /** Undefined: a file in templates/. */
  template?: string;
  bos: string | null;
  eos: string;
  adds_bos: boolean;
  cases: ChatCase[];
}

export const chatGolden = JSON.parse(readFileSync(goldenPath("chat/cases.json"), "utf8")) as {
  now: string;
  groups: ChatGroup[];
};

/** The small tokenizer of all golden conversations. */
export const chatTokenizerJson = (): TokenizerJSON =>
  JSON.parse(readFileSync(goldenPath("chat/tokenizer.json"), "utf8"));

export const templateText = (name: string) => readFileSync(goldenPath(`chat/templates/${name}.jinja`), "utf8");

/** The small tokenizer with a template, its special tokens, and what it puts in front of a text. */
export function chatTokenizer(group: Omit<ChatGroup, "cases">, config: TokenizerConfig = {}): Tokenizer {
  const json = chatTokenizerJson();
  const { bos, eos } = group;
  if (group.adds_bos && bos !== null) {
    const id = json.added_tokens?.find(({ content }) => content === bos)?.id as number;
    const single = [{ SpecialToken: { id: bos, type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }];
    json.post_processor = { type: "TemplateProcessing", single, special_tokens: { [bos]: { id: bos, ids: [id] } } };
  }
  const chat_template = group.template ?? templateText(group.name);
  return Tokenizer.fromJson(json, { bos_token: bos, eos_token: eos, chat_template, ...config });
}
