/** @file A text as the model sees it: how likely each token was, what it is worth, what the model would have written. */
import { type IdList, readIds } from "../base/token-ids.ts";
import { readTokens } from "../model/asked.ts";
import type { KeptSet } from "../model/kept-set.ts";
import type { CausalLMWithValueHead } from "../model/model.ts";
import { sumOfExp } from "./logits.ts";

/** What {@link scoreTokens} says of a text of T tokens. */
export interface TokenTable {
  /** log p of each token given those before it, natural log. [T]; NaN for the first, which nothing predicts. */
  readonly logprobs: Float64Array;
  /** The value head's output at each token. [T] */
  readonly values: Float32Array;
  /** The most likely next token after each. int32 [T] */
  readonly greedy: Int32Array;
}

/**
 * One sequence through the model. Logits exist for one chunk of rows at a time, never as [T, V]; the log-softmax of
 * their float32 is taken in float64.
 * @param given    token ids [T], T from 1 to nPositions
 * @param drawable ids that text can be made of: the others have probability 0; default: those of the model's own tokenizer
 * @throws input - no ids, too many, or ids outside the vocabulary
 * @throws config - a value head of more than one number
 */
export async function scoreTokens(
  model: CausalLMWithValueHead,
  given: IdList,
  drawable: KeptSet | undefined = model.drawable,
): Promise<TokenTable> {
  const { width: C, vocabSize: V } = model.sizes;
  const ids = readIds(given, { where: "token ids", vocabSize: V, fixEmpty: "give a text that is not empty" });
  const T = ids.length;
  const tokens = readTokens(model.sizes, { ids, B: 1, T });
  model.vHead.requireScalar();
  const hidden = await model.body.hidden(model.parameters, tokens); // [T, C]
  const logprobs = new Float64Array(T).fill(Number.NaN);
  const values = new Float32Array(T);
  const greedy = new Int32Array(T);
  const undrawable = drawable ? Array.from({ length: V }, (_, id) => id).filter((id) => !drawable.has(id)) : [];
  for (let start = 0; start < T; start += model.head.chunkRows) {
    const R = Math.min(model.head.chunkRows, T - start);
    const logits = model.pool.array(R * V);
    const picked = model.pool.take(R * C);
    const rows = Int32Array.from({ length: R }, (_, r) => start + r);
    await model.rows.gather([{ from: hidden, rows }], picked);
    await model.head.logits(model.parameters, picked, R, logits, values.subarray(start, start + R));
    for (let r = 0; r < R; r++) {
      const row = logits.subarray(r * V, (r + 1) * V);
      for (const id of undrawable) row[id] = Number.NEGATIVE_INFINITY;
      let best = 0;
      for (let v = 1; v < V; v++) if (row[v] > row[best]) best = v;
      greedy[start + r] = best;
      if (start + r + 1 === T) continue;
      logprobs[start + r + 1] = row[ids[start + r + 1]] - row[best] - Math.log(sumOfExp(row, undefined, row[best], 1));
    }
    model.pool.release(logits, picked);
  }
  model.pool.release(hidden);
  return { logprobs, values, greedy };
}
