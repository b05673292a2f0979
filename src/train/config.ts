/** @file Every option of a PPO run, with its default and its limits, in one schema. */
import { z } from "zod";
import { fail } from "../base/errors.ts";
import { nearest } from "../base/nearest.ts";
import type { PpoConfig } from "./config-type.ts";
import { type PresetName, presetNames, presets } from "./presets.ts";
import { nameHere } from "./trl-names.ts";

const count = (min = 1) => z.number().int().min(min);
const positive = z.number().gt(0).finite();
const notNegative = z.number().min(0).finite();
const share = z.number().min(0).max(1);

/** One line for each option; the command line prints these, and the type PpoConfig is written from them. @internal */
export const ppoOptions = {
  preset: [z.enum(presetNames), "default", "published values for all options that are not given"],
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
  stopAtEos: [z.boolean(), true, "the end-of-text token ends a response; without, it is a token like any other"],
  temperature: [positive, 1, "logits are divided by this, when sampling and when scoring"],
  topK: [count(0), 0, "sample from the k most likely tokens; 0: all"],
  topP: [z.number().gt(0).max(1), 1, "sample from the most likely tokens that hold this much probability"],
  minP: [share, 0, "keep tokens at least this share as likely as the most likely one; 0: all"],
  repetitionPenalty: [positive, 1, "logits of tokens seen before are divided (or multiplied, if negative) by this"],
  bannedTokens: [z.array(count(0)), [] as number[], "ids that are never drawn"],
  stop: [z.array(z.string().min(1)), [] as string[], "a response also ends when its text contains one of these"],
  promptMinTokens: [count(0), 0, "prompts are cut to a random length from this many tokens ..."],
  promptMaxTokens: [count(0), 0, "... to this many, drawn once for each prompt; 0: prompts are used whole"],
  longPrompts: [
    z.enum(["error", "drop", "truncate"]),
    "error",
    "prompts that leave no room for the response in the context",
  ],
  rewardConcurrency: [count(), 4, "calls of the reward function at once, each for one part of rolloutBatchSize"],
  rewardTimeout: [z.number().min(0).max(86_400), 0, "seconds a call of the reward function may take; 0: any time"],
  rewardRetries: [count(0), 2, "repetitions of a call that throws or takes too long, after 1, 2, 4, ... seconds"],
  maskReplay: [z.boolean(), true, "score each token over the set it was drawn from; without, x is not ~ p"],
  truncateToken: [z.string(), "", "a token that ends what the reward sees of a response; empty: none"],
  truncateAfter: [count(0), 0, "tokens of a response before which truncateToken does not count"],
  failScore: [
    z.number().finite().nullable(),
    null,
    "score of a response without truncateToken, whatever the reward says",
  ],
  missingEosPenalty: [notNegative, 0, "subtracted from the score of a response without the end-of-text token"],
  scoreScaling: [
    z.enum(["none", "scale", "normalize"]),
    "none",
    "divide scores by the standard deviation of all so far; normalize: subtract their mean first",
  ],
  scoreClip: [notNegative, 0, "scores are clipped to this on both sides, after scaling; 0: never"],
  learningRate: [notNegative, 1.41e-5, "AdamW's step size"],
  schedule: [z.enum(["constant", "linear", "cosine"]), "constant", "learning rate over the run"],
  warmupSteps: [count(0), 0, "PPO steps of linear warm-up"],
  beta1: [share, 0.9, "AdamW, first moment"],
  beta2: [share, 0.999, "AdamW, second moment"],
  adamEpsilon: [positive, 1e-8, "AdamW, added to the root of the second moment"],
  adamBiasCorrection: [
    z.enum(["pytorch", "tensorflow"]),
    "pytorch",
    "which root of the second moment adamEpsilon is added to: tensorflow's makes first steps smaller",
  ],
  weightDecay: [notNegative, 0, "AdamW, decoupled decay of weight matrices"],
  maxGradNorm: [notNegative, 1, "gradients are scaled down to this norm; 0: never"],
  maxSkippedSteps: [
    count(0),
    0,
    "optimizer steps left out per run when a loss or gradient is not finite; then it stops",
  ],
  valueHeadInit: [
    z.enum(["normal", "zero", "uniform"]),
    "normal",
    "a value head the checkpoint does not have: normal, all zero, or uniform as torch.nn.Linear",
  ],
  valueHeadStd: [notNegative, 0, "standard deviation of a normal value head; 0: the model's initializer_range"],
  valueModel: [
    z.enum(["shared", "separate"]),
    "shared",
    "a value head on the policy, or a model of its own that starts as a copy of the policy",
  ],
  frozenLayers: [count(0), 0, "the embeddings and so many blocks are not trained; 0: everything is"],
  klCoef: [notNegative, 0.2, "beta, what a nat of KL costs; where an adaptive controller starts"],
  klController: [z.enum(["adaptive", "fixed"]), "adaptive", "whether beta follows the KL"],
  klTarget: [positive, 6, "KL per response in nats that an adaptive beta aims at"],
  klHorizon: [positive, 10_000, "responses over which an adaptive beta moves"],
  klPenalty: [
    z.enum(["k1", "abs", "k2", "k3", "exact"]),
    "k1",
    "per-token estimate of the KL in the reward; TRL calls k1 kl, k2 mse, exact full",
  ],
  klLog: [z.enum(["k1", "k2", "k3", "exact"]), "k1", "estimate of the KL in the log, which an adaptive beta follows"],
  gamma: [share, 1, "discount per token"],
  lambda: [share, 0.95, "GAE's trade of bias for variance"],
  whitenRewards: [z.boolean(), false, "scale rewards to variance 1 before advantages"],
  whitenAdvantages: [z.boolean(), true, "advantages to mean 0, variance 1"],
  whiteningScope: [z.enum(["batch", "minibatch"]), "batch", "whose mean and variance whitening takes"],
  whiteningVariance: [z.enum(["unbiased", "biased"]), "unbiased", "over n - 1 as PyTorch, or over n as TensorFlow"],
  clipRange: [positive, 0.2, "policy ratio clip"],
  clipRangeValue: [positive, 0.2, "how far a value may move per batch"],
  vfCoef: [notNegative, 0.1, "weight of the value loss"],
  entropyCoef: [notNegative, 0, "weight of an entropy bonus"],
  targetKl: [notNegative, 0, "no more epochs once the KL from the old policy, per token, is 1.5 times this; 0: all"],
  ratioThreshold: [notNegative, 10, "a minibatch whose mean policy ratio is above this is skipped; 0: never"],
  gradientCheckpointing: [z.boolean(), false, "recompute activations in the backward pass: less memory, more time"],
  saveEvery: [count(0), 50, "PPO steps between checkpoints; 0: only at the end and when interrupted"],
  keepCheckpoints: [count(), 2, "checkpoints kept; older ones are deleted"],
  keepBest: [z.boolean(), true, "keep the checkpoint of the highest mean reward too, however old"],
  logSamples: [count(0), 4, "responses written to samples.jsonl per step"],
  audit: [z.enum(["stop", "warn", "off"]), "stop", "what to do when the numbers are impossible"],
} as const satisfies {
  readonly [K in keyof PpoConfig]: readonly [z.ZodType<PpoConfig[K]>, PpoConfig[K], string];
};

