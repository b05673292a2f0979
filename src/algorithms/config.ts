/** @file Every option of a PPO run, with its default and its limits, in one schema. */
import { z } from "zod";
import { fail } from "../base/errors.ts";
import { librarySource, type OptionSource, type Resolved, resolveOptions, shown } from "../base/options.ts";
import { DIVISOR, SMALLEST_DIVISOR } from "../sample/distribution.ts";
import type { PPOConfig } from "./config-type.ts";
import { type PresetName, presetNames, presets } from "./presets.ts";
import { nameHere } from "./trl-names.ts";

/** Far beyond what any option means, and far within what fp32 holds. */
const LARGEST = 1e30;

/** More than anything that is counted here. */
const MOST = 1e9;
export const count = (min = 1, max = MOST) =>
  z.number().int().min(min).max(max).describe(`a whole number from ${min} to ${max}`);
export const positive = z.number().gt(0).max(LARGEST).describe("a number above 0, at most 1e30");
export const notNegative = z.number().min(0).max(LARGEST).describe("a number, 0 or more, at most 1e30");
export const share = z.number().min(0).max(1).describe("a number from 0 to 1");
/** Of a running mean: 1 would never let anything in. */
export const decay = z.number().min(0).lt(1).describe("a number from 0 to below 1");
/** What logits are divided by. */
const divisor = z
  .number()
  .min(SMALLEST_DIVISOR)
  .max(1 / SMALLEST_DIVISOR)
  .describe(DIVISOR);
export const choice = <const T extends readonly string[]>(names: T) =>
  z.enum(names).describe(`one of ${names.join(", ")}`);
const text = z.string().describe("a text");
const onOff = z.boolean().describe("true or false");

