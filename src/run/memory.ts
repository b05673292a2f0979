/** @file Whether a run fits in memory, told before it starts, and which option would make it fit. */

import { type LoRAOptions, withAskedAdapter } from "../algorithms/options/lora.ts";
import type { PPOConfig } from "../algorithms/options/ppo-options.ts";
import { LORA_DEFAULTS } from "../model/adapter.ts";
import type { Architecture } from "../model/family.ts";
import {
  bytesInWords,
  type MemoryEstimate,
  type PretrainingSizes,
  pretrainingMemory,
  refuseForMemory,
  type SamplingSizes,
  samplingMemory,
  trainingMemory,
} from "../model/memory.ts";

export type MemoryOptions = Pick<
  PPOConfig,
  | "rolloutBatchSize"
  | "batchSize"
  | "miniBatchSize"
  | "microBatchSize"
  | "maxNewTokens"
  | "minNewTokens"
  | "gradientCheckpointing"
  | "klPenalty"
  | "klLog"
  | "topK"
  | "topP"
  | "minP"
  | "frozenLayers"
  | "valueModel"
  | "rolloutPrecision"
  | "async"
> &
  LoRAOptions;

/** What a run with these options needs, with prompts of up to `promptTokens` tokens. Where a precision is still to be decided: the one that needs more. */
export function runMemory(asked: Architecture, options: MemoryOptions, promptTokens: number): MemoryEstimate {
  if (options.rolloutPrecision === "auto")
    return largest(
      eachPrecision.map((rolloutPrecision) => runMemory(asked, { ...options, rolloutPrecision }, promptTokens)),
    );
  const model = withAskedAdapter(asked, options);
  const { topK, topP, minP, klPenalty, klLog } = options;
  return trainingMemory(model, {
    ...options,
    rolloutBatchSize: Math.min(options.rolloutBatchSize, options.batchSize),
    promptTokens,
    reference: klLog !== "none",
    exactKl: klLog !== "none" && (klPenalty === "exact" || klLog === "exact"),
    separateValues: options.valueModel === "separate",
    int8Rollouts: options.rolloutPrecision === "int8",
    ahead: options.async,
    truncates: topK > 0 || topP < 1 || minP > 0,
  });
}

const eachPrecision = ["fp32", "int8"] as const;
const largest = (estimates: readonly MemoryEstimate[]) => estimates.reduce((a, b) => (b.total > a.total ? b : a));

/** Sampling in a precision, or in either: in the one that needs more. */
export const precisionMemory = (
  model: Architecture,
  sizes: SamplingSizes,
  precision: "fp32" | "int8" | "auto",
): MemoryEstimate =>
  largest(
    (precision === "auto" ? eachPrecision : [precision]).map((one) =>
      samplingMemory(model, { ...sizes, int8: one === "int8" }),
    ),
  );

/**
 * The options to change, and to what, so that a run fits into so many bytes: those that change nothing but time first, then an
 * adapter in place of the weights, then frozen layers; as few as possible, each as little as possible. Undefined when nothing helps.
 */
export function fittingOptions(
  model: Architecture,
  options: MemoryOptions,
  promptTokens: number,
  bytes: number,
): Partial<MemoryOptions> | undefined {
  const halves = (n: number) =>
    Array.from({ length: Math.floor(Math.log2(n)) }, (_, i) => Math.floor(n / 2 ** (i + 1)));
  const micro = halves(options.microBatchSize || options.miniBatchSize).map((microBatchSize) => ({ microBatchSize }));
  const rollout = halves(Math.min(options.rolloutBatchSize, options.batchSize)).map((n) => ({ rolloutBatchSize: n }));
  const both = micro.flatMap((m) => rollout.map((r) => ({ ...m, ...r })));
  const recompute = { gradientCheckpointing: true };
  const layers = Array.from({ length: Math.max(0, model.sizes.layers - 1 - options.frozenLayers) }, (_, i) => i + 1);
  const frozen = layers.flatMap((n) =>
    both.map((change) => ({ ...change, ...recompute, frozenLayers: options.frozenLayers + n })),
  );
  const adapter = { lora: LORA_DEFAULTS.rank };
  const adapted = [adapter, ...[{}, ...both].map((change) => ({ ...change, ...recompute, ...adapter }))];
  const candidates: Partial<MemoryOptions>[] = [
    ...micro,
    ...rollout,
    recompute,
    ...both,
    ...[...micro, ...rollout, ...both].map((change) => ({ ...change, ...recompute })),
    ...(model.adapter || options.lora > 0 ? [] : adapted),
    ...frozen,
  ];
  return candidates.find((change) => runMemory(model, { ...options, ...change }, promptTokens).total <= bytes);
}

