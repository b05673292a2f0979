/** @file A whole run: model and prompts in, a run directory out. The same on the calling thread or in a worker. */
import { fail, messageOf, ValueheadError } from "../base/errors.ts";
import { STREAMS } from "../base/streams.ts";
import { VERSION } from "../base/version.ts";
import type { Prompt } from "../data/prompts.ts";
import { resolveModel } from "../gpt2/hub.ts";
import type { MemoryEstimate } from "../gpt2/memory.ts";
import { GPT2HeadWithValueModel, readConfig } from "../gpt2/model.ts";
import { openWeights } from "../gpt2/weights.ts";
import { meanAndStandardError } from "../rl/kl.ts";
import {
  AppendFile,
  ensureEmptyOutputDirectory,
  exists,
  joinPath,
  makeDirectory,
  readJson,
  readText,
  writeTextAtomic,
} from "../runtime/files.ts";
import { availableBytes, residentBytes } from "../runtime/memory.ts";
import { breathe } from "../runtime/worker.ts";
import { loadTokenizer } from "../tokenizer/load.ts";
import { checkVocabulary } from "../tokenizer/tokenizer.ts";
import { findResumePoint, isUnwritten, pruneCheckpoints, restoreTrainer, saveCheckpoint } from "./checkpoint.ts";
import { type PpoConfig, ppoConfig } from "./config.ts";
import type { TrainEvent } from "./events.ts";
import { checkMemory } from "./memory.ts";
import { PPOTrainer } from "./ppo.ts";
import { type EncodedPrompts, encodePrompts } from "./prompts.ts";
import { respondAndScore } from "./respond.ts";
import type { RewardFunction, RewardSample } from "./rewards.ts";
import { TensorBoardWriter } from "./tensorboard.ts";

/** What to run. Plain data: it crosses to a worker. */
export interface RunSpec {
  /** A directory in Hugging Face layout, a hub id, or "tiny". */
  model: string;
  prompts: readonly (string | Prompt)[];
  /** The run directory. New or empty, unless `resume`. */
  out: string;
  /** A built-in name or the path of a module; here it only names the reward in errors and in config.json. */
  rewardName: string;
  config: Partial<PpoConfig>;
  /** Go on from the newest checkpoint in `out` that is not damaged. */
  resume?: boolean;
  /** Prompts never trained on: responses to them are scored before and after. */
  evaluation?: { prompts: readonly (string | Prompt)[] };
  threads?: number;
  /** What else config.json says: where the prompts came from. */
  record?: Readonly<Record<string, unknown>>;
  /** Start although the run is expected to take more memory than there is. */
  ignoreMemory?: boolean;
}

export type RunEvent =
  | TrainEvent
  | {
      type: "loaded";
      parameters: number;
      vocabSize: number;
      nPositions: number;
      /** What the run is expected to take, in bytes. */
      memory: MemoryEstimate;
      notes: readonly string[];
      resumedAt: number;
    }
  | {
      type: "evaluation";
      when: "before" | "after";
      samples: (RewardSample & { score: number })[];
      mean: number;
      standardError: number;
    };

/**
 * Run and report. When `signal` aborts, the step in progress is finished, a checkpoint written and a `done` event sent.
 * Blocks the thread while the engine computes; {@link runInWorker} does not.
 */
