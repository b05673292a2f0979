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
