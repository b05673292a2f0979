/**
 * @file The forward pass with every argument of transformers' models: masks with padding on either side, positions, token
 * types, embeddings instead of ids, head masks, a cache from an earlier call, hidden states and attentions. For training
 * and sampling there are faster ways (body.ts, sample/decoder.ts); this one exposes everything.
 */

import type { Engine } from "../backend/engine.ts";
import { describe, isList } from "../base/describe.ts";
import { fail } from "../base/errors.ts";
import { readIds, readRows } from "../base/token-ids.ts";
import type { Program } from "../graph/onnx.ts";
import { input } from "../graph/tensor.ts";
import { MASKED } from "../nn/attention.ts";
import { rotaryFeeds, type WholeSequences, wholeSequences } from "./attend.ts";
import type { Architecture } from "./family.ts";
import type { Head } from "./head.ts";
import { type ParameterBuffer, rowsOfBlock } from "./parameters.ts";
import { asStored } from "./products.ts";
import type { ValueHead } from "./value-head.ts";

/** Numbers with a shape, row-major. */
export interface FloatTensor {
  /** As many numbers as the product of `shape`. */
  data: Float32Array;
  /** Size of each axis, the outermost first. */
  shape: number[];
}

/** Integers [B, T]: rows of equal length, or flat data with a shape. */
export type IntegerMatrix = readonly ArrayLike<number>[] | { data: ArrayLike<number>; shape: readonly number[] };

/** Keys and values of one layer, each [B, K, P, D] with K key and value heads. */
export interface LayerCache {
  /** [B, K, P, D], for rotary models already turned by their positions. */
  keys: FloatTensor;
  /** [B, K, P, D]. */
  values: FloatTensor;
}

/**
 * Arguments of forward(), with transformers' names: B sequences of T new tokens after P cached ones; P + T is at most the context.
 */
export interface ForwardInput {
  /** Token ids [B, T]. Either these or `inputsEmbeds`. */
  inputIds?: IntegerMatrix;
  /** [B, T, C], in place of the token embeddings. */
  inputsEmbeds?: FloatTensor;
  /** [B, P + T], 1 = the token exists. Padding on either side. Default: all exist. */
  attentionMask?: IntegerMatrix;
  /** [B, T]. Default: what follows from the mask, so that padding shifts nothing; 0, 1, 2, ... without one. */
  positionIds?: IntegerMatrix;
  /** Token embeddings that are added, [B, T], as GPT-2 uses its one table for both. Of GPT-2 only. */
  tokenTypeIds?: IntegerMatrix;
  /** [H] or [layers, H], multiplied with the attention probabilities of each head. */
  headMask?: FloatTensor;
  /** `pastKeyValues` of an earlier call, with P tokens. */
  pastKeyValues?: readonly LayerCache[];
  /** Whether to return the stream before each block and at the end. Default false. */
  outputHiddenStates?: boolean;
  /** Whether to return the attention probabilities of each layer. Default false. */
  outputAttentions?: boolean;
  /** Accepted and unused, as in the notebook. */
  mcTokenIds?: unknown;
  /** Accepted and unused, as in the notebook. */
  lmLabels?: unknown;
  /** Accepted and unused, as in the notebook. */
  mcLabels?: unknown;
}

/** What forward() returns for B sequences of T new tokens after P cached ones. */
export interface ForwardOutput {
  /** [B, T, V] */
  logits: FloatTensor;
  /** [B, T]; [B, T, C] when the config makes the value head that wide. */
  values: FloatTensor;
  /** What the next call takes: all P + T tokens. */
  pastKeyValues: LayerCache[];
  /** One more than layers, tensors [B, T, C]: the embeddings, after each block, the last one after the final layer norm. */
  hiddenStates?: FloatTensor[];
  /** Of each layer [B, H, T, P + T]. */
  attentions?: FloatTensor[];
}

/** What the pass needs from a model. */
interface Model extends Architecture {
  readonly engine: Engine;
  readonly parameters: ParameterBuffer;
  readonly head: Head;
  readonly vHead: ValueHead;
}

