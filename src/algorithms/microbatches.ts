/** @file The microbatches of an optimizer step: what is asked of whoever computes the gradient of one, in this process or on another machine. */
import { ask, type Passes, pick } from "../experience/ask.ts";
import type { Experience } from "../experience/experience.ts";
import type { CollectEvent } from "../experience/parts/parts.ts";
import type { AskedTokens } from "../model/asked.ts";
import type { PartGradient } from "./learner.ts";

/** Responses that go through the policy together, and what the loss is given of each of their tokens. */
export interface Microbatch {
  /** Which of its minibatch it is, from 0: gradients are added up in this order. */
  readonly index: number;
  /** Its rows of the step's batch. */
  readonly rows: Int32Array;
  readonly asked: AskedTokens;
  /** By name. [R] */
  readonly inputs: Readonly<Record<string, Float32Array>>;
  /** Where its tokens are in the batch's [B, W] arrays. [R] */
  readonly places: Int32Array;
}

/** What an optimizer step asks of those who compute gradients for the trainer. */
export interface GradientRequest {
  readonly step: number;
  /** Which minibatch of the step it is, from 0. */
  readonly update: number;
  /** The step's batch. */
  readonly data: Experience;
  readonly microbatches: readonly Microbatch[];
  /** Seconds that one takes in this process at best; infinite as long as none was computed. */
  readonly seconds: number;
  /** The gradient of one, in this process; it is overwritten by the next. */
  here(microbatch: Microbatch): Promise<PartGradient>;
}

/** Others who may compute gradients: workers on other machines. */
export interface GradientWorkers {
  /** Of all microbatches, in their order; undefined: the trainer computes them as if there were nobody else. */
  gradients(request: GradientRequest): AsyncGenerator<CollectEvent, readonly PartGradient[] | undefined>;
}

/** The microbatches of a minibatch. `given` is what the loss knows of each token of the batch, by name. [B, W] */
export function microbatchesOf(
  data: Experience,
  miniBatch: Int32Array,
  size: number,
  given: Readonly<Record<string, Float32Array>>,
  context: number,
  { adjustments }: Pick<Passes, "adjustments">,
): Microbatch[] {
  return Array.from({ length: Math.ceil(miniBatch.length / size) }, (_, index) => {
    const rows = miniBatch.subarray(index * size, (index + 1) * size);
    const { asked, index: places } = ask(data, rows, context, adjustments);
    const inputs = Object.fromEntries(Object.entries(given).map(([name, array]) => [name, pick(array, places)]));
    return { index, rows, asked, inputs, places };
  });
}
