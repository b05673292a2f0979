/** @file Options of DPO runs. */
import { z } from "zod";
import { fail } from "../../base/errors.ts";
import { choice, count, onOff, positive } from "../../base/option-values.ts";
import { librarySource, type OptionSource, resolveOptions } from "../../base/options.ts";
import type { LongPairs } from "../../data/pairs.ts";
import { optimizerTable } from "../../nn/options.ts";
import type { RunConfig } from "../algorithm.ts";
import type { DPOLossName } from "../losses.ts";
import { loraTable } from "./lora.ts";
import { defaultsOf, keptTable, modelTable, type PPOConfig, passTable, runTable } from "./ppo-options.ts";
import { adviceOn, nameHere } from "./trl-names.ts";

/** Every option of a DPO run. */
export interface DPOConfig
  extends RunConfig,
    Pick<
      PPOConfig,
      | "learningRate"
      | "schedule"
      | "warmupSteps"
      | "beta1"
      | "beta2"
      | "adamEpsilon"
      | "adamBiasCorrection"
      | "weightDecay"
      | "maxGradNorm"
      | "frozenLayers"
      | "lora"
      | "loraAlpha"
      | "loraTargets"
      | "loraLayers"
      | "loraRankStabilized"
      | "basePrecision"
      | "gradientCheckpointing"
    > {
  /** Pairs per step. A whole number, at least 1. Default: 32. */
  batchSize: number;
  /** Pairs per forward and backward pass, gradients added up; 0: the whole batch. Default: 8. */
  microBatchSize: number;
  /** The loss of a pair: DPO's, that for swapped labels (robust), IPO's or a hinge. Default: "sigmoid". */
  loss: DPOLossName;
  /** How strongly the policy is held to the reference. A number, more than 0. Default: 0.1. */
  beta: number;
  /** Share of pairs whose labels are taken to be swapped, for sigmoid (cDPO) and robust. From 0 to below 0.5. Default: 0. */
  labelSmoothing: number;
  /** Pairs that are longer than the context. Default: "error". */
  longPairs: LongPairs;
  /** Steps between measurements on held-out pairs; 0: only at the end. Default: 50. */
  evalEvery: number;
}

const { maxSkippedSteps: _, learningRate, schedule, ...optimizer } = optimizerTable;
const { logSamples: __, keepBest: ___, ...kept } = keptTable;

/** One line for each option. @internal */
export const dpoOptions = {
  steps: runTable.steps,
  seed: runTable.seed,
  batchSize: [count(), 32, "pairs per step"],
  microBatchSize: [count(0), 8, "pairs per forward and backward pass, gradients added up; 0: the whole batch"],
  loss: [
    choice(["sigmoid", "robust", "ipo", "hinge"]),
    "sigmoid",
    "the loss of a pair: DPO's, that for swapped labels (robust), IPO's or a hinge",
  ],
  beta: [positive, 0.1, "how strongly the policy is held to the reference"],
  labelSmoothing: [
    z.number().min(0).lt(0.5).describe("a number from 0 to below 0.5"),
    0,
    "share of pairs whose labels are taken to be swapped, for sigmoid (cDPO) and robust",
  ],
  longPairs: [choice(["error", "drop", "truncate"]), "error", "pairs that are longer than the context"],
  learningRate: [learningRate[0], 1e-6, learningRate[2]],
  schedule: [schedule[0], "linear", schedule[2]],
  ...optimizer,
  frozenLayers: modelTable.frozenLayers,
  ...loraTable,
  gradientCheckpointing: passTable.gradientCheckpointing,
  evalEvery: [count(0), 50, "steps between measurements on held-out pairs; 0: only at the end"],
  ...kept,
  keepBest: [onOff, true, "also keep the checkpoint with the lowest held-out loss, however old"],
} as const satisfies { readonly [K in keyof DPOConfig]: readonly [z.ZodType<DPOConfig[K]>, DPOConfig[K], string] };

/** The default of every DPO option. */
export const DPO_DEFAULTS: Readonly<DPOConfig> = defaultsOf<DPOConfig>(dpoOptions);

/** The config from several sources, the later before the earlier. @throws config @internal */
export function resolveDPOConfig(sources: readonly OptionSource[]): DPOConfig {
  const defaults = librarySource({ ...DPO_DEFAULTS }, "defaults");
  const { values, ranks } = resolveOptions(dpoOptions, [defaults, ...sources], (name, write) => {
    const here = nameHere(name, (known) => Object.hasOwn(dpoOptions, known)) as keyof DPOConfig | undefined;
    return here ? `it is called ${write(here)} here: ${dpoOptions[here][2]}` : adviceOn(name);
  });
  const config = values as unknown as DPOConfig;
  if (config.labelSmoothing > 0 && !["sigmoid", "robust"].includes(config.loss)) {
    const source = sources[ranks.labelSmoothing - 1] ?? defaults;
    fail("config", {
      where: source.place("labelSmoothing"),
      found: String(config.labelSmoothing),
      expected: `0 with the loss ${config.loss}, which has no labels to smooth`,
      fix: `change ${source.called("labelSmoothing")}, or take the loss sigmoid or robust`,
    });
  }
  return config;
}

/**
 * A complete, checked config from some options.
 * @param where what errors call their origin
 * @throws config - an unknown name, a value out of range, a labelSmoothing that the loss has no use for
 */
export const dpoConfig = (options: Readonly<Partial<DPOConfig>> = {}, where = "options"): DPOConfig =>
  resolveDPOConfig([librarySource({ ...options }, where)]);