export async function forward(model: Model, given: ForwardInput): Promise<ForwardOutput> {
  const { family, config, sizes, engine, parameters, head } = model;
  await parameters.refresh(family.embeddings(config).map(({ name }) => name)); // the host looks them up
  const { width: C, heads: H, kvHeads: K, headSize: D, layers, vocabSize: V } = sizes;
  const { B, T, P, embeddings, mask, positions } = readInput(model, given);
  const S = P + T;
  const N = B * T;
  const bias = attentionBias(mask, B, T, P);
  const headMasks = readHeadMask(given.headMask, layers, H);
  const rotary = rotaryFeeds(model, positions);

  let x = addPositions(model, embeddings, positions);
  const hiddenStates: FloatTensor[] = [];
  const attentions: FloatTensor[] = [];
  const pastKeyValues: LayerCache[] = [];
  for (let layer = 0; layer < layers; layer++) {
    if (given.outputHiddenStates) hiddenStates.push({ data: x, shape: [B, T, C] });
    const form = { B, T, P, scale: family.attentionScale(config, layer), headMask: headMasks !== undefined };
    const wantsAttentions = given.outputAttentions ?? false;
    const past = given.pastKeyValues?.[layer];
    const cacheShape = [B, K, S, D];
    const cache = { keys: new Float32Array(B * K * S * D), values: new Float32Array(B * K * S * D) };
    const weights = new Float32Array(wantsAttentions ? B * H * T * S : 0);
    const y = new Float32Array(N * C);
    const feeds = {
      x,
      bias,
      ...rotary,
      ...parameters.block(layer),
      ...(past && P > 0 ? { pastKeys: past.keys.data, pastValues: past.values.data } : {}),
      ...(headMasks ? { headMask: headMasks[layer] } : {}),
    };
    const results = { y, ...cache, ...(wantsAttentions ? { attentions: weights } : {}) };
    await engine.run(blockProgram(model, layer, form, wantsAttentions), feeds, results);
    pastKeyValues.push({
      keys: { data: cache.keys, shape: cacheShape },
      values: { data: cache.values, shape: cacheShape },
    });
    if (given.outputAttentions) attentions.push({ data: weights, shape: [B, H, T, S] });
    x = y;
  }

  const L = model.vHead.width;
  const logits = new Float32Array(N * V);
  const values = new Float32Array(N * L);
  const normed = new Float32Array(N * C);
  for (let start = 0; start < N; start += head.chunkRows) {
    const end = Math.min(N, start + head.chunkRows);
    const part = (data: Float32Array, width: number) => data.subarray(start * width, end * width);
    const [l, v, n] = [part(logits, V), part(values, L), part(normed, C)];
    await head.logits(parameters, part(x, C), end - start, l, v, { normed: n }, model.vHead.training);
  }
  if (given.outputHiddenStates) hiddenStates.push({ data: normed, shape: [B, T, C] });
  return {
    logits: { data: logits, shape: [B, T, V] },
    values: { data: values, shape: L === 1 ? [B, T] : [B, T, L] }, // squeeze(-1): only an axis of one goes
    pastKeyValues,
    ...(given.outputHiddenStates ? { hiddenStates } : {}),
    ...(given.outputAttentions ? { attentions } : {}),
  };
}

function blockProgram(model: Model, layer: number, form: WholeSequences, wantsAttentions: boolean): Program {
  const { family, config, sizes, parameters } = model;
  const x = input("x", { N: form.B * form.T, C: sizes.width });
  const { attend, seen } = wholeSequences(model, { ...form, positionsByRow: true, biasByRow: true });
  const { p, product } = asStored(rowsOfBlock(parameters.table, layer));
  const y = family.block(config, x, p, attend, product);
  const { keys, values, probabilities } = seen as Required<typeof seen>;
  return { name: "block", outputs: { y, keys, values, ...(wantsAttentions ? { attentions: probabilities } : {}) } };
}

/** 0 where query t may look at key s: not after it, and not at padding. [B, 1, T, S] */
function attentionBias(mask: Uint8Array, B: number, T: number, P: number): Float32Array {
  const S = P + T;
  const bias = new Float32Array(B * T * S);
  for (let b = 0; b < B; b++)
    for (let t = 0; t < T; t++)
      for (let s = 0; s < S; s++) if (s > P + t || mask[b * S + s] === 0) bias[(b * T + t) * S + s] = MASKED;
  return bias;
}