/** Headings for those who show the table: each stands before the option it is named for. */
export const optionGroups: { readonly [name in keyof PpoConfig]?: string } = {
  preset: "The run:",
  maxNewTokens: "Responses:",
  truncateToken: "Scores:",
  learningRate: "Optimizer and model:",
  klCoef: "KL penalty:",
  gamma: "Advantages and loss:",
  gradientCheckpointing: "Memory, checkpoints, checks:",
};

export type { PpoConfig };
export type PpoOptionName = keyof PpoConfig;

export const PPO_DEFAULTS: Readonly<PpoConfig> = Object.fromEntries(
  Object.entries(ppoOptions).map(([name, [, value]]) => [name, value]),
) as PpoConfig;

/**
 * A complete, checked config from some options.
 * @throws config - an unknown name (with the nearest known one), a value out of range, options that contradict each other
 */
export function ppoConfig(options?: Readonly<Partial<PpoConfig>>, where?: string): PpoConfig;
/** The same for options out of a file or a command line, which may have any name. @internal */
export function ppoConfig(options: Readonly<Record<string, unknown>>, where?: string): PpoConfig;
export function ppoConfig(options: Readonly<Record<string, unknown>> = {}, where = "options"): PpoConfig {
  const config: Record<string, unknown> = { ...PPO_DEFAULTS, ...presetNamed(options.preset) };
  for (const [name, value] of Object.entries(options)) {
    if (value === undefined) continue;
    if (!Object.hasOwn(ppoOptions, name)) unknownOption(name, where);
    const [schema, standard, meaning] = ppoOptions[name as PpoOptionName];
    const result = schema.safeParse(value);
    if (!result.success)
      fail("config", {
        where: `${where}, ${name}`,
        found: JSON.stringify(value) ?? String(value),
        expected: result.error.issues.map((issue) => issue.message.replace(/^(Invalid|Too \w+)[^:]*: /, "")).join("; "),
        fix: `${name} is ${meaning} (default ${shown(standard)})`,
      });
    config[name] = result.data;
  }
  const checked = config as PpoConfig;
  for (const [name, found, expected, wrong] of contradictions(checked))
    if (wrong) fail("config", { where: `${where}, ${name}`, found, expected, fix: `change ${name}` });
  return checked;
}

