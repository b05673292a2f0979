/** @file How large a model is and how much memory it takes to sample from it and to train it. All in float32, 4 bytes. */

import { MIN_WORKING_BYTES, SESSIONS_OF_LARGEST } from "../backend/engine.ts";
import { fail } from "../base/errors.ts";
import { Memo } from "../base/memo.ts";
import type { Keep } from "../graph/partition.ts";
import { elementCount } from "../graph/tensor.ts";
import { workingBytes } from "../graph/work.ts";
import { type BlockForm, blockPrograms, UNTRAINED } from "./body.ts";
import type { Architecture, ModelConfig } from "./family.ts";
import { chunksOf } from "./head.ts";
import {
  alikeLayers,
  namesAbove,
  type Parameter,
  parameterTable,
  trainedRows,
  VALUE_HEAD_NAMES,
} from "./parameters.ts";

export interface ParameterCounts {
  total: number;
  /** The embedding tables. A tied language-model head is the token embedding and counts here. */
  embeddings: number;
  /** All transformer blocks. */
  blocks: number;
  /** Final layer norm, a language-model head of its own, value head. */
  head: number;
  /** The rows of a LoRA adapter; 0: there is none. */
  adapter: number;
}

export function countParameters(model: Architecture): ParameterCounts {
  const counts = { total: 0, embeddings: 0, blocks: 0, head: 0, adapter: 0 };
  const embeddings = model.family.embeddings(model.config).map(({ name }) => name);
  for (const { name, layer, adapts, start, end } of parameterTable(model)) {
    const ofBase = layer !== undefined ? "blocks" : embeddings.includes(name) ? "embeddings" : "head";
    const part = adapts ? "adapter" : ofBase;
    counts[part] += end - start;
    counts.total += end - start;
  }
  return counts;
}

/** What all parameters take, counted in fp32 numbers: a matrix held in int8 has a byte for each, and its scales. */
const weightFloats = (model: Architecture): number =>
  parameterTable(model).reduce((sum, { rounded, matrix, shape, start, end }) => {
    const outputs = shape[matrix === "in,out" ? 1 : 0];
    return sum + (rounded ? (end - start) / 4 + outputs : end - start);
  }, 0);

/** Numbers in the matrices of all blocks. */
const matrixFloats = (model: Architecture): number =>
  parameterTable(model).reduce((sum, { matrix, start, end }) => sum + (matrix ? end - start : 0), 0);

/** Bytes by what they are for. */
export interface MemoryEstimate {
  /** Bytes, the sum of `parts`. */
  total: number;
  /** Bytes by the name of what they are for, such as `weights`. */
  parts: Record<string, number>;
}

/**
 * What is used whatever the sizes, as measured with small models: Node with ONNX Runtime and the tokenizer; for training
 * compiled programs and code besides.
 */
const PROCESS_BYTES = { sampling: 145e6, pretraining: 160e6, training: 190e6 };

/** [R, V] results alive at once in the head's programs: logits and log-softmax, and what else comes of them. */
const HEAD_BUFFERS = { loss: 3, score: 2, statistics: 3, exactKl: 5 };

/** What ONNX Runtime's arena takes for each byte in use: it grows in powers of two. Measured. */
const ARENA = 1.2;

/** Buffers of other lengths that wait for the garbage collector when responses differ in length. Measured. */
const GARBAGE = 1.5;

const estimate = (floats: Record<string, number>, process: number): MemoryEstimate => {
  const parts = Object.fromEntries([...Object.entries(floats).map(([k, n]) => [k, 4 * n]), ["process", process]]);
  return { parts, total: Object.values<number>(parts).reduce((a, b) => a + b, 0) };
};

/** Floats that a block's programs take. */
interface BlockWork {
  /** What the forward program works with, besides inputs and results. */
  readonly forward: number;
  /** The same of the backward program. */
  readonly backward: number;
  /** What the one saves for the other. */
  readonly saved: number;
}

/** Of a longer sequence each pair of tokens is taken to need what it needs in this one. */
const LONGEST_BUILT = 2048;

type Works = Memo<BlockForm & Pick<Architecture, "adapter" | "basePrecision">, BlockWork>;
const works = new WeakMap<ModelConfig, Works>();

/** A block's programs are built, so that whatever a family or an adapter does is in it, and not run. Options that are tried share them. */
function blockWork({ family, config, sizes, adapter, basePrecision }: Architecture, asked: BlockForm): BlockWork {
  const build: Works =
    works.get(config) ??
    new Memo(({ adapter, basePrecision, ...form }) => {
      const model = { family, config, sizes, adapter, basePrecision };
      const T = Math.min(form.T, LONGEST_BUILT);
      const more = (form.T / T) ** 2;
      const { forward, backward, saved } = blockPrograms(model, parameterTable(model), { ...form, T });
      return {
        forward: (more * workingBytes(forward)) / 4,
        backward: (more * workingBytes(backward)) / 4,
        saved: more * [...saved.values()].reduce((sum, t) => sum + elementCount(t), 0),
      };
    }, 512);
  works.set(config, build);
  return build.get({ ...asked, adapter, basePrecision });
}