/** Adds the rows of the tables that are counted by position. */
function addPositions({ family, config, sizes, parameters }: Model, embeddings: Float32Array, positions: Int32Array) {
  const C = sizes.width;
  for (const { name, by } of family.embeddings(config)) {
    if (by !== "position") continue;
    const table = parameters.numbers(name);
    positions.forEach((position, n) => {
      for (let c = 0; c < C; c++) embeddings[n * C + c] += table[position * C + c];
    });
  }
  return embeddings;
}

function wrong(where: string, found: string, expected: string, fix: string): never {
  return fail("input", { where: `forward(), ${where}`, found, expected, fix });
}

function readInput(model: Model, given: ForwardInput) {
  const { width: C, layers, kvHeads: K, headSize: D, context, contextName, vocabSize } = model.sizes;
  const { inputIds, inputsEmbeds, pastKeyValues } = given;
  if (inputIds !== undefined && inputsEmbeds !== undefined)
    wrong("inputIds and inputsEmbeds", "both", "one of them", "leave one out");
  if (inputIds === undefined && inputsEmbeds === undefined)
    wrong("inputIds and inputsEmbeds", "neither", "one of them", "pass token ids [B, T], or embeddings [B, T, C]");
  const ids = inputIds && readMatrix("inputIds", inputIds, vocabSize);
  if (inputsEmbeds) readFloats("inputsEmbeds", inputsEmbeds);
  if (
    inputsEmbeds &&
    (inputsEmbeds.shape.length !== 3 ||
      inputsEmbeds.shape[2] !== C ||
      size(inputsEmbeds.shape) !== inputsEmbeds.data.length)
  )
    wrong(
      "inputsEmbeds",
      `shape [${inputsEmbeds.shape}] with ${inputsEmbeds.data.length} numbers`,
      `[B, T, ${C}]`,
      "pass one vector of n_embd numbers per position",
    );
  const [B, T] = ids ? [ids.rows, ids.columns] : (inputsEmbeds as FloatTensor).shape;
  if (B < 1 || T < 1)
    wrong(
      ids ? "inputIds" : "inputsEmbeds",
      `shape [${B}, ${T}]`,
      "at least one row and one position",
      "pass some tokens",
    );

  const P = pastKeyValues?.[0]?.keys?.shape?.[2] ?? 0;
  if (pastKeyValues && pastKeyValues.length !== layers)
    wrong("pastKeyValues", `${pastKeyValues.length} layers`, `${layers}`, "pass what an earlier call returned");
  pastKeyValues?.forEach((layer, i) => {
    for (const name of ["keys", "values"] as const) {
      readFloats(`pastKeyValues, layer ${i}, ${name}`, layer?.[name]);
      if (layer[name].shape.join() !== [B, K, P, D].join())
        wrong(
          `pastKeyValues, layer ${i}, ${name}`,
          `shape [${layer[name].shape}]`,
          `[${[B, K, P, D]}] for a batch of ${B}`,
          "pass the cache of the same batch",
        );
    }
  });
  const S = P + T;
  if (S > context)
    wrong(
      "sequence length",
      `${P > 0 ? `${P} cached and ${T} new` : T} tokens`,
      `at most ${context} (${contextName})`,
      "shorten the sequence",
    );

  const matrix = (name: "attentionMask" | "positionIds" | "tokenTypeIds", columns: number, below: number) => {
    const value = given[name];
    if (value === undefined) return undefined;
    const m = readMatrix(name, value, below);
    if (m.rows !== B || m.columns !== columns)
      wrong(
        name,
        `shape [${m.rows}, ${m.columns}]`,
        `[${B}, ${columns}]`,
        `pass one number per token${columns === S && P > 0 ? ", cached ones included" : ""}`,
      );
    return m.data;
  };
  const mask = Uint8Array.from(matrix("attentionMask", S, 2) ?? new Int32Array(B * S).fill(1));
  for (let b = 0; b < B; b++)
    if (!mask.subarray(b * S, (b + 1) * S).includes(1))
      wrong(`attentionMask, row ${b}`, "no ones", "at least one token that exists", "leave the row out of the batch");
  const positions = matrix("positionIds", T, context) ?? positionsFromMask(mask, B, T, P);
  const types = matrix("tokenTypeIds", T, vocabSize);
  if (types && !model.family.tokenTypes)
    wrong("tokenTypeIds", "token types", "none: this model has no token types", "leave them out");

  const wte = model.parameters.numbers(model.family.embeddings(model.config)[0].name);
  const embeddings = inputsEmbeds ? inputsEmbeds.data.slice() : new Float32Array(B * T * C);
  const addRows = (rows: Int32Array) =>
    rows.forEach((id, n) => {
      for (let c = 0; c < C; c++) embeddings[n * C + c] += wte[id * C + c];
    });
  if (ids) addRows(ids.data);
  if (types) addRows(types);
  return { B, T, P, embeddings, mask, positions };
}

