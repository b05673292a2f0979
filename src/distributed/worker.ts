/**
 * @file A worker: takes tasks of the newest run on a server, answers them as the trainer would, and gives the answers back. It joins and
 * leaves whenever it likes; a task that it does not finish goes to another.
 */
import type { RolloutTrainerConfig } from "../algorithms/options/ppo-options.ts";
import { fail, messageOf, ValueheadError } from "../base/errors.ts";
import { plainError } from "../base/thrown.ts";
import { VERSION } from "../base/version.ts";
import { limiter } from "../experience/patience.ts";
import { isRewardPath, type RewardFunction, resolveReward } from "../experience/reward-functions.ts";
import { randomId } from "../platform/hash.ts";
import { machine, thisProcess } from "../platform/process.ts";
import { Connection, JOBS, namesOf, type ServerSpec, withoutSecrets } from "./connection.ts";
import { type ExecutorOptions, TaskExecutor } from "./executor.ts";
import { type GradientTask, gradientResultToBytes, gradientTaskFromBytes, isOfGradient } from "./gradient-messages.ts";
import {
  controlFromBytes,
  type Heartbeat,
  heartbeatToBytes,
  type Job,
  jobFromBytes,
  type Result,
  resultToBytes,
  type Task,
  type TaskMessage,
  taskFromBytes,
} from "./messages.ts";

export interface WorkerOptions extends ServerSpec, ExecutorOptions {
  /** The only run that is worked for; default: the one that was started last. */
  run?: string;
  /** Judges responses; without it the reward of the run does where it has a name, and the trainer where it is a module. */
  reward?: { name: string; file?: string; judge: RewardFunction };
  signal: AbortSignal;
}

export type WorkerEvent =
  | { type: "note" | "warning"; message: string }
  | { type: "waiting" }
  | { type: "loading"; run: string; file: string; done: number; total: number }
  | { type: "joined"; run: string; model: string; algorithm: string; judges: boolean }
  | { type: "task"; run: string; step: number; part: number; responses: number; seconds: number; busy: number }
  | { type: "gradient"; run: string; step: number; update: number; microbatch: number; responses: number; busy: number }
  | { type: "left"; run: string; why: string };

/** Milliseconds between signs of life, and between looks for a newer run. */
const HEARTBEAT = 1000;
const LOOK = 2000;
/** Milliseconds before a task that could not be done is offered again. */
const AGAIN = 1000;

const wait = (ms: number, signal: AbortSignal) =>
  new Promise<void>((resolve) => {
    if (signal.aborted) return resolve();
    const timer = setTimeout(done, ms);
    function done() {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    }
    signal.addEventListener("abort", done);
  });

/**
 * Work until `signal` aborts: tasks that were taken are finished first.
 * @throws engine, usage - no clients, no server, a refusal by the server or by the trainer; a reward that is not the run's
 */
export async function work(options: WorkerOptions, tell: (event: WorkerEvent) => void): Promise<void> {
  const { signal } = options;
  const { host, pid } = thisProcess();
  const name = `${host.replace(/[^\w.-]/g, "-").replace(/^\W+/, "w")}-${pid}-${randomId().slice(0, 4)}`.slice(-90);
  const connection = await Connection.connect(options, `valuehead worker ${name}`);
  tell({ type: "note", message: `worker ${name} at ${withoutSecrets(options.server)}` });
  const seen = new Set<string>();
  const news = { is: false };
  connection.subscribe(JOBS, () => {
    news.is = true;
  });
  let waits = false;
  try {
    while (!signal.aborted) {
      const job = await newestJob(connection, options.run).catch(() => undefined);
      if (!job || seen.has(job.session)) {
        if (!waits) tell({ type: "waiting" });
        waits = true;
        await wait(HEARTBEAT, signal);
        continue;
      }
      waits = false;
      checkJob(job, options);
      let why: Ending;
      try {
        why = await new RunSession(connection, name, job, options, tell, news).work();
      } catch (error) {
        if (error instanceof ValueheadError) throw error;
        tell({ type: "warning", message: `run ${job.run}: ${messageOf(error)}; tried again` }); // the server is away, or has lost something
        await wait(LOOK, signal);
        continue;
      }
      if (why === "over") seen.add(job.session);
      tell({ type: "left", run: job.run, why: ENDINGS[why] });
    }
  } finally {
    await connection.close();
  }
}

/** The job that was announced last; undefined: there is none. */
async function newestJob(connection: Connection, only?: string): Promise<Job | undefined> {
  let newest: Job | undefined;
  for (const run of only === undefined ? await connection.runs() : [only]) {
    const bytes = await connection.last(run, namesOf(run).job);
    if (!bytes) continue;
    let job: Job;
    try {
      job = jobFromBytes(bytes);
    } catch {
      continue; // of another version, or of somebody else
    }
    if (job.run === run && !job.ended && (!newest || job.startedAt > newest.startedAt)) newest = job;
  }
  return newest;
}