/** One line for each option; the command line prints these, and the type PPOConfig is written from them. @internal */
export const ppoOptions = {
  preset: [choice(presetNames), "default", "published values for every option that is not given"],
  steps: [count(), 100, "PPO steps"],
  seed: [count(0, Number.MAX_SAFE_INTEGER), 0, "seed for everything random"],
  batchSize: [count(), 128, "prompts per step"],
  miniBatchSize: [count(), 32, "responses per optimizer step"],
  microBatchSize: [count(0), 0, "responses per forward and backward pass, gradients added up; 0: the whole minibatch"],
  rolloutBatchSize: [count(), 64, "responses sampled at a time; one part is rewarded while the next is sampled"],
  rolloutPrecision: [
    choice(["fp32", "int8"]),
    "fp32",
    "int8: sample from a quantised copy, faster, and weight its tokens",
  ],
  importanceWeightCap: [notNegative, 2, "largest weight of a token drawn in int8; 0: no weights, a biased gradient"],
  ppoEpochs: [count(), 4, "passes over each batch"],
  maxNewTokens: [count(), 24, "maximum number of tokens per response"],
  minNewTokens: [count(0), 0, "no end of text before this many tokens"],
  stopAtEos: [onOff, true, "the end-of-text token ends a response; otherwise it is a token like any other"],
  temperature: [divisor, 1, "logits are divided by this, when sampling and when scoring"],
  topK: [count(0), 0, "sample from the k most likely tokens; 0: all"],
  topP: [
    z.number().gt(0).max(1).describe("a number above 0, at most 1"),
    1,
    "sample from the most likely tokens that hold this much probability",
  ],
  minP: [share, 0, "keep tokens at least this fraction as likely as the most likely one; 0: all"],
  repetitionPenalty: [divisor, 1, "logits of tokens seen before are divided (or multiplied, if negative) by this"],
  bannedTokens: [
    z.array(count(0)).describe("token ids: whole numbers, 0 or more"),
    [] as number[],
    "ids that are never drawn",
  ],
  stop: [
    z.array(z.string().min(1)).describe("texts that are not empty"),
    [] as string[],
    "a response also ends when its text contains one of these",
  ],
  promptMinTokens: [count(0), 0, "prompts are cut to a random length from this many tokens ..."],
  promptMaxTokens: [count(0), 0, "... to this many, drawn once for each prompt; 0: prompts are used whole"],
  longPrompts: [
    choice(["error", "drop", "truncate"]),
    "error",
    "prompts that leave no room for the response in the context",
  ],
  rewardConcurrency: [count(), 4, "concurrent calls to the reward function, each for rolloutBatchSize responses"],
  rewardTimeout: [
    z.number().min(0).max(86_400).describe("a number from 0 to 86400"),
    0,
    "seconds a call to the reward function may take; 0: no limit",
  ],
  rewardRetries: [count(0), 2, "retries of a call that throws or times out, after 1, 2, 4, ... seconds"],
  maskReplay: [onOff, true, "score each token over the set it was drawn from; otherwise x is not ~ p"],
  truncateToken: [text, "", "a token that ends what the reward sees of a response; empty: none"],
  truncateAfter: [count(0), 0, "ignore truncateToken before this many tokens of a response"],
  failScore: [
    z.number().min(-LARGEST).max(LARGEST).nullable().describe("a number from -1e30 to 1e30, or null for none"),
    null,
    "score of a response without truncateToken, whatever the reward says",
  ],
  missingEosPenalty: [notNegative, 0, "subtracted from the score of a response without the end-of-text token"],
  scoreScaling: [
    choice(["none", "scale", "normalize"]),
    "none",
    "divide scores by the standard deviation of all scores so far; normalize: subtract the mean first",
  ],
  scoreClip: [notNegative, 0, "clip scores to between minus and plus this, after scaling; 0: never"],
  learningRate: [z.number().min(0).max(100).describe("a number from 0 to 100"), 1.41e-5, "AdamW's step size"],
  schedule: [choice(["constant", "linear", "cosine"]), "constant", "learning rate over the run"],
  warmupSteps: [count(0), 0, "PPO steps of linear warm-up"],
  beta1: [decay, 0.9, "AdamW, first moment"],
  beta2: [decay, 0.999, "AdamW, second moment"],
  adamEpsilon: [
    z.number().min(1e-30).max(1).describe("a number from 1e-30 to 1"),
    1e-8,
    "AdamW, added to the root of the second moment",
  ],
  adamBiasCorrection: [
    choice(["pytorch", "tensorflow"]),
    "pytorch",
    "which root of the second moment adamEpsilon is added to: tensorflow's makes first steps smaller",
  ],
  weightDecay: [notNegative, 0, "AdamW, decoupled decay of weight matrices"],
  maxGradNorm: [notNegative, 1, "gradients are scaled down to this norm; 0: never"],
  maxSkippedSteps: [
    count(0),
    0,
    "optimizer steps a run may skip when a loss or gradient is not finite; one more stops it",
  ],
  valueHeadInit: [
    choice(["normal", "zero", "uniform"]),
    "normal",
    "how to initialize a missing value head: normal, all zero, or uniform as in torch.nn.Linear",
  ],
  valueHeadStd: [notNegative, 0, "standard deviation of a normal value head; 0: the model's initializer_range"],
  valueModel: [
    choice(["shared", "separate"]),
    "shared",
    "a value head on the policy, or a separate model that starts as a copy of it",
  ],
  frozenLayers: [count(0), 0, "freeze the embeddings and this many blocks; 0: train everything"],
  klCoef: [notNegative, 0.2, "beta, what a nat of KL costs; where an adaptive controller starts"],
  klController: [choice(["adaptive", "fixed"]), "adaptive", "whether beta follows the KL"],
  klTarget: [positive, 6, "KL per response in nats that an adaptive beta aims at"],
  klHorizon: [positive, 10_000, "responses over which an adaptive beta moves"],
  klPenalty: [
    choice(["k1", "abs", "k2", "k3", "exact"]),
    "k1",
    "per-token estimate of the KL in the reward; TRL calls k1 kl, k2 mse, exact full",
  ],
  klLog: [choice(["k1", "k2", "k3", "exact"]), "k1", "estimate of the KL in the log, which an adaptive beta follows"],
  gamma: [share, 1, "discount per token"],
  lambda: [share, 0.95, "GAE's trade of bias for variance"],
  whitenRewards: [onOff, false, "scale rewards to variance 1 before advantages"],
  whitenAdvantages: [onOff, true, "scale advantages to mean 0 and variance 1"],
  whiteningScope: [choice(["batch", "minibatch"]), "batch", "where whitening takes its mean and variance from"],
  whiteningVariance: [
    choice(["unbiased", "biased"]),
    "unbiased",
    "divide by n - 1 as PyTorch does, or by n as TensorFlow does",
  ],
  clipRange: [positive, 0.2, "policy ratio clip"],
  clipRangeValue: [positive, 0.2, "how far a value may move per batch"],
  vfCoef: [notNegative, 0.1, "weight of the value loss"],
  entropyCoef: [notNegative, 0, "weight of an entropy bonus"],
  targetKl: [notNegative, 0, "no more epochs once the KL from the old policy, per token, is 1.5 times this; 0: all"],
  ratioThreshold: [notNegative, 10, "a minibatch whose mean policy ratio is above this is skipped; 0: never"],
  gradientCheckpointing: [onOff, false, "recompute activations in the backward pass: less memory, more time"],
  saveEvery: [count(0), 50, "PPO steps between checkpoints; 0: only at the end and when interrupted"],
  keepCheckpoints: [count(), 2, "checkpoints kept; older ones are deleted"],
  keepBest: [onOff, true, "also keep the checkpoint with the highest mean reward, however old"],
  logSamples: [count(0), 4, "responses written to samples.jsonl per step"],
  audit: [choice(["stop", "warn", "off"]), "stop", "what to do when tokens cannot be draws from the policy"],
} as const satisfies {
  readonly [K in keyof PPOConfig]: readonly [z.ZodType<PPOConfig[K]>, PPOConfig[K], string];
};

