/** @file A run of PPO, GRPO or RLOO: prompts and a reward, a policy and the reference it is held to. */

import type { z } from "zod";
import { type GRPOConfig, GRPOTrainer, grpoConfig } from "../../algorithms/grpo.ts";
import { ppoConfig } from "../../algorithms/options/config.ts";
import { checkAdapters, withAskedAdapter } from "../../algorithms/options/lora.ts";
import type {
  PPOConfig,
  PPOOptionName,
  RolloutTrainerConfig,
  RolloutTrainerOptions,
} from "../../algorithms/options/ppo-options.ts";
import { PPOTrainer } from "../../algorithms/ppo.ts";
import { type RLOOConfig, RLOOTrainer, rlooConfig } from "../../algorithms/rloo.ts";
import type { RolloutTrainer } from "../../algorithms/rollout.ts";
import type { RolloutState } from "../../algorithms/trainer-state.ts";
import { fail } from "../../base/errors.ts";
import { STREAMS } from "../../base/streams.ts";
import { strftime } from "../../base/strftime.ts";
import { locate, tokenizerOf } from "../../checkpoint/model-files.ts";
import type { PromptGiven } from "../../data/chat.ts";
import { type EncodedPrompts, encodePrompts } from "../../data/encode.ts";
import type { Coordinator } from "../../distributed/coordinator.ts";
import type { WorkersSpec } from "../../distributed/job.ts";
import { respondAndScore } from "../../experience/collect.ts";
import type { Responder } from "../../experience/parts/parts.ts";
import { keepsReference, unadapted } from "../../experience/reference.ts";
import type { RewardFunction } from "../../experience/reward-functions.ts";
import { checkModel, openModel } from "../../families/index.ts";
import { countParameters } from "../../model/memory.ts";
import { randomId } from "../../platform/hash.ts";
import { availableBytes, residentBytes } from "../../platform/memory.ts";
import { meanAndStandardError } from "../../rl/kl.ts";
import { turnNotes } from "../../sample/ends.ts";
import { checkVocabulary } from "../../tokenizer/load.ts";
import { restoreTrainer } from "../checkpoint.ts";
import { ppoCheckpoint, rolloutCheckpoint } from "../checkpoint-state.ts";
import type { RunEvent } from "../events.ts";
import {
  type RunInputs,
  sumOfChatTemplate,
  sumOfPrompts,
  sumOfRewardFile,
  sumOfTokenizer,
  sumOfWeights,
} from "../inputs.ts";
import type { Beginning, Begun, RunKind } from "../kind.ts";
import { checkMemory, type MemoryOptions, runMemory } from "../memory.ts";
import { filesAt, modelRecord } from "../model-of.ts";
import { engineOf, type GRPOSpec, type PromptSpec, type RLOOSpec, type RunSpec, recordIn } from "../spec.ts";
import type { decidePrecision } from "./precision.ts";

/** What a run learns does not depend on these: they change without a word. */
export const FREE_OPTIONS: readonly PPOOptionName[] = [
  "preset", // its values count, each by itself
  "steps",
  "rewardConcurrency",
  "rewardTimeout",
  "rewardRetries",
  "maxSkippedSteps",
  "valueHeadInit", // only at the start
  "valueHeadStd",
  "saveEvery",
  "keepCheckpoints",
  "keepBest",
  "logSamples",
  "audit",
];

/** Prompts already drawn, random streams already used or moments already gathered would not fit any more. */
export const FIXED_OPTIONS: readonly PPOOptionName[] = [
  "seed",
  "batchSize",
  "promptMinTokens",
  "promptMaxTokens",
  "longPrompts",
  "chat",
  "system",
  "chatArgs",
  "valueModel",
  "frozenLayers",
  "async",
  "lora",
  "loraAlpha",
  "loraTargets",
  "loraLayers",
  "loraRankStabilized",
  "basePrecision",
];

/** The same of GRPO and RLOO, which have no such thing as a value head, and groups. */
const isOfGroups = (name: string) => !["preset", "valueHeadInit", "valueHeadStd", "valueModel"].includes(name);
const GROUP_OPTIONS = {
  free: FREE_OPTIONS.filter(isOfGroups),
  fixed: [...FIXED_OPTIONS.filter(isOfGroups), "numGenerations"],
};

/** What sets the algorithms apart, as their runs see it. */
interface OnPrompts<Config extends RolloutTrainerConfig>
  extends Pick<RunKind<PromptSpec, Config>, "algorithm" | "config" | "options"> {
  checkpoint: z.ZodType;
  /** Whether there are values: a model without a value head gets a new one. */
  readonly values: boolean;
  /** What their memory depends on beside the options that all have. */
  memory(config: Config): MemoryOptions;
  trainer(options: RolloutTrainerOptions<Config>): RolloutTrainer<Config>;
}

/** A run that asks this reward function. */
const onPrompts = <Spec extends PromptSpec, Config extends RolloutTrainerConfig>(
  of: OnPrompts<Config>,
  reward: RewardFunction,
): RunKind<Spec, Config> => ({
  ...of,
  // biome-ignore lint/correctness/useYield: nothing happens that is worth an event
  begin: async function* (given) {
    return begin(given, of, reward);
  },
});

