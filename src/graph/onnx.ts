/** @file From symbolic tensors to the bytes of an ONNX model. */
import { create, toBinary } from "@bufbuild/protobuf";
import {
  type AttributeProto,
  AttributeProtoSchema,
  AttributeProto_AttributeType as AttributeType,
  TensorProto_DataType as DataType,
  GraphProtoSchema,
  ModelProtoSchema,
  type NodeProto,
  NodeProtoSchema,
  OperatorSetIdProtoSchema,
  type TensorProto,
  TensorProtoSchema,
  TensorShapeProto_DimensionSchema,
  TensorShapeProtoSchema,
  TypeProto_SequenceSchema,
  TypeProto_TensorSchema,
  TypeProtoSchema,
  type ValueInfoProto,
  ValueInfoProtoSchema,
} from "onnx-buf";
import { fail } from "../base/errors.ts";
import { lowering } from "./lower.ts";
import { cachedAttentionOp } from "./ops/inference.ts";
import { reshapeOp } from "./ops/shape.ts";
import {
  type AttributeValue,
  type Emitter,
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
const IR_VERSION = 10n;

const dataType = {
  float32: DataType.FLOAT,
  int32: DataType.INT32,
  int64: DataType.INT64,
  int8: DataType.INT8,
} as const;

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
  const { graph, model, stored, inputs, outputs, opTypes } = assembleOnnx(program, options);
  for (const tensor of stored) {
    const data = tensor.make();
    const rawData = bytesOf(data);
    graph.initializer.push(create(TensorProtoSchema, { ...tensorHeader(tensor), rawData }));
  }
  const bytes = toBinary(ModelProtoSchema, { ...model, graph });
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

/** A program as ONNX: its graph, the model around it, and the numbers that belong into the graph. */
export function assembleOnnx(program: Program, options: WriteOptions = {}) {
  const { free = [] } = program;
  const { lacks = new Set() } = options;
  const nodes: NodeProto[] = [];
  const initializers: TensorProto[] = [];
  const stored: StoredTensor[] = [];
  const inputs = new Map<string, TensorType>();
  const names = new Map<Tensor, string>();
  const constants = new Map<string, string>();
  let counter = 0; // generated names begin with a dot, so that they cannot clash

  const initializer = (key: string, make: (name: string) => TensorProto): string => {
    let name = constants.get(key);
    if (name === undefined) {
      name = `.c${constants.size}`;
      constants.set(key, name);
      initializers.push(make(name));
    }
    return name;
  };
  const emitter: Emitter = {
    node: (opType, ins, outs, attrs = {}, domain = "") => {
      const attribute = Object.entries(attrs).map(([name, value]) => attributeProto(name, value));
      nodes.push(
        create(NodeProtoSchema, { name: `n${nodes.length}`, opType, domain, input: ins, output: outs, attribute }),
      );
    },
    temp: () => `.t${counter++}`,
    int64: (values) =>
      initializer(`i${values}`, (name) =>
        create(TensorProtoSchema, {
          name,
          dataType: DataType.INT64,
          dims: [BigInt(values.length)],
          int64Data: values.map(BigInt),
        }),
      ),
    uint8: (value) =>
      initializer(`u${value}`, (name) =>
        create(TensorProtoSchema, { name, dataType: DataType.UINT8, dims: [], int32Data: [value] }),
      ),
    float: (value, sizes = []) => {
      const scalar = initializer(`f${value}`, (name) =>
        create(TensorProtoSchema, { name, dataType: DataType.FLOAT, dims: [], floatData: [value] }),
      );
      if (sizes.length === 0) return scalar;
      const full = `.t${counter++}`;
      emitter.node("Expand", [scalar, emitter.int64(sizes)], [full]);
      return full;
    },
    floats: (values) =>
      initializer(`v${values}`, (name) =>
        create(TensorProtoSchema, {
          name,
          dataType: DataType.FLOAT,
          dims: [BigInt(values.length)],
          floatData: [...values],
        }),
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

  const valueInfos = (values: ReadonlyMap<string, TensorType>) =>
    [...values].map(([name, t]) => valueInfo(name, t, program));
  const graph = create(GraphProtoSchema, {
    name: program.name,
    node: nodes,
    initializer: initializers,
    input: valueInfos(inputs),
    output: [...(options.sentinel ? [sentinelInfo()] : []), ...valueInfos(outputs)],
  });
  const model = create(ModelProtoSchema, {
    irVersion: IR_VERSION,
    producerName: "valuehead",
    opsetImport: [
      create(OperatorSetIdProtoSchema, { domain: "", version: BigInt(OPSET) }),
      create(OperatorSetIdProtoSchema, { domain: "com.microsoft", version: 1n }),
    ],
  });
  const opTypes = new Set(nodes.map((n) => n.opType));
  return { graph, model, stored, inputs, outputs, opTypes };
}

/**
 * No free axis may be among the sizes that an operation has as constants. A reshape sees to that itself, and what lower.ts makes
 * of cached attention holds sizes of heads alone.
 */
function checkFree(program: string, { op }: Node, emitted: readonly NodeProto[], free: readonly string[]): void {
  const sized = emitted.find(({ opType }) => opType === "Reshape" || opType === "Expand");
  if (!sized || op === cachedAttentionOp || op === reshapeOp) return;
  fail("shape", {
    where: `program ${program}`,
    found: `${sized.opType}, which has sizes among its constants, and free axes ${free.join(", ")}`,
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

function attributeProto(name: string, value: AttributeValue): AttributeProto {
  if (typeof value === "number")
    return create(AttributeProtoSchema, { name, type: AttributeType.INT, i: BigInt(value) });
  if (typeof value === "string")
    return create(AttributeProtoSchema, { name, type: AttributeType.STRING, s: new TextEncoder().encode(value) });
  if ("float" in value) return create(AttributeProtoSchema, { name, type: AttributeType.FLOAT, f: value.float });
  return create(AttributeProtoSchema, { name, type: AttributeType.INTS, ints: value.map(BigInt) });
}

/** ONNX is little-endian, as is all we run on. */
export const bytesOf = (data: StoredNumbers) =>
  new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);

/** A tensor of a file but for its numbers. */
export const tensorHeader = ({ name, type: { dtype, shape } }: StoredTensor) =>
  create(TensorProtoSchema, { name, dataType: dataType[dtype], dims: shape.map((d) => BigInt(d.size)) });

function tensorType(t: TensorType, { free = [], axisNames = {} }: Pick<Program, "free" | "axisNames">) {
  // dim_value carries the size ONNX Runtime plans with; the axis name goes into the denotation beside it.
  const dim = t.shape.map((d) =>
    create(TensorShapeProto_DimensionSchema, {
      value: free.includes(d.name)
        ? { case: "dimParam", value: axisNames[d.name] ?? d.name }
        : { case: "dimValue", value: BigInt(d.size) },
      denotation: d.name,
    }),
  );
  return create(TypeProto_TensorSchema, {
    elemType: dataType[t.dtype],
    shape: create(TensorShapeProtoSchema, { dim }),
  });
}

function valueInfo(name: string, t: TensorType, program: Program): ValueInfoProto {
  const type = create(TypeProtoSchema, { value: { case: "tensorType", value: tensorType(t, program) } });
  return create(ValueInfoProtoSchema, { name, type });
}

function sentinelInfo(): ValueInfoProto {
  const elemType = create(TypeProtoSchema, {
    value: { case: "tensorType", value: tensorType({ dtype: "float32", shape: [] }, {}) },
  });
  const sequence = create(TypeProto_SequenceSchema, { elemType });
  return create(ValueInfoProtoSchema, {
    name: SENTINEL,
    type: create(TypeProtoSchema, { value: { case: "sequenceType", value: sequence } }),
  });
}
