/**
 * @file Every parameter of GPT-2 with a value head, in one table: name, shape, initialisation, weight decay. Reading and
 * writing checkpoints, initialisation, the optimizer and the graphs all go by it.
 */
import { fail, messageOf } from "../base/errors.ts";
import type { RNG } from "../base/rng.ts";
import { stream } from "../base/streams.ts";
import type { GPT2Config } from "./config.ts";
import { valueHeadWidth } from "./value-head.ts";

/** normal: N(0, initializerRange). residual: N(0, initializerRange / sqrt(2 nLayer)), for what adds to the residual stream. */
export type ParameterInit = "ones" | "zeros" | "normal" | "residual";

/** Axes: C nEmbd, I nInner, V vocabSize, P nPositions, L value-head outputs. "C,3C" is [C, 3C]. */
type Row = readonly [name: string, axes: string, init: ParameterInit, decay: boolean];

const EMBEDDINGS: readonly Row[] = [
  ["transformer.wte.weight", "V,C", "normal", true],
  ["transformer.wpe.weight", "P,C", "normal", true],
];

/** One transformer block; `transformer.h.<layer>.` goes in front. Weights are [in, out] (HF's Conv1D). */
const BLOCK: readonly Row[] = [
  ["ln_1.weight", "C", "ones", false],
  ["ln_1.bias", "C", "zeros", false],
  ["attn.c_attn.weight", "C,3C", "normal", true],
  ["attn.c_attn.bias", "3C", "zeros", false],
  ["attn.c_proj.weight", "C,C", "residual", true],
  ["attn.c_proj.bias", "C", "zeros", false],
  ["ln_2.weight", "C", "ones", false],
  ["ln_2.bias", "C", "zeros", false],
  ["mlp.c_fc.weight", "C,I", "normal", true],
  ["mlp.c_fc.bias", "I", "zeros", false],
  ["mlp.c_proj.weight", "I,C", "residual", true],
  ["mlp.c_proj.bias", "C", "zeros", false],
];

const HEAD: readonly Row[] = [
  ["transformer.ln_f.weight", "C", "ones", false],
  ["transformer.ln_f.bias", "C", "zeros", false],
  ["lm_head.weight", "V,C", "normal", true], // unless it is the token embedding (tieWordEmbeddings)
  ["v_head.summary.weight", "L,C", "normal", true],
  ["v_head.summary.bias", "L", "zeros", false],
];

/** Names of a block's parameters, in table order. */
export const BLOCK_NAMES: readonly string[] = BLOCK.map(([name]) => name);

export interface Parameter {
  /** Name in a Hugging Face checkpoint. */
  readonly name: string;
  readonly shape: readonly number[];
  readonly axes: readonly string[];
  readonly init: ParameterInit;
  readonly decay: boolean;
  /** Where it lies in the flat buffer, in elements. */
  readonly start: number;
  readonly end: number;
}

/** The table for a config, in flat-buffer order. */
export function parameterTable(config: GPT2Config): readonly Parameter[] {
  const sizes: Record<string, number> = {
    C: config.nEmbd,
    "3C": 3 * config.nEmbd,
    I: config.nInner,
    V: config.vocabSize,
    P: config.nPositions,
    L: valueHeadWidth(config),
  };
  const blocks = Array.from({ length: config.nLayer }, (_, layer) =>
    BLOCK.map(([name, ...rest]): Row => [`transformer.h.${layer}.${name}`, ...rest]),
  ).flat();
  const head = HEAD.filter(([name]) =>
    name === "lm_head.weight" ? !config.tieWordEmbeddings : config.summaryUseProj || !name.startsWith("v_head."),
  );
  let start = 0;
  return [...EMBEDDINGS, ...blocks, ...head].map(([name, axesText, init, decay]) => {
    const axes = axesText.split(",");
    const shape = axes.map((axis) => sizes[axis]);
    const end = start + shape.reduce((n, s) => n * s, 1);
    const row: Parameter = { name, shape, axes, init, decay, start, end };
    start = end;
    return row;
  });
}

/**
 * What is trained when the embeddings and the first `frozenLayers` blocks are not: the rest of the table, laid out from 0.
 * A tied language-model head is the token embedding, so it is not trained either. 0: the whole table.
 */
export function trainedTable(table: readonly Parameter[], frozenLayers: number): readonly Parameter[] {
  if (frozenLayers === 0) return table;
  const trained = table.slice(EMBEDDINGS.length + BLOCK.length * frozenLayers);
  const offset = trained[0].start;
  return trained.map((p) => ({ ...p, start: p.start - offset, end: p.end - offset }));
}

/** The parameters that have gradients: the last ones of the table. */
export function trainedPart(parameters: ParameterBuffer, grads: ParameterBuffer): Float32Array {
  return parameters.data.subarray(parameters.data.length - grads.data.length);
}

/** One flat buffer and a view for each row of the table: parameters, gradients and moments all have this layout. */
export class ParameterBuffer {
  readonly table: readonly Parameter[];
  readonly data: Float32Array;
  readonly #views: ReadonlyMap<string, Float32Array>;

  /** @param shared whose views stand for the first parameters, when `data` holds the last ones only */
  constructor(table: readonly Parameter[], data?: Float32Array, shared?: ParameterBuffer) {
    const size = table.at(-1)?.end ?? 0;
    this.table = table;
    this.data = data ?? room(size);
    const offset = size - this.data.length;
    const view = ({ name, start, end }: Parameter) =>
      start < offset && shared ? shared.view(name) : this.data.subarray(start - offset, end - offset);
    this.#views = new Map(table.map((p) => [p.name, view(p)]));
  }

  has(name: string): boolean {
    return this.#views.has(name);
  }

  /** The part of the buffer that holds this parameter. */
  view(name: string): Float32Array {
    const view = this.#views.get(name);
    if (!view) throw new RangeError(`no parameter named ${name}`);
    return view;
  }

  /** A block's parameters by their short names, each key with `prefix` in front. */
  block(layer: number, prefix = ""): Record<string, Float32Array> {
    return Object.fromEntries(BLOCK_NAMES.map((n) => [prefix + n, this.view(`transformer.h.${layer}.${n}`)]));
  }
}

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
export function initialize(buffer: ParameterBuffer, config: GPT2Config, seed: number): void {
  buffer.table.forEach((p, i) => {
    initializeParameter(buffer.view(p.name), p, config, stream(seed, "parameter", i));
  });
}

export function initializeParameter(view: Float32Array, p: Parameter, config: GPT2Config, rng: RNG): void {
  if (p.init === "ones") view.fill(1);
  else if (p.init === "zeros") view.fill(0);
  else {
    const std = config.initializerRange / (p.init === "residual" ? Math.sqrt(2 * config.nLayer) : 1);
    for (let i = 0; i < view.length; i++) view[i] = std * rng.normal();
  }
}
