/**
 * @file A step in parts: responses that are sampled, rewarded and scored under the reference together. What a part's answer is depends on
 * the weights and on the part alone, and not on who answers it: this process, or a worker on another machine.
 */
import type { Prompt } from "../../data/prompts.ts";
import type { CausalLMWithValueHead } from "../../model/model.ts";
import { type GenerateOptions, generate, type Rollout } from "../../sample/generate.ts";
import type { DecodingWeights } from "../../sample/weights.ts";
import { type Experience, padded } from "../experience.ts";
import type { RewardConfig, RolloutConfig } from "../options.ts";
import type { ReferenceScores } from "../reference.ts";
import { groupPlace, type Reader, type RewardFunction, type RewardSample, readSample } from "../sample.ts";

/** What a worker of a run did so far. */
export interface WorkerFacts {
  /** Its machine, its process and a random end. */
  readonly name: string;
  /** Whether it works; gone: it left, or nothing is heard of it; refused: its results were wrong, for the reason in `why`. */
  readonly state: "ready" | "gone" | "refused";
  /** Parts of steps that it answered, and gradients of microbatches that it computed, that were used. */
  readonly tasks: number;
  /** Responses in them. */
  readonly responses: number;
  /** Gradients among the tasks; undefined: none. */
  readonly gradients?: number;
  /** Seconds that they took. */
  readonly seconds: number;
  /** Of these, those in which it computed. */
  readonly busy: number;
  /** Results that were not needed any more. */
  readonly late: number;
  /** Tasks that it could not do. */
  readonly failed: number;
  /** Why it is refused. */
  readonly why?: string;
}

/** Where the answers to a step's prompts are. */
export type CollectEvent =
  | { type: "progress"; step: number; phase: "respond" | "score"; done: number; total: number }
  | { type: "warning" | "note"; step: number; message: string }
  /** Of a step that workers took part in: who they are, and how many parts the trainer answered itself. */
  | { type: "workers"; step: number; here: number; workers: WorkerFacts[] };

/** Who answers, and who judges. */
export interface Responder {
  readonly model: CausalLMWithValueHead;
  /** What the reward function is shown of responses. */
  readonly reader: Reader;
  readonly reward: RewardFunction;
  readonly rewardName: string;
  readonly config: RewardConfig & Pick<RolloutConfig, "rolloutBatchSize">;
  /** How responses are sampled, all but the random streams. */
  readonly sampling: GenerateOptions;
}

/** Which step it is, and how its random streams are named. */
export interface Place {
  readonly step: number;
  /** The name of a prompt's random stream, by its place. A prompt with its stream gets the same response whenever it is asked. */
  readonly streamOf: (place: number) => number | readonly number[];
  /** How many prompts in a row are the same one, each for a response of its own. Default 1. */
  readonly copies?: number;
  /** Told when sampling and when scoring is done. */
  readonly lap?: (name: "respond" | "score") => void;
}

/** Prompts of a step that are answered together. */
export interface Part {
  /** Which part of its step it is, and the place of its first prompt, both from 0. */
  readonly index: number;
  readonly start: number;
  readonly prompts: readonly Prompt[];
  readonly queries: readonly Int32Array[];
  /** Names of the random streams, as in {@link GenerateOptions}. */
  readonly streams: readonly (number | readonly number[])[];
  /** How many prompts in a row are the same one. */
  readonly copies: number;
}

/** A part with its answers. */
export interface AnsweredPart {
  readonly data: Experience;
  readonly samples: readonly RewardSample[];
  readonly scores: readonly number[];
  /** Undefined: there is none. */
  readonly reference?: ReferenceScores | undefined;
}

/** A step's prompts, in parts. */
export interface StepParts {
  readonly step: number;
  readonly parts: readonly Part[];
}

/** What a step asks of those who answer for the trainer. */
export interface RolloutRequest extends StepParts {
  /** The steps after it, as far as they may be begun: their responses are drawn by weights that there are already. */
  readonly later: readonly StepParts[];
  /** The policy that draws the responses of this step or of a later one. It says what it says until another step's is asked for. */
  policyOf(step: number): CausalLMWithValueHead;
  /** Answers a part in this process. */
  here(part: Part): Promise<AnsweredPart>;
  /** What a reward function is shown of a part's responses. */
  read(part: Part, data: Experience): RewardSample[];
  /** What the reward function of this process says of them. */
  judge(samples: readonly RewardSample[]): Promise<number[]>;
}

/** Others who may answer parts of a step: workers on other machines. */
export interface RolloutWorkers {
  /** All parts, answered, in their order; undefined: nobody is there, and the trainer answers them as if there never had been anybody. */
  answer(step: RolloutRequest): AsyncGenerator<CollectEvent, readonly AnsweredPart[] | undefined>;
}

