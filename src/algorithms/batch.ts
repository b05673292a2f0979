/** @file A batch of experience: ragged responses in the padded layout of rl/, and what to ask the model about them. */

import type { AskedTokens } from "../model/asked.ts";
import type { KeptSet } from "../model/kept-set.ts";
import type { CausalLMWithValueHead } from "../model/model.ts";
import type { Padded } from "../rl/padded.ts";
import type { Rollout } from "../sample/generate.ts";
import type { Adjustments, RecordedToken } from "../sample/transforms.ts";

/** B responses. Per-token arrays are [B, W] row-major, W the longest response; `batch.mask` is 1 where a token exists. */
export interface Experience {
  readonly queries: readonly Int32Array[];
  readonly responses: readonly Int32Array[];
  readonly batch: Padded;
  /** log p under the distribution each token was drawn from. */
  readonly logprobs: Float32Array;
  readonly values: Float32Array;
  /** The changes of the logits that are made again when a token is scored. */
  readonly adjustments: Adjustments;
  /** What each token could have been, [B, W]. */
  readonly kept: readonly (KeptSet | undefined)[];
  /** Probability of the kept sets before the others were left out. 0 where there is no token. [B, W] */
  readonly keptMass: Float64Array;
}

/**
 * Rollouts of one batch, all sampled with the same options, put together.
 * @param maskReplay whether tokens will be scored over their kept sets, as they were drawn, or over all tokens
 */
export function experience(rollouts: readonly Rollout[], maskReplay = true): Experience {
  const queries = rollouts.flatMap((r) => r.queries);
  const responses = rollouts.flatMap((r) => r.responses);
  const rows = responses.length;
  const width = Math.max(...responses.map((r) => r.tokens.length));
  const mask = new Uint8Array(rows * width);
  const logprobs = new Float32Array(rows * width);
  const values = new Float32Array(rows * width);
  const keptMass = new Float64Array(rows * width);
  const kept: (KeptSet | undefined)[] = new Array(rows * width).fill(undefined);
  responses.forEach((r, b) => {
    mask.fill(1, b * width, b * width + r.tokens.length);
    logprobs.set(r.logprobs, b * width);
    values.set(r.values, b * width);
    keptMass.set(r.keptMass, b * width);
    if (maskReplay)
      r.kept.forEach((set, t) => {
        kept[b * width + t] = set;
      });
  });
  return {
    queries,
    responses: responses.map((r) => r.tokens),
    batch: { rows, width, mask },
    logprobs,
    values,
    adjustments: rollouts[0].adjustments,
    kept,
    keptMass,
  };
}

/** Sequence lengths are rounded up to a multiple of this, so that few programs serve all lengths. */
const LENGTH_MULTIPLE = 8;

/**
 * The response tokens of some rows as a question to the model.
 * @returns what to ask, and for each asked token its index in the [B, W] arrays
 */
export function ask(
  data: Experience,
  rows: ArrayLike<number>,
  nPositions: number,
): { asked: AskedTokens & { readonly ids: Int32Array }; index: Int32Array } {
  const { width } = data.batch;
  const list = Array.from(rows);
  // The last token is predicted but not read.
  const lengths = list.map((b) => data.queries[b].length + data.responses[b].length - 1);
  const T = Math.min(nPositions, Math.ceil(Math.max(...lengths) / LENGTH_MULTIPLE) * LENGTH_MULTIPLE);
  const count = list.reduce((n, b) => n + data.responses[b].length, 0);
  const ids = new Int32Array(list.length * T);
  const askedRows = new Int32Array(count);
  const askedIds = new Int32Array(count);
  const index = new Int32Array(count);
  const recorded: RecordedToken[] = [];
  let i = 0;
  list.forEach((b, r) => {
    const query = data.queries[b];
    const response = data.responses[b];
    ids.set(query, r * T);
    ids.set(response.subarray(0, response.length - 1), r * T + query.length);
    for (let t = 0; t < response.length; t++, i++) {
      askedRows[i] = r * T + query.length - 1 + t; // the position before the token predicts it
      askedIds[i] = response[t];
      index[i] = b * width + t;
      recorded.push({ prompt: query, response: response.subarray(0, t), kept: data.kept[index[i]] });
    }
  });
  return {
    asked: {
      tokens: { ids, B: list.length, T },
      rows: askedRows,
      ids: askedIds,
      distribution: data.adjustments.distribution(recorded),
    },
    index,
  };
}

/** All rows of a batch, as questions of `partSize` rows each. */
export function* askInParts(data: Experience, partSize: number, nPositions: number): Generator<ReturnType<typeof ask>> {
  const { rows } = data.batch;
  for (let start = 0; start < rows; start += partSize) {
    const part = Array.from({ length: Math.min(partSize, rows - start) }, (_, i) => start + i);
    yield ask(data, part, nPositions);
  }
}

/** What the reference says of every response token, [B, W]. */
export interface ReferenceScores {
  readonly refLogprobs: Float32Array;
  /** KL(policy ‖ reference) over the vocabulary, nats; where it was asked. */
  readonly exactKl?: Float32Array;
}

/**
 * The reference's log-probs, and the exact KL if wanted, in parts of `partSize` rows.
 * @param wantsExact one more forward pass of the policy and two heads instead of one
 */
export async function scoreReference(
  model: CausalLMWithValueHead,
  reference: CausalLMWithValueHead,
  data: Experience,
  partSize: number,
  wantsExact: boolean,
): Promise<ReferenceScores> {
  const { rows, width } = data.batch;
  const refLogprobs = new Float32Array(rows * width);
  const exactKl = wantsExact ? new Float32Array(rows * width) : undefined;
  for (const { asked, index } of askInParts(data, partSize, model.sizes.context)) {
    if (exactKl) {
      const scores = await model.exactKl(asked, reference);
      put(scores.refLogprobs, refLogprobs, index);
      put(scores.kl, exactKl, index);
    } else put((await reference.score(asked, ["logprobs"])).logprobs, refLogprobs, index);
  }
  return { refLogprobs, exactKl };
}

/** [R] -> the given places of [B, W]. */
export function put(from: Float32Array, to: Float32Array, index: Int32Array): void {
  index.forEach((j, i) => {
    to[j] = from[i];
  });
}

/** `from` at the given places: [B, W] -> [R]. */
export function pick(from: Float32Array, index: Int32Array): Float32Array {
  return Float32Array.from(index, (j) => from[j]);
}
