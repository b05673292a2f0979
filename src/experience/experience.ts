/** @file A batch of experience: plain data, so that it can be kept, sent to a thread or written down. */
import { fail } from "../base/errors.ts";
import { parseJson } from "../base/json.ts";
import { type KeptSet, type PackedKept, packKept } from "../model/kept-set.ts";
import type { Padded } from "../rl/padded.ts";
import type { Rollout } from "../sample/generate.ts";

/**
 * B responses, typed arrays and numbers alone: `structuredClone` copies it, {@link experienceToBytes} writes it down. Per-token
 * arrays are [B, W] row-major, W the longest response; `batch.mask` is 1 where a token exists. How earlier tokens change the logits
 * of later ones (temperature, penalty, biases, the caller's transforms) is not in it: whoever scores it again passes the
 * Adjustments it was drawn with.
 */
export interface Experience {
  /** int32 ids of each prompt and each response. */
  readonly queries: readonly Int32Array[];
  readonly responses: readonly Int32Array[];
  readonly batch: Padded;
  /** log p under the distribution each token was drawn from. */
  readonly logprobs: Float32Array;
  readonly values: Float32Array;
  /** What each token could have been, [B, W]. */
  readonly kept: PackedKept;
  /** Probability of the kept sets before the others were left out. 0 where there is no token. [B, W] */
  readonly keptMass: Float64Array;
}

/**
 * Rollouts of one batch, all sampled with the same options, put together.
 * @param maskReplay whether tokens will be scored over their kept sets, as they were drawn, or over all tokens
 */
export function experience(rollouts: readonly Pick<Rollout, "queries" | "responses">[], maskReplay = true): Experience {
  const queries = rollouts.flatMap((r) => r.queries);
  const responses = rollouts.flatMap((r) => r.responses);
  const batch = padded(responses.map((r) => r.tokens));
  const { rows, width } = batch;
  const logprobs = new Float32Array(rows * width);
  const values = new Float32Array(rows * width);
  const keptMass = new Float64Array(rows * width);
  const kept: (KeptSet | undefined)[] = new Array(rows * width).fill(undefined);
  responses.forEach((r, b) => {
    logprobs.set(r.logprobs, b * width);
    values.set(r.values, b * width);
    keptMass.set(r.keptMass, b * width);
    if (maskReplay)
      r.kept.forEach((set, t) => {
        kept[b * width + t] = set;
      });
  });
  return {
    queries,
    responses: responses.map((r) => r.tokens),
    batch,
    logprobs,
    values,
    kept: packKept(kept),
    keptMass,
  };
}

/** The layout of responses of these lengths: the mask is 1 where a token exists. */
export function padded(responses: readonly Int32Array[]): Padded {
  const rows = responses.length;
  const width = Math.max(0, ...responses.map(({ length }) => length));
  const mask = new Uint8Array(rows * width);
  responses.forEach(({ length }, b) => {
    mask.fill(1, b * width, b * width + length);
  });
  return { rows, width, mask };
}

const ARRAYS = { Uint8Array, Int32Array, Float32Array, Float64Array } as const;
type Arrays = Readonly<Record<string, Uint8Array | Int32Array | Float32Array | Float64Array>>;

/** Every array begins at a multiple of this, the largest element. */
const ALIGNMENT = 8;
const aligned = (bytes: number) => Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;

/**
 * Experience as bytes, in the byte order of this machine (little-endian wherever the engine runs): the length of the header in
 * 4 bytes, the header in JSON with type and length of each array, then the arrays, each at a multiple of 8 bytes.
 */
export function experienceToBytes(data: Experience): Uint8Array<ArrayBuffer> {
  const arrays: Arrays = {
    queryLengths: Int32Array.from(data.queries, ({ length }) => length),
    queries: joined(data.queries),
    responseLengths: Int32Array.from(data.responses, ({ length }) => length),
    responses: joined(data.responses),
    logprobs: data.logprobs,
    values: data.values,
    keptMass: data.keptMass,
    ...Object.fromEntries(Object.entries(data.kept).map(([name, array]) => [`kept.${name}`, array])),
  };
  const table = Object.entries(arrays).map(([name, array]) => [name, array.constructor.name, array.length]);
  const header = new TextEncoder().encode(JSON.stringify({ experience: 1, arrays: table }));
  const starts: number[] = [];
  let end = aligned(4 + header.length);
  for (const { byteLength } of Object.values(arrays)) {
    starts.push(end);
    end = aligned(end + byteLength);
  }
  const bytes = new Uint8Array(end);
  new DataView(bytes.buffer).setUint32(0, header.length, true);
  bytes.set(header, 4);
  Object.values(arrays).forEach(({ buffer, byteOffset, byteLength }, i) => {
    bytes.set(new Uint8Array(buffer, byteOffset, byteLength), starts[i]);
  });
  return bytes;
}

/**
 * What {@link experienceToBytes} wrote.
 * @throws data - bytes that are not experience, or not all of it
 */
export function experienceFromBytes(bytes: Uint8Array): Experience {
  const arrays = readArrays(bytes);
  const responses = split(arrays.responses as Int32Array, arrays.responseLengths as Int32Array);
  return {
    queries: split(arrays.queries as Int32Array, arrays.queryLengths as Int32Array),
    responses,
    batch: padded(responses),
    logprobs: arrays.logprobs as Float32Array,
    values: arrays.values as Float32Array,
    keptMass: arrays.keptMass as Float64Array,
    kept: {
      index: arrays["kept.index"] as Int32Array,
      sizes: arrays["kept.sizes"] as Int32Array,
      starts: arrays["kept.starts"] as Int32Array,
      bits: arrays["kept.bits"] as Uint8Array,
      words: arrays["kept.words"] as Int32Array,
    },
  };
}

/** Arrays that share no memory with the bytes. */
function readArrays(given: Uint8Array): Arrays {
  const bytes = new Uint8Array(given.buffer, given.byteOffset, given.byteLength); // a Buffer's slice is no copy
  const broken = (found: string): never =>
    fail("data", {
      where: "experienceFromBytes",
      found,
      expected: "bytes of experienceToBytes, all of them",
      fix: "write or send them again",
    });
  if (bytes.length < 4) broken(`${bytes.length} bytes`);
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  if (4 + length > bytes.length) broken(`a header of ${length} bytes in ${bytes.length}`);
  let header: { experience?: number; arrays: [name: string, type: keyof typeof ARRAYS, length: number][] };
  try {
    header = parseJson(new TextDecoder().decode(bytes.subarray(4, 4 + length))) as typeof header;
  } catch {
    return broken("a header that is not JSON");
  }
  if (header?.experience !== 1) return broken("another kind of data");
  const arrays: Record<string, Arrays[string]> = {};
  let start = aligned(4 + length);
  for (const [name, type, n] of header.arrays) {
    const end = start + n * ARRAYS[type].BYTES_PER_ELEMENT;
    if (end > bytes.length) broken(`${bytes.length} bytes, of ${end} up to ${name}`);
    arrays[name] = new ARRAYS[type](bytes.slice(start, end).buffer);
    start = aligned(end);
  }
  return arrays;
}

/** Lists one after another. */
function joined(lists: readonly Int32Array[]): Int32Array {
  const all = new Int32Array(lists.reduce((n, { length }) => n + length, 0));
  let start = 0;
  for (const list of lists) {
    all.set(list, start);
    start += list.length;
  }
  return all;
}

/** The inverse of {@link joined}. */
function split(all: Int32Array, lengths: Int32Array): Int32Array[] {
  let end = 0;
  return Array.from(lengths, (length) => {
    end += length;
    return all.slice(end - length, end);
  });
}
