/**
 * @file Every parameter of a model with a value head, in one table: name, shape, initialisation, weight decay, made from the family's
 * table. Reading and writing checkpoints, initialisation, the optimizer and the graphs all go by it.
 */
import type { Engine } from "../backend/engine.ts";
import type { Kept } from "../backend/kept.ts";
import { fail, messageOf } from "../base/errors.ts";
import type { RNG } from "../base/rng.ts";
import { stream } from "../base/streams.ts";
import { dequantize } from "../graph/ops/index.ts";
import { dims, input, type Tensor } from "../graph/tensor.ts";
import { zeros } from "../nn/adamw-kernel.ts";
import { dequantized, type QuantizedMatrix, quantize, quantizeTransposed } from "../nn/quantized.ts";
import { type Adapts, adapterRows } from "./adapter.ts";
import { type Architecture, lmHeadName, type ParameterInit, type ParameterRow } from "./family.ts";
import { valueHeadWidth } from "./value-head.ts";

/** One parameter of a model: its name, its shape, and where it lies. */
export interface Parameter {
  /** Name in a Hugging Face checkpoint. */
  readonly name: string;
  /** The block it is in, and its name there: 3 and `attn.c_attn.weight`. undefined outside the blocks. */
  readonly layer?: number;
  /** Its name within the block; the whole name outside the blocks. */
  readonly short: string;
  /** Size of each axis. */
  readonly shape: readonly number[];
  /** Name of each axis, such as `C` or `3C`. */
  readonly axes: readonly string[];
  /** What new weights are drawn from. */
  readonly init: ParameterInit;
  /** Whether weight decay applies. */
  readonly decay: boolean;
  /** How a matrix of a block is stored: x W or x Wᵀ. */
  readonly matrix?: "in,out" | "out,in";
  /** Held in int8, as [in, out], whatever `matrix` says of checkpoints. */
  readonly rounded?: boolean;
  /** Of a row of an adapter: which part it is. */
  readonly adapts?: Adapts;
  /** Where it lies in the flat buffer, in elements. */
  readonly start: number;
  /** The element after its last one. */
  readonly end: number;
}

/** The value head; `L,C` is [outputs, width]. */
const VALUE_HEAD: readonly ParameterRow[] = [
  { name: "v_head.summary.weight", axes: "L,C", init: "normal", decay: true },
  { name: "v_head.summary.bias", axes: "L", init: "zeros", decay: false },
];

export const VALUE_HEAD_NAMES = VALUE_HEAD.map(({ name }) => name);

const LAYER = "{layer}.";

/** The table for a model, in flat-buffer order: what the family says, the value head, the adapter. */
export function parameterTable({ family, config, sizes, adapter, basePrecision }: Architecture): readonly Parameter[] {
  const axisSizes: Record<string, number> = { ...family.axes(config), L: valueHeadWidth(config, sizes.width) };
  const head = config.summaryUseProj && config.valueHead !== false ? VALUE_HEAD : [];
  const patterns = [...family.table(config), ...head];
  const isBlock = ({ name }: ParameterRow) => name.includes(LAYER);
  const first = patterns.findIndex(isBlock);
  const block = patterns.filter(isBlock);
  const blocks = Array.from({ length: sizes.layers }, (_, layer) => block.map((row) => ({ ...row, layer }))).flat();
  const all: (ParameterRow & { layer?: number })[] = [
    ...patterns.slice(0, first),
    ...blocks,
    ...patterns.slice(first + block.length),
  ];
  const rows = all.map(({ name: pattern, axes: axesText, layer, init, decay, matrix }) => {
    const name = pattern.replace("{layer}", String(layer));
    const short = pattern.slice(pattern.includes(LAYER) ? pattern.indexOf(LAYER) + LAYER.length : 0);
    const axes = axesText.split(",");
    const rounded = (matrix && basePrecision === "int8") || undefined;
    return { name, layer, short, shape: axes.map((axis) => axisSizes[axis]), axes, init, decay, matrix, rounded };
  });
  return placed([...rows, ...(adapter ? adapterRows(rows, adapter) : [])]);
}

/** Rows one after another from 0. */
function placed<T extends Pick<Parameter, "shape">>(rows: readonly T[]): (T & Pick<Parameter, "start" | "end">)[] {
  let end = 0;
  return rows.map((row) => {
    const start = end;
    end += row.shape.reduce((n, s) => n * s, 1);
    return { ...row, start, end };
  });
}

