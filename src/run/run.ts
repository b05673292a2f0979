/** @file A whole run: model and prompts in, a run directory out. The same on the calling thread or in a worker. */

import type { Changeable } from "../algorithms/changeable.ts";
import { type PPOConfig, ppoConfig } from "../algorithms/config.ts";
import { type RunInputs, sumOfPrompts, sumOfRewardFile, sumOfTokenizer, sumOfWeights } from "../algorithms/inputs.ts";
import { PPOTrainer } from "../algorithms/ppo.ts";
import { type EncodedPrompts, encodePrompts } from "../algorithms/prompts.ts";
import { respondAndScore } from "../algorithms/respond.ts";
import { fail, messageOf, ValueheadError } from "../base/errors.ts";
import { STREAMS } from "../base/streams.ts";
import { VERSION } from "../base/version.ts";
import { resolveModel } from "../checkpoint/hub.ts";
import { openWeights } from "../checkpoint/weights.ts";
import type { Prompt } from "../data/prompts.ts";
import type { RewardFunction } from "../experience/rewards.ts";
import { GPT2HeadWithValueModel, readConfig } from "../model/model.ts";
import { isDirectory, joinPath, readJson } from "../platform/files.ts";
import { type RunLock, refuseWhereLocked } from "../platform/lock.ts";
import { availableBytes, residentBytes } from "../platform/memory.ts";
import { enterRunDirectory, lostDirectory, rescue } from "../platform/run-directory.ts";
import { breathe } from "../platform/worker.ts";
import { meanAndStandardError } from "../rl/kl.ts";
import { loadTokenizer } from "../tokenizer/load.ts";
import { checkVocabulary } from "../tokenizer/tokenizer.ts";
import {
  findResumePoint,
  isUnwritten,
  pruneCheckpoints,
  refuseNoRun,
  restoreTrainer,
  saveCheckpoint,
} from "./checkpoint.ts";
import type { RunEvent } from "./events.ts";
import { CONFIG_FILE, RunLogs } from "./logs.ts";
import { checkMemory } from "./memory.ts";
import { checkResumed, learningOptions } from "./resume.ts";
import { type Sink, withSinks } from "./sinks/sink.ts";

/** What to run. Plain data: it crosses to a worker. */
export interface RunSpec {
  /** A directory in Hugging Face layout, a hub id, or "tiny". */
  model: string;
  prompts: readonly (string | Prompt)[];
  /** The run directory. New or empty, unless `resume`. */
  out: string;
  /** A built-in name or the path of a module; here it only names the reward in errors and in config.json. */
  rewardName: string;
  config: Partial<PPOConfig>;
  /** Go on from the newest checkpoint in `out` that is not damaged. */
  resume?: boolean;
  /** What may differ from what the run was started with, when it is resumed. */
  allowChange?: readonly Changeable[];
  /** Prompts never trained on: responses to them are scored before and after. */
  evaluation?: { prompts: readonly (string | Prompt)[] };
  /** Threads of the engine. Default: those the run was started with, or the cores this process may use. */
  threads?: number;
  /** What else config.json says: where the prompts came from. */
  record?: Readonly<Record<string, unknown>>;
  /** Start although the run is expected to take more memory than there is. */
  ignoreMemory?: boolean;
}

/** Who may stop a run, and who listens to it. */
export interface RunOptions {
  /** An abort asks the run to end after the step in progress, with everything saved. */
  signal?: AbortSignal;
  /** What listens to the run, beside its own logs. Called on the caller's thread. */
  sinks?: readonly Sink[];
}

/**
 * Run and report. When `signal` aborts, the step in progress is finished, a checkpoint written and a `done` event sent.
 * Blocks the thread while the engine computes; {@link runInWorker} does not.
 * @throws checkpoint - another run is at work in `out`
 * @throws code - what a sink has thrown, when the run has ended and is saved
 */
export function run(spec: RunSpec, reward: RewardFunction, options: RunOptions = {}): AsyncGenerator<RunEvent> {
  return withSinks((signal) => lockedRun(spec, reward, signal), options.sinks ?? [], options);
}