/** @throws usage - a job that this worker cannot do */
function checkJob({ run, version, reward }: Job, options: WorkerOptions): void {
  if (version !== VERSION)
    fail("usage", {
      where: `run ${run}`,
      found: `a trainer of version ${version}`,
      expected: `version ${VERSION}, which this worker is of`,
      fix: `npm install valuehead@${version}`,
    });
  const { reward: own } = options;
  if (own?.file !== undefined && reward.file !== undefined && own.file !== reward.file)
    fail("usage", {
      where: `--reward ${own.name}`,
      found: "another file than the trainer's reward: its SHA-256 differs",
      expected: `the file that the run was started with (${reward.name})`,
      fix: "copy that file here, or leave --reward out: the trainer judges then",
    });
}

type Ending = "over" | "newer" | "stopped";

const ENDINGS: Readonly<Record<Ending, string>> = {
  over: "it has ended",
  newer: "a newer run has begun",
  stopped: "this worker leaves",
};

type Place = { session: string; step: number; index: number | string };

/** A worker at work for one run. */
class RunSession {
  readonly #connection: Connection;
  readonly #job: Job;
  readonly #options: WorkerOptions;
  readonly #tell: (event: WorkerEvent) => void;
  readonly #name: string;
  #state: Heartbeat["state"] = "loading";
  #refused?: string;
  /** Whether a run may have begun or ended. */
  readonly #news: { is: boolean };
  #judge?: RewardFunction;
  /** Only one task uses the engine at a time; judges work beside it. */
  readonly #engine = limiter(1);
  readonly #going = new Set<Promise<void>>();

  constructor(
    connection: Connection,
    name: string,
    job: Job,
    options: WorkerOptions,
    tell: (event: WorkerEvent) => void,
    news: { is: boolean },
  ) {
    this.#connection = connection;
    this.#news = news;
    this.#name = name;
    this.#job = job;
    this.#options = options;
    this.#tell = tell;
  }

