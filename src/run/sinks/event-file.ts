/**
 * @file TensorBoard event files: a sequence of length-prefixed, checksummed records (TFRecord), each an Event protobuf.
 * Field numbers: tensorflow/core/util/event.proto and tensorflow/core/framework/summary.proto.
 */
import { type AppendBytes, createByteFile, exists, joinPath, makeDirectory } from "../../platform/files.ts";

export interface TensorBoardOptions {
  /** On resume: TensorBoard forgets what older files of the directory say about this step and later ones. */
  firstStep?: number;
  /** Milliseconds since 1970. */
  now?: () => number;
}

/** Writes scalars for TensorBoard. What was written is in the file when the promise is settled. */
export class TensorBoardWriter {
  readonly #file: AppendBytes;
  readonly #now: () => number;

  private constructor(file: AppendBytes, now: () => number) {
    this.#file = file;
    this.#now = now;
  }

  /**
   * Starts a new event file in `directory`, which is created if needed. TensorBoard reads all event files of a directory
   * as one run, so a resumed run opens the same directory.
   * @throws checkpoint - a directory that cannot be written
   */
  static async open(directory: string, options: TensorBoardOptions = {}): Promise<TensorBoardWriter> {
    const { firstStep, now = Date.now } = options;
    await makeDirectory(directory);
    // TensorBoard reads the files in the order of their names.
    const name = joinPath(directory, `events.out.tfevents.${Math.floor(now() / 1000)}.valuehead.`);
    let n = 0;
    while (await exists(name + n)) n++;
    const writer = new TensorBoardWriter(await createByteFile(name + n), now);
    await writer.#event([...tag(3, 2), ...delimited(utf8("brain.Event:2"))]); // file_version
    if (firstStep !== undefined) await writer.#event([...stepField(firstStep), ...tag(7, 2), ...delimited(START)]);
    return writer;
  }

  /**
   * Writes the values of one step. Values that are undefined are left out; NaN and infinities are written.
   * @param step   whole, from 0
   * @param values by tag; a tag's part before the first `/` names its group on the page. Kept as float32
   * @throws checkpoint - a full disk and its like
   */
  async scalars(step: number, values: Partial<Record<string, number>>): Promise<void> {
    const summary = Object.entries(values).flatMap(([name, value]) => {
      if (value === undefined) return [];
      const fields = [...tag(1, 2), ...delimited(utf8(name)), ...tag(2, 5), ...float32(value)]; // tag, simple_value
      return [...tag(1, 2), ...delimited(fields)]; // Summary.value
    });
    if (summary.length > 0) await this.#event([...stepField(step), ...tag(5, 2), ...delimited(summary)]);
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  /** One record: an Event of the wall time in seconds and the fields given. */
  #event(fields: readonly number[]): Promise<void> {
    const payload = Uint8Array.from([...tag(1, 1), ...float64(this.#now() / 1000), ...fields]);
    const record = new Uint8Array(payload.length + 16);
    const view = new DataView(record.buffer);
    view.setUint32(0, payload.length, true); // the low half of a u64
    view.setUint32(8, maskedCrc(record.subarray(0, 8)), true);
    record.set(payload, 12);
    view.setUint32(12 + payload.length, maskedCrc(payload), true);
    return this.#file.append(record);
  }
}

/** SessionLog { status: START } */
const START = [...tag(1, 0), 1];

// ---- protobuf ----

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);

/** What precedes a field's value. Wire types: 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes. */
function tag(field: number, wireType: number): number[] {
  return [(field << 3) | wireType];
}

function varint(value: number): number[] {
  const bytes: number[] = [];
  // Not `>>>`: steps may need more than 32 bits.
  for (; value >= 128; value = Math.floor(value / 128)) bytes.push((value % 128) | 128);
  return [...bytes, value];
}

function delimited(bytes: ArrayLike<number>): number[] {
  return [...varint(bytes.length), ...Array.from(bytes)];
}

/** Event.step; 0 is what a missing step means. */
function stepField(step: number): number[] {
  return step === 0 ? [] : [...tag(2, 0), ...varint(step)];
}

function float32(value: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(4));
  view.setFloat32(0, value, true);
  return new Uint8Array(view.buffer);
}

function float64(value: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, value, true);
  return new Uint8Array(view.buffer);
}

// ---- checksums ----

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? (n >>> 1) ^ 0x82f63b78 : n >>> 1;
  return n;
});

/** CRC-32C (Castagnoli), as RFC 3720 defines it. */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

/** TFRecord keeps checksums rotated and shifted, so that data with checksums in it can be checksummed again. */
function maskedCrc(bytes: Uint8Array): number {
  const crc = crc32c(bytes);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}