/** B sequences of T tokens through all blocks, and back to the lowest that is trained. */
interface Passage {
  B: number;
  T: number;
  packed?: boolean;
  keep: Keep;
  /** Numbers of sequences that are scored together. */
  scored: readonly number[];
  /** Gradients are added to those there are, by programs of their own. */
  adds: boolean;
}

/**
 * What all blocks keep for the backward pass, streams included, and what each of their programs works with. Layers that are alike
 * share programs.
 * @param own the rows that are trained
 */
function bodyWork(model: Architecture, own: readonly Parameter[], { B, T, packed, keep, scored, adds }: Passage) {
  const { family, config, sizes } = model;
  const alike = alikeLayers(parameterTable(model));
  const embedded = family.embeddings(config).some(({ name }) => own.some((row) => row.name === name));
  const from = embedded ? 0 : Math.min(sizes.layers, ...own.flatMap(({ layer }) => layer ?? []));
  /** Sizes by what they are of: programs that are the same share one session. */
  const programs = new Map<string, number>();
  const add = (what: string, work: number) => programs.set(`${what}: ${work}`, work);
  let kept = B * T * sizes.width * (sizes.layers - from + 3); // a stream before each block and after the last, two gradients
  for (const [layer, like] of alike.entries()) {
    const packing = packed ? ("apart" as const) : undefined;
    const form = { like, B, T, packing, scale: family.attentionScale(config, layer), accumulates: false };
    const scoring = (rows: number): BlockForm => ({ ...form, B: rows, keep: "nothing", ...UNTRAINED });
    const forwards = keep === "nothing" || layer < from ? [...scored, B] : scored; // nothing is saved: the same program
    for (const rows of forwards) add("forward", blockWork(model, scoring(rows)).forward);
    if (layer < from) continue;
    const trained = own.filter((row) => row.layer === layer).map(({ short }) => short);
    const training: BlockForm = { ...form, keep, trained, passesOn: layer > from || embedded };
    const { forward, backward, saved } = blockWork(model, training);
    kept += saved;
    if (keep !== "nothing") add(`forward, saving ${saved}`, forward);
    add(`backward, ${training.passesOn}`, backward);
    if (adds) add(`adding, ${training.passesOn}`, blockWork(model, { ...training, accumulates: true }).backward);
  }
  return { kept, programs };
}

/** What one block works with on a forward pass. */
const forwardWork = (model: Architecture, B: number, T: number): number =>
  Math.max(...bodyWork(model, [], { B, T, keep: "nothing", scored: [], adds: false }).programs.values());

/** In int8 each layer is a session with an arena of its own, whose chunks are powers of two. Measured. */
const SESSION_ARENA = 2;

/** Keys and values in each layer, next-token logits, the prompts' pass through one block; in int8 through all of them. */
function samplingFloats(model: Architecture, { rows, length, promptTokens = length, int8 }: SamplingSizes) {
  const { layers, width: C, kvHeads, headSize, vocabSize } = model.sizes;
  const block = forwardWork(model, rows, Math.max(1, Math.min(promptTokens, length)));
  return {
    cache: rows * length * 2 * layers * kvHeads * headSize,
    logits: 2 * rows * vocabSize, // and their softmax
    activations: rows * length * 2 * C + ARENA * block,
    ...(int8 ? { "int8 copy": int8Copy(model) + SESSION_ARENA * layers * block } : {}),
  };
}

/**
 * Sampling responses together. In fp32 several rows are decoded with a transposed copy of the blocks' matrices
 * (sample/weights.ts); in training it lies in the gradients' buffer.
 */
export function samplingMemory(model: Architecture, sizes: SamplingSizes): MemoryEstimate {
  const weights = weightFloats(model);
  const ofBase = model.basePrecision === "int8" ? matrixFloats(model) : sizes.rows > 1 ? transposedFloats(model) : 0;
  const transposed = sizes.int8 ? 0 : ofBase;
  const floats = { weights, ...samplingFloats(model, sizes), ...(transposed > 0 ? { transposed } : {}) };
  return estimate(floats, PROCESS_BYTES.sampling);
}

/** Responses sampled together, and the tokens of prompt and response. */
export interface SamplingSizes {
  rows: number;
  length: number;
  /** The tokens of the prompt alone, which are read in one pass; default: as if all were. */
  promptTokens?: number;
  /** From a copy in int8. */
  int8?: boolean;
}

