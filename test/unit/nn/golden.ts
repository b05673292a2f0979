/** @file What tools/reference/optim.py computed with torch and transformers. */
import { readFileSync } from "node:fs";
import type { AdamWOptions } from "../../../src/nn/adamw.ts";
import type { ScheduleName } from "../../../src/nn/schedules.ts";
import { goldenPath } from "../../support/golden.ts";

interface OptimGolden {
  initial: number[];
  /** The first so many parameters have weight decay. */
  decayed: number;
  grads: number[][];
  adamw: { options: AdamWOptions; rates: number[]; after: number[][]; m: number[]; v: number[] }[];
  clip: { maxNorm: number; norm: number; clipped: number[] }[];
  schedules: { name: ScheduleName; total: number; warmup: number; final: number; factors: number[] }[];
  activations: { x: number[]; values: Record<string, number[]> };
  attention: {
    B: number;
    T: number;
    H: number;
    D: number;
    scale: number;
    qkv: number[];
    seed: number[];
    output: number[];
    gradient: number[];
  };
}

export const golden: OptimGolden = JSON.parse(readFileSync(goldenPath("optim.json"), "utf8"));
