/**
 * @file Which step is drawn when, and by which weights. With async N the responses of step k are drawn by the weights after k - 1 - N steps,
 * or as they were at the beginning. That depends on the step alone, so a run is the same whoever draws, and however quick they are.
 */
import { fail } from "../base/errors.ts";
import type { PromptQueue } from "../data/prompt-queue.ts";
import { type Place, partsOfStep, type StepParts } from "../experience/parts/parts.ts";
import type { CausalLMWithValueHead } from "../model/model.ts";
import { namesAbove, type Parameter, trainedRows } from "../model/parameters.ts";
import type { OlderWeights } from "./algorithm.ts";
import type { RolloutTrainerConfig } from "./options/ppo-options.ts";
import type { Stopwatch } from "./report.ts";

/** After how many steps the weights are those that draw a step's responses. */
export const drawnAfter = (step: number, async: number): number => Math.max(0, step - 1 - async);

/** Responses to each prompt. */
export const copiesIn = ({ numGenerations = 1 }: Pick<RolloutTrainerConfig, "numGenerations">): number =>
  numGenerations;

/** A step and its random streams: each response has one of its own, whatever else is drawn beside it. */
export function placeOf(
  step: number,
  config: Pick<RolloutTrainerConfig, "batchSize" | "numGenerations">,
  clock?: Stopwatch,
): Place {
  const first = (step - 1) * config.batchSize;
  const lap: Place["lap"] = (done) => clock?.lap(done === "respond" ? "time/get_response" : "time/get_scores");
  return { step, streamOf: (i) => first + i, copies: copiesIn(config), lap };
}

/** The steps after the one in progress that can be drawn by weights there are. */
export function laterSteps(queue: PromptQueue, taken: number, config: RolloutTrainerConfig): StepParts[] {
  const next = taken + 2;
  const count = Math.max(0, Math.min(config.async, config.steps - taken - 1));
  return queue.ahead(count).map(({ prompts, queries }, i) => {
    const parts = partsOfStep(config, prompts, queries, placeOf(next + i, config));
    return { step: next + i, parts };
  });
}

/** @throws usage - responses that somebody else drew, where they are to be drawn ahead */
export function refuseAhead({ async }: { async: number }, where: string): void {
  if (async > 0)
    fail("usage", {
      where,
      found: `async ${async}, and responses that are given`,
      expected: "prompts, whose responses are drawn ahead",
      fix: "leave async out, or call train",
    });
}

/** What is trained, as it was after the last steps. */
export class PolicyVersions implements OlderWeights {
  readonly #model: CausalLMWithValueHead;
  readonly #async: number;
  readonly #frozenLayers: number;
  readonly #rows: readonly Parameter[];
  /** Numbers of the rows, one after another, by how many steps had been taken. */
  readonly #kept = new Map<number, Float32Array>();
  /** A policy with memory of its own for what is trained: it is made into any of them. */
  #older?: CausalLMWithValueHead;
  #olderIs?: Float32Array;
  /** Memory of one that is not needed any more. */
  #spare?: Float32Array;

  /** @param async steps that responses are drawn ahead; 0: nothing is kept */
  constructor(model: CausalLMWithValueHead, async: number, frozenLayers: number) {
    const { table } = model.parameters;
    this.#model = model;
    this.#async = async;
    this.#frozenLayers = frozenLayers;
    this.#rows = trainedRows(table, namesAbove(model, table, frozenLayers));
  }

  /**
   * The policy that draws a step's responses. It says what it says until it is asked for again.
   * @param taken steps taken so far
   */
  of(step: number, taken: number): CausalLMWithValueHead {
    const after = drawnAfter(step, this.#async);
    if (after === taken) return this.#model;
    const numbers = this.#at(after);
    this.#older ??= this.#model.frozenCopy(this.#frozenLayers);
    if (this.#olderIs !== numbers) this.#put(numbers, this.#older);
    this.#olderIs = numbers;
    return this.#older;
  }

  /** Keep the weights as they are, before they are changed. */
  async keep(taken: number): Promise<void> {
    if (this.#async === 0) return;
    const { parameters } = this.#model;
    await parameters.refresh(this.#rows.map(({ name }) => name));
    const numbers = this.#kept.get(taken) ?? this.#room();
    for (const { name, start } of this.#rows) numbers.set(parameters.numbers(name), start);
    this.#older ??= this.#model.frozenCopy(this.#frozenLayers); // while the host has the numbers
    if (this.#olderIs === numbers) this.#olderIs = undefined;
    this.#kept.set(taken, numbers);
  }

  /** Forget what no step after these draws with. */
  forget(taken: number): void {
    for (const [after, numbers] of this.#kept) {
      if (after >= drawnAfter(taken + 1, this.#async)) continue;
      this.#kept.delete(after);
      this.#spare = numbers;
    }
  }

  #put(numbers: Float32Array, { parameters }: CausalLMWithValueHead): void {
    for (const { name, start, end } of this.#rows) parameters.view(name).set(numbers.subarray(start, end));
  }

  #room(): Float32Array {
    const room = this.#spare ?? new Float32Array(this.size);
    this.#spare = undefined;
    return room;
  }

  /** Numbers of a version. */
  get size(): number {
    return this.#rows.at(-1)?.end ?? 0;
  }

  /** After how many steps weights must be kept for what is drawn after so many, all but the newest, which are the model's. */
  needed(taken: number): number[] {
    const from = drawnAfter(taken + 1, this.#async);
    return Array.from({ length: taken - from }, (_, i) => from + i);
  }

  /** What a checkpoint after so many steps holds of it. */
  saved(taken: number): ReadonlyMap<number, Float32Array> {
    return new Map(this.needed(taken).map((after) => [after, this.#at(after)]));
  }

  /** Go on from what a checkpoint holds. */
  restore(saved: ReadonlyMap<number, Float32Array>): void {
    this.#kept.clear();
    this.#olderIs = undefined;
    for (const [after, numbers] of saved) this.#kept.set(after, numbers);
  }

  #at(after: number): Float32Array {
    const numbers = this.#kept.get(after);
    if (numbers) return numbers;
    return fail("usage", {
      where: "async",
      found: `no weights as they were after ${after} steps`,
      expected: "those of the last steps, which the next responses are drawn with",
      fix: "go on from a checkpoint of a run, which has them, or give them to olderWeights.restore",
    });
  }
}