/** Bytes for each weight of a copy in int8 while it is made: 300 MB for GPT-2 124M, and 125 afterwards. */
const INT8_BYTES = 2.5;

const int8Copy = (model: Architecture) =>
  (INT8_BYTES / 4) * (matrixFloats(model) + model.sizes.vocabSize * model.sizes.width);

/** A copy of the matrices that are not stored as decoding wants them. */
const transposedFloats = (model: Architecture): number =>
  parameterTable(model).reduce(
    (sum, { matrix, rounded, start, end }) => sum + (matrix === "in,out" && !rounded ? end - start : 0),
    0,
  );

/** The options of language-model training that determine its memory. */
export interface PretrainingSizes {
  batchSize: number;
  /** 0: the whole batch. Default 0. */
  microBatchSize?: number;
  sequenceLength: number;
  gradientCheckpointing?: boolean;
  /** Whether sequences hold several documents, none of which sees another. */
  packed?: boolean;
  /** As in {@link TrainingSizes}: HELD_OUT_SCORED where the loss is measured on a held-out text, else nothing. */
  scored?: readonly number[];
}

/** The peak of language-model training, {@link trainingMemory} without a reference or responses. */
export function pretrainingMemory(
  model: Architecture,
  { batchSize, microBatchSize = 0, sequenceLength, gradientCheckpointing = false, packed, scored }: PretrainingSizes,
): MemoryEstimate {
  const lengths = { promptTokens: 0, maxNewTokens: sequenceLength, minNewTokens: sequenceLength };
  const sizes = {
    ...lengths,
    rolloutBatchSize: 1,
    miniBatchSize: batchSize,
    microBatchSize,
    gradientCheckpointing,
    packed,
    scored,
    valuesLearned: false,
  };
  const { reference, transposed, ...others } = trainingMemory(model, sizes).parts;
  const parts = { ...others, process: PROCESS_BYTES.pretraining };
  return { parts, total: Object.values(parts).reduce((a, b) => a + b, 0) };
}

/** @throws config - the one message for everything that does not fit in memory */
export function refuseForMemory(what: string, need: MemoryEstimate, limit: number, fix: string): never {
  return fail("config", {
    where: "memory",
    found: `${what} that takes about ${bytesInWords(need.total)}: ${memoryParts(need)}`,
    expected: `at most ${bytesInWords(limit)}, what this process may use now`,
    fix,
  });
}