export async function* run(
  spec: RunSpec,
  reward: RewardFunction,
  options: { signal?: AbortSignal } = {},
): AsyncGenerator<RunEvent> {
  const config = ppoConfig(spec.config);
  const { checkpoint, damaged } = spec.resume ? await findResumePoint(spec.out) : { damaged: [] };
  if (spec.prompts.length === 0)
    fail("data", {
      where: "prompts",
      found: "none",
      expected: "at least one prompt",
      fix: "give a file with prompts in it",
    });
  const directory = await resolveModel(checkpoint?.path ?? spec.model);
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
  const { threads } = spec;
  const model = await GPT2HeadWithValueModel.fromPretrained(directory, { threads, seed: config.seed, tokenizer });
  const reference = checkpoint
    ? await GPT2HeadWithValueModel.fromPretrained(spec.model, { engine: model.engine, tokenizer })
    : undefined;
  const trainer = new PPOTrainer({ model, tokenizer, reward, rewardName: spec.rewardName, config, reference });
  // Mean rewards of the last steps, by which checkpoints are compared: the same ones however a run is cut up.
  let rewards: number[] = [];
  if (checkpoint) rewards = await restoreTrainer(checkpoint.path, trainer);
  else if (!spec.resume) await ensureEmptyOutputDirectory(spec.out);

  const logs = await RunLogs.open(spec, config, trainer.stepsTaken);
  const { vocabSize, nPositions } = model.config;
  const parameters = model.parameters.data.length;
  const made = checkpoint ? [] : trainer.notes;
  const notes = [...model.notes, ...made, ...prompts.notes, ...(evaluation?.notes ?? [])];
  yield { type: "loaded", parameters, vocabSize, nPositions, memory, notes, resumedAt: trainer.stepsTaken };
  const warning = (message: string): RunEvent => ({ type: "warning", step: trainer.stepsTaken, message });
  for (const what of damaged) yield warning(`damaged, so the run goes on from an earlier checkpoint: ${what}`);
  if (spec.resume && !checkpoint) yield warning(`${spec.out} has no checkpoint yet: the run begins at its first step`);
  let saved = trainer.stepsTaken;
  let logged = saved;
  const save = async (prune = true): Promise<RunEvent> => {
    saved = trainer.stepsTaken;
    await logs.flush();
    const { step, path } = await saveCheckpoint(spec.out, trainer, rewards);
    const best = prune ? await pruneCheckpoints(spec.out, step, config) : undefined;
    return { type: "checkpoint", step, directory: path, best };
  };
  try {
    if (!checkpoint) yield* evaluate(evaluation, trainer, "before");
    for await (const event of trainer.train(prompts, options)) {
      if (event.type === "step") {
        await logs.step(event);
        logged = event.step;
        rewards = [...rewards, event.metrics["env/reward_mean"] as number].slice(-(config.saveEvery || REWARD_WINDOW));
        if (config.saveEvery > 0 && event.step % config.saveEvery === 0) yield await save();
      }
      if (event.type !== "done") yield event;
      else {
        if (saved !== event.step || event.step === 0) yield await save();
        if (!event.interrupted) yield* evaluate(evaluation, trainer, "after");
        yield { ...event, directory: joinPath(spec.out, `checkpoint-${event.step}`) };
      }
      await breathe();
    }
  } catch (error) {
    // A reward that throws costs the step it threw in, not those before it. Nothing older is deleted after an error.
    const numbers = error instanceof ValueheadError && error.kind === "numbers";
    try {
      const whole = logged > saved && logged === trainer.stepsTaken; // a resumed run finds its steps in the logs
      if (whole && (trainer.canBeSaved || numbers) && weightsAreFinite(trainer)) {
        if (!trainer.canBeSaved) yield warning(partly(trainer));
        yield await save(false);
      }
    } catch (second) {
      yield warning(`no checkpoint of step ${trainer.stepsTaken} could be written either: ${messageOf(second)}`);
    }
    throw error;
  } finally {
    await logs.close();
    model.dispose();
  }
}

/** Steps whose mean reward is a checkpoint's, where saveEvery does not say. */
const REWARD_WINDOW = 50;

const weightsAreFinite = ({ model, critic }: PPOTrainer) =>
  [model, critic?.model].every((learner) => learner?.parameters.data.every(Number.isFinite) ?? true);

const partly = ({ stepsTaken, unsettledUpdates }: PPOTrainer) =>
  `checkpoint-${stepsTaken} holds the weights as they were before the numbers went bad, ${unsettledUpdates} optimizer ` +
  `steps into step ${stepsTaken + 1}, which begins again when the run is resumed; delete it to resume from an older one`;

