/** @file From symbolic tensors to the bytes of an ONNX model. */
import { fail } from "../base/errors.ts";
import { lowering } from "./lower.ts";
import { cachedAttentionOp } from "./ops/inference.ts";
import { reshapeOp } from "./ops/shape.ts";
import { Message } from "./protobuf.ts";
import {
  type AttributeValue,
  type Emitter,
  elementCount,
  isInput,
  type Node,
  type StoredNumbers,
  storedData,
  type Tensor,
  type TensorType,
} from "./tensor.ts";

/** A graph ready to run: named outputs, and tensors that are fed instead of computed. */
export interface Program {
  /** Printed in errors and profiles. */
  readonly name: string;
  /** Results, in order. Names are what the caller fetches. */
  readonly outputs: Readonly<Record<string, Tensor>>;
  /**
   * Names of axes whose size is given at each run. The graph is built with any size for them, and must hold no operation that
   * has such a size among its constants: no expand, and no reshape that changes more than one of them.
   */
  readonly free?: readonly string[];
  /** What free axes are called in the file, where that is not their name here. */
  readonly axisNames?: Readonly<Record<string, string>>;
  /** Tensors fed by the caller although an operation could compute them: what a forward pass saved. */
  readonly cuts?: ReadonlyMap<Tensor, string>;
}

export interface ONNXModel {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly inputs: ReadonlyMap<string, TensorType>;
  readonly outputs: ReadonlyMap<string, TensorType>;
  /** Names of the axes whose size is given at each run. */
  readonly free: readonly string[];
  /** The ONNX operators it uses. */
  readonly opTypes: ReadonlySet<string>;
}

/** ONNX Runtime 1.30 accepts opset 26 and IR version 13 at most; 21 and 10 have everything used here. */
const OPSET = 21;
const IR_VERSION = 10;

/** Numbers of the fields in onnx.proto, and of its enumerations. */
const MODEL = { irVersion: 1, producerName: 2, graph: 7, opsetImport: 8 };
const OPERATOR_SET = { domain: 1, version: 2 };
const GRAPH = { node: 1, name: 2, initializer: 5, input: 11, output: 12 };
const NODE = { input: 1, output: 2, name: 3, opType: 4, attribute: 5, domain: 7 };
const ATTRIBUTE = { name: 1, f: 2, i: 3, s: 4, ints: 8, type: 20 };
const ATTRIBUTE_TYPE = { float: 1, int: 2, string: 3, ints: 7 };
const TENSOR = { dims: 1, dataType: 2, floatData: 4, int32Data: 5, int64Data: 7, name: 8, rawData: 9 };
const TENSOR_ELSEWHERE = { externalData: 13, dataLocation: 14, external: 1 };
const STRING_PAIR = { key: 1, value: 2 };
const VALUE_INFO = { name: 1, type: 2 };
const TYPE = { tensor: 1, sequence: 4 };
const TENSOR_TYPE = { elemType: 1, shape: 2 };
const SEQUENCE_TYPE = { elemType: 1 };
const SHAPE = { dim: 1 };
const DIM = { value: 1, param: 2, denotation: 3 };
const DATA_TYPE = { float32: 1, uint8: 2, int8: 3, int32: 6, int64: 7 } as const;

/** Name of the extra first output of {@link writeOnnx}'s `sentinel` form. */
export const SENTINEL = "sentinel";

interface WriteOptions {
  sentinel?: boolean;
  lacks?: ReadonlySet<string>;
}

/** Numbers of a program that are not yet in its graph. */
export interface StoredTensor {
  readonly name: string;
  readonly type: TensorType;
  make(): StoredNumbers;
}

/**
 * Write a program as an ONNX model.
 * @param options.sentinel add a first output that is a sequence; for the reason see backend/ort-node.ts, the only user
 * @param options.lacks    ONNX operators to do without, as lower.ts says
 */
