/**
 * @file The trainer's side: parts of a step as tasks, results collected in their order. The trainer stays able to do everything itself, and
 * does what nobody else does in time: workers make a run faster, and nothing else of it depends on them.
 */
import { passSizes } from "../algorithms/asking.ts";
import { messageOf } from "../base/errors.ts";
import { reviveError } from "../base/thrown.ts";
import type { AnsweredPart, CollectEvent, Crew, CrewStep, Part } from "../experience/parts/parts.ts";
import { limiter, settledWithin } from "../experience/patience.ts";
import { wantsExactKl } from "../experience/reference.ts";
import { checkScores } from "../experience/score.ts";
import { machine } from "../platform/process.ts";
import { breathe } from "../platform/worker.ts";
import { samplingOptions } from "../sample/token-sampler.ts";
import { Adjustments } from "../sample/transforms.ts";
import { BaseSender } from "./base.ts";
import { Bus, namesOf, withoutSecrets } from "./bus.ts";
import { type Expected, rowsToCheck, wrongForm, wrongNumbers } from "./check.ts";
import { checkEmployer, type Employer, type EmployerFacts, jobOf, type WorkersSpec } from "./employer.ts";
import { GoingStep, isPlain } from "./going-step.ts";
import {
  controlToBytes,
  type Job,
  jobToBytes,
  presenceFromBytes,
  type Result,
  resultFromBytes,
  type Task,
  taskToBytes,
} from "./messages.ts";
import { Roster } from "./roster.ts";
import { namesToSend, WeightsSender } from "./weights.ts";

const CHECK = 0.05;
/** Milliseconds between looks at the time. */
const LOOK = 200;
/** How long the longest part so far may be overtaken by before the trainer does it itself. */
const PATIENCE = 3;

/** Workers over a NATS server. */
export class RemoteCrew implements Crew {
  readonly #bus: Bus;
  readonly #employer: Employer;
  readonly #spec: WorkersSpec;
  readonly #job: Job;
  readonly #base: BaseSender;
  readonly #weights: WeightsSender;
  readonly #roster: Roster;
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
  /** Parts that the trainer answered although there were workers. */
  #here = 0;

  private constructor(bus: Bus, employer: Employer, spec: WorkersSpec, job: Job, base: BaseSender, names: string[]) {
    this.#bus = bus;
    this.#employer = employer;
    this.#spec = spec;
    this.#job = job;
    this.#base = base;
    this.#weights = new WeightsSender(employer.model, names);
    this.#timeout = job.ackWait;
    this.#roster = new Roster(1000 * job.ackWait);
    const { result, presence } = namesOf(job.run);
    this.#unsubscribe.push(
      bus.subscribe(`${result}.*`, (bytes) => {
        this.#inbox.push(bytes);
        this.#wake();
      }),
      bus.subscribe(presence, (bytes) => this.#hear(bytes)),
    );
  }

