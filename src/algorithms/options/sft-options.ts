/** @file Options of language-model training. */
import { z } from "zod";
import { fail } from "../../base/errors.ts";
import { choice, count, decay, notNegative, positive, share } from "../../base/option-values.ts";
import { librarySource, type OptionSource, resolveOptions } from "../../base/options.ts";
import type { LongExamples, Packing, PackingOptions } from "../../data/packing.ts";
import type { ScheduleName } from "../../nn/schedules.ts";
import type { RunConfig } from "../algorithm.ts";
import { loraTable } from "./lora.ts";
import { passTable } from "./ppo-options.ts";
import { adviceOn, nameHere } from "./trl-names.ts";

/** Every option of language-model training. */
export interface SFTConfig extends RunConfig {
  /** Tokens per sequence, at most the model's context. Default: 256, or the context if that is shorter. */
  sequenceLength: number;
  /** How documents share sequences: whole, so that none sees another, or wrapped, cut where a sequence ends. null: whole for responses, else wrapped. Default: null. */
  packing: Packing | null;
  /** Of responses that are packed whole, those longer than a sequence. Default: "error". */
  longExamples: LongExamples;
  /** Sequences per step. Default: 8. */
  batchSize: number;
  /** Sequences per forward and backward pass, gradients added up; 0: the whole batch. Default: 0. */
  microBatchSize: number;
  /** Optimizer steps. Default: 1000. */
  steps: number;
  /** AdamW's step size. Default: 0.001. */
  learningRate: number;
  /** Learning rate over the run. Default: "cosine". */
  schedule: ScheduleName;
  /** Steps of linear warm-up. Default: 100. */
  warmupSteps: number;
  /** The schedule ends at this share of the learning rate. Default: 0.05. */
  finalFactor: number;
  /** AdamW, decoupled decay of weight matrices. Default: 0.1. */
  weightDecay: number;
  /** AdamW, first moment. Default: 0.9. */
  beta1: number;
  /** AdamW, second moment. Default: 0.95. */
  beta2: number;
  /** AdamW, added to the root of the second moment. Default: 1e-8. */
  epsilon: number;
  /** Gradients are scaled down to this norm; 0: never. Default: 1. */
  maxGradNorm: number;
  /** Train a low-rank adapter of this rank (LoRA) and leave the weights alone; 0: train the weights. Default: 0. */
  lora: number;
  /** The adapter counts alpha / rank. Default: 32. */
  loraAlpha: number;
  /** Matrices with an adapter: all-linear, names with commas between them, or a regular expression for whole names. Default: "all-linear". */
  loraTargets: string;
  /** Blocks with an adapter, counted from 0, such as 0-3,6; empty: all. Default: "". */
  loraLayers: string;
  /** The adapter counts alpha / sqrt(rank). Default: false. */
  loraRankStabilized: boolean;
  /** Under an adapter, the matrices of the blocks as they are, or held in int8, a quarter of their memory. Default: "fp32". */
  basePrecision: "fp32" | "int8";
  /** Recompute activations in the backward pass: less memory, more time. Default: false. */
  gradientCheckpointing: boolean;
  /** Steps between measurements of the held-out loss; 0: only at the end. Default: 500. */
  evalEvery: number;
  /** Seed of everything random. Default: 0. */
  seed: number;
  /** Steps between checkpoints; 0: only at the end and when interrupted. Default: 500. */
  saveEvery: number;
  /** Checkpoints kept; older ones are deleted. Default: 2. */
  keepCheckpoints: number;
  /** Also keep the checkpoint with the lowest held-out loss, however old. Default: true. */
  keepBest: boolean;
}