export const bytesInWords = (bytes: number): string =>
  bytes < 1e9 ? `${(bytes / 1e6).toFixed(0)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;

/** `weights 498 MB, gradients 498 MB, ...`: what is at least a megabyte. */
export const memoryParts = ({ parts }: MemoryEstimate): string =>
  Object.entries(parts)
    .filter(([, bytes]) => bytes >= 0.5e6)
    .map(([name, bytes]) => `${name} ${bytesInWords(bytes)}`)
    .join(", ");

/** The options of a PPO run that determine its memory. */
export interface TrainingSizes {
  rolloutBatchSize: number;
  miniBatchSize: number;
  /** 0: the whole minibatch. */
  microBatchSize: number;
  maxNewTokens: number;
  minNewTokens: number;
  gradientCheckpointing: boolean;
  /** Tokens of the longest prompt. */
  promptTokens: number;
  /** Whether a reference is kept and asked. Default: true. */
  reference?: boolean;
  /** Whether the KL over the whole vocabulary is computed. */
  exactKl?: boolean;
  /** Whether sampling leaves tokens out (top-k and the like): kept sets are fed as [R, V]. */
  truncates?: boolean;
  /** Blocks below which nothing has gradients, moments or a copy in the reference, with the embeddings; 0: everything has. */
  frozenLayers?: number;
  /** Whether the value head has a model of its own. */
  separateValues?: boolean;
  /** Whether responses are sampled from a copy in int8, and scored again by the policy. */
  int8Rollouts?: boolean;
  /** Steps that responses are drawn ahead (async), and then scored again by the policy. Default: 0. */
  ahead?: number;
  /** Numbers of sequences that are scored together, each with programs of its own; default: those of a micro-batch. */
  scored?: readonly number[];
  /** Whether rows hold several sequences. */
  packed?: boolean;
  /** Whether the loss has values in it. Default: true. */
  valuesLearned?: boolean;
}

/**
 * The peak of a PPO run. Besides the weights: gradients, AdamW's two moments and the frozen reference, each as large as what is
 * trained; what the blocks keep for the backward pass, or the sampler's cache, which take turns; and what the programs work
 * with, which ONNX Runtime keeps for each program up to a bound ({@link Engine}).
 */
export function trainingMemory(model: Architecture, sizes: TrainingSizes): MemoryEstimate {
  const { vocabSize: V, context } = model.sizes;
  const { miniBatchSize, maxNewTokens, frozenLayers = 0, truncates = false, reference: compares = true } = sizes;
  const micro = sizes.microBatchSize || miniBatchSize;
  const ragged = sizes.minNewTokens < maxNewTokens;
  const length = Math.min(context, Math.ceil((sizes.promptTokens + maxNewTokens) / 8) * 8);
  const weights = weightFloats(model);
  const table = parameterTable(model);
  const own = trainedRows(table, namesAbove(model, table, frozenLayers));
  const trained = own.at(-1)?.end ?? 0;
  // With an adapter the reference is the base, and a value head.
  const copied = model.adapter ? own.filter(({ name }) => VALUE_HEAD_NAMES.includes(name)) : own;
  const reference = compares ? copied.reduce((sum, { start, end }) => sum + end - start, 0) : 0;

  const several = micro < miniBatchSize;
  const adding = several && !model.adapter; // programs of their own add gradients to those there are
  const beside = several && model.adapter ? trained : 0; // or a part's gradient is made by itself, and added
  const keep = sizes.gradientCheckpointing ? "nothing" : "heavy";
  const { promptTokens, int8Rollouts: int8, ahead = 0 } = sizes;
  const rescores = int8 || ahead > 0; // the policy scores what another drew
  const { scored = compares || rescores || sizes.separateValues ? [micro] : [], packed } = sizes;
  const body = bodyWork(model, own, { B: micro, T: length, packed, keep, scored, adds: adding });
  const sampling = samplingFloats(model, { rows: sizes.rolloutBatchSize, length, promptTokens, int8 });
  const sampled = sampling.cache + sampling.logits + sampling.activations;
  const buffers = Math.max(body.kept * (ragged ? GARBAGE : 1), sampled);

  /** Of a policy with an adapter: the base alone. */
  const ofReference = () =>
    bodyWork({ ...model, adapter: undefined }, [], { B: micro, T: length, keep: "nothing", scored: [], adds: false })
      .programs;

  const chunks = (rows: number) => headChunks(rows * maxNewTokens, V).map((R) => R * V);
  const scores = scored.flatMap((rows) => [...new Set(chunks(rows))]);
  const learned = chunks(micro).map((n) => n * HEAD_BUFFERS.loss);
  // Where nothing of the head gets a gradient, the first chunk's program adds to none and serves all.
  const { valuesLearned = true } = sizes;
  const headTrained = own.some(
    (row) => row.layer === undefined && (valuesLearned || !VALUE_HEAD_NAMES.includes(row.name)),
  );
  const programs = [
    ...new Map([...body.programs, ...(model.adapter && compares && scored.length > 0 ? ofReference() : [])]).values(),
    ...(compares ? scores.map((n) => n * (sizes.exactKl ? HEAD_BUFFERS.exactKl : HEAD_BUFFERS.score)) : []),
    ...(rescores ? scores.map((n) => n * HEAD_BUFFERS.statistics) : []),
    learned[0],
    ...new Set(!headTrained ? [] : adding ? learned : learned.slice(1)),
  ];
  const sum = programs.reduce((a, b) => a + b, 0);
  const bound = Math.max(MIN_WORKING_BYTES / 4, SESSIONS_OF_LARGEST * Math.max(...programs));
  // The copy lies in the gradients' buffer where that has room for it. That of a base is made once, and stays.
  // One in fp32 of a base in int8 takes turns with what the blocks keep.
  const inFloats = model.basePrecision === "int8" && !int8 ? matrixFloats(model) : 0;
  const transposed = inFloats + (frozenLayers > 0 && !model.adapter ? transposedFloats(model) : 0);
  const kept = (ahead > 0 ? 2 : 1) * (model.adapter && !int8 ? transposedFloats(model) : 0); // one for each policy that draws
  const dense = truncates ? Math.max(...chunks(micro)) : 0;
  return estimate(
    {
      weights,
      reference,
      gradients: trained + beside,
      moments: 2 * trained,
      ...(sizes.separateValues ? { "value model": 4 * trained } : {}),
      ...(int8 ? { "int8 copy": sampling["int8 copy"] ?? 0 } : {}),
      ...(kept > 0 ? { transposed: kept } : {}),
      // Those of so many steps before, the newest as it was before the updates, and the policy that is made into them.
      ...(ahead > 0 ? { "older weights": (ahead + 2) * trained } : {}),
      "activations and cache": Math.max(buffers, sampled + transposed),
      "working memory": ARENA * Math.min(bound, ragged ? 3 * sum : sum) + dense,
    },
    PROCESS_BYTES.training,
  );
}

/** Rows of each chunk that `rows` go through the head in. */
function headChunks(rows: number, V: number): number[] {
  const size = chunksOf(rows, V);
  return new Array(Math.ceil(rows / size)).fill(size);
}