/** How many tokens exist before each new one: padding takes no position. */
function positionsFromMask(mask: Uint8Array, B: number, T: number, P: number): Int32Array {
  const S = P + T;
  const positions = new Int32Array(B * T);
  for (let b = 0; b < B; b++) {
    let before = 0;
    for (let s = 0; s < S; s++) {
      if (s >= P) positions[b * T + s - P] = mask[b * S + s] === 1 ? before : Math.max(0, before - 1);
      before += mask[b * S + s];
    }
  }
  return positions;
}

interface Matrix {
  data: Int32Array;
  rows: number;
  columns: number;
}

/** Integers [B, T] below `below`. */
function readMatrix(name: string, given: unknown, below: number): Matrix {
  const fix = "pass rank 2, one row per sequence";
  const flat = typeof given === "object" && given !== null && "shape" in given && "data" in given;
  const rows = flat ? undefined : readRows(given, `forward(), ${name}`);
  let [B, T] = [rows?.length ?? 0, isList(rows?.[0]) ? rows[0].length : 0];
  if (flat) {
    const { data, shape } = given as { data: unknown; shape: unknown };
    if (!isList(data) || !isList(shape) || shape.length !== 2 || size(shape as number[]) !== data.length)
      wrong(
        name,
        `shape [${isList(shape) ? Array.from(shape) : describe(shape)}] with ${isList(data) ? `${data.length} numbers` : describe(data)}`,
        "[B, T]",
        fix,
      );
    [B, T] = Array.from(shape as ArrayLike<number>);
  }
  rows?.forEach((row, b) => {
    if (!isList(row)) wrong(`${name}, row ${b}`, describe(row), "a list of numbers", fix);
    if (row.length !== T)
      wrong(
        `${name}, row ${b}`,
        `${row.length} numbers`,
        `${T}, as in row 0`,
        "pad the rows to one length and pass attentionMask",
      );
  });
  const all = rows?.flatMap((row) => Array.from(row as ArrayLike<unknown>)) ?? (given as { data: unknown }).data;
  const place = (i: number) => `forward(), ${name}, row ${Math.floor(i / T)}, position ${i % T}`;
  const fixId = name === "inputIds" ? undefined : `correct ${name}`;
  return {
    data: readIds(all, { where: name, vocabSize: below, least: 0, noun: "", fixId, place }),
    rows: B,
    columns: T,
  };
}

/** Numbers of a tensor, as the engine reads them. */
function readFloats(name: string, tensor: FloatTensor): void {
  if (!(tensor?.data instanceof Float32Array) || !Array.isArray(tensor.shape))
    wrong(
      name,
      describe(tensor?.data ?? tensor),
      "{ data: Float32Array, shape: number[] }",
      "make one: { data: Float32Array.from(numbers), shape: [...] }",
    );
  if (size(tensor.shape) !== tensor.data.length)
    wrong(
      name,
      `shape [${tensor.shape}] with ${tensor.data.length} numbers`,
      "as many numbers as the shape says",
      "correct data or shape",
    );
}

/** Per layer [H]. */
function readHeadMask(given: FloatTensor | undefined, layers: number, H: number): Float32Array[] | undefined {
  if (!given) return undefined;
  readFloats("headMask", given);
  const shape = given.shape.join();
  if (shape !== `${H}` && shape !== `${layers},${H}`)
    wrong("headMask", `shape [${given.shape}]`, `[${H}] or [${layers}, ${H}]`, "pass one number per head");
  const perLayer = given.shape.length === 2;
  return Array.from({ length: layers }, (_, i) => given.data.slice(perLayer ? i * H : 0, perLayer ? (i + 1) * H : H));
}

const size = (shape: readonly number[]) => shape.reduce((n, s) => n * s, 1);