/** A PPO run that asks this reward function. */
export const ppoRun = (reward: RewardFunction): RunKind<RunSpec, PPOConfig> =>
  onPrompts(
    {
      algorithm: "ppo",
      values: true,
      config: (options) => ppoConfig(options as Partial<PPOConfig>),
      options: { free: FREE_OPTIONS, fixed: FIXED_OPTIONS },
      checkpoint: ppoCheckpoint,
      memory: (config) => config,
      trainer: (options) => new PPOTrainer(options),
    },
    reward,
  );

/** Of the memory estimate: no model for the values, and no KL over the vocabulary. */
const ofGroups = { valueModel: "shared", klPenalty: "k1" } as const;

export const grpoRun = (reward: RewardFunction): RunKind<GRPOSpec, GRPOConfig> =>
  onPrompts(
    {
      algorithm: "grpo",
      values: false,
      config: (options) => grpoConfig(options as Partial<GRPOConfig>),
      options: GROUP_OPTIONS,
      checkpoint: rolloutCheckpoint,
      memory: (config) => ({ ...config, ...ofGroups }),
      trainer: (options) => new GRPOTrainer(options),
    },
    reward,
  );

export const rlooRun = (reward: RewardFunction): RunKind<RLOOSpec, RLOOConfig> =>
  onPrompts(
    {
      algorithm: "rloo",
      values: false,
      config: (options) => rlooConfig(options as Partial<RLOOConfig>),
      options: GROUP_OPTIONS,
      checkpoint: rolloutCheckpoint,
      memory: (config) => ({ ...config, ...ofGroups }),
      trainer: (options) => new RLOOTrainer(options),
    },
    reward,
  );

async function begin<Config extends RolloutTrainerConfig>(
  { spec, config: asked, checkpoint, compare }: Beginning<PromptSpec, Config>,
  of: OnPrompts<Config>,
  reward: RewardFunction,
): Promise<Begun> {
  const before = checkpoint?.state;
  if (spec.prompts.length === 0)
    fail("data", {
      where: "prompts",
      found: "none",
      expected: "at least one prompt",
      fix: "give a file with prompts in it",
    });
  const given: Partial<RunInputs> = {
    prompts: sumOfPrompts(spec.prompts),
    promptCount: spec.prompts.length,
    evaluation: spec.evaluation && sumOfPrompts(spec.evaluation.prompts),
    reward: spec.rewardName,
    rewardFile: await sumOfRewardFile(spec.rewardName),
    threads: spec.threads,
    device: spec.device,
  };
  compare(given); // soon: before any weights are read
  const began = await locate(spec.model, { adapter: spec.adapter });
  const files = checkpoint ? await filesAt(checkpoint.path, began) : began;
  const read = await checkModel(files); // is it there, and whole? It is read when all the rest is known to be right
  checkAdapters(read, asked, files.directory, checkpoint !== undefined);
  const architecture = withAskedAdapter(read, asked);
  const tokenizer = await tokenizerOf(files);
  checkVocabulary(tokenizer, architecture.sizes.vocabSize, files.directory);
  const time = before?.inputs?.time ?? localTime(new Date()); // a template may write the date: the same when a run is resumed
  const encode = (prompts: readonly PromptGiven[]) =>
    encodePrompts(prompts, tokenizer, architecture.sizes, { ...asked, now: new Date(time) });
  const prompts = encode(spec.prompts); // before anything is loaded or written
  const evaluation = spec.evaluation && encode(spec.evaluation.prompts);
  const chats = [...prompts.prompts, ...(evaluation?.prompts ?? [])].filter(({ messages }) => messages !== undefined);
  const asksTime =
    chats.length > 0 && [...tokenizer.chatTemplates.values()].some((text) => text.includes("strftime_now"));
  const longest = [...prompts.ids, ...(evaluation?.ids ?? [])].reduce((most, x) => Math.max(most, x.length), 0);
  const resident = residentBytes();
  const available = spec.ignoreMemory ? Number.POSITIVE_INFINITY : await availableBytes();
  const needed = checkMemory(architecture, of.memory(asked), longest, { available, resident });
  const model = await openModel(files, {
    makeValueHead: of.values,
    ...engineOf(spec, before?.inputs),
    seed: asked.seed,
    tokenizer,
  });
  const earlier = await recordIn(spec.out);
  const decided = asked.rolloutPrecision === "auto" ? await decide(model, asked, prompts.ids) : undefined;
  const config = decided ? { ...asked, rolloutPrecision: decided.precision } : asked;
  const rolloutSeconds = decided?.seconds ?? earlier.rolloutSeconds;
  const memory = decided ? runMemory(architecture, of.memory(config), longest) : needed;
  // With an adapter it is the model without it.
  const reference =
    before && keepsReference(config) && !model.adapter
      ? await openModel(began, { engine: model.engine, tokenizer, makeValueHead: of.values })
      : undefined;
  const trainer = of.trainer({ model, tokenizer, reward, rewardName: spec.rewardName, config, reference });
  const inputs: RunInputs = {
    ...given,
    evaluation: given.evaluation ?? before?.inputs?.evaluation,
    reference:
      trainer.reference || !before ? sumOfWeights(trainer.reference ?? unadapted(model)) : before.inputs?.reference,
    tokenizer: sumOfTokenizer(tokenizer),
    ...(chats.length > 0 && { chatTemplate: sumOfChatTemplate(tokenizer) }),
    ...(asksTime && { time }),
    threads: model.engine.threads,
    device: model.engine.device,
  };
  const beside = checkpoint && (await tokenizerOf(began).catch(() => undefined));
  const tokenizers = [inputs.tokenizer, ...(beside ? [sumOfTokenizer(beside)] : [])];
  const changes = compare({ ...inputs, tokenizer: tokenizers.find((sum) => sum !== before?.inputs?.tokenizer) });
  if (before && checkpoint) {
    const state = before.trainer as RolloutState;
    const other = before.inputs && before.inputs.prompts !== inputs.prompts; // allowed: they begin at their own beginning
    await restoreTrainer(checkpoint.path, before, trainer, other ? { ...state, prompts: undefined } : state);
  }
  const gradients = spec.workers?.gradients ?? earlier.workers?.gradients;
  const workers = spec.workers && { ...spec.workers, ...(gradients && { gradients }) };
  const run = workers ? (earlier.workers?.run ?? randomId().slice(0, 8)) : undefined;
  if (gradients) trainer.sumGradientsApart(); // also without workers, where the run began with them: its bits stay
  const coordinator = workers && (await openCoordinator(workers, trainer, of, { ...spec, run: run as string, inputs }));
  if (coordinator) trainer.workers = coordinator;
  trainer.gradientWorkers = coordinator?.gradients;
  const made = checkpoint ? [] : trainer.notes;
  const ends = config.stopAtEos ? trainer.eosTokenIds : [];
  const chatNotes = turnNotes(chats, tokenizer, ends);
  if (asksTime)
    chatNotes.push(
      `the chat template asks for the date: it is told ${time.slice(0, 10)}, also when the run is resumed`,
    );
  return {
    trainer,
    train: (signal) => trainer.train(prompts, { signal }),
    inputs,
    record: {
      ...(checkpoint ? { model: spec.model, adapter: spec.adapter } : await modelRecord(spec, began)),
      reward: spec.rewardName,
      prompts: spec.prompts.length,
      ...(workers ? { workers: { run, ...(gradients && { gradients }) } } : gradients && { workers: earlier.workers }),
      ...(rolloutSeconds && { rolloutSeconds }),
      ...(chats.length > 0 && { conversations: chats.length }),
    },
    loaded: {
      parameters: countParameters(model).total,
      vocabSize: model.sizes.vocabSize,
      nPositions: model.sizes.context,
      memory,
      notes: [
        ...[
          ...model.notes,
          ...tokenizer.notes,
          ...made,
          ...(decided ? [`rolloutPrecision auto: ${decided.why}. The run keeps to it`] : []),
        ],
        ...[...prompts.notes, ...(evaluation?.notes ?? []), ...chatNotes],
      ],
    },
    changes,
    evaluate: evaluation && ((when) => evaluate(evaluation, trainer, when)),
    dispose: async () => {
      await coordinator?.close();
      model.dispose();
    },
  };
}

