/**
 * @file Messages in the wire format of Protocol Buffers (https://protobuf.dev/programming-guides/encoding), as far as ONNX files need
 * it. A library that knows every message by its schema takes longer to start than all programs of a model take to write.
 */

const [VARINT, LENGTH_DELIMITED, FIXED32] = [0, 2, 5];

const utf8 = new TextEncoder();

/** One message: its fields in the order in which they are added, each by its number. */
export class Message {
  #bytes = new Uint8Array(64);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  /** Of type int32, int64 or an enumeration. */
  int(field: number, value: number): this {
    this.#tag(field, VARINT);
    return this.#varint(value);
  }

  float(field: number, value: number): this {
    this.#tag(field, FIXED32);
    return this.#fixed32(value);
  }

  text(field: number, text: string): this {
    return this.bytes(field, utf8.encode(text));
  }

  message(field: number, message: Message): this {
    return this.bytes(field, message.finish());
  }

  bytes(field: number, bytes: Uint8Array): this {
    this.announce(field, bytes.length);
    this.#room(bytes.length);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
    return this;
  }

  /** What stands before the `length` bytes of a text, of bytes or of a message that are written elsewhere. */
  announce(field: number, length: number): this {
    this.#tag(field, LENGTH_DELIMITED);
    return this.#varint(length);
  }

  /** Repeated int32 or int64, packed. */
  ints(field: number, values: readonly number[]): this {
    if (values.length === 0) return this;
    const packed = new Message();
    for (const value of values) packed.#varint(value);
    return this.message(field, packed);
  }

  /** Repeated float, packed. */
  floats(field: number, values: ArrayLike<number>): this {
    if (values.length === 0) return this;
    const packed = new Message();
    for (let i = 0; i < values.length; i++) packed.#fixed32(values[i]);
    return this.message(field, packed);
  }

  /** All that was added: a view, until more is added. */
  finish(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  #tag(field: number, type: number): void {
    this.#varint(field * 8 + type);
  }

  /** Seven bits at a time, the lowest first; of a negative number those of its 64-bit two's complement. */
  #varint(value: number): this {
    this.#room(10);
    let rest = value;
    if (value < 0) {
      let negative = BigInt.asUintN(64, BigInt(value));
      for (; negative > 127n; negative >>= 7n) this.#bytes[this.#length++] = Number(negative & 127n) | 128;
      rest = Number(negative);
    } else for (; rest > 127; rest = Math.floor(rest / 128)) this.#bytes[this.#length++] = (rest % 128) | 128;
    this.#bytes[this.#length++] = rest;
    return this;
  }

  #fixed32(value: number): this {
    this.#room(4);
    this.#view.setFloat32(this.#length, value, true);
    this.#length += 4;
    return this;
  }

  #room(bytes: number): void {
    const needed = this.#length + bytes;
    if (needed <= this.#bytes.length) return;
    const larger = new Uint8Array(Math.max(needed, 2 * this.#bytes.length));
    larger.set(this.finish());
    this.#bytes = larger;
    this.#view = new DataView(larger.buffer);
  }
}