/** Headings for those who show the table: each stands before the option it is named for. */
export const optionGroups: { readonly [name in keyof PPOConfig]?: string } = {
  preset: "The run:",
  maxNewTokens: "Responses:",
  truncateToken: "Scores:",
  learningRate: "Optimizer and model:",
  klCoef: "KL penalty:",
  gamma: "Advantages and loss:",
  gradientCheckpointing: "Memory, checkpoints, checks:",
};

export type { PPOConfig };
export type PPOOptionName = keyof PPOConfig;

export const PPO_DEFAULTS: Readonly<PPOConfig> = Object.fromEntries(
  Object.entries(ppoOptions).map(([name, [, value]]) => [name, value]),
) as PPOConfig;

/**
 * A complete, checked config from some options. Defaults and the values of a preset follow what is given: with a batchSize of
 * 16 the miniBatchSize is 16 too.
 * @throws config - an unknown name (with the nearest known one), a value out of range, options that contradict each other
 */
export function ppoConfig(options?: Readonly<Partial<PPOConfig>>, where?: string): PPOConfig;
/** The same for options out of a file or a command line, which may have any name. @internal */
export function ppoConfig(options: Readonly<Record<string, unknown>>, where?: string): PPOConfig;
export function ppoConfig(options: Readonly<Record<string, unknown>> = {}, where = "options"): PPOConfig {
  return resolvePpoConfig([librarySource(options, where)]).config;
}

/** An option that was not as given: what it is now, because of which. */
export interface Followed {
  name: PPOOptionName;
  /** What it would have been. */
  from: unknown;
  to: unknown;
  because: PPOOptionName;
}

/**
 * The config from several sources, the later before the earlier. The values of a preset stand before what yields (defaults,
 * an earlier run) and behind what is given.
 * @throws config
 */
export function resolvePpoConfig(sources: readonly OptionSource[]): { config: PPOConfig; followed: Followed[] } {
  const given = sources.filter((source) => !source.yields);
  const style = sources.at(-1) ?? librarySource({}, "options");
  const standing = (values: Readonly<Record<string, unknown>>): OptionSource => ({ ...style, values, yields: true });
  const preset = given.findLast((source) => source.values.preset !== undefined)?.values.preset;
  const all = [
    standing(PPO_DEFAULTS),
    ...sources.filter((source) => source.yields),
    standing(presetNamed(preset)),
    ...given,
  ];
  const resolved = resolveOptions(ppoOptions, all, unknownHint);
  const followed = follow(resolved, all);
  return { config: resolved.values as PPOConfig, followed };
}

/** The values of a preset; none for a name that is not one, which is reported like any other bad value. */
export function presetNamed(name: unknown): Partial<PPOConfig> {
  return presetNames.find((known) => known === name) ? presets[name as PresetName] : {};
}

function unknownHint(name: string, write: (name: string) => string): string | undefined {
  const here = nameHere(name) as PPOOptionName | undefined;
  return here && `it is called ${write(here)} here: ${ppoOptions[here][2]}`;
}

/** Two options that may not fit each other. */
interface Pair {
  /** The one that an error is about, and the other. */
  between: readonly [PPOOptionName, PPOOptionName];
  wrong: boolean;
  found: string;
  /** `other` is what the error calls the other one. */
  expected: (other: string) => string;
  /** What either becomes where it was not given; without a value here it stays, and the two are an error. */
  follow: { readonly [name in PPOOptionName]?: unknown };
}

/** Make what yields fit what is given. @throws config - both were given */
function follow({ values, ranks }: Resolved, sources: readonly OptionSource[]): Followed[] {
  const followed: Followed[] = [];
  for (;;) {
    const pair = pairs(values as PPOConfig).find(({ wrong }) => wrong);
    if (!pair) return followed;
    const { between, found, expected } = pair;
    const source = (name: PPOOptionName) => sources[ranks[name]];
    const [name] = between
      .filter((name) => Object.hasOwn(pair.follow, name) && (source(name).yields ?? false))
      .filter((name) => followed.every((f) => f.name !== name || pair.follow[name] !== f.to)) // it did not help
      .sort((a, b) => ranks[a] - ranks[b]);
    const [one, other] = between;
    if (name === undefined) {
      const called = source(other).called(other);
      const derived = followed.find((f) => f.name === other);
      const why = derived ? `, to fit ${source(derived.because).called(derived.because)}` : "";
      fail("config", {
        where: source(one).place(one),
        found,
        expected: expected(`${called} (${shown(values[other])}${why})`),
        fix: `change ${source(one).called(one)} or ${called}`,
      });
    }
    const because = name === one ? other : one;
    followed.push({ name, from: values[name], to: pair.follow[name], because });
    values[name] = pair.follow[name];
    ranks[name] = Math.max(ranks[name], ranks[because]); // now it stands as firmly as what it fits
  }
}

