/** @file A whole run: model and data in, a run directory out. The same on the calling thread or in a worker. */
import type { RunConfig, Trainer } from "../algorithms/algorithm.ts";
import { messageOf, ValueheadError } from "../base/errors.ts";
import { VERSION } from "../base/version.ts";
import type { RewardFunction } from "../experience/reward-functions.ts";
import { joinPath } from "../platform/files.ts";
import type { RunLock } from "../platform/lock.ts";
import { machine } from "../platform/process.ts";
import { enterRunDirectory, lostDirectory, rescue } from "../platform/run-directory.ts";
import { breathe } from "../platform/worker.ts";
import { findResumePoint, pruneCheckpoints, refuseNoRun, saveCheckpoint } from "./checkpoint.ts";
import type { RunEvent } from "./events.ts";
import type { RunInputs } from "./inputs.ts";
import type { RunKind } from "./kind.ts";
import { dpoRun } from "./kinds/dpo-run.ts";
import { grpoRun, ppoRun, rlooRun } from "./kinds/ppo-run.ts";
import { rewardRun } from "./kinds/reward-run.ts";
import { sftRun } from "./kinds/sft-run.ts";
import { RunLogs } from "./logs.ts";
import { noReward, type RewardAndOptions, type RunOptions, rewardAndOptions, SaveRequests } from "./options.ts";
import { asDecided, checkResumed, learningOptions } from "./resume.ts";
import { runCard } from "./run-card.ts";
import { withSinks } from "./sinks/sink.ts";
import { type AnyRunSpec, type DataSpec, type RewardedSpec, recordIn, refuseOtherAlgorithm } from "./spec.ts";

/**
 * Run and report. When `signal` aborts, the step in progress is finished, a checkpoint written and a `done` event sent.
 * Blocks the thread while the engine computes; {@link runInWorker} does not.
 * @throws checkpoint - another run is at work in `out`
 * @throws code - what a sink has thrown, when the run has ended and is saved
 */
export function run(spec: RewardedSpec, reward: RewardFunction, options?: RunOptions): AsyncGenerator<RunEvent>;
/** Language-model training, DPO and the training of reward models need no reward. */
export function run(spec: DataSpec, options?: RunOptions): AsyncGenerator<RunEvent>;
export function run(spec: RewardedSpec | DataSpec, ...rest: RewardAndOptions): AsyncGenerator<RunEvent> {
  const { reward, options } = rewardAndOptions(rest);
  const { sinks = [], saves } = options;
  return withSinks((signal) => lockedRun(spec, reward, { signal, saves }), sinks, options);
}

/** What a run is told from outside while it goes on. */
export interface Asked {
  signal: AbortSignal;
  saves?: SaveRequests;
  /** Whose lock on the run directory it is, for `dropLock`. */
  lockId?: string;
}

/** A run without sinks of the caller's. */
export async function* lockedRun(
  spec: RewardedSpec | DataSpec,
  reward: RewardFunction | undefined,
  asked: Asked,
): AsyncGenerator<RunEvent> {
  if (spec.algorithm === "dpo") yield* inDirectory(spec, dpoRun, asked);
  else if (spec.algorithm === "sft") yield* inDirectory(spec, sftRun, asked);
  else if (spec.algorithm === "reward") yield* inDirectory(spec, rewardRun, asked);
  else if (spec.algorithm === "grpo") yield* inDirectory(spec, grpoRun(reward ?? noReward()), asked);
  else if (spec.algorithm === "rloo") yield* inDirectory(spec, rlooRun(reward ?? noReward()), asked);
  else yield* inDirectory(spec, ppoRun(reward ?? noReward()), asked);
}

async function* inDirectory<Spec extends AnyRunSpec & { config?: object; where?: string }, Config extends RunConfig>(
  spec: Spec,
  kind: RunKind<Spec, Config>,
  asked: Asked,
): AsyncGenerator<RunEvent> {
  kind.config({ ...spec.config }, spec.where); // report wrong options before anything else
  if (spec.resume) await refuseNoRun(spec.out);
  if (spec.resume) refuseOtherAlgorithm(spec.out, await recordIn(spec.out), kind.algorithm);
  const lock = await enterRunDirectory(spec.out, spec.resume ?? false, asked.lockId);
  try {
    yield* runIn(lock, spec, kind, asked);
  } finally {
    await lock.release();
  }
}