/** The same prompts and random streams before and after, so that only the weights differ. */
async function* evaluate(
  prompts: EncodedPrompts | undefined,
  trainer: PPOTrainer,
  when: "before" | "after",
): AsyncGenerator<RunEvent> {
  if (!prompts) return;
  const place = { step: trainer.stepsTaken, streamOf: (i: number) => [STREAMS.evaluation, i] };
  const answers = respondAndScore(trainer.responder, prompts.prompts, prompts.ids, place);
  let next = await answers.next();
  for (; !next.done; next = await answers.next()) if (next.value.type === "warning") yield next.value;
  const { samples, scores } = next.value;
  const scored = samples.map((sample, i) => ({ ...sample, score: scores[i] }));
  yield { type: "evaluation", when, samples: scored, ...meanAndStandardError(scores) };
}

/** config.json, metrics.jsonl, samples.jsonl and TensorBoard events of a run directory. */
class RunLogs {
  readonly #metrics: AppendFile;
  readonly #samples: AppendFile;
  readonly #tensorboard: TensorBoardWriter;

  private constructor(metrics: AppendFile, samples: AppendFile, tensorboard: TensorBoardWriter) {
    this.#metrics = metrics;
    this.#samples = samples;
    this.#tensorboard = tensorboard;
  }

  static async open(spec: RunSpec, config: PpoConfig, stepsTaken: number): Promise<RunLogs> {
    await makeDirectory(spec.out);
    const { model, rewardName: reward } = spec;
    const record = { version: VERSION, model, reward, prompts: spec.prompts.length, ...spec.record, options: config };
    await writeTextAtomic(joinPath(spec.out, "config.json"), `${JSON.stringify(record, null, 2)}\n`);
    const files = ["metrics.jsonl", "samples.jsonl"].map((name) => joinPath(spec.out, name));
    for (const path of files) await keepLinesUpTo(path, stepsTaken);
    return new RunLogs(
      await AppendFile.open(files[0]),
      await AppendFile.open(files[1]),
      await TensorBoardWriter.open(joinPath(spec.out, "tb"), { firstStep: stepsTaken + 1 }),
    );
  }

  async step(event: Extract<TrainEvent, { type: "step" }>): Promise<void> {
    await this.#metrics.appendLine(JSON.stringify({ step: event.step, ...event.metrics }));
    await this.#samples.appendLines(event.samples.map((s) => JSON.stringify({ step: event.step, ...s })));
    await this.#tensorboard.scalars(event.step, event.metrics);
  }

  /** What is in a checkpoint is in the logs too, whatever happens to the machine. */
  async flush(): Promise<void> {
    await this.#metrics.flush();
    await this.#samples.flush();
  }

  async close(): Promise<void> {
    await this.#metrics.close();
    await this.#samples.close();
    await this.#tensorboard.close();
  }
}

/** Drop what an interrupted run logged after the checkpoint it is resumed from, and a line it was killed in. */
async function keepLinesUpTo(path: string, step: number): Promise<void> {
  if (!(await exists(path))) return;
  const lines = (await readText(path)).split("\n").filter((line) => {
    try {
      return JSON.parse(line).step <= step;
    } catch {
      return false;
    }
  });
  await writeTextAtomic(path, lines.map((line) => `${line}\n`).join(""));
}

/** What config.json of a run directory says. */
export interface RunRecord {
  model: string;
  reward: string;
  options: Partial<PpoConfig>;
  /** Whole paths, where the prompts came from files; the command line writes them. */
  promptsPath?: string | null;
  promptColumn?: string | null;
  evalPrompts?: string | null;
  /** Prompts held out of those in promptsPath. */
  heldOut?: number;
}

/** The spec of an earlier run, to resume it without saying everything again; undefined where it was not yet written. */
export async function readRunConfig(out: string): Promise<RunRecord | undefined> {
  if (await isUnwritten(out)) return undefined;
  const path = joinPath(out, "config.json");
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
