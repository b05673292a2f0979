/**
 * @file Gradients as tasks, the trainer's side: the microbatches of an optimizer step, computed by workers and by the trainer, each of which
 * takes a share, and put together in their order. What comes too late the trainer computes itself.
 */
import type { PartGradient } from "../algorithms/learner.ts";
import type { GradientRequest, GradientWorkers, Microbatch } from "../algorithms/microbatches.ts";
import { messageOf } from "../base/errors.ts";
import { reviveError } from "../base/thrown.ts";
import type { CollectEvent } from "../experience/parts/parts.ts";
import { settledWithin } from "../experience/patience.ts";
import { breathe } from "../platform/worker.ts";
import { type Connection, namesOf, sealedName } from "./connection.ts";
import { type Link, ownShare, whyNot } from "./gradient-link.ts";
import {
  type GradientResult,
  gradientResultFromBytes,
  gradientTaskToBytes,
  isOfGradient,
  question,
} from "./gradient-messages.ts";
import type { Job } from "./messages.ts";
import type { WorkerRegistry } from "./registry.ts";
import { secretStream } from "./validation.ts";
import { type WeightsSender, WrongWeights } from "./weights.ts";

/** What a coordinator lends. */
export interface Desk {
  readonly connection: Connection;
  readonly job: Job;
  readonly registry: WorkerRegistry;
  readonly weights: WeightsSender;
  /** Results that came and are not yet read. */
  readonly inbox: Uint8Array[];
  /** Events that wait to be told. */
  say(step: number): Iterable<CollectEvent>;
  /** Until something came, or a little later. */
  wait(): Promise<void>;
  /** After the connection was lost: what the server may have forgotten. Whether it was. */
  mend(): Promise<boolean>;
  /** Use nothing of a worker from now on. @returns what to say of it */
  ban(worker: string, why: string): string;
}

/** How much longer than the longest microbatch one may take before the trainer computes it itself; seconds at least. */
const [PATIENCE, AT_LEAST] = [3, 1];
/** How far the gradient of another kind of processor may be away, relative to its norm. */
const ROUNDING = 1e-3;

interface Round {
  readonly request: GradientRequest;
  version: string;
  readonly answers: (PartGradient | undefined)[];
  readonly by: (string | undefined)[];
  /** Those that the trainer computes. */
  readonly mine: Set<number>;
}

/** Gradients by workers over a NATS server. */
export class GradientTasks implements GradientWorkers {
  readonly #desk: Desk;
  readonly #link: Link;
  readonly #always: boolean;
  readonly #check: number;
  readonly #chance = secretStream("gradientCheck");
  /** Workers of whom a gradient was computed again. */
  readonly #checked = new Set<string>();
  #longest = 0;
  /** Whether tasks of an optimizer step that is over may still be in the queue. */
  #left = false;
  #trust = 1;
  #told?: boolean;

  /** @param check share of the gradients that are computed again; of each worker the first, unless it is 0 */
  constructor(desk: Desk, link: Link, { always, check }: { always: boolean; check: number }) {
    this.#desk = desk;
    this.#link = link;
    this.#always = always;
    this.#check = check;
  }