async function* runIn<Spec extends AnyRunSpec & { config?: object; where?: string }, Config extends RunConfig>(
  lock: RunLock,
  spec: Spec,
  kind: RunKind<Spec, Config>,
  { signal, saves = new SaveRequests() }: Asked,
): AsyncGenerator<RunEvent> {
  const { checkpoint, damaged } = spec.resume ? await findResumePoint(spec.out, kind.checkpoint) : { damaged: [] };
  const before = checkpoint?.state;
  const recorded = spec.resume ? (await recordIn(spec.out)).options : undefined;
  const earlier = before?.options && { ...recorded, ...before.options };
  const asked = kind.config({ ...earlier, ...asDecided({ ...spec.config }, earlier ?? recorded) }, spec.where);
  const compare = (inputs: Partial<RunInputs>) => {
    if (!checkpoint) return [];
    const where = `${spec.out}, resumed after step ${checkpoint.step}`;
    const [now, allowed] = [{ inputs, config: asked }, spec.allowChange ?? []];
    return checkResumed({ where, before: checkpoint.state, now, rules: kind.options, allowed });
  };
  const begun = yield* kind.begin({ spec, config: asked, checkpoint, signal, compare });
  if (!begun) return yield { type: "done", step: checkpoint?.step ?? 0, interrupted: true };
  const { trainer, inputs, evaluate } = begun;
  const { config } = trainer;
  const { threads, device } = inputs;
  // Mean rewards of the last steps, by which checkpoints are compared: the same ones however a run is cut up.
  let rewards = before?.rewards ?? [];
  let heldOutLoss = before?.heldOutLoss;

  lock.keepDirectory();
  const of = { version: VERSION, algorithm: kind.algorithm };
  const at = { threads, device, environment: machine() };
  const record = { ...of, ...begun.record, ...spec.record, ...at, options: config };
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
  const rest = () => ({ rewards, heldOutLoss, inputs, options: learningOptions(config, kind.options) });
  let metrics: Readonly<Record<string, number>> = {};
  const card = (out: string) => {
    const adapter = trainer.parts[0].model.adapter !== undefined;
    const { algorithm } = kind;
    return runCard(out, trainer.stepsTaken, {
      record,
      algorithm,
      options: config,
      defaults: kind.config({}),
      metrics,
      adapter,
    });
  };
  const save = async (): Promise<RunEvent> => {
    const found = await lost();
    if (found !== undefined) throw new LostDirectory(found);
    saved = trainer.stepsTaken;
    await logs.flush();
    const { step, path } = await saveCheckpoint(spec.out, trainer, rest(), await card(spec.out));
    const best = await pruneCheckpoints(spec.out, step, config, kind.checkpoint);
    return tell({ type: "checkpoint", step, directory: path, best });
  };
  /** Without the care of {@link save}, for a run that ends with an error: nothing older is deleted. */
  const saveAtLast = async (): Promise<RunEvent> => {
    await logs.flush();
    const { step, path } = await saveCheckpoint(
      spec.out,
      trainer,
      { ...rest(), keepOlder: true },
      await card(spec.out),
    );
    return tell({ type: "checkpoint", step, directory: path });
  };
  const warning = (message: string) => tell({ type: "warning", step: trainer.stepsTaken, message });
  try {
    // A process killed after it wrote its last checkpoint may not have come to this.
    const repair = checkpoint && damaged.length === 0 && !before?.keepOlder;
    const best = repair ? await pruneCheckpoints(spec.out, checkpoint.step, config, kind.checkpoint) : undefined;
    yield await tell({ type: "loaded", ...begun.loaded, resumedAt: trainer.stepsTaken, best });
    for (const what of damaged) yield await warning(`damaged, so the run goes on from an earlier checkpoint: ${what}`);
    for (const what of begun.changes) yield await warning(what);
    if (spec.resume && !checkpoint)
      yield await warning(`${spec.out} has no checkpoint yet: the run begins at its first step`);
    const began = (await logs.evaluations.known()).before;
    if (evaluate && !checkpoint) for await (const event of evaluate("before")) yield await tell(event);
    else if (evaluate && began) yield await tell({ type: "evaluation", when: "before", ...began });
    for await (const event of begun.train(signal)) {
      if (event.type === "done") {
        if (saved !== event.step || event.step === 0) yield await save();
        if (evaluate && !event.interrupted) for await (const last of evaluate("after")) yield await tell(last);
        yield await tell({ ...event, directory: joinPath(spec.out, `checkpoint-${event.step}`) });
        continue;
      }
      await tell(event);
      if (event.type === "step") {
        logged = event.step;
        metrics = event.metrics;
        heldOutLoss = event.metrics["eval/loss"];
        const reward = event.metrics["env/reward_mean"];
        if (reward !== undefined) rewards = [...rewards, reward].slice(-(config.saveEvery || REWARD_WINDOW));
        const found = await lost();
        if (found !== undefined) throw new LostDirectory(found);
        const due = config.saveEvery > 0 && event.step % config.saveEvery === 0;
        if (saves.take() || due) yield await save();
      }
      yield event; // a step that is heard of is logged, and saved where it was to be
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
      if (whole && (trainer.canBeSaved || numbers) && (await weightsAreFinite(trainer))) {
        if (!trainer.canBeSaved) yield await warning(partly(trainer));
        if (found === undefined) yield await saveAtLast();
        else {
          const place = await rescue(spec.out, async (place) => {
            await logs.copyTo(place);
            await saveCheckpoint(place, trainer, rest(), await card(place));
          });
          rescued = `the run is saved as it was after step ${trainer.stepsTaken}: go on with it in ${place} (--resume)`;
        }
      }
    } catch (second) {
      yield await warning(`no checkpoint of step ${trainer.stepsTaken} could be written either: ${messageOf(second)}`);
    }
    await logs.failed(error);
    if (found !== undefined) lostDirectory(spec.out, found, rescued, error);
    throw error;
  } finally {
    const there = (await lost().catch(messageOf)) === undefined;
    await logs.close();
    await begun.dispose();
    if (there) await report(spec.out).catch(() => {}); // without one the run is whole
  }
}

/** report.html. Its code is only loaded here. */
const report = async (out: string) => (await import("./page/report.ts")).writeReport(out);

/** The run directory is not there any more, or not this run's. */
class LostDirectory extends Error {
  readonly found: string;

  constructor(found: string) {
    super(found);
    this.found = found;
  }
}

type AnyTrainer = Trainer<never, { step: number }>;

/** Steps whose mean reward is a checkpoint's, where saveEvery does not say. */
const REWARD_WINDOW = 50;

async function weightsAreFinite({ parts }: AnyTrainer): Promise<boolean> {
  for (const { model } of parts) await model.parameters.refresh();
  return parts.every(({ model }) => model.parameters.data.every(Number.isFinite));
}

const partly = ({ stepsTaken, unsettledUpdates }: AnyTrainer) =>
  `checkpoint-${stepsTaken} holds the weights as they were before the numbers went bad, ${unsettledUpdates} optimizer ` +
  `steps into step ${stepsTaken + 1}, which begins again when the run is resumed; delete it to resume from an older one`;
