/**
 * @file An ONNX model as a file for other programs, written piece by piece: its numbers are made one tensor at a time, so that no
 * second copy of a model is ever in memory. What does not fit into one file, whose limit is protobuf's 2 GB, lies beside it
 * ("external data" in ONNX).
 */
import { create, toBinary } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import {
  GraphProtoSchema,
  ModelProtoSchema,
  StringStringEntryProtoSchema,
  TensorProto_DataLocation,
  TensorProtoSchema,
} from "onnx-buf";
import { assembleOnnx, bytesOf, type Program, type StoredTensor, tensorHeader } from "./onnx.ts";
import { elementCount } from "./tensor.ts";

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
/** Numbers of the fields in onnx.proto. */
const GRAPH = 7;
const INITIALIZER = 5;
const RAW_DATA = 9;

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
  const { graph, model, stored } = assembleOnnx(program, { lacks });
  const head = toBinary(ModelProtoSchema, model);
  const whole = stored.map(embedded);
  const file = modelFile(name, head, toBinary(GraphProtoSchema, graph), whole);
  if (file.bytes <= limit) return [file];
  const { places, files } = beside(stored, name, limit);
  graph.initializer.push(...places);
  return [modelFile(name, head, toBinary(GraphProtoSchema, graph), []), ...files];
}

const field = (number: number, length: number) =>
  new BinaryWriter().tag(number, WireType.LengthDelimited).uint32(length).finish();
const sizeOf = ({ type }: StoredTensor) => elementCount(type) * (type.dtype === "int8" ? 1 : 4);

/** A tensor as part of a graph. */
function embedded(tensor: StoredTensor) {
  const header = toBinary(TensorProtoSchema, tensorHeader(tensor));
  const size = sizeOf(tensor);
  const data = field(RAW_DATA, size);
  const start = field(INITIALIZER, header.length + data.length + size);
  const before = [start, header, data];
  return {
    bytes: before.reduce((n, { length }) => n + length, size),
    *pieces() {
      yield* before;
      yield bytesOf(tensor.make());
    },
  };
}

function modelFile(
  name: string,
  head: Uint8Array,
  graph: Uint8Array,
  tensors: readonly Pick<FileInPieces, "bytes" | "pieces">[],
): FileInPieces {
  const length = tensors.reduce((n, { bytes }) => n + bytes, graph.length);
  const start = field(GRAPH, Math.min(length, 2 ** 32 - 1)); // what is longer is not written
  return {
    name,
    bytes: head.length + start.length + length,
    *pieces() {
      yield head;
      yield start;
      yield graph;
      for (const tensor of tensors) yield* tensor.pieces();
    },
  };
}

/** The numbers in files of their own, and where each tensor lies. */
function beside(stored: readonly StoredTensor[], name: string, limit: number) {
  const groups: { tensors: { tensor: StoredTensor; offset: number }[]; bytes: number }[] = [];
  for (const tensor of stored) {
    const last = groups.at(-1);
    const offset = last ? Math.ceil(last.bytes / ALIGNMENT) * ALIGNMENT : 0;
    if (last && offset + sizeOf(tensor) <= limit) {
      last.tensors.push({ tensor, offset });
      last.bytes = offset + sizeOf(tensor);
    } else groups.push({ tensors: [{ tensor, offset: 0 }], bytes: sizeOf(tensor) });
  }
  const called = (i: number) => `${name}_data${i === 0 ? "" : `_${i}`}`;
  const entry = (key: string, value: string) => create(StringStringEntryProtoSchema, { key, value });
  const places = groups.flatMap(({ tensors }, i) =>
    tensors.map(({ tensor, offset }) =>
      create(TensorProtoSchema, {
        ...tensorHeader(tensor),
        dataLocation: TensorProto_DataLocation.EXTERNAL,
        externalData: [
          entry("location", called(i)),
          entry("offset", String(offset)),
          entry("length", String(sizeOf(tensor))),
        ],
      }),
    ),
  );
  const files = groups.map(
    ({ tensors, bytes }, i): FileInPieces => ({
      name: called(i),
      bytes,
      *pieces() {
        let at = 0;
        for (const { tensor, offset } of tensors) {
          if (offset > at) yield new Uint8Array(offset - at);
          yield bytesOf(tensor.make());
          at = offset + sizeOf(tensor);
        }
      },
    }),
  );
  return { places, files };
}
