/** @file What ends a response, where model and tokenizer may say different things. */
import type { CausalLMWithValueHead } from "../model/model.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";

export interface ResponseEnds {
  /** Each can be drawn; empty: nothing ends a response. */
  readonly ids: readonly number[];
  /** Where the two disagree, for people. */
  readonly notes: readonly string[];
}

/**
 * The model's end tokens, as in transformers. Those outside the vocabulary cannot be drawn; where the model names no other, the
 * tokenizer's end of text stands in for them.
 */
export function responseEnds(
  model: Pick<CausalLMWithValueHead, "eosTokenIds" | "sizes">,
  tokenizer: Pick<Tokenizer, "has" | "decode" | "eosTokenId">,
): ResponseEnds {
  const exists = (id: number) => id < model.sizes.vocabSize && tokenizer.has(id);
  const shown = (ids: readonly number[]) =>
    ids.map((id) => `${JSON.stringify(tokenizer.decode([id]))} (${id})`).join(", ");
  const ids = model.eosTokenIds.filter(exists);
  const impossible = model.eosTokenIds.filter((id) => !exists(id));
  const own = [tokenizer.eosTokenId ?? -1].filter(exists);
  const outside = `eos_token_id ${impossible.join(", ")} is no token of this model and tokenizer`;
  if (ids.length > 0) {
    const notes = impossible.length > 0 ? [`${outside}: only ${shown(ids)} ends a response`] : [];
    if (own.length > 0 && !ids.includes(own[0]))
      notes.push(`responses end with ${shown(ids)}, eos_token_id of the model, not with the tokenizer's ${shown(own)}`);
    return { ids, notes };
  }
  if (impossible.length > 0 && own.length > 0)
    return { ids: own, notes: [`${outside}: responses end with the tokenizer's ${shown(own)}`] };
  const why = impossible.length > 0 ? outside : "the model has no eos_token_id";
  const fix =
    own.length > 0 ? `; to end them with the tokenizer's ${shown(own)}, set eos_token_id in its config.json` : "";
  return { ids, notes: [`nothing ends a response before its maximum length: ${why}${fix}`] };
}

/** Said by nobody: what a template writes after it ends a turn. */
const ANSWER = "7b3e-answer";

/**
 * Where conversations are answered: whether the token that their template writes after an answer is one that ends a response. If it
 * is not, responses go on past it.
 * @param ends the tokens that end a response; none: nothing does, which is told otherwise
 */
export function turnNotes(
  prompts: readonly { readonly messages?: readonly unknown[] }[],
  tokenizer: Tokenizer,
  ends: readonly number[],
): string[] {
  if (ends.length === 0 || prompts.every(({ messages }) => messages === undefined)) return [];
  let after: string;
  try {
    const turn = [
      { role: "user", content: "?" },
      { role: "assistant", content: ANSWER },
    ];
    const { text } = tokenizer.applyChatTemplate(turn);
    const at = text.lastIndexOf(ANSWER);
    if (at < 0) return [];
    after = text.slice(at + ANSWER.length).trimStart();
  } catch {
    return []; // a template for other conversations than this
  }
  const [id] = tokenizer.encode(after, { addSpecialTokens: false });
  const isSpecial = id !== undefined && tokenizer.decode([id], { skipSpecialTokens: true }) === "";
  if (!isSpecial || ends.includes(id)) return [];
  const token = JSON.stringify(tokenizer.decode([id]));
  return [
    `the chat template ends an answer with ${token} (${id}), which ends no response here, so responses go on past it: add ${id} to eos_token_id in the model's generation_config.json`,
  ];
}