  async work(): Promise<Ending> {
    const { run, session, reward, model, algorithm } = this.#job;
    const own = isRewardPath(reward.name) ? undefined : await resolveReward(reward.name);
    this.#judge = this.#options.reward?.judge ?? own;
    if (!this.#judge)
      this.#tell({
        type: "note",
        message: `the run's reward is a module (${reward.name}), which is not here: the trainer judges. Give a copy of it with --reward`,
      });
    const names = namesOf(run);
    const stop = this.#connection.subscribe(names.control, (bytes) => {
      try {
        const control = controlFromBytes(bytes);
        if (control.worker === this.#name && control.session === session) this.#refused = control.why;
      } catch {
        // anybody may say anything
      }
    });
    const beating = setInterval(() => this.#beat(), HEARTBEAT);
    let executor: TaskExecutor | undefined;
    try {
      executor = await TaskExecutor.set(this.#connection, this.#job, this.#options, (file, done, total) =>
        this.#tell({ type: "loading", run, file, done, total }),
      );
      this.#state = "ready";
      this.#beat();
      this.#tell({ type: "joined", run, model, algorithm, judges: this.#judge !== undefined });
      const ending = await this.#takeTasks(executor);
      await Promise.all(this.#going);
      return ending;
    } finally {
      this.#state = "leaving";
      this.#beat();
      clearInterval(beating);
      stop();
      executor?.dispose();
    }
  }

  #beat(): void {
    const { run, session } = this.#job;
    const { cpu, arch } = machine();
    const heartbeat: Heartbeat = {
      worker: this.#name,
      session,
      state: this.#state,
      host: thisProcess().host,
      cpu,
      arch,
      threads: this.#options.threads ?? this.#job.threads,
      device: this.#options.device ?? this.#job.device,
      judges: this.#judge !== undefined,
    };
    this.#connection.say(namesOf(run).heartbeat, heartbeatToBytes(heartbeat));
  }

  async #takeTasks(executor: TaskExecutor): Promise<Ending> {
    const { run, session } = this.#job;
    const { signal } = this.#options;
    const { rewardConcurrency } = this.#job.config as unknown as RolloutTrainerConfig;
    let lookedAt = performance.now();
    while (!signal.aborted) {
      if (this.#refused !== undefined) this.#leaveRefused(this.#refused);
      if (this.#news.is || performance.now() - lookedAt > LOOK) {
        this.#news.is = false;
        lookedAt = performance.now();
        const newest = await newestJob(this.#connection, this.#options.run).catch(() => this.#job); // the server is away: wait for it
        if (newest?.session !== session) return (await this.#isOver()) ? "over" : "newer";
      }
      // One more than are judged at a time: it is drawn meanwhile.
      if (this.#going.size > rewardConcurrency) {
        await Promise.race(this.#going);
        continue;
      }
      let message: TaskMessage | null;
      try {
        message = await this.#connection.nextTask(run);
      } catch {
        await wait(HEARTBEAT / 4, signal); // the server is away, or the run is over
        lookedAt = Number.NEGATIVE_INFINITY;
        continue;
      }
      if (!message) continue;
      await this.#begin(executor, message);
    }
    return "stopped";
  }

  /** Whether the trainer has ended, or another has taken its place. */
  async #isOver(): Promise<boolean> {
    const { run, session } = this.#job;
    const bytes = await this.#connection.last(run, namesOf(run).job).catch(() => undefined);
    if (!bytes) return true;
    const job = jobFromBytes(bytes);
    return job.ended === true || job.session !== session;
  }

  #leaveRefused(why: string): never {
    return fail("audit", {
      where: `worker ${this.#name}`,
      found: `a refusal by the trainer of run ${this.#job.run}: ${why}`,
      expected: "the numbers that the trainer gets itself",
      fix: "look for broken memory, another build of ONNX Runtime or a changed library on this machine",
    });
  }

  /** Draw a task's responses; judging and giving back go on while the next is drawn. */
  async #begin(executor: TaskExecutor, message: TaskMessage): Promise<void> {
    const { run, session, ackWait } = this.#job;
    const started = performance.now();
    let task: Task;
    try {
      const bytes = await this.#connection.open(run, message.data);
      if (!bytes) throw new Error("a message that leads nowhere");
      if (isOfGradient(bytes)) return await this.#compute(executor, message, gradientTaskFromBytes(bytes));
      task = taskFromBytes(bytes);
    } catch (error) {
      this.#tell({
        type: "warning",
        message: `a task that cannot be read is left out: ${messageOf(error).slice(0, 200)}`,
      });
      return message.term();
    }
    if (task.session !== session) {
      this.#news.is = true; // the trainer was started anew: whoever knows that gets the task
      return message.nak(AGAIN / 2);
    }
    const alive = setInterval(() => message.working(), (1000 * ackWait) / 3);
    const { index } = task.part;
    const of = { session, step: task.step, version: task.version, index, worker: this.#name };
    let drawn: Awaited<ReturnType<TaskExecutor["draw"]>>;
    try {
      drawn = await this.#engine(() => executor.draw(task));
    } catch (error) {
      clearInterval(alive);
      this.#tell({ type: "warning", message: `a task failed: ${messageOf(error)}` });
      const seconds = (performance.now() - started) / 1000;
      await this.#give(message, of, resultToBytes({ ...of, seconds, busy: seconds, error: plainError(error) }));
      return;
    }
    const busy = (performance.now() - started) / 1000;
    const finish = async () => {
      let result: Result;
      try {
        const scores = this.#judge && task.judge ? await executor.judge(this.#judge, drawn.samples) : undefined;
        result = {
          ...of,
          seconds: (performance.now() - started) / 1000,
          busy,
          ...(scores && { scores }),
          answer: drawn.answer,
        };
      } catch (error) {
        this.#tell({ type: "warning", message: `a task failed: ${messageOf(error)}` });
        result = { ...of, seconds: (performance.now() - started) / 1000, busy, error: plainError(error) };
      } finally {
        clearInterval(alive);
      }
      const { seconds } = result;
      await this.#give(message, result, resultToBytes(result));
      const responses = task.part.queries.length;
      this.#tell({ type: "task", run, step: task.step, part: index, responses, seconds, busy });
    };
    const going = finish().finally(() => this.#going.delete(going));
    this.#going.add(going);
  }

  /** Compute a gradient; it is given back while the next is computed. */
  async #compute(executor: TaskExecutor, message: TaskMessage, task: GradientTask): Promise<void> {
    const { run, session, ackWait } = this.#job;
    if (task.session !== session) {
      this.#news.is = true;
      return message.nak(AGAIN / 2);
    }
    const alive = setInterval(() => message.working(), (1000 * ackWait) / 3);
    const started = performance.now();
    const { step, update, index, version, data } = task;
    const of = { session, step, update, index, version, worker: this.#name };
    let bytes: Uint8Array;
    try {
      const gradient = await this.#engine(() => executor.gradient(task));
      const busy = (performance.now() - started) / 1000;
      bytes = gradientResultToBytes({ ...of, seconds: busy, busy, gradient }); // a copy: the next one overwrites it
      this.#tell({ type: "gradient", run, step, update, microbatch: index, responses: data.responses.length, busy });
    } catch (error) {
      this.#tell({ type: "warning", message: `a gradient could not be computed: ${messageOf(error)}` });
      const busy = (performance.now() - started) / 1000;
      bytes = gradientResultToBytes({ ...of, seconds: busy, busy, error: plainError(error) });
    } finally {
      clearInterval(alive);
    }
    const place = { session, step, index: `${update}-g${index}` };
    const giving = this.#give(message, place, bytes).finally(() => this.#going.delete(giving));
    this.#going.add(giving);
  }

  /** Store a result, then acknowledge its task. Where it cannot be stored, somebody else gets the task. */
  async #give(message: TaskMessage, { session, step, index }: Place, bytes: Uint8Array): Promise<void> {
    const { run } = this.#job;
    try {
      const name = `result-${session}-${step}-${index}-${this.#name}`;
      const sealed = await this.#connection.seal(run, name, bytes);
      await this.#connection.publish(`${namesOf(run).result}.${step}`, sealed);
      message.ack();
    } catch (error) {
      this.#tell({
        type: "warning",
        message: `a result could not be stored (${messageOf(error)}): its task goes to another`,
      });
      message.nak(AGAIN);
    }
  }
}