export function writeOnnx(program: Program, options: WriteOptions = {}): ONNXModel {
  const { graph, stored, inputs, outputs, opTypes } = assembleOnnx(program, options);
  const { size, pieces } = modelInPieces(graph, stored);
  const bytes = new Uint8Array(size);
  let at = 0;
  for (const piece of pieces()) {
    bytes.set(piece, at);
    at += piece.length;
  }
  const types = (tensors: ReadonlyMap<string, TensorType>) =>
    new Map([...tensors].map(([name, { dtype, shape }]) => [name, { dtype, shape }])); // no tensors: the graph, and what is stored in it, can go
  return {
    name: program.name,
    bytes,
    inputs: types(inputs),
    outputs: types(outputs),
    free: program.free ?? [],
    opTypes,
  };
}

/** A model of a graph, with numbers in it that are made one tensor at a time. */
export function modelInPieces(
  graph: Message,
  stored: readonly StoredTensor[],
): { size: number; pieces(): Iterable<Uint8Array> } {
  const tensors = stored.map((tensor) => {
    const header = tensorHeader(tensor).announce(TENSOR.rawData, bytesIn(tensor)).finish();
    const start = new Message().announce(GRAPH.initializer, header.length + bytesIn(tensor)).finish();
    return { tensor, start, header, size: start.length + header.length + bytesIn(tensor) };
  });
  const length = tensors.reduce((sum, { size }) => sum + size, graph.finish().length);
  const head = new Message()
    .int(MODEL.irVersion, IR_VERSION)
    .text(MODEL.producerName, "valuehead")
    .message(MODEL.opsetImport, operatorSet("", OPSET))
    .message(MODEL.opsetImport, operatorSet("com.microsoft", 1))
    .announce(MODEL.graph, length)
    .finish();
  return {
    size: head.length + length,
    *pieces() {
      yield head;
      yield graph.finish();
      for (const { tensor, start, header } of tensors) {
        yield start;
        yield header;
        yield bytesOf(tensor.make());
      }
    },
  };
}

const operatorSet = (domain: string, version: number) =>
  new Message().text(OPERATOR_SET.domain, domain).int(OPERATOR_SET.version, version);