/**
 * The rows that are trained, laid out one after another from 0: what gradients and moments exist for.
 * @param names all of them are rows of the table
 */
export const trainedRows = (table: readonly Parameter[], names: ReadonlySet<string>): readonly Parameter[] =>
  placed(table.filter(({ name }) => names.has(name)));

/**
 * Names of what is trained when the embeddings and the first `frozenLayers` blocks are not. A tied language-model head is the
 * token embedding, so it is not trained either. 0: everything. With an adapter, of all that only its rows and the value head.
 */
export function namesAbove(
  { family, config, adapter }: Architecture,
  table: readonly Parameter[],
  frozenLayers: number,
) {
  const embeddings = family.embeddings(config).map(({ name }) => name);
  const isFrozen = ({ name, layer }: Parameter) =>
    frozenLayers > 0 && (layer === undefined ? embeddings.includes(name) : layer < frozenLayers);
  const isOfBase = ({ name, adapts }: Parameter) => adapter && !adapts && !VALUE_HEAD_NAMES.includes(name);
  return new Set(table.filter((row) => !isFrozen(row) && !isOfBase(row)).map(({ name }) => name));
}

/** The rows of one block. */
export const rowsOfBlock = (table: readonly Parameter[], layer: number): readonly Parameter[] =>
  table.filter((row) => row.layer === layer);

/** For each layer the first one whose rows are like its own: such layers share their programs. An adapter may leave layers out. */
export function alikeLayers(table: readonly Parameter[]): readonly number[] {
  const first = new Map<string, number>();
  return Array.from(new Set(table.flatMap(({ layer }) => layer ?? [])), (layer) => {
    const rows = rowsOfBlock(table, layer).map(({ short, shape, adapts }) => ({ short, shape, adapts }));
    const key = JSON.stringify(rows);
    if (!first.has(key)) first.set(key, layer);
    return first.get(key) as number;
  });
}

/** The rows that the heads read: the final norm, the language-model head, the value head. */
export function headRows(model: Architecture, table: readonly Parameter[]): readonly Parameter[] {
  const embeddings = model.family.embeddings(model.config).map(({ name }) => name);
  const lmHead = lmHeadName(model);
  return table.filter(({ name, layer }) => layer === undefined && (name === lmHead || !embeddings.includes(name)));
}

/** Parameters as inputs of a program, by their short names; inputs are named with `prefix` in front. */
export function parameterInputs(rows: readonly Parameter[], prefix = ""): Record<string, Tensor> {
  return Object.fromEntries(
    rows.map((row) => [row.short, row.rounded ? roundedInput(row, prefix) : input(prefix + row.short, rowDims(row))]),
  );
}

/** A matrix that is held in int8, as [in, out]. */
function roundedInput(row: Parameter, prefix: string): Tensor {
  const axes = row.matrix === "in,out" ? rowDims(row) : [...rowDims(row)].reverse();
  return dequantize(input(prefix + row.short, axes, "int8"), input(prefix + scalesOf(row.short), [axes[1]]));
}

const scalesOf = (short: string) => `${short}.scales`;

/** The axes of a parameter; one that comes twice, as in [C, C], has another name the second time. */
export const rowDims = ({ axes, shape }: Parameter) =>
  axes.flatMap((axis, i) => dims({ [axes.indexOf(axis) < i ? `${axis}'` : axis]: shape[i] }));

/**
 * One flat buffer and a view for each row of the table: parameters, gradients and moments all have this layout. On a device that
 * keeps them in memory of its own this is the host's copy: programs change the device's, and {@link ParameterBuffer.refresh} brings
 * it up to date.
 */
export class ParameterBuffer {
  /** All parameters, in the order in which they lie in memory. */
  readonly table: readonly Parameter[];
  readonly #data: Float32Array;
  /** Names of the rows that it has memory for. */
  readonly #own: readonly string[];
  #kept?: Kept;
  readonly #views: ReadonlyMap<string, Float32Array>;
  readonly #blocks: ReadonlyMap<number | undefined, readonly Parameter[]>;
  /** Those that the table says are held in int8, [in, out], by name. @internal */
  rounded: ReadonlyMap<string, QuantizedMatrix>;