/** An option's value in words: "none" for null and what is empty. */
export const shown = (value: unknown) => (Array.isArray(value) ? value.join(", ") : String(value ?? "")) || "none";

/** The values of a preset; none for a name that is not one, which is reported like any other bad value. */
export function presetNamed(name: unknown): Partial<PpoConfig> {
  return presetNames.find((known) => known === name) ? presets[name as PresetName] : {};
}

function unknownOption(name: string, where: string): never {
  const here = nameHere(name) as PpoOptionName | undefined;
  return fail("config", {
    where: `${where}, ${name}`,
    found: "an unknown option",
    expected: `one of ${Object.keys(ppoOptions).join(", ")}`,
    fix: here
      ? `it is called ${here} here: ${ppoOptions[here][2]}`
      : `did you mean ${nearest(name, Object.keys(ppoOptions))}?`,
  });
}

/** Options that do not fit each other: which one to change, its value, what it should be, and whether it is not. */
function contradictions(c: PpoConfig): [name: PpoOptionName, found: string, expected: string, wrong: boolean][] {
  return [
    ["miniBatchSize", `${c.miniBatchSize}`, `at most batchSize (${c.batchSize})`, c.miniBatchSize > c.batchSize],
    [
      "maskReplay",
      "false with rolloutPrecision int8",
      "true: importance weights are over the kept sets",
      c.rolloutPrecision === "int8" && !c.maskReplay,
    ],
    ["minNewTokens", `${c.minNewTokens}`, `at most maxNewTokens (${c.maxNewTokens})`, c.minNewTokens > c.maxNewTokens],
    [
      "minNewTokens",
      `${c.minNewTokens} without stopAtEos`,
      "0: there is no end of text to hold back",
      c.minNewTokens > 0 && !c.stopAtEos,
    ],
    [
      "promptMinTokens",
      `${c.promptMinTokens}`,
      `at most promptMaxTokens (${c.promptMaxTokens})`,
      c.promptMinTokens > c.promptMaxTokens,
    ],
    [
      "klHorizon",
      `${c.klHorizon}`,
      `more than a fifth of batchSize (${c.batchSize})`,
      c.klController === "adaptive" && c.batchSize >= 5 * c.klHorizon,
    ],
    [
      "truncateAfter",
      `${c.truncateAfter} without truncateToken`,
      "0, or a truncateToken",
      c.truncateAfter > 0 && c.truncateToken === "",
    ],
    [
      "truncateAfter",
      `${c.truncateAfter}`,
      `less than maxNewTokens (${c.maxNewTokens}): no response would have the token`,
      c.truncateToken !== "" && c.truncateAfter >= c.maxNewTokens,
    ],
    [
      "failScore",
      `${c.failScore} without truncateToken`,
      "none, or a truncateToken",
      c.failScore !== null && c.truncateToken === "",
    ],
    [
      "valueHeadStd",
      `${c.valueHeadStd} for valueHeadInit ${c.valueHeadInit}`,
      "0, or valueHeadInit normal",
      c.valueHeadStd > 0 && c.valueHeadInit !== "normal",
    ],
    [
      "whiteningScope",
      "minibatch, with minibatches of one token",
      "batch: one advantage less its mean is 0, and nothing would be learned",
      c.whitenAdvantages && c.whiteningScope === "minibatch" && c.miniBatchSize * c.maxNewTokens === 1,
    ],
    [
      "vfCoef",
      "0 with a separate valueModel",
      "more than 0: nothing else trains it",
      c.vfCoef === 0 && c.valueModel === "separate",
    ],
    [
      "targetKl",
      `${c.targetKl} with one epoch`,
      "0, or more ppoEpochs to leave out",
      c.targetKl > 0 && c.ppoEpochs === 1,
    ],
  ];
}