/** Every option: what it may be, its default, what it means. @internal */
export const sftOptions = {
  sequenceLength: [count(), 256, "tokens per sequence"],
  packing: [
    choice(["whole", "wrapped"]).nullable().describe("whole or wrapped, or null for what fits the data"),
    null,
    "how documents share sequences: whole, none seeing another, or wrapped, cut where one ends; none: whole with --responses, else wrapped",
  ],
  longExamples: [
    choice(["error", "drop", "truncate"]),
    "error",
    "responses packed whole that are longer than a sequence",
  ],
  batchSize: [count(), 8, "sequences per step"],
  microBatchSize: [count(0), 0, "sequences per forward and backward pass, gradients added up; 0: the whole batch"],
  steps: [count(), 1000, "optimizer steps"],
  learningRate: [positive, 1e-3, "AdamW's step size"],
  schedule: [choice(["constant", "linear", "cosine"]), "cosine", "learning rate over the run"],
  warmupSteps: [count(0), 100, "steps of linear warm-up"],
  finalFactor: [share, 0.05, "the schedule ends at this share of the learning rate"],
  weightDecay: [notNegative, 0.1, "AdamW, decoupled decay of weight matrices"],
  beta1: [decay, 0.9, "AdamW, first moment"],
  beta2: [decay, 0.95, "AdamW, second moment"],
  epsilon: [positive, 1e-8, "AdamW, added to the root of the second moment"],
  maxGradNorm: [notNegative, 1, "gradients are scaled down to this norm; 0: never"],
  ...loraTable,
  gradientCheckpointing: passTable.gradientCheckpointing,
  evalEvery: [count(0), 500, "steps between measurements of the held-out loss; 0: only at the end"],
  seed: [count(0, Number.MAX_SAFE_INTEGER), 0, "seed for everything random"],
  saveEvery: [count(0), 500, "steps between checkpoints; 0: only at the end and when interrupted"],
  keepCheckpoints: [count(), 2, "checkpoints kept; older ones are deleted"],
  keepBest: [
    z.boolean().describe("true or false"),
    true,
    "also keep the checkpoint with the lowest held-out loss, however old",
  ],
} as const satisfies { [name in keyof SFTConfig]: readonly [z.ZodType<SFTConfig[name]>, SFTConfig[name], string] };

/** The default of every option. */
export const SFT_DEFAULTS: Readonly<SFTConfig> = Object.fromEntries(
  Object.entries(sftOptions).map(([name, [, standard]]) => [name, standard]),
) as unknown as SFTConfig;

/**
 * A complete, checked config from some options.
 * @param where what errors call their origin
 * @throws config - an unknown name, a value out of range
 */
export function sftConfig(options: Partial<SFTConfig> = {}, where = "options"): SFTConfig {
  return resolveSFTConfig([librarySource(options as Record<string, unknown>, where)]);
}

/** The same from several sources, the later before the earlier. @internal */
export function resolveSFTConfig(sources: readonly OptionSource[]): SFTConfig {
  const defaults = librarySource({ ...SFT_DEFAULTS }, "defaults");
  const { values } = resolveOptions(sftOptions, [defaults, ...sources], (name, write) => {
    const here = nameHere(name, (option) => Object.hasOwn(sftOptions, option)) as keyof SFTConfig | undefined;
    return here ? `it is called ${write(here)} here: ${sftOptions[here][2]}` : adviceOn(name);
  });
  return values as unknown as SFTConfig;
}

/** What packs documents into windows, with its default for what is learned. */
export const packingOf = (
  { packing, longExamples, sequenceLength }: Pick<SFTConfig, "packing" | "longExamples" | "sequenceLength">,
  responsesAlone: boolean,
): PackingOptions => ({ packing: packing ?? (responsesAlone ? "whole" : "wrapped"), longExamples, sequenceLength });

/** @throws config - sequences that do not fit into the model's context */
export function checkSequenceLength({ sequenceLength }: SFTConfig, context: number, where = "options"): void {
  if (sequenceLength <= context) return;
  fail("config", {
    where: `${where}, sequenceLength`,
    found: String(sequenceLength),
    expected: `at most ${context}, the model's context`,
    fix: "lower sequenceLength, or give a new model a longer context",
  });
}