/** Responses sampled, and rewarded, at a time: whole groups, so that a reward sees all that it may compare. */
export const partSize = ({ rolloutBatchSize: size }: Pick<RolloutConfig, "rolloutBatchSize">, copies = 1) =>
  Math.max(copies, size - (size % copies));

/** The parts of a step, in order. */
export function partsOfStep(
  config: Pick<RolloutConfig, "rolloutBatchSize">,
  prompts: readonly Prompt[],
  ids: readonly Int32Array[],
  { streamOf, copies = 1 }: Pick<Place, "streamOf" | "copies">,
): Part[] {
  const size = partSize(config, copies);
  return Array.from({ length: Math.ceil(ids.length / size) }, (_, index) => {
    const start = index * size;
    const queries = ids.slice(start, start + size);
    const streams = queries.map((_, i) => streamOf(start + i));
    return { index, start, prompts: prompts.slice(start, start + size), queries, streams, copies };
  });
}

/** Responses to a part's prompts. */
export const drawPart = (
  { model, sampling }: Pick<Responder, "model" | "sampling">,
  { queries, streams }: Part,
  weights?: DecodingWeights,
): Promise<Rollout> =>
  generate(model, queries, {
    ...sampling,
    ...(weights && { weights }),
    streams,
    rawLogprobs: false,
  } as GenerateOptions);

/** What a reward function is shown of a part. */
export const samplesOf = (
  { reader }: Pick<Responder, "reader">,
  { prompts, queries, start, copies }: Part,
  responses: readonly Int32Array[],
): RewardSample[] =>
  responses.map((tokens, i) => readSample(reader, prompts[i], queries[i], tokens, groupPlace(start + i, copies)));

/** Parts as one batch, in their order. */
export function joinExperience(parts: readonly Experience[]): Experience {
  const responses = parts.flatMap((part) => part.responses);
  const batch = padded(responses);
  const size = batch.rows * batch.width;
  const keptMass = new Float64Array(size);
  const index = new Int32Array(size).fill(-1);
  const sets = { sizes: [] as number[], starts: [0], bits: [] as number[] };
  let row = 0;
  for (const { batch: own, keptMass: mass, kept } of parts) {
    const [before, begin] = [sets.sizes.length, sets.starts[sets.starts.length - 1]];
    for (let b = 0; b < own.rows; b++, row++)
      for (let t = 0; t < own.width && t < batch.width; t++) {
        const [from, to] = [b * own.width + t, row * batch.width + t];
        keptMass[to] = mass[from];
        if (kept.index[from] >= 0) index[to] = before + kept.index[from];
      }
    for (let s = 0; s < kept.sizes.length; s++) {
      sets.sizes.push(kept.sizes[s]);
      sets.bits.push(kept.bits[s]);
      sets.starts.push(begin + kept.starts[s + 1]);
    }
  }
  const words = new Int32Array(sets.starts[sets.starts.length - 1]);
  let at = 0;
  for (const { kept } of parts) {
    words.set(kept.words, at);
    at += kept.words.length;
  }
  return {
    queries: parts.flatMap((part) => part.queries),
    responses,
    batch,
    logprobs: joinTokens(parts, (part) => part.logprobs),
    values: joinTokens(parts, (part) => part.values),
    kept: {
      index,
      sizes: Int32Array.from(sets.sizes),
      starts: Int32Array.from(sets.starts),
      bits: Uint8Array.from(sets.bits),
      words,
    },
    keptMass,
  };
}

/** An array per token of each part, [b, w], as one of all, [B, W]. */
export function joinTokens<P extends { readonly batch: Experience["batch"] }>(
  parts: readonly P[],
  of: (part: P) => Float32Array,
): Float32Array {
  const rows = parts.reduce((n, { batch }) => n + batch.rows, 0);
  const width = Math.max(0, ...parts.map(({ batch }) => batch.width));
  const all = new Float32Array(rows * width);
  let row = 0;
  for (const part of parts)
    for (let b = 0; b < part.batch.rows; b++, row++) {
      const { width: w } = part.batch;
      all.set(of(part).subarray(b * w, (b + 1) * w), row * width);
    }
  return all;
}

/** What the reference says of parts, as of one batch. */
export function joinReference(parts: readonly Pick<AnsweredPart, "data" | "reference">[]): ReferenceScores | undefined {
  const each = parts.flatMap(({ data, reference }) => (reference ? [{ batch: data.batch, ...reference }] : []));
  if (each.length < parts.length) return undefined;
  return {
    refLogprobs: joinTokens(each, ({ refLogprobs }) => refLogprobs),
    ...(each.every(({ exactKl }) => exactKl !== undefined) && {
      exactKl: joinTokens(each, ({ exactKl }) => exactKl as Float32Array),
    }),
  };
}
