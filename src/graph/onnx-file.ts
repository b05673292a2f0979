/**
 * @file An ONNX model as a file for other programs, written piece by piece: its numbers are made one tensor at a time, so that no
 * second copy of a model is ever in memory. What does not fit into one file, whose limit is protobuf's 2 GB, lies beside it
 * ("external data" in ONNX).
 */
import {
  addElsewhere,
  assembleOnnx,
  bytesIn,
  bytesOf,
  modelInPieces,
  type Program,
  type StoredTensor,
} from "./onnx.ts";

/** One file, in pieces. */
export interface FileInPieces {
  readonly name: string;
  readonly bytes: number;
  pieces(): Iterable<Uint8Array>;
}

/** Below protobuf's limit of 2^31 bytes, and below what browsers take as one buffer. */
const FILE_LIMIT = 1.9e9;
/** Numbers in a file of their own begin at a multiple of this. */
const ALIGNMENT = 64;

/**
 * A program as the file `name`, and as many files `name_data`, `name_data_1`, ... beside it as its numbers need.
 * @param options.lacks ONNX operators to do without
 * @param options.limit bytes of the largest file; a larger tensor gets one of its own
 */
export function onnxFiles(
  program: Program,
  name: string,
  { lacks, limit = FILE_LIMIT }: { lacks?: ReadonlySet<string>; limit?: number } = {},
): FileInPieces[] {
  const { graph, stored } = assembleOnnx(program, { lacks });
  const whole = modelInPieces(graph, stored);
  if (whole.size <= limit) return [{ name, bytes: whole.size, pieces: whole.pieces }];
  const files = beside(stored, name, limit);
  for (const { name: file, tensors } of files)
    for (const { tensor, offset } of tensors) addElsewhere(graph, tensor, file, offset);
  const model = modelInPieces(graph, []);
  return [{ name, bytes: model.size, pieces: model.pieces }, ...files];
}

/** A file of numbers alone, and where each tensor lies in it. */
interface NumbersFile extends FileInPieces {
  readonly tensors: readonly { tensor: StoredTensor; offset: number }[];
}

function beside(stored: readonly StoredTensor[], name: string, limit: number): NumbersFile[] {
  const groups: { tensors: { tensor: StoredTensor; offset: number }[]; bytes: number }[] = [];
  for (const tensor of stored) {
    const last = groups.at(-1);
    const offset = last ? Math.ceil(last.bytes / ALIGNMENT) * ALIGNMENT : 0;
    if (last && offset + bytesIn(tensor) <= limit) {
      last.tensors.push({ tensor, offset });
      last.bytes = offset + bytesIn(tensor);
    } else groups.push({ tensors: [{ tensor, offset: 0 }], bytes: bytesIn(tensor) });
  }
  return groups.map(({ tensors, bytes }, i) => ({
    name: `${name}_data${i === 0 ? "" : `_${i}`}`,
    tensors,
    bytes,
    *pieces() {
      let at = 0;
      for (const { tensor, offset } of tensors) {
        if (offset > at) yield new Uint8Array(offset - at);
        yield bytesOf(tensor.make());
        at = offset + bytesIn(tensor);
      }
    },
  }));
}
