/** @file Responses to prompts and what the reward function says of them. */
import type { PromptBatch } from "../data/encode.ts";
import type { Prompt } from "../data/prompts.ts";
import type { CausalLMWithValueHead } from "../model/model.ts";
import type { ParameterBuffer } from "../model/parameters.ts";
import type { Draws } from "../rl/draws.ts";
import type { GenerateOptions, Rollout } from "../sample/generate.ts";
import { decodingWeights, type Precision } from "../sample/precision.ts";
import { samplingOptions } from "../sample/token-sampler.ts";
import { Adjustments } from "../sample/transforms.ts";
import type { DecodingWeights } from "../sample/weights.ts";
import type { Passes } from "./ask.ts";
import { type Experience, experience } from "./experience.ts";
import type { HonestyConfig, RolloutConfig } from "./options.ts";
import {
  type AnsweredPart,
  type CollectEvent,
  drawPart,
  joinExperience,
  joinReference,
  type Part,
  type Place,
  partSize,
  partsOfStep,
  type Responder,
  type RolloutWorkers,
  type StepParts,
  samplesOf,
} from "./parts/parts.ts";
import { limiter } from "./patience.ts";
import { type ReferenceScores, scoreReference } from "./reference.ts";
import type { RewardSample } from "./sample.ts";
import { computeScores } from "./score.ts";

/** A batch of experience, as text, and what the reward function said. */
export interface Answered {
  readonly data: Experience;
  /** What happened to logits because of earlier tokens when the batch was drawn. */
  readonly adjustments: Adjustments;
  readonly episodes: readonly RewardSample[];
  readonly scores: readonly number[];
  /** Of token ids that came without a record of how they were drawn. */
  readonly draws?: Draws;
  /** What the reference says of them, where whoever answered asked it already. */
  readonly reference?: ReferenceScores | undefined;
}

export interface Responses {
  /** One for each part that was sampled together. */
  readonly rollouts: Rollout[];
  readonly samples: RewardSample[];
  readonly scores: number[];
}

/** Others who may answer, and what they ask the reference. */
export interface RemoteRollouts {
  readonly workers: RolloutWorkers;
  readonly reference?: CausalLMWithValueHead | undefined;
  readonly passes: Omit<Passes, "adjustments">;
  readonly wantsExact: boolean;
  /** Steps that may be begun before their turn, as in {@link RolloutRequest}. */
  readonly later: readonly StepParts[];
  /** Who draws the responses of a step, as in {@link RolloutRequest}. */
  policyOf(step: number): CausalLMWithValueHead;
}

/**
 * Responses to a batch of prompts as experience, with their scores.
 * @param scratch memory that is free while responses are drawn, as for {@link decodingWeights}
 * @param remote  who else may answer; undefined: nobody
 * @throws reward - as {@link respondAndScore}
 */
export async function* collect(
  responder: Responder & {
    readonly config: Pick<RolloutConfig, "rolloutPrecision"> & Pick<HonestyConfig, "maskReplay">;
  },
  { prompts, queries }: Pick<PromptBatch, "prompts" | "queries">,
  place: Place,
  scratch: ParameterBuffer,
  remote?: RemoteRollouts,
): AsyncGenerator<CollectEvent, Answered> {
  const { model, config, sampling } = responder;
  if (config.rolloutPrecision === "int8") await model.parameters.refresh();
  const make = () => decodingWeights(model, decodingForm(config, sampling, queries.length, place.copies), scratch);
  const parts = partsOfStep(config, prompts, queries, place);
  const answers = remote && (yield* askWorkers(responder, parts, place, remote, make));
  if (answers) return answers;
  remote?.policyOf(place.step); // workers may have been sent another step's
  const weights = make();
  const lap: Place["lap"] = (done) => {
    if (done === "respond") weights.release(); // where an error got in before, the garbage collector frees it
    place.lap?.(done);
  };
  const drawing = { ...responder, sampling: { ...sampling, weights } };
  const { rollouts, samples, scores } = yield* respondAndScore(drawing, prompts, queries, { ...place, lap });
  const data = experience(rollouts, config.maskReplay);
  return { data, adjustments: rollouts[0].adjustments, episodes: samples, scores };
}

/** The weights that a step's responses are drawn with. */
export const decodingForm = (
  config: Pick<RolloutConfig, "rolloutBatchSize" | "rolloutPrecision">,
  { maxNewTokens }: Pick<GenerateOptions, "maxNewTokens">,
  total: number,
  copies?: number,
) => ({
  precision: config.rolloutPrecision as Precision, // a trainer refuses auto
  rows: Math.min(total, partSize(config, copies)),
  steps: maxNewTokens,
});

/** Have others answer the parts of a step; undefined: nobody is there. */
async function* askWorkers(
  responder: Responder & { readonly config: Pick<HonestyConfig, "maskReplay"> },
  parts: readonly Part[],
  { step, lap }: Place,
  { workers, reference, passes, wantsExact, later, policyOf }: RemoteRollouts,
  make: () => DecodingWeights,
): AsyncGenerator<CollectEvent, Answered | undefined> {
  const { model, reward, rewardName, config, sampling } = responder;
  const { rewardTimeout, rewardRetries } = config;
  const adjustments = new Adjustments(samplingOptions(sampling), model.sizes.vocabSize);
  const judge = (samples: readonly RewardSample[]) =>
    computeScores(reward, [...samples], rewardName, { rewardTimeout, rewardRetries });
  let weights: DecodingWeights | undefined;
  const here = async (part: Part): Promise<AnsweredPart> => {
    policyOf(step); // a result of another step may have been looked at meanwhile
    weights ??= make();
    const data = experience([await drawPart(responder, part, weights)], config.maskReplay);
    const samples = samplesOf(responder, part, data.responses);
    const scoring = judge(samples);
    scoring.catch(() => {}); // thrown below
    const ask = { ...passes, adjustments };
    const asked = reference && (await scoreReference(model, reference, data, ask, wantsExact));
    return { data, samples, scores: await scoring, reference: asked };
  };
  const read = (part: Part, { responses }: Experience) => samplesOf(responder, part, responses);
  let answered: readonly AnsweredPart[] | undefined;
  try {
    answered = yield* workers.answer({ step, parts, later, policyOf, here, read, judge });
  } finally {
    weights?.release();
  }
  if (!answered) return undefined;
  lap?.("respond");
  lap?.("score");
  return {
    data: joinExperience(answered.map(({ data }) => data)),
    adjustments,
    episodes: answered.flatMap(({ samples }) => samples),
    scores: answered.flatMap(({ scores }) => scores),
    reference: joinReference(answered),
  };
}

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
  const { step, lap } = place;
  const total = ids.length;
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
  for (const part of partsOfStep(config, prompts, ids, place)) {
    if (failed.signal.aborted) break;
    const rollout = await drawPart({ model, sampling }, part);
    const answered = samplesOf(
      { reader },
      part,
      rollout.responses.map(({ tokens }) => tokens),
    );
    const scoring = inTurn(() => {
      failed.signal.throwIfAborted();
      return computeScores(reward, answered, rewardName, call);
    });
    scoring.catch(() => failed.abort()); // reported below
    scores.push(scoring);
    rollouts.push(rollout);
    samples.push(...answered);
    yield { type: "progress", step, phase: "respond", done: part.start + part.queries.length, total };
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
