/** @file What trainer and workers say to each other, as bytes: a header in JSON and what belongs to it. What is read is checked: anybody may have written it. */
import { z } from "zod";
import { concatBytes } from "../base/bytes.ts";
import { parseJson } from "../base/json.ts";
import type { PlainError } from "../base/thrown.ts";
import { type Experience, experienceFromBytes, experienceToBytes } from "../experience/experience.ts";
import type { Part } from "../experience/parts/parts.ts";
import type { ReferenceScores } from "../experience/reference.ts";

/** The first number of every message: changed when their meaning changes. */
export const PROTOCOL = 1;

export const whole = z.number().int().min(0).max(1e9);
export const sum = z.string().regex(/^[0-9a-f]{64}$/);
export const name = z.string().regex(/^\w[\w.:-]{0,99}$/);
const word = z
  .string()
  .max(255)
  .regex(/^[^\p{Cc}]*$/u);
const floats = z
  .number()
  .int()
  .min(0)
  .max(2 ** 31);

/** What a run asks of workers. */
export const jobSchema = z.object({
  protocol: z.literal(PROTOCOL),
  /** Of the library. */
  version: word,
  run: name,
  /** Random: another whenever the trainer is started. */
  session: name,
  startedAt: z.number(),
  ended: z.boolean().optional(),
  algorithm: word,
  /** As people call the model. */
  model: z.string().max(4096),
  /** Every option of the algorithm. */
  config: z.record(z.string(), z.unknown()),
  /** Whether there is a value head. */
  values: z.boolean(),
  /** The adapter on the base. */
  adapter: z.record(z.string(), z.unknown()).optional(),
  /** Layers that policy and reference share. */
  sharedLayers: whole,
  reward: z.object({ name: z.string().max(100_000), file: sum.optional() }),
  threads: z.number().int().min(1).max(4096),
  device: word,
  /** The reference with its tokenizer: files of a model directory. */
  base: z.array(z.object({ name, size: z.number().int().min(0), sha256: sum })).max(1000),
  /** Seconds after which a task that nothing is heard of goes to another worker. */
  ackWait: z.number().positive(),
});
export type Job = z.infer<typeof jobSchema>;

const messages = z.array(z.looseObject({ role: z.string(), content: z.unknown() })).optional();
const taskSchema = z.object({
  session: name,
  step: whole,
  version: sum,
  /** Responses that the weights are made ready for. */
  rows: whole,
  index: whole,
  start: whole,
  copies: z.number().int().min(1),
  prompts: z.array(z.looseObject({ prompt: z.string(), row: z.record(z.string(), z.unknown()), messages })),
  queries: z.array(z.array(whole)),
  streams: z.array(z.union([whole, z.array(whole)])),
  /** Whether the worker may judge; not where rows hold what JSON has no word for. */
  judge: z.boolean(),
});
export type Task = Omit<z.infer<typeof taskSchema>, keyof Part> & { part: Part };

const resultSchema = z.object({
  session: name,
  step: whole,
  version: sum,
  index: whole,
  worker: name,
  /** Seconds that the task took, and of these those that the worker computed. */
  seconds: z.number().min(0),
  busy: z.number().min(0),
  scores: z.array(z.number()).optional(),
  experience: floats,
  refLogprobs: floats,
  exactKl: floats.optional(),
  error: z.record(z.string(), z.unknown()).optional(),
});
export interface Result extends Pick<z.infer<typeof resultSchema>, "session" | "step" | "version" | "index"> {
  worker: string;
  seconds: number;
  busy: number;
  scores?: number[];
  /** What came of it; undefined where there is an error. */
  answer?: { data: Experience; reference?: ReferenceScores | undefined };
  error?: PlainError;
}

const heartbeatSchema = z.object({
  worker: name,
  session: name,
  state: z.enum(["loading", "ready", "leaving"]),
  host: word,
  cpu: word,
  arch: word,
  threads: whole,
  device: word.optional(),
  /** Whether it judges responses itself. */
  judges: z.boolean(),
});
export type Heartbeat = z.infer<typeof heartbeatSchema>;

const controlSchema = z.object({ type: z.literal("refused"), worker: name, session: name, why: z.string().max(2000) });
export type Control = z.infer<typeof controlSchema>;