/** Its code is only loaded where something is to be decided. */
const decide: typeof decidePrecision = async (...of) => (await import("./precision.ts")).decidePrecision(...of);

/** Workers that answer a trainer's prompts. The clients of their server are only loaded here. */
async function openCoordinator<Config extends RolloutTrainerConfig>(
  workers: WorkersSpec,
  trainer: RolloutTrainer<Config>,
  { algorithm, values }: OnPrompts<Config>,
  { run, model, inputs }: { run: string; model: string; inputs: RunInputs },
): Promise<Coordinator> {
  const { Coordinator } = await import("../../distributed/coordinator.ts");
  const reward = { name: inputs.reward ?? "", file: inputs.rewardFile };
  return Coordinator.open(workers, trainer, { run, algorithm, modelName: model, values, reward });
}

/** `2026-11-26T22:07:00`, of this machine's zone: `new Date` of it is the same moment there, and the same day anywhere. */
function localTime(now: Date): string {
  return strftime(now, "%Y-%m-%dT%H:%M:%S");
}

/** The same prompts and random streams before and after, so that only the weights differ. */
async function* evaluate(
  prompts: EncodedPrompts,
  trainer: { readonly stepsTaken: number; readonly responder: Responder },
  when: "before" | "after",
): AsyncGenerator<RunEvent> {
  const place = { step: trainer.stepsTaken, streamOf: (i: number) => [STREAMS.evaluation, i] };
  const answers = respondAndScore(trainer.responder, prompts.prompts, prompts.ids, place);
  let next = await answers.next();
  for (; !next.done; next = await answers.next()) yield next.value;
  const { samples, scores } = next.value;
  const scored = samples.map((sample, i) => ({ ...sample, score: scores[i] }));
  yield { type: "evaluation", when, samples: scored, ...meanAndStandardError(scores) };
}