/** A program as ONNX: its graph, and the numbers that belong into it. */
export function assembleOnnx(program: Program, options: WriteOptions = {}) {
  const { free = [] } = program;
  const { lacks = new Set() } = options;
  const graph = new Message();
  const nodes: string[] = []; // the operator of each
  const initializers: Message[] = [];
  const stored: StoredTensor[] = [];
  const inputs = new Map<string, TensorType>();
  const names = new Map<Tensor, string>();
  const constants = new Map<string, string>();
  let counter = 0; // generated names begin with a dot, so that they cannot clash

  const initializer = (
    key: string,
    type: number,
    sizes: readonly number[],
    values: (tensor: Message) => Message,
  ): string => {
    let name = constants.get(key);
    if (name === undefined) {
      name = `.c${constants.size}`;
      constants.set(key, name);
      initializers.push(values(tensorOf(type, sizes)).text(TENSOR.name, name));
    }
    return name;
  };
  const emitter: Emitter = {
    node: (opType, ins, outs, attrs = {}, domain = "") => {
      const node = new Message();
      for (const name of ins) node.text(NODE.input, name);
      for (const name of outs) node.text(NODE.output, name);
      node.text(NODE.name, `n${nodes.length}`).text(NODE.opType, opType);
      for (const [name, value] of Object.entries(attrs)) node.message(NODE.attribute, attribute(name, value));
      graph.message(GRAPH.node, node.text(NODE.domain, domain));
      nodes.push(opType);
    },
    temp: () => `.t${counter++}`,
    int64: (values) =>
      initializer(`i${values}`, DATA_TYPE.int64, [values.length], (tensor) => tensor.ints(TENSOR.int64Data, values)),
    uint8: (value) => initializer(`u${value}`, DATA_TYPE.uint8, [], (tensor) => tensor.ints(TENSOR.int32Data, [value])),
    float: (value, sizes = []) => {
      const scalar = initializer(`f${value}`, DATA_TYPE.float32, [], (tensor) =>
        tensor.floats(TENSOR.floatData, [value]),
      );
      if (sizes.length === 0) return scalar;
      const full = `.t${counter++}`;
      emitter.node("Expand", [scalar, emitter.int64(sizes)], [full]);
      return full;
    },
    floats: (values) =>
      initializer(`v${values}`, DATA_TYPE.float32, [values.length], (tensor) =>
        tensor.floats(TENSOR.floatData, values),
      ),
    free,
  };

  if (options.sentinel) emitter.node("SequenceConstruct", [emitter.float(0)], [SENTINEL]);

  const wanted = Object.values(program.outputs);
  const used = usedTensors(wanted, program.cuts);
  const resultNames = new Map(Object.entries(program.outputs).map(([name, t]) => [t, name]));
  const feed = (t: Tensor, name: string) => {
    // ONNX would let one feed serve both, and would leave the buffer of an output unwritten.
    if (inputs.has(name) || Object.hasOwn(program.outputs, name))
      fail("shape", {
        where: `program ${program.name}`,
        found: `an input ${name} and another input or output of that name`,
        expected: "a name for each input and output",
        fix: "rename one of them, or make the input once and use it twice",
      });
    names.set(t, name);
    inputs.set(name, t);
  };
  for (const node of used.nodes) {
    for (const t of node.outputs) {
      const cut = program.cuts?.get(t);
      if (cut !== undefined && used.tensors.has(t)) feed(t, cut);
    }
    const make = storedData(node.outputs[0]);
    if (isInput(node.outputs[0])) {
      feed(node.outputs[0], node.attrs.name);
    } else if (make) {
      const name = `.w${stored.length}`;
      names.set(node.outputs[0], name);
      stored.push({ name, type: node.outputs[0], make });
    } else if (node.outputs.some((t) => used.tensors.has(t) && !names.has(t))) {
      const outs = node.outputs.map((t) => {
        if (!used.tensors.has(t)) return "";
        // A cut output of an operation that still runs for another output gets a name that is never read.
        if (names.has(t)) return `.t${counter++}`;
        const name = resultNames.get(t) ?? `.t${counter++}`;
        names.set(t, name);
        return name;
      });
      // Trailing outputs that are not requested are not computed; earlier ones must have a name.
      while (outs.at(-1) === "") outs.pop();
      const outputs = outs.map((name) => name || `.t${counter++}`);
      const before = nodes.length;
      node.op.emit(
        lowering(emitter, node, lacks, program),
        node.inputs.map((t) => names.get(t) as string),
        outputs,
        node,
      );
      if (free.length > 0) checkFree(program.name, node, nodes.slice(before), free);
    }
  }
  const outputs = new Map<string, TensorType>();
  for (const [name, t] of Object.entries(program.outputs)) {
    // Only an input, or a tensor that is a result twice over, does not already have the name.
    if (names.get(t) !== name) emitter.node("Identity", [names.get(t) as string], [name]);
    outputs.set(name, t);
  }

  graph.text(GRAPH.name, program.name);
  for (const tensor of initializers) graph.message(GRAPH.initializer, tensor);
  for (const [name, t] of inputs) graph.message(GRAPH.input, valueInfo(name, t, program));
  if (options.sentinel) graph.message(GRAPH.output, sentinelInfo());
  for (const [name, t] of outputs) graph.message(GRAPH.output, valueInfo(name, t, program));
  return { graph, stored, inputs, outputs, opTypes: new Set(nodes) };
}

/**
 * No free axis may be among the sizes that an operation has as constants. A reshape sees to that itself, and what lower.ts makes
 * of cached attention holds sizes of heads alone.
 */
function checkFree(program: string, { op }: Node, emitted: readonly string[], free: readonly string[]): void {
  const sized = emitted.find((opType) => opType === "Reshape" || opType === "Expand");
  if (!sized || op === cachedAttentionOp || op === reshapeOp) return;
  fail("shape", {
    where: `program ${program}`,
    found: `${sized}, which has sizes among its constants, and free axes ${free.join(", ")}`,
    expected: "operations that take any size",
    fix: "take an operation without sizes, or leave no axis free",
  });
}

