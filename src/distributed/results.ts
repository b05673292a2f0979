/**
 * @file Results of workers as they come in: read, held against what was asked, and put where they belong. Of a step that is over, or from
 * other weights than were asked for, nothing is used.
 */
import { drawnAfter } from "../algorithms/ahead.ts";
import { passSizes } from "../algorithms/asking.ts";
import { messageOf } from "../base/errors.ts";
import { reviveError } from "../base/thrown.ts";
import type { Part, RolloutRequest } from "../experience/parts/parts.ts";
import { limiter } from "../experience/patience.ts";
import { wantsExactKlAtOnce } from "../experience/reference.ts";
import { samplingOptions } from "../sample/token-sampler.ts";
import { Adjustments } from "../sample/transforms.ts";
import { type Connection, sealedName } from "./connection.ts";
import { isOfGradient } from "./gradient-messages.ts";
import type { JobSource } from "./job.ts";
import { type Job, type Result, resultFromBytes } from "./messages.ts";
import type { PendingStep } from "./pending-step.ts";
import type { WorkerRegistry } from "./registry.ts";
import { type Expected, rowsToCheck, secretStream, wrongForm, wrongNumbers, wrongScores } from "./validation.ts";
import { type WeightsSender, WrongWeights } from "./weights.ts";

/** What a coordinator lends. */
interface Lent {
  readonly connection: Pick<Connection, "open">;
  readonly source: JobSource;
  readonly job: Job;
  readonly registry: WorkerRegistry;
  readonly weights: WeightsSender;
  /** Steps that were given out and are not over. */
  readonly steps: ReadonlyMap<number, PendingStep>;
  /** Objects that nobody needs any more, and steps that are over, of which something came all the same. */
  readonly litter: { objects: Set<string>; steps: Set<number> };
  /** Something came. */
  wake(): void;
  /** Use nothing of a worker from now on. @returns what to say of it */
  ban(worker: string, why: string): string;
}

/** Reads results. */
export class ResultReader {
  readonly #lent: Lent;
  readonly #check: number;
  readonly #chance = secretStream("spotCheck");
  readonly #judging: ReturnType<typeof limiter>;
  /** Seconds that the longest part took a worker. */
  longest = 0;

  /** @param check share of the responses of each result that are scored again */
  constructor(lent: Lent, check: number) {
    this.#lent = lent;
    this.#check = check;
    this.#judging = limiter(lent.source.config.rewardConcurrency);
  }

  /** Read a result. @returns what is wrong with it, to tell the user */
  async take(request: RolloutRequest, bytes: Uint8Array): Promise<string | undefined> {
    const { connection, registry, steps, litter, job } = this.#lent;
    let result: Result;
    const name = sealedName(bytes);
    try {
      const message = await connection.open(job.run, bytes);
      if (!message) return "a message among the results leads nowhere: it is not used";
      if (isOfGradient(message)) return undefined; // of an optimizer step that is over
      result = resultFromBytes(message);
    } catch (error) {
      return `a message among the results is none of a worker (${messageOf(error).slice(0, 200)}): it is not used`;
    }
    const { worker, index, step } = result;
    const going = steps.get(step);
    if (name?.startsWith("result-")) (going ?? litter).objects.add(name);
    if (registry.isRefused(worker)) return undefined;
    if (result.session !== job.session) return `a result of ${worker} is of another session of the run: it is not used`;
    if (!going) {
      litter.steps.add(step);
      registry.late(worker);
      return this.#tooOld(request, result);
    }
    const part = going.parts[index];
    if (result.version !== going.version || !part || going.has(index)) {
      registry.late(worker);
      return undefined;
    }
    if (result.error) return this.#failed(going, part, result);
    const answer = result.answer as NonNullable<Result["answer"]>;
    const expected = this.#expected(request, step);
    const wrong =
      wrongForm(part, answer, expected) ??
      wrongScores(result.scores, part.queries.length) ??
      (await wrongNumbers(rowsToCheck(this.#check, part.queries.length, this.#chance), answer, expected));
    if (wrong !== undefined) return this.#refuse(worker, wrong);
    this.longest = Math.max(this.longest, result.seconds);
    this.#use(request, going, part, { ...result, answer });
    return undefined;
  }

  /** With the policy that draws the step's responses, until that of another step is asked for. */
  #expected({ policyOf }: RolloutRequest, step: number): Expected {
    const { source } = this.#lent;
    const { reference, config } = source;
    const model = policyOf(step);
    const adjustments = new Adjustments(samplingOptions(source.sampling()), model.sizes.vocabSize);
    const passes = { ...passSizes(config), adjustments };
    return { model, reference, passes, adjustments, config, wantsExact: wantsExactKlAtOnce(config) };
  }

  /** Put it where it belongs; where the worker did not judge, once that is done here. */
  #use(
    { read, judge }: RolloutRequest,
    going: PendingStep,
    part: Part,
    result: Result & Required<Pick<Result, "answer">>,
  ): void {
    const { registry, wake } = this.#lent;
    const { index } = part;
    const samples = read(part, result.answer.data);
    const done = (scores: readonly number[]) => {
      going.judging.delete(index);
      if (!going.has(index) && !registry.isRefused(result.worker))
        going.answer(part, { ...result.answer, samples, scores }, result);
      wake();
    };
    if (result.scores) {
      done(result.scores);
      return;
    }
    going.judging.add(index);
    this.#judging(() => judge(samples)).then(done, (error) => {
      going.failure = { error };
      wake();
    });
  }

  /** A result of a step that is over. Where responses are drawn ahead it is told how old it is. */
  #tooOld({ step: now }: RolloutRequest, { worker, step }: Result): string | undefined {
    const { async } = this.#lent.source.config;
    if (async === 0 || step > now) return undefined;
    const age = now - 1 - drawnAfter(step, async);
    return `a result of worker ${worker} came too late: it is of step ${step}, from weights that are ${age} steps old by now (async is ${async}). It is not used`;
  }

  /** A worker could not do a task: it is done here, and an error that this process has too ends the run as it always does. */
  #failed(going: PendingStep, { index }: Part, { worker, error }: Result): string {
    const { registry, weights, ban } = this.#lent;
    going.mine.add(index);
    if (error?.name === WrongWeights.name) {
      weights.forget();
      return `the weights that reached worker ${worker} are not those that were sent: ${error.message.slice(0, 500)}. It does not use them; they are sent anew with the next step`;
    }
    const times = registry.failed(worker);
    const what = error ? messageOf(reviveError(error)) : "an error";
    return `worker ${worker} failed at a task, which is done here: ${what.slice(0, 500)}${times > 2 ? ban(worker, what) : ""}`;
  }

  /** A worker whose numbers are wrong: what it did in steps that are not over is done again. */
  #refuse(worker: string, why: string): string {
    this.#lent.ban(worker, why);
    const again = [...this.#lent.steps.values()].reduce((n, step) => n + step.forget(worker), 0);
    return `worker ${worker} is refused: ${why}. Nothing of it is used from now on${again > 0 ? `, and ${again} of its parts are done again` : ""}`;
  }
}
