/**
 * @file The trainer's side: parts of a step as tasks, results collected in their order. The trainer stays able to do everything itself, and
 * does what nobody else does in time: workers make a run faster, and nothing else of it depends on them.
 */
import { passSizes } from "../algorithms/asking.ts";
import { messageOf } from "../base/errors.ts";
import { reviveError } from "../base/thrown.ts";
import type { AnsweredPart, CollectEvent, Part, RolloutRequest, RolloutWorkers } from "../experience/parts/parts.ts";
import { limiter, settledWithin } from "../experience/patience.ts";
import { wantsExactKl } from "../experience/reference.ts";
import { breathe } from "../platform/worker.ts";
import { samplingOptions } from "../sample/token-sampler.ts";
import { Adjustments } from "../sample/transforms.ts";
import { BaseSender } from "./base-model.ts";
import { Connection, namesOf, noRoom, patiently, sealedName, withoutSecrets } from "./connection.ts";
import { measureLink } from "./gradient-link.ts";
import { isOfGradient } from "./gradient-messages.ts";
import { GradientTasks } from "./gradients.ts";
import { checkJobSource, gradientBytes, type JobFacts, type JobSource, jobOf, type WorkersSpec } from "./job.ts";
import {
  controlToBytes,
  heartbeatFromBytes,
  type Job,
  jobToBytes,
  type Result,
  resultFromBytes,
  type Task,
  taskToBytes,
} from "./messages.ts";
import { isPlain, PendingStep } from "./pending-step.ts";
import { WorkerRegistry } from "./registry.ts";
import { type Expected, rowsToCheck, wrongForm, wrongNumbers, wrongScores } from "./validation.ts";
import { namesToSend, WeightsSender, WrongWeights } from "./weights.ts";

const CHECK = 0.05;
/** Milliseconds between looks at the time. */
const LOOK = 200;
/** How long the longest part so far may be overtaken by before the trainer does it itself. */
const PATIENCE = 3;

/** Workers over a NATS server. */
export class Coordinator implements RolloutWorkers {
  readonly #connection: Connection;
  readonly #source: JobSource;
  readonly #spec: WorkersSpec;
  readonly #job: Job;
  readonly #base: BaseSender;
  readonly #weights: WeightsSender;
  readonly #registry: WorkerRegistry;
  readonly #timeout: number;
  /** Results that came and are not yet read. */
  readonly #inbox: Uint8Array[] = [];
  /** What to say at the next opportunity. */
  readonly #news: { type: "note" | "warning"; message: string }[] = [];
  readonly #unsubscribe: (() => void)[] = [];
  #wake = () => {};
  /** Connections since the streams were last seen to be whole. */
  #returns = 0;
  /** Seconds that the longest part took a worker. */
  #longest = 0;
  /** Objects of the step's tasks and results, to be deleted when it is over. */
  readonly #objects = new Set<string>();
  /** What patience is multiplied with. */
  #trust = 1;
  /** Parts that the trainer answered although there were workers. */
  #here = 0;
  /** Workers that compute gradients too; undefined: they are not asked to. */
  gradients?: GradientTasks;

  private constructor(
    connection: Connection,
    source: JobSource,
    spec: WorkersSpec,
    job: Job,
    base: BaseSender,
    names: string[],
  ) {
    this.#connection = connection;
    this.#source = source;
    this.#spec = spec;
    this.#job = job;
    this.#base = base;
    this.#weights = new WeightsSender(source.model, names);
    this.#timeout = job.ackWait;
    this.#registry = new WorkerRegistry(1000 * job.ackWait, job);
    const { result, heartbeat } = namesOf(job.run);
    this.#unsubscribe.push(
      connection.subscribe(`${result}.*`, (bytes) => {
        this.#inbox.push(bytes);
        this.#wake();
      }),
      connection.subscribe(heartbeat, (bytes) => this.#hear(bytes)),
    );
  }