/** A header and a body: the header's length in 4 bytes, the header in JSON, the body. */
export function frame(header: object, body: readonly Uint8Array[] = []): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(JSON.stringify(header));
  const length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, text.length, true);
  return concatBytes([length, text, ...body]);
}

/** @throws Error - bytes that no {@link frame} made, or a header that the schema does not allow */
export function unframe<S extends z.ZodType>(schema: S, given: Uint8Array): { header: z.infer<S>; body: Uint8Array } {
  const bytes = new Uint8Array(given.buffer, given.byteOffset, given.byteLength); // a Buffer's slice is no copy
  if (bytes.length < 4) throw new Error(`${bytes.length} bytes`);
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  if (4 + length > bytes.length) throw new Error(`a header of ${length} bytes in ${bytes.length}`);
  const header = schema.safeParse(parseJson(new TextDecoder().decode(bytes.subarray(4, 4 + length))));
  if (!header.success) throw new Error(header.error.issues[0]?.message ?? "another header");
  return { header: header.data, body: bytes.subarray(4 + length) };
}

export const jobToBytes = (job: Job) => frame(job);
export const jobFromBytes = (bytes: Uint8Array): Job => unframe(jobSchema, bytes).header;
export const heartbeatToBytes = (heartbeat: Heartbeat) => frame(heartbeat);
export const heartbeatFromBytes = (bytes: Uint8Array): Heartbeat => unframe(heartbeatSchema, bytes).header;
export const controlToBytes = (control: Control) => frame(control);
export const controlFromBytes = (bytes: Uint8Array): Control => unframe(controlSchema, bytes).header;

export function taskToBytes({ part, ...task }: Task): Uint8Array<ArrayBuffer> {
  const { queries, prompts, ...rest } = part;
  const plain = prompts.map(({ prompt, row, messages }) => ({ prompt, row: task.judge ? row : {}, messages }));
  return frame({ ...task, ...rest, prompts: plain, queries: queries.map((ids) => Array.from(ids)) });
}

export function taskFromBytes(bytes: Uint8Array): Task {
  const { index, start, copies, prompts, queries, streams, ...task } = unframe(taskSchema, bytes).header;
  if (prompts.length !== queries.length || streams.length !== queries.length || queries.length === 0)
    throw new Error("a part that does not fit itself");
  const ids = queries.map((query) => Int32Array.from(query));
  return { ...task, part: { index, start, copies, prompts: prompts as Part["prompts"], queries: ids, streams } };
}

const bytesOf = ({ buffer, byteOffset, byteLength }: Float32Array) => new Uint8Array(buffer, byteOffset, byteLength);

export function resultToBytes({ answer, ...result }: Result): Uint8Array<ArrayBuffer> {
  const data = answer ? experienceToBytes(answer.data) : new Uint8Array();
  const { refLogprobs = new Float32Array(), exactKl } = answer?.reference ?? {};
  const sizes = { experience: data.length, refLogprobs: refLogprobs.length, exactKl: exactKl?.length };
  return frame({ ...result, ...sizes }, [data, bytesOf(refLogprobs), ...(exactKl ? [bytesOf(exactKl)] : [])]);
}

/** @throws Error - bytes that are no result */
export function resultFromBytes(bytes: Uint8Array): Result {
  const { header, body } = unframe(resultSchema, bytes);
  const { experience: size, refLogprobs, exactKl, error, ...rest } = header;
  if (error) return { ...rest, error: error as unknown as PlainError };
  if (size + 4 * (refLogprobs + (exactKl ?? 0)) !== body.length) throw new Error(`${body.length} bytes of data`);
  const take = (from: number, n: number) => new Float32Array(body.slice(from, from + 4 * n).buffer);
  const data = experienceFromBytes(body.subarray(0, size));
  if (refLogprobs === 0) return { ...rest, answer: { data } };
  const reference = {
    refLogprobs: take(size, refLogprobs),
    ...(exactKl !== undefined && { exactKl: take(size + 4 * refLogprobs, exactKl) }),
  };
  return { ...rest, answer: { data, reference } };
}

/** A task on its way. What is declared here names no type of the clients: those who do not install them compile against it, too. */
export interface TaskMessage {
  readonly data: Uint8Array;
  ack(): void;
  /** To be given out again, in so many milliseconds. */
  nak(delay: number): void;
  /** Not to be given out again. */
  term(): void;
  /** It is being worked at. */
  working(): void;
}
