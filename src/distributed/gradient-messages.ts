/** @file Microbatches whose gradients are asked for, and gradients, as bytes. What is read is checked, as in messages.ts. */
import { z } from "zod";
import type { PartGradient } from "../algorithms/learner.ts";
import type { Microbatch } from "../algorithms/microbatches.ts";
import type { PlainError } from "../base/thrown.ts";
import { type Experience, experienceFromBytes, experienceToBytes, padded } from "../experience/experience.ts";
import { keptAt, packKept } from "../model/kept-set.ts";
import { frame, name, sum, unframe, whole } from "./messages.ts";

const place = {
  kind: z.literal("gradient"),
  session: name,
  step: whole,
  /** Which minibatch of the step, and which microbatch of that. */
  update: whole,
  index: whole,
  version: sum,
};

const taskSchema = z.object({
  ...place,
  /** Bytes of the responses, and numbers of each input of the loss. */
  experience: whole,
  inputs: z.array(z.tuple([z.string().max(100), whole])).max(100),
});
export interface GradientTask {
  readonly session: string;
  readonly step: number;
  readonly update: number;
  readonly index: number;
  readonly version: string;
  /** The responses, with their prompts and kept sets and nothing else. */
  readonly data: Experience;
  readonly inputs: Microbatch["inputs"];
}

const resultSchema = z.object({
  ...place,
  worker: name,
  seconds: z.number().min(0),
  busy: z.number().min(0),
  /** Tokens, and numbers of the gradient. */
  rows: whole,
  size: z
    .number()
    .int()
    .min(0)
    .max(2 ** 31),
  error: z.record(z.string(), z.unknown()).optional(),
});
export interface GradientResult extends Omit<GradientTask, "data" | "inputs"> {
  readonly worker: string;
  readonly seconds: number;
  readonly busy: number;
  /** Undefined where there is an error. */
  readonly gradient?: PartGradient;
  readonly error?: PlainError;
}

const kindSchema = z.looseObject({ kind: z.literal("gradient") });

/** Whether a task or a result is about a gradient. */
export function isOfGradient(bytes: Uint8Array): boolean {
  try {
    unframe(kindSchema, bytes);
    return true;
  } catch {
    return false;
  }
}

/** Some rows of a batch, as far as they are asked about. */
export function question({ queries, responses, batch, kept }: Experience, rows: Int32Array): Experience {
  const chosen = Array.from(rows);
  const layout = padded(chosen.map((b) => responses[b]));
  const { width } = layout;
  const sets = Array.from({ length: layout.rows * width }, (_, i) => {
    const [b, t] = [chosen[Math.floor(i / width)], i % width];
    return t < responses[b].length ? keptAt(kept, b * batch.width + t) : undefined;
  });
  return {
    queries: chosen.map((b) => queries[b]),
    responses: chosen.map((b) => responses[b]),
    batch: layout,
    ...{ logprobs: new Float32Array(), values: new Float32Array(), keptMass: new Float64Array() },
    kept: packKept(sets),
  };
}

const bytesOf = ({ buffer, byteOffset, byteLength }: Float32Array | Float64Array) =>
  new Uint8Array(buffer, byteOffset, byteLength);

export function gradientTaskToBytes({ data, inputs, ...task }: GradientTask): Uint8Array<ArrayBuffer> {
  const experience = experienceToBytes(data);
  const arrays = Object.entries(inputs);
  const sizes = arrays.map(([key, array]) => [key, array.length]);
  return frame({ kind: "gradient", ...task, experience: experience.length, inputs: sizes }, [
    experience,
    ...arrays.map(([, array]) => bytesOf(array)),
  ]);
}

/** @throws Error - bytes that are no such task */
export function gradientTaskFromBytes(bytes: Uint8Array): GradientTask {
  const { header, body } = unframe(taskSchema, bytes);
  const { kind: _, experience, inputs: sizes, ...task } = header;
  if (experience + 4 * sizes.reduce((n, [, length]) => n + length, 0) !== body.length)
    throw new Error(`${body.length} bytes of data`);
  const data = experienceFromBytes(body.subarray(0, experience));
  let at = experience;
  const inputs = Object.fromEntries(
    sizes.map(([key, length]) => {
      const array = new Float32Array(body.slice(at, at + 4 * length).buffer);
      at += 4 * length;
      return [key, array];
    }),
  );
  const tokens = data.responses.reduce((n, { length }) => n + length, 0);
  if (sizes.some(([, length]) => length !== tokens)) throw new Error("inputs that do not fit the responses");
  return { ...task, data, inputs };
}

export function gradientResultToBytes({ gradient, ...result }: GradientResult): Uint8Array<ArrayBuffer> {
  const sizes = { rows: gradient?.logprobs.length ?? 0, size: gradient?.grads.length ?? 0 };
  // The loss is in the body: JSON has no word for one that is not finite.
  const body = gradient
    ? [Float64Array.of(gradient.loss), gradient.logprobs, gradient.values, gradient.entropies, gradient.grads]
    : [];
  return frame({ kind: "gradient", ...result, ...sizes }, body.map(bytesOf));
}

/** @throws Error - bytes that are no such result */
export function gradientResultFromBytes(bytes: Uint8Array): GradientResult {
  const { header, body } = unframe(resultSchema, bytes);
  const { kind: _, rows, size, error, ...rest } = header;
  if (error) return { ...rest, error: error as unknown as PlainError };
  if (8 + 12 * rows + 4 * size !== body.length) throw new Error(`${body.length} bytes of data`);
  const floats = (from: number, n: number) => new Float32Array(body.slice(from, from + 4 * n).buffer);
  const [loss] = new Float64Array(body.slice(0, 8).buffer);
  const [logprobs, values, entropies] = [0, 1, 2].map((i) => floats(8 + 4 * i * rows, rows));
  return { ...rest, gradient: { loss, logprobs, values, entropies, grads: floats(8 + 12 * rows, size) } };
}
