/** @file How cost grows with batch, length, layers and width: our side alone, against what arithmetic says. */

import { type GPT2Config, makeConfig } from "../src/families/gpt2.ts";
import * as count from "./arithmetic.ts";
import { randomIds } from "./cases.ts";
import { startSide, stopSide } from "./measure.ts";
import type { Limits } from "./report.ts";
import type { Side } from "./side.ts";

export type Axis = "batch" | "length" | "layers" | "width";
type Work = "train" | "decode";

interface Point {
  work: Work;
  axis: Axis;
  /** Where on that axis. */
  at: number;
  config: GPT2Config;
  batch: number;
  /** Tokens of a training sequence; tokens drawn after the prompt. */
  length: number;
}

export interface CurvePoint extends Omit<Point, "config"> {
  /** Of a training step; of one pass that draws a token for each row. */
  seconds: number[];
  /** Of a step or pass, by arithmetic.ts. */
  flops: number;
  bytes: number;
}

const PROMPT = 8;
const ROUNDS = 2;
/** What stays the same on the other axes. */
const BASE = { train: { batch: 8, length: 128 }, decode: { batch: 16, length: 24 } };
const AXES: Record<Axis, Record<Work, readonly number[]>> = {
  batch: { train: [1, 2, 4, 8, 16], decode: [1, 4, 16, 64, 128] },
  length: { train: [32, 64, 128, 256], decode: [8, 24, 56, 120] },
  layers: { train: [1, 2, 4, 6, 12], decode: [1, 2, 4, 6, 12] },
  width: { train: [192, 384, 768, 1152], decode: [192, 384, 768, 1152] },
};
export const AXIS_NAMES = Object.keys(AXES) as readonly Axis[];
const BASE_LAYERS = 6;
const BASE_WIDTH = 768;
const HEAD_SIZE = 64;

/** @param scale "small" for a trial: narrow models, few points */
function allPoints(scale: "full" | "small"): Point[] {
  const works: readonly Work[] = ["train", "decode"];
  return AXIS_NAMES.flatMap((axis) =>
    works.flatMap((work) =>
      AXES[axis][work].slice(0, scale === "small" ? 3 : undefined).map((at): Point => {
        const nLayer = axis === "layers" ? at : BASE_LAYERS;
        const nEmbd = axis === "width" ? at : BASE_WIDTH;
        const sizes = { nLayer, nEmbd, nHead: nEmbd / HEAD_SIZE };
        const config = makeConfig(scale === "small" ? { ...sizes, nEmbd: nEmbd / 8, vocabSize: 300 } : sizes);
        const { batch, length } = BASE[work];
        return {
          work,
          axis,
          at,
          config,
          batch: axis === "batch" ? at : batch,
          length: axis === "length" ? at : length,
        };
      }),
    ),
  );
}

/** One process for each model; each point once to warm up, then {@link ROUNDS} times. */
export async function measureCurves(threads: number, scale: "full" | "small" = "full"): Promise<CurvePoint[]> {
  const all = allPoints(scale);
  const measured: CurvePoint[] = [];
  for (const sizes of new Set(all.map(sizesOf))) {
    const side = await startSide("valuehead", threads, ["--sizes", sizes]);
    try {
      const own = all.filter((p) => sizesOf(p) === sizes);
      const seconds = new Map<string, number[]>(); // axes meet in points: each is measured once
      for (const point of own) {
        const key = placeOf(point);
        if (!seconds.has(key)) seconds.set(key, await measurePoint(side, point));
        const { config, ...rest } = point;
        measured.push({ ...rest, seconds: seconds.get(key)!, ...arithmetic(point) });
      }
    } finally {
      await stopSide(side);
    }
  }
  return measured;
}

const sizesOf = ({ config: { nLayer, nEmbd, nHead, vocabSize } }: Point) =>
  JSON.stringify({ nLayer, nEmbd, nHead, vocabSize });
const placeOf = ({ work, batch, length }: Point) => `${work} ${batch} ${length}`;

async function measurePoint(side: Side, { work, config, batch, length }: Point): Promise<number[]> {
  const { vocabSize } = config;
  const command =
    work === "train"
      ? { run: "train", ids: randomIds(vocabSize, batch, length + 1) }
      : { run: "sample", ids: randomIds(vocabSize, batch, PROMPT), tokens: length };
  await side.ask(command);
  const seconds: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const answer = await side.ask(command);
    seconds.push(answer.seconds / (work === "train" ? 1 : length));
  }
  return seconds;
}

function arithmetic({ work, config, batch, length }: Point): { flops: number; bytes: number } {
  if (work === "train")
    return { flops: count.trainFlops(config, batch, length, batch * length), bytes: count.adamwBytes(config) };
  const cache = count.cacheBytes(config, batch, PROMPT + length / 2);
  return {
    flops: count.sampleFlops(config, batch, PROMPT, length) / length,
    bytes: count.weightBytes(config) + cache,
  };
}

/**
 * What the machine's limits leave of a point, in seconds. Training: the products at the sgemm peak, then AdamW at the copy
 * bandwidth. A decoding pass: reading the weights or multiplying with them, whichever takes longer.
 */
export function predictedSeconds({ work, flops, bytes }: CurvePoint, limits: Limits): number {
  if (work === "train") return flops / limits.sgemm + bytes / limits.copy;
  return Math.max(flops / limits.sgemm, bytes / limits.read);
}