  /**
   * Announce a run.
   * @throws engine, usage - no clients, no server, a refusal
   * @throws config - a base in int8
   */
  static async open(spec: WorkersSpec, source: JobSource, facts: JobFacts): Promise<Coordinator> {
    const { model, reference, tokenizer, config } = source;
    checkJobSource(source, spec);
    const connection = await Connection.connect(spec, `valuehead train ${facts.run}`);
    const base = await BaseSender.write(reference, tokenizer);
    const { names, onlyTrained } = namesToSend(model, reference, config.frozenLayers);
    const { run } = facts;
    const job = jobOf(spec, source, facts, base.files, onlyTrained);
    const coordinator = new Coordinator(connection, source, spec, job, base, names);
    try {
      await patiently(() => coordinator.#announce());
      if (spec.gradients) coordinator.gradients = await coordinator.#shareGradients(spec.gradients === "always");
    } catch (error) {
      await coordinator.close();
      noRoom(spec.server, error);
    }
    coordinator.#news.push({
      type: "note",
      message: `workers are asked for at ${withoutSecrets(spec.server)} (run ${run}): valuehead worker --server ${withoutSecrets(spec.server)}`,
    });
    return coordinator;
  }

  async #shareGradients(always: boolean): Promise<GradientTasks> {
    const [connection, job, inbox] = [this.#connection, this.#job, this.#inbox];
    const does = {
      say: this.#say.bind(this),
      wait: () => this.#wait(),
      mend: () => this.#mend(),
      ban: this.#ban.bind(this),
    };
    const desk = { connection, job, inbox, registry: this.#registry, weights: this.#weights, ...does };
    const link = await measureLink(connection, job.run, gradientBytes(this.#source));
    return new GradientTasks(desk, link, { always, check: this.#spec.check ?? CHECK });
  }

  /** Everything that a worker needs, on the server. */
  async #announce(): Promise<void> {
    const { run } = this.#job;
    const { job, stream, result, tasks } = namesOf(run);
    await this.#connection.ensure(run, this.#timeout);
    await this.#connection.purge(tasks);
    await this.#connection.purge(stream, `${result}.*`);
    await this.#base.send(this.#connection, run);
    await this.#connection.publish(job, jobToBytes(this.#job));
  }

  async *answer(step: RolloutRequest): AsyncGenerator<CollectEvent, readonly AnsweredPart[] | undefined> {
    yield* this.#say(step.step);
    await settledWithin(this.#connection.flush(), 1); // who has come is heard of first
    await breathe();
    if (!this.#connection.connected || this.#registry.ready().length === 0) return undefined;
    yield* this.#say(step.step);
    const going = new PendingStep(step, this.#expected());
    try {
      await this.#post(going);
    } catch (error) {
      yield this.#warning(step.step, `nothing could be given to workers: ${messageOf(error)}; the step is done here`);
      return undefined;
    }
    yield* this.#collect(going);
    yield this.#report(step.step);
    return going.answers as AnsweredPart[];
  }

  #expected(): Expected {
    const { model, reference, config } = this.#source;
    const adjustments = new Adjustments(samplingOptions(this.#source.sampling()), model.sizes.vocabSize);
    const passes = { ...passSizes(config), adjustments };
    return { model, reference, passes, adjustments, config, wantsExact: wantsExactKl(config) };
  }

  async #post(going: PendingStep): Promise<void> {
    const { run } = this.#job;
    await this.#mend();
    const { tasks, stream, result } = namesOf(run);
    await this.#connection.purge(tasks); // of steps that are over
    await this.#connection.purge(stream, `${result}.*`);
    this.#inbox.length = 0;
    this.#objects.delete("");
    for (const name of this.#objects) void this.#connection.deleteObject(run, name);
    this.#objects.clear();
    going.version = await this.#weights.send(this.#connection, run);
    await this.#publish(going, going.step.parts);
  }

  /** After the connection was lost: what the server may have forgotten. */
  async #mend(): Promise<boolean> {
    const { returns } = this.#connection;
    if (returns === this.#returns) return false;
    this.#weights.forget();
    const { run } = this.#job;
    await this.#connection.ensure(run, this.#timeout);
    await this.#base.send(this.#connection, run);
    await this.#connection.publish(namesOf(run).job, jobToBytes(this.#job));
    this.#returns = returns;
    return true;
  }

  async #publish({ step, version }: PendingStep, parts: readonly Part[]): Promise<void> {
    const { run, session } = this.#job;
    const rows = step.parts.reduce((most, { queries }) => Math.max(most, queries.length), 0);
    for (const part of parts) {
      const judge = part.prompts.every(({ row }) => isPlain(row));
      const task: Task = { session, step: step.step, version, rows, judge, part };
      const id = `${session}-${step.step}-${part.index}`;
      const message = await this.#connection.seal(run, `task-${id}`, taskToBytes(task));
      this.#objects.add(sealedName(message) ?? "");
      await this.#connection.publish(namesOf(run).task, message, id);
    }
  }

  /** Wait for results, and do here what nobody does. */
  async *#collect(going: PendingStep): AsyncGenerator<CollectEvent, void> {
    const { step } = going;
    const total = step.parts.reduce((n, { queries }) => n + queries.length, 0);
    const judging = limiter(this.#source.config.rewardConcurrency);
    let [told, taken, progressAt] = [0, 0, performance.now()];
    while (!going.isDone) {
      for (const bytes of this.#inbox.splice(0)) {
        const fault = await this.#take(going, bytes, judging);
        if (fault) yield this.#warning(step.step, fault);
      }
      going.throwIfFailed();
      if (going.taken > taken) [taken, progressAt] = [going.taken, performance.now()];
      if (going.answered > told) {
        told = going.answered;
        yield { type: "progress", step: step.step, phase: "respond", done: told, total };
      }
      yield* this.#say(step.step);
      if (going.isDone) break;
      const next = going.next();
      const silence = (performance.now() - progressAt) / 1000;
      const patience = this.#trust * Math.max(2 * this.#timeout, PATIENCE * this.#longest);
      if (this.#connection.connected && this.#connection.returns !== this.#returns) await this.#recover(going);
      if (next && (going.mine.has(next.index) || this.#registry.ready().length === 0 || silence > patience)) {
        this.#here++;
        going.answer(next, await step.here(next));
        await breathe();
        continue;
      }
      await this.#wait();
    }
    this.#trust = going.taken > 0 ? 1 : this.#trust / 2; // those who are there and do nothing are waited for less and less
    yield { type: "progress", step: step.step, phase: "score", done: total, total };
  }

  /** Until a result has come, or it is time to look at the time. */
  async #wait(): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, LOOK);
      this.#wake = () => resolve(clearTimeout(timer));
      if (this.#inbox.length > 0) this.#wake();
    });
    this.#wake = () => {};
  }

  /** The server was away: what it stored meanwhile is read, and what it may have lost is given out again. */
  async #recover(going: PendingStep): Promise<void> {
    try {
      await this.#mend();
      const { run } = this.#job;
      const { result } = namesOf(run);
      for (const bytes of await this.#connection.stored(run, `${result}.${going.step.step}`)) this.#inbox.push(bytes);
      going.version = await this.#weights.send(this.#connection, run);
      await this.#publish(
        going,
        going.step.parts.filter(({ index }) => !going.has(index)),
      );
    } catch {
      // it is away again: the next look tries anew, and meanwhile the work is done here
    }
  }

  /** Read a result. @returns what is wrong with it, to tell the user */
  async #take(going: PendingStep, bytes: Uint8Array, judging: ReturnType<typeof limiter>): Promise<string | undefined> {
    const { run, session } = this.#job;
    let result: Result;
    const name = sealedName(bytes);
    if (name?.startsWith("result-")) this.#objects.add(name);
    try {
      const message = await this.#connection.open(run, bytes);
      if (!message) return "a message among the results leads nowhere: it is not used";
      if (isOfGradient(message)) return undefined; // of an optimizer step that is over
      result = resultFromBytes(message);
    } catch (error) {
      return `a message among the results is none of a worker (${messageOf(error).slice(0, 200)}): it is not used`;
    }
    const { worker, index } = result;
    if (this.#registry.isRefused(worker)) return undefined;
    if (result.session !== session) return `a result of ${worker} is of another session of the run: it is not used`;
    const part = going.step.parts[index];
    const isOld = result.step !== going.step.step || result.version !== going.version;
    if (isOld || !part || going.has(index)) {
      this.#registry.late(worker);
      return undefined;
    }
    if (result.error) return this.#failed(going, part, result);
    const answer = result.answer as NonNullable<Result["answer"]>;
    const wrong =
      wrongForm(part, answer, going.expected) ??
      wrongScores(result.scores, part.queries.length) ??
      (await wrongNumbers(
        rowsToCheck(this.#spec.check ?? CHECK, part, going.step.step, this.#source.config.seed),
        answer,
        going.expected,
      ));
    if (wrong !== undefined) return this.#refuse(going, worker, wrong);
    this.#longest = Math.max(this.#longest, result.seconds);
    const samples = going.step.read(part, answer.data);
    const done = (scores: readonly number[]) => {
      going.judging.delete(index);
      if (!going.has(index) && !this.#registry.isRefused(worker)) {
        going.answer(part, { ...answer, samples, scores }, worker);
        this.#registry.done(worker, part.queries.length, result);
      }
      this.#wake();
    };
    if (result.scores) done(result.scores);
    else {
      going.judging.add(index);
      judging(() => going.step.judge(samples)).then(done, (error) => {
        going.failure = { error };
        this.#wake();
      });
    }
    return undefined;
  }

  /** A worker could not do a task: it is done here, and an error that this process has too ends the run as it always does. */
  #failed(going: PendingStep, { index }: Part, { worker, error }: Result): string {
    going.mine.add(index);
    if (error?.name === WrongWeights.name) {
      this.#weights.forget();
      return `the weights that reached worker ${worker} are not those that were sent: ${error.message.slice(0, 500)}. It does not use them; they are sent anew with the next step`;
    }
    const times = this.#registry.failed(worker);
    const what = error ? messageOf(reviveError(error)) : "an error";
    return `worker ${worker} failed at a task, which is done here: ${what.slice(0, 500)}${times > 2 ? this.#ban(worker, what) : ""}`;
  }

  #ban(worker: string, why: string): string {
    const { run, session } = this.#job;
    this.#registry.refuse(worker, why);
    this.#connection.say(
      namesOf(run).control,
      controlToBytes({ type: "refused", worker, session, why: why.slice(0, 2000) }),
    );
    return "; nothing of it is used from now on";
  }

  /** A worker whose numbers are wrong: what it did in this step is done again. */
  #refuse(going: PendingStep, worker: string, why: string): string {
    this.#ban(worker, why);
    const again = going.forget(worker);
    return `worker ${worker} is refused: ${why}. Nothing of it is used from now on${again > 0 ? `, and ${again} of its parts are done again` : ""}`;
  }

  #hear(bytes: Uint8Array): void {
    try {
      const heartbeat = heartbeatFromBytes(bytes);
      if (heartbeat.session !== this.#job.session) return;
      const news = this.#registry.hear(heartbeat);
      if (news === "joined") {
        this.#news.push({ type: "note", message: this.#registry.joined(heartbeat) });
      } else if (news === "left") this.#news.push({ type: "note", message: `worker ${heartbeat.worker} left` });
    } catch {
      // anybody may say anything
    }
  }

  *#say(step: number): Generator<CollectEvent> {
    for (const worker of this.#registry.lost())
      this.#news.push({ type: "warning", message: `nothing is heard of worker ${worker} any more` });
    for (const news of this.#news.splice(0)) yield { ...news, step };
  }

  #warning = (step: number, message: string): CollectEvent => ({ type: "warning", step, message });

  #report(step: number): CollectEvent {
    const here = this.#here;
    this.#here = 0;
    return { type: "workers", step, here, workers: this.#registry.facts() };
  }

  /** The run is over, or saved to go on later: nothing of it stays on the server. */
  async close(): Promise<void> {
    for (const end of this.#unsubscribe) end();
    const { run } = this.#job;
    if (this.#connection.connected) {
      const ended = async () => {
        await this.#connection.publish(namesOf(run).job, jobToBytes({ ...this.#job, ended: true }));
        await this.#connection.erase(run);
      };
      await settledWithin(ended(), 5);
    }
    await settledWithin(this.#connection.close(), 5);
    await this.#base.close();
  }
}
