/**
 * @file The trainer's side: parts of steps as tasks, results collected in their order. The trainer stays able to do everything itself, and
 * does what nobody else does in time: workers make a run faster, and nothing else of it depends on them.
 */
import { messageOf } from "../base/errors.ts";
import type { AnsweredPart, CollectEvent, Part, RolloutRequest, RolloutWorkers } from "../experience/parts/parts.ts";
import { settledWithin } from "../experience/patience.ts";
import { unadapted } from "../experience/reference.ts";
import { breathe } from "../platform/worker.ts";
import { BaseSender } from "./base-model.ts";
import { Connection, namesOf, noRoom, patiently, sealedName, withoutSecrets } from "./connection.ts";
import { measureLink } from "./gradient-link.ts";
import { GradientTasks } from "./gradients.ts";
import { checkJobSource, gradientBytes, type JobFacts, type JobSource, jobOf, type WorkersSpec } from "./job.ts";
import { controlToBytes, heartbeatFromBytes, type Job, jobToBytes, type Task, taskToBytes } from "./messages.ts";
import { isPlain, PendingStep } from "./pending-step.ts";
import { WorkerRegistry } from "./registry.ts";
import { ResultReader } from "./results.ts";
import { namesToSend, WeightsSender } from "./weights.ts";

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
  readonly #results: ResultReader;
  /** Steps that were given out and are not over: the one in progress, and those that are drawn ahead. */
  readonly #steps = new Map<number, PendingStep>();
  /** What is left on the server of steps that are over. */
  readonly #litter = { objects: new Set<string>(), steps: new Set<number>() };
  /** Connections since the streams were last seen to be whole. */
  #returns = 0;
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
    const lent = { connection, source, job, registry: this.#registry, weights: this.#weights, steps: this.#steps };
    const does = { litter: this.#litter, wake: () => this.#wake(), ban: this.#ban.bind(this) };
    this.#results = new ResultReader({ ...lent, ...does }, spec.check ?? CHECK);
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
    const beginsWith = reference ?? unadapted(model);
    const base = await BaseSender.write(beginsWith, tokenizer);
    const { names, onlyTrained } = namesToSend(model, beginsWith, config.frozenLayers);
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

  async *answer(request: RolloutRequest): AsyncGenerator<CollectEvent, readonly AnsweredPart[] | undefined> {
    const { step } = request;
    yield* this.#say(step);
    await settledWithin(this.#connection.flush(), 1); // who has come is heard of first
    await breathe();
    const isThere = this.#connection.connected && this.#registry.ready().length > 0;
    if (!isThere && !this.#steps.has(step)) return undefined;
    yield* this.#say(step);
    try {
      if (isThere) await this.#post(request);
    } catch (error) {
      const [what, then] = this.#steps.has(step)
        ? ["no later step could be given", "tried again with the next"]
        : ["nothing could be given", "the step is done here"];
      yield this.#warning(step, `${what} to workers: ${messageOf(error)}; ${then}`);
    }
    const going = this.#steps.get(step);
    if (!going) return undefined;
    yield* this.#collect(request, going);
    this.#end(going);
    yield this.#report(step);
    return going.answers as AnsweredPart[];
  }

  /** Give out a step, and those that may be begun before their turn, unless they are out already. */
  async #post(request: RolloutRequest): Promise<void> {
    if (await this.#mend()) await this.#again(request);
    await this.#tidy();
    for (const asked of [request, ...request.later]) {
      if (this.#steps.has(asked.step)) continue;
      const going = new PendingStep(asked);
      await this.#send(request, going);
      this.#steps.set(asked.step, going);
      try {
        await this.#publish(going, going.parts);
      } catch (error) {
        this.#end(going);
        throw error;
      }
    }
  }

  /** Delete what the server has of steps that are over. */
  async #tidy(): Promise<void> {
    const { run } = this.#job;
    const { tasks, task, stream, result } = namesOf(run);
    if (this.#steps.size > 0)
      for (const step of this.#litter.steps) {
        await this.#connection.purge(tasks, `${task}.${step}`);
        await this.#connection.purge(stream, `${result}.${step}`);
      }
    else {
      await this.#connection.purge(tasks);
      await this.#connection.purge(stream, `${result}.*`);
      this.#inbox.length = 0;
    }
    this.#litter.objects.delete("");
    for (const name of this.#litter.objects) void this.#connection.deleteObject(run, name);
    this.#litter.objects.clear();
    this.#litter.steps.clear();
  }

  /** Put the weights that draw a step on the server. */
  async #send({ policyOf }: RolloutRequest, going: PendingStep): Promise<void> {
    const used = [...this.#steps.values()].map(({ version }) => version);
    const model = policyOf(going.step);
    going.version = await this.#weights.send(this.#connection, this.#job.run, { model, used });
  }

  /** A step is over. */
  #end(going: PendingStep): void {
    this.#steps.delete(going.step);
    this.#litter.steps.add(going.step);
    for (const name of going.objects) this.#litter.objects.add(name);
    for (const used of going.used()) this.#registry.done(used.worker, used.responses, used);
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

  async #publish(going: PendingStep, parts: readonly Part[]): Promise<void> {
    const { run, session } = this.#job;
    const { step, version } = going;
    const rows = going.parts.reduce((most, { queries }) => Math.max(most, queries.length), 0);
    for (const part of parts) {
      const judge = part.prompts.every(({ row }) => isPlain(row));
      const task: Task = { session, step, version, rows, judge, part };
      const id = `${session}-${step}-${part.index}`;
      const message = await this.#connection.seal(run, `task-${id}`, taskToBytes(task));
      going.objects.add(sealedName(message) ?? "");
      await this.#connection.publish(`${namesOf(run).task}.${step}`, message, id);
    }
  }

  /** Wait for results, and do here what nobody does. */
  async *#collect(request: RolloutRequest, going: PendingStep): AsyncGenerator<CollectEvent, void> {
    const { step } = going;
    const total = going.parts.reduce((n, { queries }) => n + queries.length, 0);
    let [told, taken, progressAt] = [0, 0, performance.now()];
    while (!going.isDone) {
      for (const bytes of this.#inbox.splice(0)) {
        const fault = await this.#results.take(request, bytes);
        if (fault) yield this.#warning(step, fault);
      }
      going.throwIfFailed();
      if (going.taken > taken) [taken, progressAt] = [going.taken, performance.now()];
      if (going.answered > told) {
        told = going.answered;
        yield { type: "progress", step, phase: "respond", done: told, total };
      }
      yield* this.#say(step);
      if (going.isDone) break;
      const next = going.next();
      const silence = (performance.now() - progressAt) / 1000;
      const patience = this.#trust * Math.max(2 * this.#timeout, PATIENCE * this.#results.longest);
      if (this.#connection.connected && this.#connection.returns !== this.#returns) await this.#recover(request);
      if (next && (going.mine.has(next.index) || this.#registry.ready().length === 0 || silence > patience)) {
        this.#here++;
        going.answer(next, await request.here(next));
        await breathe();
        continue;
      }
      await this.#wait();
    }
    this.#trust = going.taken > 0 ? 1 : this.#trust / 2; // those who are there and do nothing are waited for less and less
    yield { type: "progress", step, phase: "score", done: total, total };
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

  /** The server was away. */
  async #recover(request: RolloutRequest): Promise<void> {
    try {
      await this.#mend();
      await this.#again(request);
    } catch {
      // it is away again: the next look tries anew, and meanwhile the work is done here
    }
  }

  /** What the server stored while it was away is read, and what it may have lost is given out again. */
  async #again(request: RolloutRequest): Promise<void> {
    const { run } = this.#job;
    for (const going of this.#steps.values()) {
      for (const bytes of await this.#connection.stored(run, `${namesOf(run).result}.${going.step}`))
        this.#inbox.push(bytes);
      await this.#send(request, going);
      await this.#publish(
        going,
        going.parts.filter(({ index }) => !going.has(index)),
      );
    }
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