  async *gradients(request: GradientRequest): AsyncGenerator<CollectEvent, readonly PartGradient[] | undefined> {
    const { connection, registry } = this.#desk;
    await settledWithin(connection.flush(), 1); // who has come is heard of first
    await breathe();
    yield* this.#desk.say(request.step);
    const [workers, microbatches] = [registry.ready().length, request.microbatches.length];
    if (!connection.connected || workers === 0 || microbatches < 2) return undefined;
    if (!this.#always) {
      if (!Number.isFinite(request.seconds)) return undefined; // the first are computed here, and timed
      const seconds = Math.max(request.seconds, this.#longest);
      const why = whyNot(this.#link, { microbatches, workers, seconds });
      if (why !== undefined && this.#told !== false) yield { type: "warning", step: request.step, message: why };
      this.#told = why === undefined;
      if (why !== undefined) return undefined;
    }
    const own = ownShare(microbatches, workers);
    const round: Round = {
      request,
      version: "",
      answers: new Array(microbatches).fill(undefined),
      by: new Array(microbatches).fill(undefined),
      mine: new Set(request.microbatches.slice(microbatches - own).map(({ index }) => index)),
    };
    try {
      await this.#post(round);
    } catch (error) {
      const message = `no gradients could be asked of workers: ${messageOf(error)}; they are computed here`;
      yield { type: "warning", step: request.step, message };
      this.#left = true;
      return undefined;
    }
    yield* this.#collect(round);
    return round.answers as PartGradient[];
  }

  async #post(round: Round): Promise<void> {
    const { connection, job, weights } = this.#desk;
    await this.#desk.mend();
    if (this.#left) await connection.purge(namesOf(job.run).tasks);
    this.#left = false;
    round.version = await weights.send(connection, job.run);
    await this.#publish(round);
  }

  async #publish({ request, version, answers, mine }: Round): Promise<void> {
    const { connection, job } = this.#desk;
    const { step, update, data } = request;
    const { session, run } = job;
    for (const { index, rows, inputs } of request.microbatches) {
      if (mine.has(index) || answers[index]) continue;
      const task = { session, step, update, index, version, data: question(data, rows), inputs };
      const id = `${session}-${step}-${update}-g${index}`;
      const message = await connection.seal(run, `task-${id}`, gradientTaskToBytes(task));
      await connection.publish(`${namesOf(run).task}.${step}`, message, id);
    }
  }

  async *#collect(round: Round): AsyncGenerator<CollectEvent, void> {
    const { connection, registry, inbox } = this.#desk;
    const { step, microbatches, seconds } = round.request;
    let returns = connection.returns;
    let [taken, progressAt] = [0, performance.now()];
    const open = () => microbatches.filter(({ index }) => !round.answers[index]);
    for (let rest = open(); rest.length > 0; rest = open()) {
      for (const bytes of inbox.splice(0)) {
        const fault = await this.#take(round, bytes);
        if (fault) yield { type: "warning", step, message: fault };
      }
      yield* this.#desk.say(step);
      rest = open();
      if (rest.length === 0) break;
      const now = round.by.filter((by) => by !== undefined).length;
      if (now !== taken) [taken, progressAt] = [now, performance.now()];
      if (connection.connected && connection.returns !== returns) {
        returns = connection.returns;
        await this.#recover(round);
      }
      const mine = rest.find(({ index }) => round.mine.has(index));
      const patience = this.#trust * Math.max(AT_LEAST, PATIENCE * Math.max(this.#longest, finite(seconds)));
      const silent = (performance.now() - progressAt) / 1000 > patience;
      if (!mine && connection.connected && registry.ready().length > 0 && !silent) {
        await this.#desk.wait();
        continue;
      }
      const chosen = mine ?? rest[0];
      if (!mine) this.#left = true;
      const gradient = await round.request.here(chosen);
      round.answers[chosen.index] = { ...gradient, grads: gradient.grads.slice() };
      if (mine) progressAt = performance.now(); // the others had that time too, but their results were not read
      await breathe();
    }
    this.#trust = taken > 0 ? 1 : this.#trust / 2;
  }

  /** The server was away: what it stored meanwhile is read, and what it may have lost is given out again. */
  async #recover(round: Round): Promise<void> {
    const { connection, job, inbox, weights } = this.#desk;
    try {
      await this.#desk.mend();
      const { run } = job;
      for (const bytes of await connection.stored(run, `${namesOf(run).result}.${round.request.step}`))
        inbox.push(bytes);
      round.version = await weights.send(connection, run);
      this.#left = true;
      await this.#publish(round);
    } catch {
      // it is away again: meanwhile the work is done here
    }
  }