  /**
   * @param table  all rows
   * @param shared whose views stand for rows that are not its own
   * @param own    the rows it has memory for, with their places in it; default: all
   */
  constructor(table: readonly Parameter[], shared?: ParameterBuffer, own?: readonly Parameter[]);
  /** @param data memory for its own rows; undefined: new. @internal */
  constructor(
    table: readonly Parameter[],
    shared: ParameterBuffer | undefined,
    own: readonly Parameter[],
    data: Float32Array | undefined,
  );
  constructor(
    table: readonly Parameter[],
    shared?: ParameterBuffer,
    own: readonly Parameter[] = table,
    data: Float32Array = room(lengthOf(own)),
  ) {
    this.table = table;
    this.rounded = shared?.rounded ?? new Map();
    this.#data = data;
    const mine = new Map(own.map(({ name, start, end }) => [name, this.#data.subarray(start, end)]));
    this.#own = [...mine.keys()];
    const inFloats = table.filter((row) => !row.rounded);
    this.#views = new Map(inFloats.map(({ name }) => [name, mine.get(name) ?? (shared as ParameterBuffer).slot(name)]));
    const blocks = new Map<number | undefined, Parameter[]>();
    for (const row of table) blocks.set(row.layer, [...(blocks.get(row.layer) ?? []), row]);
    this.#blocks = blocks;
  }

  /** Whether there is a parameter of that name, in fp32. */
  has(name: string): boolean {
    return this.#views.has(name);
  }

  /**
   * The numbers of its own rows, one row after another. They may be changed, as those of {@link ParameterBuffer.view}.
   * @throws usage - a device has newer ones
   */
  get data(): Float32Array {
    if (this.#kept) for (const name of this.#own) if (this.#views.has(name)) this.view(name);
    return this.#data;
  }

  /** The memory of its own rows. @internal */
  get buffer(): ArrayBufferLike {
    return this.#data.buffer;
  }

  /**
   * The part of the buffer that holds this parameter, row-major. It may be changed, on a device until the next program runs: take the
   * view again before you change more.
   * @throws RangeError - no parameter of that name
   * @throws usage - a device has newer numbers
   */
  view(name: string): Float32Array {
    const view = this.#current(name);
    this.#kept?.changed(view);
    return view;
  }

  /** What a program is given for a parameter. The host reads and writes views. @internal */
  slot(name: string): Float32Array {
    const view = this.#views.get(name);
    if (!view) throw new RangeError(`no parameter named ${name}`);
    return view;
  }

  /** Keep all parameters where the engine's programs read them. @internal */
  keepIn({ kept }: Engine): void {
    this.#kept = kept;
    kept?.keep(this.#views.values());
  }

  /**
   * Bring the host's numbers up to date. Programs change them on a device: after training on a GPU `await` this, then read.
   * @param names which parameters; default: all
   */
  async refresh(names: Iterable<string> = this.#views.keys()): Promise<void> {
    await this.#kept?.refresh(Array.from(names, (name) => this.slot(name)));
  }

  /** All numbers of its own rows, whatever they were. @internal */
  overwrite(data: Float32Array): void {
    this.#data.set(data);
    for (const name of this.#own) this.#kept?.changed(this.slot(name));
  }

  #current(name: string): Float32Array {
    const view = this.slot(name);
    if (!this.#kept?.isStale(view)) return view;
    return fail("usage", {
      where: `parameter ${name}`,
      found: "numbers that were changed on the GPU since the host read them",
      expected: "the host's copy to be up to date before it is used",
      fix: "await model.parameters.refresh() first",
    });
  }

  /** The numbers of a parameter as the table says, to read: where they lie, or of a matrix held in int8 a copy. @internal */
  numbers(name: string): Float32Array {
    if (this.#views.has(name)) return this.#current(name);
    const row = this.table.find((one) => one.name === name);
    if (!row?.rounded) return this.view(name);
    const copy = new Float32Array(row.end - row.start);
    dequantized(this.rounded.get(name) as QuantizedMatrix, row.matrix === "in,out", copy);
    return copy;
  }

  /** A matrix held in int8, in fp32 and as [out, in]. @internal */
  copyOutputsFirst(name: string, to: Float32Array): void {
    dequantized(this.rounded.get(name) as QuantizedMatrix, false, to);
  }

  /** What a parameter is held in: its numbers, or whole numbers and their scales. @internal */
  held(name: string): readonly (Float32Array | Int8Array)[] {
    const rounded = this.rounded.get(name);
    return rounded ? [rounded.data, rounded.scales] : [this.numbers(name)];
  }

  /**
   * What programs are given for those of a block's parameters that it has, by the names of {@link parameterInputs}, each key with
   * `prefix` in front.
   */
  block(layer: number, prefix = ""): Record<string, Float32Array | Int8Array> {
    const rows = this.#blocks.get(layer) ?? [];
    return Object.fromEntries(
      rows.flatMap(({ name, short, rounded }): [string, Float32Array | Int8Array][] => {
        if (!rounded) return [[prefix + short, this.slot(name)]];
        const held = this.rounded.get(name); // gradients have none
        return held
          ? [
              [prefix + short, held.data],
              [prefix + scalesOf(short), held.scales],
            ]
          : [];
      }),
    );
  }
}

const lengthOf = (rows: readonly Parameter[]) => rows.at(-1)?.end ?? 0;

/** Memory for all rows; where they are to be trained with room beside them for gradients and moments, if that makes steps quicker. */
export const newParameters = (table: readonly Parameter[], toTrain = false): ParameterBuffer =>
  new ParameterBuffer(table, undefined, table, toTrain ? zeros(lengthOf(table), 3) : undefined);

function room(size: number): Float32Array {
  try {
    return new Float32Array(size);
  } catch (error) {
    const found = `${size} parameters, ${(size / 2.5e8).toFixed(1)} GB, for which there is no room (${messageOf(error)})`;
    return fail(
      "config",
      { where: "memory", found, expected: "a model that fits", fix: "take a smaller model or another machine" },
      error,
    );
  }
}

/** Fill a buffer as the table says. The same seed gives the same weights everywhere. */
export function initialize(buffer: ParameterBuffer, architecture: Architecture, seed: number): void {
  buffer.table.forEach((p, i) => {
    initializeParameter(buffer.view(p.name), p, architecture, stream(seed, "parameter", i));
  });
}

export function initializeParameter(
  view: Float32Array,
  p: Parameter,
  { config, sizes }: Pick<Architecture, "config" | "sizes">,
  rng: RNG,
): void {
  if (p.init === "ones") view.fill(1);
  else if (p.init === "zeros") view.fill(0);
  else if (p.init === "kaiming") {
    const bound = 1 / Math.sqrt(p.shape[p.shape.length - 1]);
    for (let i = 0; i < view.length; i++) view[i] = bound * (2 * rng.uniform() - 1);
  } else {
    const std = config.initializerRange / (p.init === "residual" ? Math.sqrt(2 * sizes.layers) : 1);
    for (let i = 0; i < view.length; i++) view[i] = std * rng.normal();
  }
}

/** The parameters of a base, where they lie, and memory for those of an adapter and for the value head, which begins as the base's. */
export function withAdapterRows(model: Architecture, base: ParameterBuffer): ParameterBuffer {
  const table = parameterTable(model);
  const parameters = new ParameterBuffer(table, base, trainedRows(table, namesAbove(model, table, 0)));
  for (const name of VALUE_HEAD_NAMES) if (parameters.has(name)) parameters.view(name).set(base.view(name));
  return parameters;
}

/** The same with a new adapter: A drawn at random, B 0. */
export function adapterParameters(model: Architecture, base: ParameterBuffer, seed: number): ParameterBuffer {
  const parameters = withAdapterRows(model, base);
  parameters.table.forEach((row, i) => {
    if (row.adapts) initializeParameter(parameters.view(row.name), row, model, stream(seed, "parameter", i));
  });
  return parameters;
}

/** Parameters whose table holds the matrices of the base in int8, made from the same in fp32: memory of its own for all of them. */
export function roundedParameters(model: Architecture, before: ParameterBuffer): ParameterBuffer {
  const ofBase = parameterTable({ ...model, adapter: undefined });
  const rounded = new Map(
    ofBase.flatMap(({ name, rounded, matrix, shape: [rows, columns] }) => {
      if (!rounded) return [];
      const round = matrix === "in,out" ? quantize : quantizeTransposed;
      return [[name, round(before.view(name), rows, columns)]];
    }),
  );
  const floats = new Set(ofBase.flatMap(({ name, rounded }) => (rounded ? [] : [name])));
  const base = new ParameterBuffer(ofBase, undefined, trainedRows(ofBase, floats));
  base.rounded = rounded;
  for (const name of floats) base.view(name).set(before.view(name));
  const table = parameterTable(model);
  const own = trainedRows(table, namesAbove(model, table, 0));
  const parameters = new ParameterBuffer(table, base, own);
  for (const { name } of own) parameters.view(name).set(before.view(name));
  return parameters;
}