/**
 * @param available bytes this process could still take
 * @param resident  bytes it has already
 * @throws config - the run would not fit
 */
export function checkMemory(
  model: Architecture,
  options: MemoryOptions,
  promptTokens: number,
  { available, resident }: MemoryLimits,
): MemoryEstimate {
  const need = runMemory(model, options, promptTokens);
  const limit = available + resident;
  if (need.total <= limit) return need;
  const change = fittingOptions(model, options, promptTokens, limit);
  const names = Object.entries(change ?? {}).map(([name, value]) => `${name} to ${value}`);
  const then = change && runMemory(model, { ...options, ...change }, promptTokens);
  const fix = then
    ? `set ${names.join(" and ")} (about ${bytesInWords(then.total)}), or ignoreMemory to try anyway`
    : "no option makes it fit: take a smaller model or another machine, or set ignoreMemory to try anyway";
  return refuseForMemory("a run", need, limit, fix);
}

/** Bytes that are there and were taken already: together what a process may use. */
export interface MemoryLimits {
  available: number;
  resident: number;
}

/** What is sampled together, and in which precision; default: fp32. */
export interface CheckedSampling extends Omit<SamplingSizes, "int8"> {
  precision?: "fp32" | "int8" | "auto";
}

/**
 * Whether a model can be sampled from.
 * @throws config - it would not fit
 */
export function checkSampling(
  model: Architecture,
  { precision = "fp32", ...sizes }: CheckedSampling,
  { available, resident }: MemoryLimits,
): void {
  const need = precisionMemory(model, sizes, precision);
  const limit = available + resident;
  if (need.total <= limit) return;
  const one = precisionMemory(model, { ...sizes, rows: 1 }, precision).total <= limit;
  const fix = `${one && sizes.rows > 1 ? "ask for one response at a time" : "take a smaller model or another machine"}, or set ignoreMemory to try anyway`;
  refuseForMemory("a model", need, limit, fix);
}

/**
 * Whether a model can be trained on a corpus.
 * @throws config - it would not fit
 */
export function checkPretraining(
  model: Architecture,
  sizes: PretrainingSizes,
  { available, resident }: MemoryLimits,
): MemoryEstimate {
  const need = pretrainingMemory(model, sizes);
  const limit = available + resident;
  if (need.total <= limit) return need;
  const micro = (gradientCheckpointing: boolean) => {
    let size = sizes.microBatchSize || sizes.batchSize;
    const takes = () => pretrainingMemory(model, { ...sizes, microBatchSize: size, gradientCheckpointing }).total;
    while (size > 1 && takes() > limit) size = Math.floor(size / 2);
    return takes() <= limit ? size : undefined;
  };
  const [plain, recomputing] = [micro(false), micro(true)];
  const advice =
    plain !== undefined
      ? `set microBatchSize to ${plain}`
      : recomputing !== undefined
        ? `set gradientCheckpointing to true and microBatchSize to ${recomputing}`
        : "take a smaller model or another machine";
  const fix = `${advice}, or set ignoreMemory to try anyway`;
  return refuseForMemory("a run", need, limit, fix);
}