/** What must be computed for the outputs, going back no further than the cuts; nodes in the order they were made. */
function usedTensors(outputs: readonly Tensor[], cuts?: ReadonlyMap<Tensor, string>) {
  const tensors = new Set<Tensor>();
  const nodes = new Set<Node>();
  const computed = new Set<Node>();
  const stack = [...outputs];
  for (let t = stack.pop(); t; t = stack.pop()) {
    if (tensors.has(t)) continue;
    tensors.add(t);
    nodes.add(t.node);
    if (cuts?.has(t) || computed.has(t.node)) continue;
    computed.add(t.node);
    stack.push(...t.node.inputs);
  }
  return { tensors, nodes: [...nodes].sort((a, b) => a.id - b.id) };
}

function attribute(name: string, value: AttributeValue): Message {
  const message = new Message().text(ATTRIBUTE.name, name);
  if (typeof value === "number") return message.int(ATTRIBUTE.i, value).int(ATTRIBUTE.type, ATTRIBUTE_TYPE.int);
  if (typeof value === "string") return message.text(ATTRIBUTE.s, value).int(ATTRIBUTE.type, ATTRIBUTE_TYPE.string);
  if ("float" in value) return message.float(ATTRIBUTE.f, value.float).int(ATTRIBUTE.type, ATTRIBUTE_TYPE.float);
  for (const one of value) message.int(ATTRIBUTE.ints, one);
  return message.int(ATTRIBUTE.type, ATTRIBUTE_TYPE.ints);
}

/** ONNX is little-endian, as is all we run on. */
export const bytesOf = (data: StoredNumbers) =>
  new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);

/** Bytes of the numbers of a stored tensor. */
export const bytesIn = ({ type }: StoredTensor) => elementCount(type) * (type.dtype === "int8" ? 1 : 4);

function tensorOf(type: number, sizes: readonly number[]): Message {
  const tensor = new Message();
  for (const size of sizes) tensor.int(TENSOR.dims, size);
  return tensor.int(TENSOR.dataType, type);
}

/** A tensor of a file but for its numbers. */
const tensorHeader = ({ name, type: { dtype, shape } }: StoredTensor) =>
  tensorOf(
    DATA_TYPE[dtype],
    shape.map(({ size }) => size),
  ).text(TENSOR.name, name);

/** Adds a tensor to a graph whose numbers lie in another file. */
export function addElsewhere(graph: Message, stored: StoredTensor, file: string, offset: number): void {
  const tensor = tensorHeader(stored);
  const place = { location: file, offset: String(offset), length: String(bytesIn(stored)) };
  for (const [key, value] of Object.entries(place))
    tensor.message(
      TENSOR_ELSEWHERE.externalData,
      new Message().text(STRING_PAIR.key, key).text(STRING_PAIR.value, value),
    );
  graph.message(GRAPH.initializer, tensor.int(TENSOR_ELSEWHERE.dataLocation, TENSOR_ELSEWHERE.external));
}

function tensorType(t: TensorType, { free = [], axisNames = {} }: Pick<Program, "free" | "axisNames">): Message {
  // The size is what ONNX Runtime plans with; the axis name goes into the denotation beside it.
  const shape = new Message();
  for (const { name, size } of t.shape) {
    const dim = new Message();
    if (free.includes(name)) dim.text(DIM.param, axisNames[name] ?? name);
    else dim.int(DIM.value, size);
    shape.message(SHAPE.dim, dim.text(DIM.denotation, name));
  }
  return new Message().int(TENSOR_TYPE.elemType, DATA_TYPE[t.dtype]).message(TENSOR_TYPE.shape, shape);
}

function valueInfo(name: string, t: TensorType, program: Program): Message {
  const type = new Message().message(TYPE.tensor, tensorType(t, program));
  return new Message().text(VALUE_INFO.name, name).message(VALUE_INFO.type, type);
}

function sentinelInfo(): Message {
  const scalar = new Message().message(TYPE.tensor, tensorType({ dtype: "float32", shape: [] }, {}));
  const sequence = new Message().message(SEQUENCE_TYPE.elemType, scalar);
  const type = new Message().message(TYPE.sequence, sequence);
  return new Message().text(VALUE_INFO.name, SENTINEL).message(VALUE_INFO.type, type);
}