  /** Read a result. @returns what is wrong with it, to tell the user */
  async #take(round: Round, bytes: Uint8Array): Promise<string | undefined> {
    const { connection, job, registry } = this.#desk;
    const { run, session } = job;
    let result: GradientResult;
    try {
      const message = await connection.open(run, bytes);
      const name = sealedName(bytes);
      if (name?.startsWith("result-")) void connection.deleteObject(run, name);
      if (!message) return undefined; // it was read before
      if (!isOfGradient(message)) return undefined; // of responses, and too late
      result = gradientResultFromBytes(message);
    } catch (error) {
      return `a message among the results is none of a worker (${messageOf(error).slice(0, 200)}): it is not used`;
    }
    const { worker, index } = result;
    if (registry.isRefused(worker)) return undefined;
    if (result.session !== session) return `a result of ${worker} is of another session of the run: it is not used`;
    const { request, version, answers } = round;
    const microbatch = request.microbatches[index];
    const isOld = result.step !== request.step || result.update !== request.update || result.version !== version;
    if (isOld || !microbatch || answers[index]) {
      registry.late(worker);
      return undefined;
    }
    const { gradient } = result;
    if (!gradient) return this.#failed(round, result);
    const wrong = await this.#wrong(round, microbatch, worker, gradient);
    if (wrong !== undefined) return this.#refuse(round, worker, wrong);
    this.#longest = Math.max(this.#longest, result.busy);
    answers[index] = gradient;
    round.by[index] = worker;
    registry.computed(worker, result);
    return undefined;
  }

  /** What is wrong with a gradient, in words; undefined: nothing that can be seen, or nothing at all where it was computed again. */
  async #wrong(
    { request }: Round,
    microbatch: Microbatch,
    worker: string,
    given: PartGradient,
  ): Promise<string | undefined> {
    const rows = microbatch.places.length;
    if (given.logprobs.length !== rows) return `scores of ${given.logprobs.length} tokens, of ${rows}`;
    if (4 * given.grads.length > this.#link.bytes) return `a gradient of ${given.grads.length} numbers`;
    const finiteNumbers = Number.isFinite(given.loss) && given.grads.every(Number.isFinite);
    const first = this.#check > 0 && !this.#checked.has(worker);
    if (finiteNumbers && !first && this.#chance.uniform() >= this.#check) return undefined;
    const own = await request.here(microbatch);
    this.#checked.add(worker);
    return wrongGradient(given, own, this.#desk.registry.isAlike(worker));
  }

  #failed(round: Round, { worker, index, error }: GradientResult): string {
    round.mine.add(index);
    if (error?.name === WrongWeights.name) {
      this.#desk.weights.forget();
      return `the weights that reached worker ${worker} are not those that were sent: ${error.message.slice(0, 500)}. It does not use them; they are sent anew with the next step`;
    }
    const times = this.#desk.registry.failed(worker);
    const what = error ? messageOf(reviveError(error)) : "an error";
    return `worker ${worker} failed at a gradient, which is computed here: ${what.slice(0, 500)}${times > 2 ? this.#desk.ban(worker, what) : ""}`;
  }

  /** A worker whose gradient is wrong: what it did for this optimizer step is done again. */
  #refuse(round: Round, worker: string, why: string): string {
    this.#desk.ban(worker, why);
    round.request.microbatches.forEach(({ index }) => {
      if (round.by[index] !== worker && round.answers[index]) return;
      if (round.by[index] === worker) round.answers[index] = undefined;
      round.by[index] = undefined;
      round.mine.add(index);
    });
    this.#left = true;
    return `worker ${worker} is refused: ${why}. Nothing of it is used from now on, and what it computed for this optimizer step is computed here`;
  }
}

const finite = (x: number) => (Number.isFinite(x) ? x : 0);

/**
 * What is wrong with a gradient, in words.
 * @param own   the same, computed here
 * @param alike whether whoever computed it has a processor of this kind, and so the same bits
 */
export function wrongGradient(given: PartGradient, own: PartGradient, alike: boolean): string | undefined {
  if (given.grads.length !== own.grads.length)
    return `a gradient of ${given.grads.length} numbers where there are ${own.grads.length}`;
  const arrays = ["grads", "logprobs", "values", "entropies"] as const;
  const same = (a: Float32Array, b: Float32Array) => a.every((x, i) => Object.is(x, b[i]));
  const differ = arrays.filter((name) => !same(given[name], own[name]));
  if (differ.length === 0 && Object.is(given.loss, own.loss)) return undefined;
  const far = Math.max(relative(Float32Array.of(given.loss), Float32Array.of(own.loss), 1), distance(given, own));
  if (far <= ROUNDING && !alike) return undefined;
  const what = differ.includes("grads") ? "a gradient" : "scores beside a gradient";
  const how = far <= ROUNDING ? "in the last bits, though its processor is of the same kind" : far.toPrecision(2);
  return `${what} that differs from what the trainer computes of the same microbatch (${how})`;
}

function distance(given: PartGradient, own: PartGradient): number {
  const scores = (["logprobs", "values", "entropies"] as const).map((name) => relative(given[name], own[name], 1));
  return Math.max(relative(given.grads, own.grads, 0), ...scores);
}

/** |a - b| / max(|b|, least); infinite where it cannot be said. */
function relative(a: Float32Array, b: Float32Array, least: number): number {
  let [squares, norm] = [0, 0];
  for (let i = 0; i < b.length; i++) {
    if (Object.is(a[i], b[i])) continue;
    squares += (a[i] - b[i]) ** 2;
  }
  for (const x of b) norm += x * x;
  if (squares === 0) return 0;
  const ratio = Math.sqrt(squares) / Math.max(Math.sqrt(norm), least);
  return Number.isNaN(ratio) ? Number.POSITIVE_INFINITY : ratio;
}
