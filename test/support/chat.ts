/** @file The golden conversations, and tokenizers with the templates they were written with. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { ChatMessage } from "../../src/tokenizer/chat-template.ts";
import { loadTokenizer } from "../../src/tokenizer/load.ts";
import { Tokenizer, type TokenizerConfig, type TokenizerJSON } from "../../src/tokenizer/tokenizer.ts";
import { smallModel } from "./families.ts";
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
  /** What Python's strftime makes of `format`. */
  format: string;
  dates: { at: string; text: string }[];
  groups: ChatGroup[];
};

/** The small tokenizer of golden conversations: byte-level, but for Zephyr and Gemma, which mark the spaces of words. */
export function chatTokenizerJson(name = ""): TokenizerJSON {
  const own = goldenPath(`chat/tokenizer-${name}.json`);
  return JSON.parse(readFileSync(existsSync(own) ? own : goldenPath("chat/tokenizer.json"), "utf8"));
}

export const templateText = (name: string) => readFileSync(goldenPath(`chat/templates/${name}.jinja`), "utf8");

/** The small tokenizer with a template, its special tokens, and what it puts in front of a text. */
export function chatTokenizer(group: Omit<ChatGroup, "cases">, config: TokenizerConfig = {}): Tokenizer {
  const json = chatTokenizerJson(group.name);
  const { bos, eos } = group;
  if (group.adds_bos && bos !== null) {
    const id = json.added_tokens?.find(({ content }) => content === bos)?.id as number;
    const single = [{ SpecialToken: { id: bos, type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }];
    json.post_processor = { type: "TemplateProcessing", single, special_tokens: { [bos]: { id: bos, ids: [id] } } };
  }
  const chat_template = group.template ?? templateText(group.name);
  return Tokenizer.fromJson(json, { bos_token: bos, eos_token: eos, chat_template, ...config });
}

/** What ends a response of {@link writeChatModel}. */
export const ENDS = ["<|im_end|>", "<|endoftext|>"];

/**
 * A small random model of the Llama family as an instruct model is laid out: a template beside its tokenizer, two ids that end a
 * text, a context of 256.
 */
export async function writeChatModel(directory: string, template: string): Promise<Tokenizer> {
  const json = chatTokenizerJson();
  const vocabSize = Math.max(...(json.added_tokens ?? []).map(({ id }) => id)) + 1;
  const model = smallModel("llama", { vocabSize, context: 256, initializerRange: 0.1 }, { threads: 1, seed: 4 });
  await model.savePretrained(directory);
  model.dispose();
  const write = (file: string, text: string) => writeFileSync(join(directory, file), text);
  write("tokenizer.json", JSON.stringify(json));
  write("tokenizer_config.json", JSON.stringify({ bos_token: "<|begin_of_text|>", eos_token: "<|im_end|>" }));
  write("chat_template.jinja", templateText(template));
  const tokenizer = await loadTokenizer(directory);
  const ids = ENDS.map((token) => tokenizer.encode(token, { addSpecialTokens: false })[0]);
  write("generation_config.json", JSON.stringify({ eos_token_id: ids }));
  return tokenizer;
}
