/** @file Responses to prompts and what the reward function says of them. */
import type { PromptBatch } from "../data/encode.ts";
import type { Prompt } from "../data/prompts.ts";
import type { CausalLMWithValueHead } from "../model/model.ts";
import type { ParameterBuffer } from "../model/parameters.ts";
import type { Draws } from "../rl/draws.ts";
import { type GenerateOptions, generate, type Rollout } from "../sample/generate.ts";
import { decodingWeights } from "../sample/precision.ts";
import type { Adjustments } from "../sample/transforms.ts";
import { type Experience, experience } from "./experience.ts";
import type { HonestyConfig, RewardConfig, RolloutConfig } from "./options.ts";
import { limiter } from "./patience.ts";
import { groupPlace, type Reader, type RewardFunction, type RewardSample, readSample } from "./sample.ts";
import { computeScores } from "./score.ts";

/** Where the answers to a step's prompts are. */
export type CollectEvent =
  | { type: "progress"; step: number; phase: "respond" | "score"; done: number; total: number }
  | { type: "warning"; step: number; message: string };

/** A batch of experience, as text, and what the reward function said. */
export interface Answered {
  readonly data: Experience;
  /** What happened to logits because of earlier tokens when the batch was drawn. */
  readonly adjustments: Adjustments;
  readonly episodes: readonly RewardSample[];
  readonly scores: readonly number[];
  /** Of token ids that came without a record of how they were drawn. */
  readonly draws?: Draws;
}

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

export interface Responses {
  /** One for each part that was sampled together. */
  readonly rollouts: Rollout[];
  readonly samples: RewardSample[];
  readonly scores: number[];
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

/**
 * Responses to a batch of prompts as experience, with their scores.
 * @param scratch memory that is free while responses are drawn, as for {@link decodingWeights}
 * @throws reward - as {@link respondAndScore}
 */
export async function* collect(
  responder: Responder & {
    readonly config: Pick<RolloutConfig, "rolloutPrecision"> & Pick<HonestyConfig, "maskReplay">;
  },
  { prompts, queries }: Pick<PromptBatch, "prompts" | "queries">,
  place: Place,
  scratch: ParameterBuffer,
): AsyncGenerator<CollectEvent, Answered> {
  const { model, config, sampling } = responder;
  const rows = Math.min(queries.length, partSize(config, place));
  const form = { precision: config.rolloutPrecision, rows, steps: sampling.maxNewTokens };
  const weights = decodingWeights(model, form, scratch);
  const lap: Place["lap"] = (done) => {
    if (done === "respond") weights.release(); // where an error got in before, the garbage collector frees it
    place.lap?.(done);
  };
  const drawing = { ...responder, sampling: { ...sampling, weights } };
  const { rollouts, samples, scores } = yield* respondAndScore(drawing, prompts, queries, { ...place, lap });
  const data = experience(rollouts, config.maskReplay);
  return { data, adjustments: rollouts[0].adjustments, episodes: samples, scores };
}

/** Responses sampled, and rewarded, at a time: whole groups, so that a reward sees all that it may compare. */
const partSize = ({ rolloutBatchSize: size }: Pick<RolloutConfig, "rolloutBatchSize">, { copies = 1 }: Place) =>
  Math.max(copies, size - (size % copies));

/** Milliseconds between signs of life: a program whose only work is a Promise that stays open would just end. */
const ALIVE = 1000;

/**
 * Sample part after part of about `rolloutBatchSize` prompts; the reward of one part is computed while the next is sampled.
 * @throws reward - no scores for some part, after all repetitions
 */
export async function* respondAndScore(
  { model, reader, reward, rewardName, config, sampling }: Responder,
  prompts: readonly Prompt[],
  ids: readonly Int32Array[],
  place: Place,
): AsyncGenerator<CollectEvent, Responses> {
  const { step, streamOf, copies = 1, lap } = place;
  const total = ids.length;
  const size = partSize(config, place);
  const rollouts: Rollout[] = [];
  const samples: RewardSample[] = [];
  const scores: Promise<number[]>[] = [];
  const retries: CollectEvent[] = [];
  const inTurn = limiter(config.rewardConcurrency);
  const failed = new AbortController();
  const { rewardTimeout, rewardRetries } = config;
  let wake = () => {};
  const onRetry = (message: string) => {
    retries.push({ type: "warning", step, message });
    wake();
  };
  const call = { rewardTimeout, rewardRetries, signal: failed.signal, onRetry };
  for (let start = 0; start < total && !failed.signal.aborted; start += size) {
    const part = ids.slice(start, start + size);
    const streams = part.map((_, i) => streamOf(start + i));
    const rollout = await generate(model, part, { ...sampling, streams, rawLogprobs: false });
    const answered = rollout.responses.map(({ tokens }, i) => {
      return readSample(reader, prompts[start + i], part[i], tokens, groupPlace(start + i, copies));
    });
    const scoring = inTurn(() => {
      failed.signal.throwIfAborted();
      return computeScores(reward, answered, rewardName, call);
    });
    scoring.catch(() => failed.abort()); // reported below
    scores.push(scoring);
    rollouts.push(rollout);
    samples.push(...answered);
    yield { type: "progress", step, phase: "respond", done: start + part.length, total };
    yield* retries.splice(0);
  }
  lap?.("respond");
  const all = Promise.all(scores);
  let settled = false;
  const finish = () => {
    settled = true;
    wake();
  };
  all.then(finish, finish);
  const alive = setInterval(() => {}, ALIVE);
  try {
    while (!settled) {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
      yield* retries.splice(0);
    }
  } finally {
    clearInterval(alive);
  }
  const result = { rollouts, samples, scores: (await all).flat() };
  lap?.("score");
  yield { type: "progress", step, phase: "score", done: total, total };
  return result;
}
