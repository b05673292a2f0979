/** @file Language-model training on raw text: the algorithm `sft`. `step` is all of it, from tokens to changed weights. */
import { z } from "zod";
import { type Corpus, corpusBytes, type TokenIds } from "../data/corpus.ts";
import {
  HELD_OUT_BATCH,
  type PackingOptions,
  type Windows,
  windowCount,
  windowSampler,
  windowsInOrder,
} from "../data/packing.ts";
import type { CorpusSamplerState } from "../data/sampler.ts";
import { checkWeights, failUnlessFinite } from "../experience/finite.ts";
import type { AskedTokens } from "../model/asked.ts";
import type { CausalLMWithValueHead } from "../model/model.ts";
import { scheduleFactor } from "../nn/schedules.ts";
import { residentBytes } from "../platform/memory.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { partsOf, type TrainedPart, type Trainer } from "./algorithm.ts";
import type { Metrics, TrainEvent } from "./events.ts";
import { Learner } from "./learner.ts";
import { languageModelLoss } from "./losses.ts";
import { addAskedAdapter } from "./options/lora.ts";
import { checkSequenceLength, packingOf, SFT_DEFAULTS, type SFTConfig, sftConfig } from "./options/sft-options.ts";
import { checkState } from "./trainer-state.ts";

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
    const { maxGradNorm, gradientCheckpointing } = this.config;
    this.#learner = new Learner(model, { optimizer: this.config, maxGradNorm, gradientCheckpointing });
  }

  /**
   * Train until `config.steps` steps are taken. When `signal` aborts, the step in progress is finished first.
   * @throws data - a text shorter than one window of sequenceLength + 1 tokens, or a response longer than one: see `packing`
   * @throws numbers - a loss or gradient that is not finite
   */
  async *train(data: SFTData, options: { signal?: AbortSignal } = {}): AsyncGenerator<TrainEvent> {
    const { config } = this;
    const packing = packingOf(config, data.train.learned !== undefined);
    const sampler = windowSampler(data.train, { ...config, ...packing });
    if (this.#corpus) sampler.setState(this.#corpus);
    while (this.stepsTaken < config.steps && !options.signal?.aborted) {
      const start = performance.now();
      const metrics = await sftStep(this.#learner, sampler.next(), config, this.stepsTaken + 1);
      const step = ++this.stepsTaken;
      this.#corpus = sampler.getState();
      this.#settledAt = this.#learner.optimizer.step;
      const due = step === config.steps || (config.evalEvery > 0 && step % config.evalEvery === 0);
      const measured = data.heldOut && due ? yield* this.#measure(data.heldOut, packing) : {};
      const total = {
        "sft/epoch": sampler.epoch,
        "time/total": (performance.now() - start) / 1000,
        "memory/resident_bytes": residentBytes(),
      };
      yield { type: "step", step, steps: config.steps, metrics: { ...metrics, ...measured, ...total }, samples: [] };
    }
    yield { type: "done", step: this.stepsTaken, interrupted: this.stepsTaken < config.steps };
  }

  async *#measure(heldOut: Corpus, packing: PackingOptions): AsyncGenerator<TrainEvent, Metrics> {
    const measuring = heldOutBatches(this.model, heldOut, corpusBytes(heldOut), packing, HELD_OUT_BATCH);
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
    checkState(state, "SFT", sftStateSchema);
    this.stepsTaken = state.step;
    this.#corpus = state.corpus;
    this.#settledAt = this.#learner.optimizer.step;
  }
}

/**
 * One step: the mean loss over what a batch of windows predicts, one optimizer step.
 * @internal
 */
export async function sftStep(
  learner: Learner,
  windows: Windows,
  config: Pick<SFTConfig, "learningRate" | "schedule" | "steps" | "warmupSteps" | "finalFactor" | "microBatchSize">,
  step: number,
): Promise<Metrics> {
  const start = performance.now();
  const counted = windows.counted.reduce((a, b) => a + b, 0);
  let loss = 0;
  learner.discard();
  for (const part of partsOfWindows(windows, config.microBatchSize || windows.B)) {
    const { asked, weight } = askedTokens(part, Math.max(1, counted));
    loss += (await learner.accumulate(asked, languageModelLoss, { weight })).loss;
    if (learner.badScores !== undefined) break;
  }
  failUnlessFinite(learner.badScores ?? (await learner.badGradient()), `step ${step}`);
  const factor = scheduleFactor(config.schedule, step - 1, config.steps, config.warmupSteps, config.finalFactor);
  learner.optimizer.options.learningRate = config.learningRate * factor;
  const { gradNorm, updateNorm, spoiled } = await learner.apply();
  failUnlessFinite(spoiled, `step ${step}`);
  return {
    "sft/loss": loss,
    "sft/grad_norm": gradNorm,
    "sft/update_norm": updateNorm,
    "sft/learning_rate": learner.optimizer.options.learningRate,
    "time/tokens_per_second": (1000 * windows.read) / (performance.now() - start),
  };
}

type Part = Omit<Windows, "read">;

/** Windows, at most `size` at a time. */
function* partsOfWindows({ B, T, ids, next, counted, positions }: Windows, size: number): Generator<Part> {
  for (let b = 0; b < B; b += size) {
    const rows = Math.min(size, B - b);
    const part = <A extends Int32Array | Uint8Array>(all: A) => all.subarray(b * T, (b + rows) * T) as A;
    const places = positions && { positions: part(positions) };
    yield { B: rows, T, ids: part(ids), next: part(next), counted: part(counted), ...places };
  }
}

/** What is asked of the model about windows: the tokens that count, each with its weight in the mean over `count`. Never nothing. */
function askedTokens({ B, T, ids, next, counted, positions }: Part, count: number) {
  const learned = Array.from(counted.keys()).filter((n) => counted[n] === 1);
  const rows = Int32Array.from(learned.length > 0 ? learned : [0]);
  const asked: AskedTokens = {
    tokens: { ids, B, T, ...(positions && { positions }) },
    rows,
    ids: rows.map((n) => next[n]),
    distribution: { temperature: 1 },
  };
  return { asked, weight: Float32Array.from(rows, (n) => counted[n] / count) };
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
  const corpus = { ids, documentEnds: [ids.length], documentBytes: [bytes] };
  const packing = { packing: "wrapped", longExamples: "error", sequenceLength } as const;
  const measuring = heldOutBatches(model, corpus, bytes, packing, batchSize);
  let next = await measuring.next();
  while (!next.done) next = await measuring.next();
  return next.value;
}

async function* heldOutBatches(
  model: CausalLMWithValueHead,
  corpus: Corpus,
  bytes: number,
  packing: PackingOptions,
  batchSize: number,
): AsyncGenerator<{ done: number; total: number }, HeldOutLoss> {
  const total = windowCount(corpus, packing);
  let [nats, tokens, done] = [0, 0, 0];
  for (const windows of windowsInOrder(corpus, { ...packing, batchSize })) {
    const counted = windows.counted.reduce((a, b) => a + b, 0);
    if (counted > 0) {
      const { logprobs } = await model.score(askedTokens(windows, counted).asked);
      for (const logprob of logprobs) nats -= logprob;
    }
    tokens += counted;
    done += windows.B;
    yield { done, total };
  }
  const all = corpus.learned ? corpus.learned.reduce((a, b) => a + b, 0) : corpus.ids.length;
  return { loss: nats / tokens, bitsPerByte: ((nats / tokens) * (all / bytes)) / Math.LN2, tokens };
}