/** Options that do not fit each other, and which way each could. */
function pairs(c: PPOConfig): readonly Pair[] {
  const noToken = c.truncateToken === "";
  return [
    {
      between: ["klHorizon", "batchSize"],
      wrong: c.klController === "adaptive" && c.batchSize >= 5 * c.klHorizon,
      found: `${c.klHorizon}`,
      expected: (other) => `more than a fifth of ${other}`,
      follow: { klHorizon: c.batchSize, batchSize: Math.max(1, Math.ceil(5 * c.klHorizon) - 1) },
    },
    {
      between: ["miniBatchSize", "batchSize"],
      wrong: c.miniBatchSize > c.batchSize,
      found: `${c.miniBatchSize}`,
      expected: (other) => `at most ${other}`,
      follow: { miniBatchSize: c.batchSize, batchSize: c.miniBatchSize },
    },
    {
      between: ["maskReplay", "rolloutPrecision"],
      wrong: c.rolloutPrecision === "int8" && !c.maskReplay,
      found: "false",
      expected: (other) => `true with ${other}: importance weights are over the kept sets`,
      follow: {},
    },
    {
      between: ["minNewTokens", "stopAtEos"],
      wrong: c.minNewTokens > 0 && !c.stopAtEos,
      found: `${c.minNewTokens}`,
      expected: (other) => `0 with ${other}: there is no end of text to hold back`,
      follow: { minNewTokens: 0, stopAtEos: true },
    },
    {
      between: ["minNewTokens", "maxNewTokens"],
      wrong: c.minNewTokens > c.maxNewTokens,
      found: `${c.minNewTokens}`,
      expected: (other) => `at most ${other}`,
      follow: { minNewTokens: c.maxNewTokens, maxNewTokens: c.minNewTokens },
    },
    {
      between: ["promptMinTokens", "promptMaxTokens"],
      wrong: c.promptMinTokens > c.promptMaxTokens,
      found: `${c.promptMinTokens}`,
      expected: (other) =>
        `at most ${other}${c.promptMaxTokens === 0 ? ", where 0 leaves prompts whole: give both" : ""}`,
      follow: {
        promptMinTokens: c.promptMaxTokens,
        ...(c.promptMaxTokens > 0 && { promptMaxTokens: c.promptMinTokens }),
      },
    },
    {
      between: ["truncateAfter", "truncateToken"],
      wrong: c.truncateAfter > 0 && noToken,
      found: `${c.truncateAfter}`,
      expected: (other) => `0 without a token in ${other}`,
      follow: { truncateAfter: 0 },
    },
    {
      between: ["failScore", "truncateToken"],
      wrong: c.failScore !== null && noToken,
      found: `${c.failScore}`,
      expected: (other) => `none without a token in ${other}`,
      follow: { failScore: null },
    },
    {
      between: ["truncateAfter", "maxNewTokens"],
      wrong: !noToken && c.truncateAfter >= c.maxNewTokens,
      found: `${c.truncateAfter}`,
      expected: (other) => `less than ${other}: no response would have the token`,
      follow: { truncateAfter: c.maxNewTokens - 1, maxNewTokens: c.truncateAfter + 1 },
    },
    {
      between: ["valueHeadStd", "valueHeadInit"],
      wrong: c.valueHeadStd > 0 && c.valueHeadInit !== "normal",
      found: `${c.valueHeadStd}`,
      expected: (other) => `0, or normal for ${other}`,
      follow: { valueHeadStd: 0, valueHeadInit: "normal" },
    },
    {
      between: ["whiteningScope", "miniBatchSize"],
      wrong: c.whitenAdvantages && c.whiteningScope === "minibatch" && c.miniBatchSize * c.maxNewTokens === 1,
      found: "minibatch, with minibatches of one token",
      expected: () => "batch: one advantage less its mean is 0, and nothing would be learned",
      follow: { whiteningScope: "batch" },
    },
    {
      between: ["vfCoef", "valueModel"],
      wrong: c.vfCoef === 0 && c.valueModel === "separate",
      found: "0",
      expected: (other) => `more than 0 with ${other}: nothing else trains it`,
      follow: { vfCoef: PPO_DEFAULTS.vfCoef },
    },
    {
      between: ["targetKl", "ppoEpochs"],
      wrong: c.targetKl > 0 && c.ppoEpochs === 1,
      found: `${c.targetKl}`,
      expected: (other) => `0, or more than one epoch in ${other}: there is none to leave out`,
      follow: { targetKl: 0, ppoEpochs: PPO_DEFAULTS.ppoEpochs },
    },
  ];
}
