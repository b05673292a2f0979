/** @file Language-model training on raw text: the algorithm `sft`. `step` is all of it, from tokens to changed weights. */
import { z } from "zod";
import { fail } from "../base/errors.ts";
import { choice, count, decay, notNegative, positive, share } from "../base/option-values.ts";
import { librarySource, type OptionSource, resolveOptions } from "../base/options.ts";
import { type Corpus, corpusBytes, type TokenIds } from "../data/corpus.ts";
import { CorpusSampler, type CorpusSamplerState, consecutiveWindows } from "../data/sampler.ts";
import { checkWeights } from "../experience/finite.ts";
import type { AskedTokens } from "../model/asked.ts";
import { HELD_OUT_BATCH } from "../model/memory.ts";
import type { CausalLMWithValueHead } from "../model/model.ts";
import { type ScheduleName, scheduleFactor } from "../nn/schedules.ts";
import { residentBytes } from "../platform/memory.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { partsOf, type RunConfig, type TrainedPart, type Trainer } from "./algorithm.ts";
import type { Metrics, TrainEvent } from "./events.ts";
import { Learner } from "./learner.ts";
import { languageModelLoss } from "./losses.ts";
import { addAskedAdapter, loraTable } from "./options/lora.ts";
import { problemOf } from "./trainer-state.ts";

/** Every option of language-model training. */
export interface SFTConfig extends RunConfig {
  /** Tokens per sequence, at most the model's context. Default: 256, or the context if that is shorter. */
  sequenceLength: number;
  /** Sequences per step. Default: 8. */
  batchSize: number;
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
  batchSize: [count(), 8, "sequences per step"],
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
  return resolveOptions(sftOptions, [defaults, ...sources]).values as unknown as SFTConfig;
}

/** Where language-model training is, without the weights. Plain data, safe for JSON. */
export interface SFTState {
  /** Steps taken. */
  step: number;
  /** Which windows of the text were used; undefined before the first step. */
  corpus?: CorpusSamplerState;
}

const whole = z.number().int().min(0);
/** @internal */
export const sftStateSchema = z.strictObject({
  step: whole,
  corpus: z
    .strictObject({ seed: whole, tokens: whole.min(1), sequenceLength: whole.min(1), epoch: whole, position: whole })
    .optional(),
} satisfies Record<keyof SFTState, z.ZodType>);

/** Text to train on, and text never trained on. */
export interface SFTData {
  /** The text that is learned, as token ids. */
  train: Corpus;
  /** What the held-out loss is measured on. */
  heldOut?: Corpus;
}

/** What a {@link SFTTrainer} is made of. */
export interface SFTTrainerOptions {
  /** Trained in place, the value head aside. */
  model: CausalLMWithValueHead;
  /** The model's; it made the token ids of the text. */
  tokenizer: Tokenizer;
  /** What is left out is {@link SFT_DEFAULTS}; sequenceLength at most the model's context. */
  config?: Partial<SFTConfig>;
}

/** Language-model training: every token of the text is predicted from those before it in its window. */
export class SFTTrainer implements Trainer<SFTData, SFTState> {
  /** Trained in place, the value head aside. */
  readonly model: CausalLMWithValueHead;
  /** The model's. */
  readonly tokenizer: Tokenizer;
  /** Complete and checked. */
  readonly config: SFTConfig;
  /** Steps taken. */
  stepsTaken = 0;
  readonly #learner: Learner;
  #corpus?: CorpusSamplerState;
  /** Optimizer steps when the last step had ended. */
  #settledAt = 0;

  /** @throws config - an option out of range, a sequence longer than the context; numbers - weights that are not finite */
  constructor({ model, tokenizer, config = {} }: SFTTrainerOptions) {
    this.model = model;
    this.tokenizer = tokenizer;
    const { context } = model.sizes;
    this.config = sftConfig({ sequenceLength: Math.min(SFT_DEFAULTS.sequenceLength, context), ...config });
    checkSequenceLength(this.config, context);
    checkWeights("model", model.parameters);
    addAskedAdapter(model, this.config);
    this.#learner = new Learner(model, { optimizer: this.config, maxGradNorm: this.config.maxGradNorm });
  }

