/** @file The prompts of a run, step by step: those of later steps can be seen before it is their turn. */
import { type EncodedPrompts, nextPrompts, type PromptBatch } from "./encode.ts";
import type { PromptSampler } from "./prompts.ts";

/** Batches of endless prompts, in the sampler's order. */
export class PromptQueue {
  readonly #encoded: EncodedPrompts;
  readonly #sampler: PromptSampler;
  readonly #prompts: number;
  readonly #copies: number;
  /** Drawn, and not yet taken. */
  readonly #waiting: PromptBatch[] = [];

  /**
   * @param prompts of a batch
   * @param copies  how often each comes in a row
   */
  constructor(
    encoded: EncodedPrompts,
    sampler: PromptSampler,
    { prompts, copies }: { prompts: number; copies: number },
  ) {
    this.#encoded = encoded;
    this.#sampler = sampler;
    this.#prompts = prompts;
    this.#copies = copies;
  }

  /** Take the next batch. */
  next(): PromptBatch {
    return this.#waiting.shift() ?? this.#draw();
  }

  /** The batches that come next, which stay where they are. */
  ahead(count: number): readonly PromptBatch[] {
    while (this.#waiting.length < count) this.#waiting.push(this.#draw());
    return this.#waiting.slice(0, count);
  }

  #draw(): PromptBatch {
    return nextPrompts(this.#encoded, this.#sampler, this.#prompts, this.#copies);
  }
}
