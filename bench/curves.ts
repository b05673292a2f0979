/** @file How cost grows with batch, length, layers and width: our side alone, against what arithmetic says. */

import { makeConfig } from "../src/families/gpt2.ts";
import { makeLlamaConfig } from "../src/families/llama.ts";
import * as count from "./arithmetic.ts";
import { randomIds } from "./cases.ts";
import { startSide, stopSide } from "./measure.ts";
import type { Limits } from "./report.ts";
import type { Side } from "./side.ts";

export type Axis = "batch" | "length" | "layers" | "width";
/** A training step of all weights or of an adapter; a decoding pass. */
export type Work = "train" | "lora" | "decode";
export type Kind = "GPT-2" | "SmolLM2";

interface Point {
  kind: Kind;
  work: Work;
  axis: Axis;
  /** Where on that axis. */
  at: number;
  config: count.AnyConfig;
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
const RANK = 8;
/** What stays the same on the other axes. */
const TRAINING = { batch: 8, length: 128 };
export const BASE: Record<Work, { batch: number; length: number }> = {
  ...{ train: TRAINING, lora: TRAINING },
  decode: { batch: 16, length: 24 },
};
const TRAINING_AXES = { batch: [1, 2, 4, 8, 16], length: [32, 64, 128, 256] };
const AXES: Record<Work, Record<"batch" | "length", readonly number[]>> = {
  ...{ train: TRAINING_AXES, lora: TRAINING_AXES },
  decode: { batch: [1, 4, 16, 64, 128], length: [8, 24, 56, 120] },
};
/** Models: half the layers of GPT-2 124M and of SmolLM2-135M, at their width. */
export const KINDS: Record<Kind, { base: { layers: number; width: number }; layers: number[]; width: number[] }> = {
  "GPT-2": { base: { layers: 6, width: 768 }, layers: [1, 2, 4, 6, 12], width: [192, 384, 768, 1152] },
  SmolLM2: { base: { layers: 15, width: 576 }, layers: [4, 8, 15, 30], width: [192, 384, 576, 768] },
};
export const AXIS_NAMES: readonly Axis[] = ["batch", "length", "layers", "width"];
export const WORKS: readonly Work[] = ["train", "lora", "decode"];
export const KIND_NAMES = Object.keys(KINDS) as readonly Kind[];
const HEAD_SIZE = 64;

/** As wide and deep as asked; a trial is an eighth as wide and knows 300 tokens. */
function configOf(kind: Kind, layers: number, width: number, small: boolean): count.AnyConfig {
  const heads = width / HEAD_SIZE;
  const C = small ? width / 8 : width;
  if (kind === "GPT-2") {
    const sizes = { nLayer: layers, nHead: heads, nEmbd: C };
    return makeConfig(small ? { ...sizes, vocabSize: 300 } : sizes);
  }
  return makeLlamaConfig({
    ...{ numHiddenLayers: layers, hiddenSize: C, intermediateSize: (8 * C) / 3 },
    ...{ numAttentionHeads: heads, numKeyValueHeads: heads / 3, headDim: C / heads },
    ...{ vocabSize: small ? 300 : 49152, maxPositionEmbeddings: 8192, tieWordEmbeddings: true },
  });
}

/** @param scale "small" for a trial: narrow models, few points */
function allPoints(scale: "full" | "small"): Point[] {
  const small = scale === "small";
  return KIND_NAMES.flatMap((kind) =>
    WORKS.flatMap((work) =>
      AXIS_NAMES.flatMap((axis) => {
        const { base, ...own } = KINDS[kind];
        const places = { ...AXES[work], ...own }[axis];
        return places.slice(0, small ? 2 : undefined).map((at): Point => {
          const place: Record<Axis, number> = { ...base, ...BASE[work] };
          place[axis] = at;
          const { layers, width, batch, length } = place;
          return { kind, work, axis, at, config: configOf(kind, layers, width, small), batch, length };
        });
      }),
    ),
  );
}

/** About how long they take, on two cores of a Sapphire Rapids. */
export const curveSeconds = (scale: "full" | "small") => (scale === "small" ? 40 : 660);

/** One process for each model, with an adapter and without; each point once to warm up, then {@link ROUNDS} times. */
export async function measureCurves(threads: number, scale: "full" | "small" = "full"): Promise<CurvePoint[]> {
  const all = allPoints(scale);
  const measured: CurvePoint[] = [];
  for (const args of new Set(all.map(argsOf))) {
    const side = await startSide("valuehead", threads, JSON.parse(args));
    try {
      const own = all.filter((p) => argsOf(p) === args);
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

const argsOf = ({ config, work }: Point) =>
  JSON.stringify(["--sizes", JSON.stringify(config), ...(work === "lora" ? ["--rank", String(RANK)] : [])]);
const placeOf = ({ work, batch, length }: Point) => `${work} ${batch} ${length}`;

async function measurePoint(side: Side, { work, config, batch, length }: Point): Promise<number[]> {
  const { vocabSize } = config;
  const command =
    work === "decode"
      ? { run: "sample", ids: randomIds(vocabSize, batch, PROMPT), tokens: length }
      : { run: "train", ids: randomIds(vocabSize, batch, length + 1) };
  await side.ask(command);
  const seconds: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const answer = await side.ask(command);
    seconds.push(answer.seconds / (work === "decode" ? length : 1));
  }
  return seconds;
}

function arithmetic({ work, config, batch, length }: Point): { flops: number; bytes: number } {
  const tokens = batch * length;
  if (work === "train")
    return { flops: count.trainFlops(config, batch, length, tokens), bytes: count.adamwBytes(config) };
  if (work === "lora")
    return {
      flops: count.trainAdapterFlops(config, RANK, batch, length, tokens),
      bytes: count.adamwBytes(config, RANK),
    };
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
  if (work !== "decode") return flops / limits.sgemm + bytes / limits.copy;
  return Math.max(flops / limits.sgemm, bytes / limits.read);
}