  /**
   * Train until `config.steps` steps are taken. When `signal` aborts, the step in progress is finished first.
   * @throws data - a text shorter than one window of sequenceLength + 1 tokens
   * @throws numbers - a loss or gradient that is not finite
   */
  async *train(data: SFTData, options: { signal?: AbortSignal } = {}): AsyncGenerator<TrainEvent> {
    const { config } = this;
    const sampler = new CorpusSampler(data.train.ids, config);
    if (this.#corpus) sampler.setState(this.#corpus);
    while (this.stepsTaken < config.steps && !options.signal?.aborted) {
      const start = performance.now();
      const metrics = await sftStep(this.#learner, sampler, config, this.stepsTaken + 1, data.train.learned);
      const step = ++this.stepsTaken;
      this.#corpus = sampler.getState();
      this.#settledAt = this.#learner.optimizer.step;
      const due = step === config.steps || (config.evalEvery > 0 && step % config.evalEvery === 0);
      const measured = data.heldOut && due ? yield* this.#measure(data.heldOut) : {};
      const total = {
        "time/total": (performance.now() - start) / 1000,
        "memory/resident_bytes": residentBytes(),
      };
      yield { type: "step", step, steps: config.steps, metrics: { ...metrics, ...measured, ...total }, samples: [] };
    }
    yield { type: "done", step: this.stepsTaken, interrupted: this.stepsTaken < config.steps };
  }

  async *#measure(heldOut: Corpus): AsyncGenerator<TrainEvent, Metrics> {
    const { sequenceLength } = this.config;
    const { ids, learned } = heldOut;
    const measuring = heldOutBatches(this.model, ids, corpusBytes(heldOut), sequenceLength, HELD_OUT_BATCH, learned);
    let next = await measuring.next();
    for (; !next.done; next = await measuring.next())
      yield { type: "progress", step: this.stepsTaken, phase: "evaluate", ...next.value };
    const { loss, bitsPerByte, tokens } = next.value;
    return { "eval/loss": loss, "eval/bits_per_byte": bitsPerByte, "eval/tokens": tokens };
  }

  /** The model. */
  get parts(): readonly TrainedPart[] {
    return partsOf({ "": this.#learner });
  }

  /** Whether weights, optimizer and state belong together: false while a step's update is under way. */
  get canBeSaved(): boolean {
    return this.unsettledUpdates === 0;
  }

  /** Optimizer steps of a step that did not end well: 0 or 1. */
  get unsettledUpdates(): number {
    return this.#learner.optimizer.step - this.#settledAt;
  }

  /** Where it is, to be saved with the parts. */
  getState(): SFTState {
    return { step: this.stepsTaken, corpus: this.#corpus };
  }

  /**
   * Go on from a saved state. Whoever saved them restores the model's weights and, before this, the optimizer.
   * @throws checkpoint - a state that no trainer can have been in
   */
  setState(state: SFTState): void {
    const problem = problemOf(sftStateSchema, state);
    if (problem !== undefined)
      fail("checkpoint", {
        where: "SFTTrainer, setState",
        found: problem.replace(/^found /, ""),
        expected: "what getState() returned",
        fix: "pass the state as it was saved",
      });
    this.stepsTaken = state.step;
    this.#corpus = state.corpus;
    this.#settledAt = this.#learner.optimizer.step;
  }
}

/**
 * One step: a batch of windows, the mean loss over its tokens, one optimizer step.
 * @param learned 1 for the tokens of the corpus that count in the mean; undefined: all
 * @internal
 */
export async function sftStep(
  learner: Learner,
  sampler: CorpusSampler,
  config: Pick<SFTConfig, "learningRate" | "schedule" | "steps" | "warmupSteps" | "finalFactor">,
  step: number,
  learned?: Uint8Array,
): Promise<Metrics> {
  const start = performance.now();
  const { batchSize: B, sequenceLength: T } = sampler;
  const asked = nextTokens(sampler.next(), B, T);
  const counts = countedTokens(sampler.starts, T, learned);
  const counted = counts.reduce((a, b) => a + b, 0);
  const weight = counts.map((count) => count / Math.max(1, counted));
  const { loss } = await learner.accumulate(asked, languageModelLoss, { weight });
  failUnless(learner.badScores ?? learner.badGradient, step);
  const factor = scheduleFactor(config.schedule, step - 1, config.steps, config.warmupSteps, config.finalFactor);
  learner.optimizer.options.learningRate = config.learningRate * factor;
  const { gradNorm, updateNorm, spoiled } = learner.apply();
  failUnless(spoiled, step);
  return {
    "sft/loss": loss,
    "sft/grad_norm": gradNorm,
    "sft/update_norm": updateNorm,
    "sft/learning_rate": learner.optimizer.options.learningRate,
    "sft/epoch": sampler.epoch,
    "time/tokens_per_second": (1000 * B * T) / (performance.now() - start),
  };
}

/** Which of the tokens that windows of T predict are counted, 1 or 0, given where the windows begin. [B, T] */
function countedTokens(starts: Int32Array, T: number, learned?: Uint8Array): Float32Array {
  const counts = new Float32Array(starts.length * T).fill(1);
  if (learned) for (const [b, start] of starts.entries()) counts.set(learned.subarray(start + 1, start + 1 + T), b * T);
  return counts;
}

/** A batch [B, T + 1] as what is asked of the model: every position predicts the next token. */
function nextTokens(batch: Int32Array, B: number, T: number): AskedTokens {
  const ids = new Int32Array(B * T); // [B, T]
  const next = new Int32Array(B * T); // [B, T], one token later
  for (let b = 0; b < B; b++) {
    ids.set(batch.subarray(b * (T + 1), b * (T + 1) + T), b * T);
    next.set(batch.subarray(b * (T + 1) + 1, (b + 1) * (T + 1)), b * T);
  }
  const rows = Int32Array.from({ length: B * T }, (_, n) => n);
  return { tokens: { ids, B, T }, rows, ids: next, distribution: { temperature: 1 } };
}

function failUnless(bad: string | undefined, step: number): void {
  if (bad === undefined) return;
  fail("numbers", {
    where: `step ${step}`,
    found: `a number that is not finite in ${bad}`,
    expected: "finite numbers",
    fix: "resume from the last checkpoint (--resume) with a lower learningRate or a smaller maxGradNorm",
  });
}

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

/** What a model says of text that it does not learn from. */
export interface HeldOutLoss {
  /** Nats per token. */
  loss: number;
  /** Bits per byte of the text: does not depend on the tokenizer. */
  bitsPerByte: number;
  /** Tokens that were predicted. */
  tokens: number;
}

/**
 * Mean loss over a held-out corpus, and bits per byte: nats per token times tokens per byte over ln 2. The windows do not
 * overlap, so a token sees what came before it in its window only.
 * @param bytes UTF-8 bytes of its text
 */
export async function heldOutLoss(
  model: CausalLMWithValueHead,
  ids: TokenIds,
  bytes: number,
  sequenceLength: number,
  batchSize = HELD_OUT_BATCH,
): Promise<HeldOutLoss> {
  const measuring = heldOutBatches(model, ids, bytes, sequenceLength, batchSize);
  let next = await measuring.next();
  while (!next.done) next = await measuring.next();
  return next.value;
}

async function* heldOutBatches(
  model: CausalLMWithValueHead,
  ids: TokenIds,
  bytes: number,
  sequenceLength: number,
  batchSize = HELD_OUT_BATCH,
  learned?: Uint8Array,
): AsyncGenerator<{ done: number; total: number }, HeldOutLoss> {
  const total = Math.floor((ids.length - 1) / sequenceLength);
  let [nats, tokens, done] = [0, 0, 0];
  for (const { ids: batch, rows, starts } of consecutiveWindows(ids, { sequenceLength, batchSize })) {
    const { logprobs } = await model.score(nextTokens(batch, rows, sequenceLength));
    const counts = countedTokens(starts, sequenceLength, learned);
    for (const [i, logprob] of logprobs.entries()) nats -= counts[i] * logprob;
    tokens += counts.reduce((a, b) => a + b, 0);
    done += rows;
    yield { done, total };
  }
  const all = learned ? learned.reduce((a, b) => a + b, 0) : ids.length;
  return { loss: nats / tokens, bitsPerByte: ((nats / tokens) * (all / bytes)) / Math.LN2, tokens };
}