/**
 * A run without sinks of the caller's.
 * @param lockId whose lock on the run directory it is, for `dropLock`
 */
export async function* lockedRun(
  spec: RunSpec,
  reward: RewardFunction,
  signal: AbortSignal,
  lockId?: string,
): AsyncGenerator<RunEvent> {
  ppoConfig(spec.config); // report wrong options before anything else
  if (spec.resume) await refuseNoRun(spec.out);
  const lock = await enterRunDirectory(spec.out, spec.resume ?? false, lockId);
  try {
    yield* runIn(lock, spec, reward, signal);
  } finally {
    await lock.release();
  }
}

async function* runIn(
  lock: RunLock,
  spec: RunSpec,
  reward: RewardFunction,
  signal: AbortSignal,
): AsyncGenerator<RunEvent> {
  const { checkpoint, damaged } = spec.resume ? await findResumePoint(spec.out) : { damaged: [] };
  const before = checkpoint?.state;
  const earlier = before?.options && { ...(await recordedOptions(spec.out)), ...before.options };
  const config = ppoConfig({ ...earlier, ...spec.config });
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
  };
  const compare = (now: Partial<RunInputs>) => {
    if (!checkpoint) return [];
    const where = `${spec.out}, resumed after step ${checkpoint.step}`;
    return checkResumed({
      where,
      before: checkpoint.state,
      now: { inputs: now, config },
      allowed: spec.allowChange ?? [],
    });
  };
  compare(given); // soon: before any weights are read
  const directory = await resolveModel(checkpoint?.path ?? spec.model);
  // A run directory means its best checkpoint: the one it means today, for a resumed run measures the KL against it too.
  const asked = !checkpoint && (await isDirectory(spec.model)) ? directory : spec.model;
  const modelConfig = await readConfig(directory);
  await (await openWeights(directory)).close(); // are there any? They are read when all the rest is known to be right
  const tokenizer = await loadTokenizer(directory);
  checkVocabulary(tokenizer, modelConfig.vocabSize, directory);
  const prompts = encodePrompts(spec.prompts, tokenizer, modelConfig, config); // before anything is loaded or written
  const evaluation = spec.evaluation && encodePrompts(spec.evaluation.prompts, tokenizer, modelConfig, config);
  const longest = [...prompts.ids, ...(evaluation?.ids ?? [])].reduce((most, x) => Math.max(most, x.length), 0);
  const resident = residentBytes();
  const available = spec.ignoreMemory ? Number.POSITIVE_INFINITY : await availableBytes();
  const memory = checkMemory(modelConfig, config, longest, { available, resident });
  const threads = spec.threads ?? before?.inputs?.threads;
  const model = await GPT2HeadWithValueModel.fromPretrained(directory, { threads, seed: config.seed, tokenizer });
  const reference = checkpoint
    ? await GPT2HeadWithValueModel.fromPretrained(spec.model, { engine: model.engine, tokenizer })
    : undefined;
  const trainer = new PPOTrainer({ model, tokenizer, reward, rewardName: spec.rewardName, config, reference });
  const inputs: RunInputs = {
    ...(given as RunInputs),
    evaluation: given.evaluation ?? before?.inputs?.evaluation,
    reference: sumOfWeights(trainer.reference),
    tokenizer: sumOfTokenizer(tokenizer),
    threads: model.engine.threads,
  };
  const beside = reference && (await loadTokenizer(reference.directory as string).catch(() => undefined));
  const tokenizers = [inputs.tokenizer, ...(beside ? [sumOfTokenizer(beside)] : [])];
  const changes = compare({ ...inputs, tokenizer: tokenizers.find((sum) => sum !== before?.inputs?.tokenizer) });
  if (before && checkpoint) {
    const other = before.inputs && before.inputs.prompts !== inputs.prompts; // allowed: they begin at their own beginning
    const state = other ? { ...before, trainer: { ...before.trainer, prompts: undefined } } : before;
    await restoreTrainer(checkpoint.path, state, trainer);
  }
  // Mean rewards of the last steps, by which checkpoints are compared: the same ones however a run is cut up.
  let rewards = before?.rewards ?? [];

  lock.keepDirectory();
  const record = recordOf({ ...spec, model: asked }, config, inputs);
  const logs = await RunLogs.open(spec.out, record, trainer.stepsTaken, inputs.evaluation ?? "");
  /** Into the logs first, then to whoever listens. */
  const tell = async (event: RunEvent): Promise<RunEvent> => {
    await logs.event(event);
    return event;
  };
  /** What has become of the run directory, in words; undefined while it is as the run made it. */
  const lost = async () => (await lock.lost()) ?? (await logs.lost());
  let saved = trainer.stepsTaken;
  let logged = saved;
  const rest = () => ({ rewards, inputs, options: learningOptions(config) });
  const save = async (): Promise<RunEvent> => {
    const found = await lost();
    if (found !== undefined) throw new LostDirectory(found);
    saved = trainer.stepsTaken;
    await logs.flush();
    const { step, path } = await saveCheckpoint(spec.out, trainer, rest());
    const best = await pruneCheckpoints(spec.out, step, config);
    return tell({ type: "checkpoint", step, directory: path, best });
  };
  /** Without the care of {@link save}, for a run that ends with an error: nothing older is deleted. */
  const saveAtLast = async (): Promise<RunEvent> => {
    await logs.flush();
    const { step, path } = await saveCheckpoint(spec.out, trainer, { ...rest(), keepOlder: true });
    return tell({ type: "checkpoint", step, directory: path });
  };
  const warning = (message: string) => tell({ type: "warning", step: trainer.stepsTaken, message });
  try {
    // A process killed after it wrote its last checkpoint may not have come to this.
    const repair = checkpoint && damaged.length === 0 && !before?.keepOlder;
    const best = repair ? await pruneCheckpoints(spec.out, checkpoint.step, config) : undefined;
    const { vocabSize, nPositions } = model.config;
    const parameters = model.parameters.data.length;
    const made = checkpoint ? [] : trainer.notes;
    const notes = [...model.notes, ...tokenizer.notes, ...made, ...prompts.notes, ...(evaluation?.notes ?? [])];
    const resumedAt = trainer.stepsTaken;
    yield await tell({ type: "loaded", parameters, vocabSize, nPositions, memory, notes, resumedAt, best });
    for (const what of damaged) yield await warning(`damaged, so the run goes on from an earlier checkpoint: ${what}`);
    for (const what of changes) yield await warning(what);
    if (spec.resume && !checkpoint)
      yield await warning(`${spec.out} has no checkpoint yet: the run begins at its first step`);
    const began = (await logs.evaluations.known()).before;
    if (evaluation && !checkpoint)
      for await (const event of evaluate(evaluation, trainer, "before")) yield await tell(event);
    else if (evaluation && began) yield await tell({ type: "evaluation", when: "before", ...began });
    for await (const event of trainer.train(prompts, { signal })) {
      if (event.type === "done") {
        if (saved !== event.step || event.step === 0) yield await save();
        if (evaluation && !event.interrupted)
          for await (const last of evaluate(evaluation, trainer, "after")) yield await tell(last);
        yield await tell({ ...event, directory: joinPath(spec.out, `checkpoint-${event.step}`) });
        continue;
      }
      await tell(event);
      if (event.type === "step") {
        logged = event.step;
        rewards = [...rewards, event.metrics["env/reward_mean"] as number].slice(-(config.saveEvery || REWARD_WINDOW));
        const found = await lost();
        if (found !== undefined) throw new LostDirectory(found);
      }
      yield event;
      if (event.type === "step" && config.saveEvery > 0 && event.step % config.saveEvery === 0) yield await save();
      await breathe();
    }
  } catch (error) {
    // A reward that throws costs the step it threw in, not those before it. Nothing older is deleted after an error.
    const numbers = error instanceof ValueheadError && error.kind === "numbers";
    const found = error instanceof LostDirectory ? error.found : await lost().catch(messageOf);
    const atStep = logged === trainer.stepsTaken && trainer.stepsTaken > 0; // a resumed run finds its steps in the logs
    const whole = atStep && (logged > saved || found !== undefined);
    let rescued: string | undefined;
    try {
      if (whole && (trainer.canBeSaved || numbers) && weightsAreFinite(trainer)) {
        if (!trainer.canBeSaved) yield await warning(partly(trainer));
        if (found === undefined) yield await saveAtLast();
        else {
          const place = await rescue(spec.out, async (place) => {
            await logs.copyTo(place);
            await saveCheckpoint(place, trainer, rest());
          });
          rescued = `the run is saved as it was after step ${trainer.stepsTaken}: go on with it in ${place} (--resume)`;
        }
      }
    } catch (second) {
      yield await warning(`no checkpoint of step ${trainer.stepsTaken} could be written either: ${messageOf(second)}`);
    }
    if (found !== undefined) lostDirectory(spec.out, found, rescued, error);
    throw error;
  } finally {
    await logs.close();
    model.dispose();
  }
}