  /**
   * Announce a run.
   * @throws engine, usage - no clients, no server, a refusal
   * @throws config - a base in int8
   */
  static async open(spec: WorkersSpec, employer: Employer, facts: EmployerFacts): Promise<RemoteCrew> {
    const { model, reference, tokenizer, config } = employer;
    checkEmployer(employer);
    const bus = await Bus.connect(spec, `valuehead train ${facts.run}`);
    const base = await BaseSender.write(reference, tokenizer);
    const { names, onlyTrained } = namesToSend(model, reference, config.frozenLayers);
    const { run } = facts;
    const job = jobOf(spec, employer, facts, base.files, onlyTrained);
    const crew = new RemoteCrew(bus, employer, spec, job, base, names);
    await crew.#announce();
    crew.#news.push({
      type: "note",
      message: `workers are asked for at ${withoutSecrets(spec.server)} (run ${run}): valuehead worker --server ${withoutSecrets(spec.server)}`,
    });
    return crew;
  }

  /** Everything that a worker needs, on the server. */
  async #announce(): Promise<void> {
    const { run } = this.#job;
    const { job, stream, result, tasks } = namesOf(run);
    await this.#bus.ensure(run, this.#timeout);
    await this.#bus.purge(tasks);
    await this.#bus.purge(stream, `${result}.*`);
    await this.#base.send(this.#bus, run);
    await this.#bus.publish(job, jobToBytes(this.#job));
  }

  async *answer(step: CrewStep): AsyncGenerator<CollectEvent, readonly AnsweredPart[] | undefined> {
    yield* this.#say(step.step);
    await settledWithin(this.#bus.flush(), 1); // who has come is heard of first
    await breathe();
    if (!this.#bus.connected || this.#roster.ready().length === 0) return undefined;
    yield* this.#say(step.step);
    const going = new GoingStep(step, this.#expected());
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
    const { model, reference, config } = this.#employer;
    const adjustments = new Adjustments(samplingOptions(this.#employer.sampling()), model.sizes.vocabSize);
    const passes = { ...passSizes(config), adjustments };
    return { model, reference, passes, adjustments, config, wantsExact: wantsExactKl(config) };
  }

  async #post(going: GoingStep): Promise<void> {
    const { run } = this.#job;
    await this.#mend();
    const { tasks, stream, result } = namesOf(run);
    await this.#bus.purge(tasks); // of steps that are over
    await this.#bus.purge(stream, `${result}.*`);
    this.#inbox.length = 0;
    going.version = await this.#weights.send(this.#bus, run);
    await this.#publish(going, going.step.parts);
  }

  /** After the connection was lost: what the server may have forgotten. */
  async #mend(): Promise<boolean> {
    const { returns } = this.#bus;
    if (returns === this.#returns) return false;
    this.#weights.forget();
    const { run } = this.#job;
    await this.#bus.ensure(run, this.#timeout);
    await this.#base.send(this.#bus, run);
    await this.#bus.publish(namesOf(run).job, jobToBytes(this.#job));
    this.#returns = returns;
    return true;
  }

  async #publish({ step, version }: GoingStep, parts: readonly Part[]): Promise<void> {
    const { run, session } = this.#job;
    const rows = step.parts.reduce((most, { queries }) => Math.max(most, queries.length), 0);
    for (const part of parts) {
      const judge = part.prompts.every(({ row }) => isPlain(row));
      const task: Task = { session, step: step.step, version, rows, judge, part };
      const id = `${session}-${step.step}-${part.index}`;
      const message = await this.#bus.seal(run, `task-${id}`, taskToBytes(task));
      await this.#bus.publish(namesOf(run).task, message, id);
    }
  }

  /** Wait for results, and do here what nobody does. */
  async *#collect(going: GoingStep): AsyncGenerator<CollectEvent, void> {
    const { step } = going;
    const total = step.parts.reduce((n, { queries }) => n + queries.length, 0);
    const judging = limiter(this.#employer.config.rewardConcurrency);
    let [told, progressAt] = [0, performance.now()];
    while (!going.isDone) {
      for (const bytes of this.#inbox.splice(0)) {
        const fault = await this.#take(going, bytes, judging);
        if (fault) yield this.#warning(step.step, fault);
      }
      going.throwIfFailed();
      if (going.answered > told) {
        [told, progressAt] = [going.answered, performance.now()];
        yield { type: "progress", step: step.step, phase: "respond", done: told, total };
      }
      yield* this.#say(step.step);
      if (going.isDone) break;
      const next = going.next();
      const silence = (performance.now() - progressAt) / 1000;
      const patience = Math.max(2 * this.#timeout, PATIENCE * this.#longest);
      if (this.#bus.connected && this.#bus.returns !== this.#returns) await this.#recover(going);
      if (next && (going.mine.has(next.index) || this.#roster.ready().length === 0 || silence > patience)) {
        this.#here++;
        going.answer(next, await step.here(next));
        await breathe();
        continue;
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, LOOK);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
        if (this.#inbox.length > 0) this.#wake();
      });
      this.#wake = () => {};
    }
    yield { type: "progress", step: step.step, phase: "score", done: total, total };
  }

  /** The server was away: what it stored meanwhile is read, and what it may have lost is given out again. */
  async #recover(going: GoingStep): Promise<void> {
    try {
      await this.#mend();
      const { run } = this.#job;
      const { result } = namesOf(run);
      for (const bytes of await this.#bus.stored(run, `${result}.${going.step.step}`)) this.#inbox.push(bytes);
      going.version = await this.#weights.send(this.#bus, run);
      await this.#publish(
        going,
        going.step.parts.filter(({ index }) => !going.has(index)),
      );
    } catch {
      // it is away again: the next look tries anew, and meanwhile the work is done here
    }
  }

  /** Read a result. @returns what is wrong with it, to tell the user */
  async #take(going: GoingStep, bytes: Uint8Array, judging: ReturnType<typeof limiter>): Promise<string | undefined> {
    const { run, session } = this.#job;
    let result: Result;
    try {
      const message = await this.#bus.open(run, bytes);
      if (!message) return "a message among the results leads nowhere: it is not used";
      result = resultFromBytes(message);
    } catch (error) {
      return `a message among the results is none of a worker (${messageOf(error).slice(0, 200)}): it is not used`;
    }
    const { worker, index } = result;
    if (this.#roster.isRefused(worker)) return undefined;
    if (result.session !== session) return `a result of ${worker} is of another session of the run: it is not used`;
    const part = going.step.parts[index];
    const isOld = result.step !== going.step.step || result.version !== going.version;
    if (isOld || !part || going.has(index)) {
      this.#roster.late(worker);
      return undefined;
    }
    if (result.error) return this.#failed(going, part, result);
    const answer = result.answer as NonNullable<Result["answer"]>;
    const wrong =
      wrongForm(part, answer, going.expected) ??
      this.#wrongScores(result, part) ??
      (await wrongNumbers(
        rowsToCheck(this.#spec.check ?? CHECK, part, going.step.step, this.#employer.config.seed),
        answer,
        going.expected,
      ));
    if (wrong !== undefined) return this.#refuse(going, worker, wrong);
    this.#longest = Math.max(this.#longest, result.seconds);
    const samples = going.step.read(part, answer.data);
    const done = (scores: readonly number[]) => {
      going.judging.delete(index);
      if (!going.has(index) && !this.#roster.isRefused(worker)) {
        going.answer(part, { ...answer, samples, scores }, worker);
        this.#roster.done(worker, part.queries.length, result);
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

  #wrongScores({ scores, worker }: Result, { queries }: Part): string | undefined {
    if (scores === undefined) return undefined;
    try {
      checkScores(scores, new Array(queries.length).fill({ prompt: "", response: "" }), worker);
      return undefined;
    } catch {
      return `${scores.length} scores for ${queries.length} responses, or some that are no numbers`;
    }
  }

  /** A worker could not do a task: it is done here, and an error that this process has too ends the run as it always does. */
  #failed(going: GoingStep, { index }: Part, { worker, error }: Result): string {
    going.mine.add(index);
    const times = this.#roster.failed(worker);
    if (/weights/i.test(error?.message ?? "")) this.#weights.forget();
    const what = error ? messageOf(reviveError(error)) : "an error";
    return `worker ${worker} failed at a task, which is done here: ${what.slice(0, 500)}${times > 2 ? this.#ban(worker, what) : ""}`;
  }

  #ban(worker: string, why: string): string {
    const { run, session } = this.#job;
    this.#roster.refuse(worker, why);
    this.#bus.say(namesOf(run).control, controlToBytes({ type: "refused", worker, session, why: why.slice(0, 2000) }));
    return "; nothing of it is used from now on";
  }

  /** A worker whose numbers are wrong: what it did in this step is done again. */
  #refuse(going: GoingStep, worker: string, why: string): string {
    this.#ban(worker, why);
    const again = going.forget(worker);
    return `worker ${worker} is refused: ${why}. Nothing of it is used from now on${again > 0 ? `, and ${again} of its parts are done again` : ""}`;
  }

  #hear(bytes: Uint8Array): void {
    try {
      const presence = presenceFromBytes(bytes);
      if (presence.session !== this.#job.session) return;
      const news = this.#roster.hear(presence);
      if (news === "joined") {
        const { worker, cpu, arch, threads } = presence;
        const { cpu: mine, arch: own } = machine();
        const differs = cpu !== mine || arch !== own || threads !== this.#job.threads;
        const but = differs
          ? `, another than this one's (${mine}, ${own}, ${this.#job.threads} threads): the last bits of its numbers may differ`
          : "";
        this.#news.push({
          type: "note",
          message: `worker ${worker} joined (${cpu}, ${arch}, ${threads} threads${but})`,
        });
      } else if (news === "left") this.#news.push({ type: "note", message: `worker ${presence.worker} left` });
    } catch {
      // anybody may say anything
    }
  }

  *#say(step: number): Generator<CollectEvent> {
    for (const worker of this.#roster.lost())
      this.#news.push({ type: "warning", message: `nothing is heard of worker ${worker} any more` });
    for (const news of this.#news.splice(0)) yield { ...news, step };
  }

  #warning = (step: number, message: string): CollectEvent => ({ type: "warning", step, message });

  #report(step: number): CollectEvent {
    const here = this.#here;
    this.#here = 0;
    return { type: "workers", step, here, workers: this.#roster.facts() };
  }

  /** The run is over, or saved to go on later: nothing of it stays on the server. */
  async close(): Promise<void> {
    for (const end of this.#unsubscribe) end();
    const { run } = this.#job;
    if (this.#bus.connected) {
      const ended = async () => {
        await this.#bus.publish(namesOf(run).job, jobToBytes({ ...this.#job, ended: true }));
        await this.#bus.erase(run);
      };
      await settledWithin(ended(), 5);
    }
    await settledWithin(this.#bus.close(), 5);
    await this.#base.close();
  }
}
