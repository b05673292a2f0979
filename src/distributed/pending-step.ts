/** @file A step while workers answer it: which parts are here, whose they are, and which are still to come. */
import type { AnsweredPart, Part, StepParts } from "../experience/parts/parts.ts";
import type { Result } from "./messages.ts";

/** Whose a part is, and what it took. */
type By = Pick<Result, "worker" | "seconds" | "busy">;

/** A step while it is answered. */
export class PendingStep implements StepParts {
  readonly step: number;
  readonly parts: readonly Part[];
  version = "";
  /** Objects of its tasks and results. */
  readonly objects = new Set<string>();
  readonly answers: (AnsweredPart | undefined)[];
  readonly #by: (By | undefined)[];
  /** Parts that the trainer does, because a worker failed at them. */
  readonly mine = new Set<number>();
  /** Parts whose responses are here and whose scores are not. */
  readonly judging = new Set<number>();
  failure?: { error: unknown };

  constructor({ step, parts }: StepParts) {
    this.step = step;
    this.parts = parts;
    this.answers = new Array(parts.length).fill(undefined);
    this.#by = new Array(parts.length).fill(undefined);
  }

  has = (index: number): boolean => this.answers[index] !== undefined || this.judging.has(index);

  get isDone(): boolean {
    return this.answers.every((answer) => answer !== undefined);
  }

  /** Responses that are answered. */
  get answered(): number {
    return this.answers.reduce((n, answer) => n + (answer?.samples.length ?? 0), 0);
  }

  /** Parts that workers answered so far. */
  taken = 0;

  answer({ index }: Part, answer: AnsweredPart, by?: By): void {
    if (by) this.taken++;
    this.judging.delete(index);
    this.answers[index] = answer;
    this.#by[index] = by;
  }

  /** The first part that is to be done: those that workers failed at before others. */
  next(): Part | undefined {
    const open = this.parts.filter(({ index }) => !this.has(index));
    return open.find(({ index }) => this.mine.has(index)) ?? open[0];
  }

  /** Take back what a worker did. @returns how many parts */
  forget(worker: string): number {
    let count = 0;
    this.#by.forEach((by, index) => {
      if (by?.worker !== worker) return;
      this.answers[index] = undefined;
      this.#by[index] = undefined;
      this.mine.add(index);
      count++;
    });
    return count;
  }

  /** What workers did of it. */
  used(): (By & { responses: number })[] {
    return this.#by.flatMap((by, i) => (by ? [{ ...by, responses: this.parts[i].queries.length }] : []));
  }

  throwIfFailed(): void {
    if (this.failure) throw this.failure.error;
  }
}

/** Whether JSON has a word for everything in a row: no bigint, no date, nothing undefined. */
export function isPlain(value: unknown): boolean {
  if (value === null || typeof value === "string" || typeof value === "boolean") return true;
  if (typeof value === "number") return Number.isFinite(value) && !Object.is(value, -0);
  if (Array.isArray(value)) return value.every(isPlain);
  if (typeof value !== "object") return false;
  const prototype = Object.getPrototypeOf(value);
  return (prototype === Object.prototype || prototype === null) && Object.values(value).every(isPlain);
}