/** The run directory is not there any more, or not this run's. */
class LostDirectory extends Error {
  readonly found: string;

  constructor(found: string) {
    super(found);
    this.found = found;
  }
}

/** What config.json says of a run. */
const recordOf = (spec: RunSpec, options: PPOConfig, { threads }: RunInputs) => ({
  version: VERSION,
  model: spec.model,
  reward: spec.rewardName,
  prompts: spec.prompts.length,
  ...spec.record,
  threads,
  options,
});

/** Steps whose mean reward is a checkpoint's, where saveEvery does not say. */
const REWARD_WINDOW = 50;

const weightsAreFinite = ({ model, critic }: PPOTrainer) =>
  [model, critic?.model].every((learner) => learner?.parameters.data.every(Number.isFinite) ?? true);

const partly = ({ stepsTaken, unsettledUpdates }: PPOTrainer) =>
  `checkpoint-${stepsTaken} holds the weights as they were before the numbers went bad, ${unsettledUpdates} optimizer ` +
  `steps into step ${stepsTaken + 1}, which begins again when the run is resumed; delete it to resume from an older one`;

/** The same prompts and random streams before and after, so that only the weights differ. */
async function* evaluate(
  prompts: EncodedPrompts,
  trainer: PPOTrainer,
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

/** What config.json of a run directory says. */
export interface RunRecord {
  model: string;
  reward: string;
  options: Partial<PPOConfig>;
  /** Whole paths, where the prompts came from files; the command line writes them. */
  promptsPath?: string | null;
  promptColumn?: string | null;
  evalPrompts?: string | null;
  /** Prompts held out of those in promptsPath. */
  heldOut?: number;
}

/** The options that config.json names; none where it does not. */
async function recordedOptions(out: string): Promise<Partial<PPOConfig>> {
  const json = (await readJson(joinPath(out, CONFIG_FILE)).catch(() => null)) as Partial<RunRecord> | null;
  return typeof json?.options === "object" ? (json.options ?? {}) : {};
}

/** The spec of an earlier run, to resume it without saying everything again; undefined where it was not yet written. */
export async function readRunConfig(out: string): Promise<RunRecord | undefined> {
  await refuseWhereLocked(out);
  if (await isUnwritten(out)) return undefined;
  const path = joinPath(out, CONFIG_FILE);
  const json = (await readJson(path)) as Partial<RunRecord>;
  const options = typeof json?.options === "object" && json.options !== null && !Array.isArray(json.options);
  const texts = [json?.promptsPath, json?.promptColumn, json?.evalPrompts].every(
    (value) => value === undefined || value === null || typeof value === "string",
  );
  const { heldOut = 0 } = json ?? {};
  const counted = Number.isSafeInteger(heldOut) && heldOut >= 0;
  if (typeof json?.model !== "string" || typeof json.reward !== "string" || !options || !texts || !counted)
    fail("config", {
      where: path,
      found: "another kind of file",
      expected: "the config.json of a run, with model, reward and options",
      fix: "name a directory that `valuehead train` wrote",
    });
  return json as RunRecord;
}
