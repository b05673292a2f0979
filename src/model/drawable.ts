/**
 * @file Ids that text can be made of. A model may have more rows than its tokenizer has ids (their number is rounded up to a
 * multiple of 64 or 128, or the ids have holes); the rest is never drawn, and no distribution has it.
 */
import { loadTokenizer } from "../tokenizer/load.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { KeptSet } from "./kept-set.ts";

/** The ids of a model's vocabulary that the tokenizer has a token for; undefined: all of them. */
export function drawableIds(tokenizer: Pick<Tokenizer, "has">, vocabSize: number): KeptSet | undefined {
  const ids = new Int32Array(vocabSize);
  let count = 0;
  for (let id = 0; id < vocabSize; id++) if (tokenizer.has(id)) ids[count++] = id;
  return count === vocabSize ? undefined : KeptSet.of(ids.slice(0, count), vocabSize);
}

/** The same with the tokenizer in a model's directory; undefined also where there is none that can be read. */
export async function drawableIdsOf(directory: string, vocabSize: number): Promise<KeptSet | undefined> {
  const tokenizer = await loadTokenizer(directory).catch(() => undefined); // a model without one is still a model
  return tokenizer && drawableIds(tokenizer, vocabSize);
}

/** A note for the user; none if all ids can be drawn. */
export function drawableNotes(drawable: KeptSet | undefined, vocabSize: number): string[] {
  if (drawable === undefined) return [];
  const count = vocabSize - drawable.size;
  return [
    `${count} of the ${vocabSize} ids of the model have no text in the tokenizer: they are never drawn, and do not count when ` +
      "tokens are scored",
  ];
}
