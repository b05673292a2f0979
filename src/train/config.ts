/** @file Every option of a PPO run, with its default and its limits, in one schema. */
import { z } from "zod";
import { fail } from "../base/errors.ts";
import { nearest } from "../base/nearest.ts";

const count = (min = 1) => z.number().int().min(min);
const positive = z.number().gt(0).finite();
const notNegative = z.number().min(0).finite();
const share = z.number().min(0).max(1);

/** One line for each option; the command line prints these. */
export const ppoOptions = {
  steps: [count(), 100, "PPO steps"],
  seed: [count(0), 0, "seed of everything random"],
  batchSize: [count(), 128, "prompts per step"],
  miniBatchSize: [count(), 32, "responses per optimizer step"],
  microBatchSize: [count(0), 0, "responses per forward and backward pass, gradients added up; 0: the whole minibatch"],
  rolloutBatchSize: [count(), 64, "responses sampled at a time; rewards of one part run while the next is sampled"],
  rolloutPrecision: [
    z.enum(["fp32", "int8"]),
    "fp32",
    "int8: sample from a quantised copy, faster, and weight its tokens",
  ],
  importanceWeightCap: [notNegative, 2, "largest weight of a token drawn in int8; 0: no weights, a biased gradient"],
  ppoEpochs: [count(), 4, "passes over each batch"],
  maxNewTokens: [count(), 24, "tokens per response at most"],
  minNewTokens: [count(0), 0, "no end of text before this many tokens"],
  temperature: [positive, 1, "logits are divided by this, when sampling and when scoring"],
  topK: [count(0), 0, "sample from the k most likely tokens; 0: all"],
  topP: [z.number().gt(0).max(1), 1, "sample from the most likely tokens that hold this much probability"],
  minP: [share, 0, "keep tokens at least this share as likely as the most likely one; 0: all"],
  repetitionPenalty: [positive, 1, "logits of tokens seen before are divided (or multiplied, if negative) by this"],
  bannedTokens: [z.array(count(0)), [] as number[], "ids that are never drawn"],
  stop: [z.array(z.string().min(1)), [] as string[], "a response also ends when its text contains one of these"],
  maskReplay: [z.boolean(), true, "score each token over the set it was drawn from; without, x is not ~ p"],
  learningRate: [notNegative, 1.41e-5, "AdamW's step size"],
  schedule: [z.enum(["constant", "linear", "cosine"]), "constant", "learning rate over the run"],
  warmupSteps: [count(0), 0, "PPO steps of linear warm-up"],
  beta1: [share, 0.9, "AdamW, first moment"],
  beta2: [share, 0.999, "AdamW, second moment"],
  adamEpsilon: [positive, 1e-8, "AdamW, added to the root of the second moment"],
  weightDecay: [notNegative, 0, "AdamW, decoupled decay of weight matrices"],
  maxGradNorm: [notNegative, 1, "gradients are scaled down to this norm; 0: never"],
  klCoef: [notNegative, 0.2, "beta, what a nat of KL costs; where an adaptive controller starts"],
  klController: [z.enum(["adaptive", "fixed"]), "adaptive", "whether beta follows the KL"],
  klTarget: [positive, 6, "KL per response in nats that an adaptive beta aims at"],
  klHorizon: [positive, 10_000, "responses over which an adaptive beta moves"],
  klPenalty: [z.enum(["k1", "abs", "k2", "k3", "exact"]), "k1", "per-token estimate of the KL in the reward"],
  klLog: [z.enum(["k1", "k2", "k3", "exact"]), "k1", "estimate of the KL in the log, which an adaptive beta follows"],
  gamma: [share, 1, "discount per token"],
  lambda: [share, 0.95, "GAE's trade of bias for variance"],
  whitenRewards: [z.boolean(), false, "scale rewards to variance 1 before advantages"],
  whitenAdvantages: [z.boolean(), true, "advantages to mean 0, variance 1 over the batch"],
  clipRange: [positive, 0.2, "policy ratio clip"],
  clipRangeValue: [positive, 0.2, "how far a value may move per batch"],
  vfCoef: [notNegative, 0.1, "weight of the value loss"],
  entropyCoef: [notNegative, 0, "weight of an entropy bonus"],
  gradientCheckpointing: [z.boolean(), false, "recompute activations in the backward pass: less memory, more time"],
  saveEvery: [count(0), 50, "PPO steps between checkpoints; 0: only at the end and when interrupted"],
  keepCheckpoints: [count(), 2, "checkpoints kept; older ones are deleted"],
  logSamples: [count(0), 4, "responses written to samples.jsonl per step"],
  audit: [z.enum(["stop", "warn", "off"]), "stop", "what to do when the numbers are impossible"],
} as const satisfies Record<string, readonly [z.ZodType, unknown, string]>;

type Schemas = { -readonly [K in keyof typeof ppoOptions]: (typeof ppoOptions)[K][0] };
export type PpoConfig = { [K in keyof Schemas]: z.output<Schemas[K]> };
export type PpoOptionName = keyof PpoConfig;

export const PPO_DEFAULTS = Object.fromEntries(
  Object.entries(ppoOptions).map(([name, [, value]]) => [name, value]),
) as PpoConfig;

/**
 * A complete, checked config from some options.
 * @throws config - an unknown name (with the nearest known one), a value out of range, options that contradict each other
 */
export function ppoConfig(options: Readonly<Record<string, unknown>> = {}, where = "options"): PpoConfig {
  const config: Record<string, unknown> = { ...PPO_DEFAULTS };
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined) continue;
    if (!Object.hasOwn(ppoOptions, name))
      fail("config", {
        where: `${where}, ${name}`,
        found: "an unknown option",
        expected: `one of ${Object.keys(ppoOptions).join(", ")}`,
        fix: `did you mean ${nearest(name, Object.keys(ppoOptions))}?`,
      });
    const [schema, standard, meaning] = ppoOptions[name as PpoOptionName];
    const result = schema.safeParse(value);
    if (!result.success)
      fail("config", {
        where: `${where}, ${name}`,
        found: JSON.stringify(value) ?? String(value),
        expected: result.error.issues.map((issue) => issue.message.replace(/^(Invalid|Too \w+)[^:]*: /, "")).join("; "),
        fix: `${name} is ${meaning} (default ${Array.isArray(standard) ? "none" : standard})`,
      });
    config[name] = result.data;
  }
  const checked = config as PpoConfig;
  const contradiction = (name: string, found: string, expected: string) =>
    fail("config", { where: `${where}, ${name}`, found, expected, fix: `change ${name}` });
  if (checked.miniBatchSize > checked.batchSize)
    contradiction("miniBatchSize", `${checked.miniBatchSize}`, `at most batchSize (${checked.batchSize})`);
  if (checked.minNewTokens > checked.maxNewTokens)
    contradiction("minNewTokens", `${checked.minNewTokens}`, `at most maxNewTokens (${checked.maxNewTokens})`);
  if (checked.rolloutPrecision === "int8" && !checked.maskReplay)
    contradiction("maskReplay", "false with rolloutPrecision int8", "true: importance weights are over the kept sets");
  if (checked.klController === "adaptive" && checked.batchSize >= 5 * checked.klHorizon)
    contradiction("klHorizon", `${checked.klHorizon}`, `more than a fifth of batchSize (${checked.batchSize})`);
  return checked;
}
