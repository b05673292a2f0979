/** @file What to ask the model about a batch of experience: the same tokens, under the same adjustments and kept sets. */
import type { AskedTokens } from "../model/asked.ts";
import type { Distribution } from "../model/distribution.ts";
import { keptAt } from "../model/kept-set.ts";
import type { Adjustments, RecordedToken } from "../sample/transforms.ts";
import type { Experience } from "./experience.ts";
import { layOut } from "./layout.ts";

/** How a batch goes through a model. */
export interface Passes {
  /** What happened to logits because of earlier tokens when the batch was drawn, and happens again. */
  readonly adjustments: Adjustments;
  /** Responses in a forward pass. */
  readonly partSize: number;
  /**
   * Responses that were sampled together: no forward pass has some of two such parts, so that whoever sampled one can score it too, and
   * gets the same bits. Default: all.
   */
  readonly sampledTogether?: number;
}

/** Values do not ask what could be drawn. */
export const ANY_TOKEN: Distribution = { temperature: 1 };

/**
 * The response tokens of some rows as a question to the model.
 * @param nPositions  the model's context, tokens
 * @param adjustments what happens to logits because of earlier tokens, the same as when they were drawn
 * @returns what to ask, and for each asked token its index in the [B, W] arrays
 */
export function ask(
  data: Experience,
  rows: ArrayLike<number>,
  nPositions: number,
  adjustments: Adjustments,
): { asked: AskedTokens & { readonly ids: Int32Array }; index: Int32Array } {
  const { width } = data.batch;
  const list = Array.from(rows);
  const responses = list.map((b) => data.responses[b]);
  const { ids, B, T, positions, promptEnds, starts } = layOut(
    list.map((b) => data.queries[b]),
    responses,
    nPositions,
  );
  const count = responses.reduce((n, { length }) => n + length, 0);
  const askedRows = new Int32Array(count);
  const askedIds = new Int32Array(count);
  const index = new Int32Array(count);
  const recorded: RecordedToken[] = [];
  let i = 0;
  list.forEach((b, r) => {
    const [prompt, response] = [data.queries[b], responses[r]];
    for (let t = 0; t < response.length; t++, i++) {
      askedRows[i] = t === 0 ? promptEnds[r] : starts[r] + t - 1; // the place before the token predicts it
      askedIds[i] = response[t];
      index[i] = b * width + t;
      recorded.push({ prompt, response: response.subarray(0, t), kept: keptAt(data.kept, index[i]) });
    }
  });
  return {
    asked: {
      tokens: { ids, B, T, ...(positions && { positions }) },
      rows: askedRows,
      ids: askedIds,
      distribution: adjustments.distribution(recorded),
    },
    index,
  };
}

/** All rows of a batch, as questions of at most `partSize` rows each. */
export function* askInParts(
  data: Experience,
  { adjustments, partSize, sampledTogether }: Passes,
  nPositions: number,
): Generator<ReturnType<typeof ask>> {
  const { rows } = data.batch;
  const together = sampledTogether ?? rows;
  for (let begin = 0; begin < rows; begin += together) {
    const end = Math.min(rows, begin + together);
    for (let start = begin; start < end; start += partSize) {
      const part = Array.from({ length: Math.min(partSize, end - start) }, (_, i) => start + i);
      yield ask(data, part, nPositions, adjustments);
    }
  }
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
