/**
 * @file What a model architecture is: a config, one table of parameters, one block. A family is written once, in one file of
 * `families/`; training, the full forward pass, decoding in fp32 and int8 and the memory estimate all go by it.
 */
import type { Tensor } from "../graph/tensor.ts";
import type { LoRAConfig } from "./adapter.ts";

/** The numbers that what all families share needs of a config. */
export interface Sizes {
  /** V: rows of the token embedding. */
  readonly vocabSize: number;
  /** Longest sequence, in tokens, and what config.json calls it. */
  readonly context: number;
  /** What config.json calls `context`, for errors: `n_positions`. */
  readonly contextName: string;
  /** C: width of the residual stream. */
  readonly width: number;
  /** Blocks. */
  readonly layers: number;
  /** H: query heads. */
  readonly heads: number;
  /** K: key and value heads; divides H, and each serves H / K query heads. */
  readonly kvHeads: number;
  /** D: numbers per head. */
  readonly headSize: number;
  /** I: width of the feed-forward block. */
  readonly inner: number;
  /** Feed-forward matrices that make [N, I]: 1, or 2 where one gates the other. For the memory estimate. */
  readonly innerMatrices: number;
}

/** The value head's part of every config, with transformers' names (its SequenceSummary). */
export interface ValueHeadConfig {
  /** False: there is none, and values are 0. Of a model that was loaded so ({@link ModelOptions.makeValueHead}); config.json does not say it. */
  readonly valueHead?: false;
  /** False: the hidden state itself is the summary. */
  readonly summaryUseProj: boolean;
  /** Only "tanh" does anything; any other name means no activation, as in the notebook. */
  readonly summaryActivation: string | null;
  /** False: the projection is as wide as the stream instead of one number. */
  readonly summaryProjToLabels: boolean;
  /** Probability that a number of the hidden state is 0, from 0 to below 1. In train mode only. */
  readonly summaryFirstDropout: number;
  /** Probability that an output is 0, from 0 to below 1. In train mode only. */
  readonly summaryLastDropout: number;
}

/** What every family's config has. */
export interface ModelConfig extends ValueHeadConfig {
  /** `model_type` in config.json: which family it is, and which of its kin. */
  readonly modelType: string;
  /** Standard deviation of the normal distribution new weights are drawn from. */
  readonly initializerRange: number;
  /** The language-model head is the token embedding. */
  readonly tieWordEmbeddings: boolean;
  /** The token that begins a text, or null. Read and written; nothing depends on it. */
  readonly bosTokenId: number | null;
  /** What ends a text: a token, several, or none. */
  readonly eosTokenId: number | readonly number[] | null;
  /** The token for padding, or null. Read and written; nothing depends on it. */
  readonly padTokenId: number | null;
  /** The JSON this came from, so that fields unknown here survive a save. */
  readonly raw: Record<string, unknown>;
}

/**
 * normal: N(0, initializerRange). residual: N(0, initializerRange / sqrt(2 layers)), for what adds to the residual stream. kaiming:
 * uniform between -1 / sqrt(n) and 1 / sqrt(n), n the last axis, as torch's Linear.
 */
export type ParameterInit = "ones" | "zeros" | "normal" | "residual" | "kaiming";

/**
 * One parameter, or one of every block where the name has `{layer}` in it. The table is the only place where shapes are written.
 * Names are those of transformers' checkpoints.
 */
export interface ParameterRow {
  /** `transformer.h.{layer}.attn.c_attn.weight`; what comes after `{layer}.` is its name within the block. */
  readonly name: string;
  /** Names of its axes, sizes in {@link Family.axes}: "C,3C" is [C, 3C]. */
  readonly axes: string;
  readonly init: ParameterInit;
  /** Whether weight decay applies. */
  readonly decay: boolean;
  /**
   * For a matrix of a block, by which activations are multiplied, how it is stored: `in,out` (x W) or `out,in` (x Wᵀ). Such
   * matrices are what is quantised, transposed for decoding, or adapted; they are reached through a {@link Product} only.
   */
  readonly matrix?: "in,out" | "out,in";
}

/**
 * How a block multiplies by a weight: fp32, transposed, int8, with an adapter.
 * @param x      [..., in]
 * @param weight name of a matrix within the block
 * @param bias   name of its bias [out] within the block, if it has one
 * @returns [..., out]
 */
export type Product = (x: Tensor, weight: string, bias?: string) => Tensor;

/**
 * Causal attention, with rotary positions where the family has them: over whole sequences, with a past, or against a cache.
 * @param q [..., H D]
 * @param k [..., K D]
 * @param v [..., K D]
 * @returns [..., H D]
 */
export type Attend = (q: Tensor, k: Tensor, v: Tensor) => Tensor;

/** A table whose rows are added up to the first stream: x[n] = sum over tables of table[index[n]]. */
export interface EmbeddingTable {
  /** Name of a parameter [V, C] or [context, C]. */
  readonly name: string;
  /** What its rows are counted by. */
  readonly by: "token" | "position";
}

/** A model architecture. */
export interface Family<C extends ModelConfig = ModelConfig> {
  /** `model_type` in config.json. */
  readonly modelTypes: readonly string[];
  /** Whether `tokenTypeIds` mean something: rows of the token embedding that are added. */
  readonly tokenTypes?: boolean;
  /**
   * Checks a parsed config.json and fills in transformers' defaults, its aliases honoured.
   * @param where what errors call it, usually the path of the file
   * @throws config - what cannot be computed as its author meant it
   */
  readConfig(json: unknown, where: string): C;
  /**
   * A config for a new model: what `partial` leaves out is transformers' default.
   * @throws config - as {@link readConfig}
   */
  newConfig(partial: Partial<C>): C;
  /** The config.json of a saved model: what `raw` held, with the fields known here on top. Loads in transformers. */
  writeConfig(config: C): Record<string, unknown>;
  /** What is contradictory or misleading in a config.json, in words; `where` is what the messages call it. */
  notes(config: C, where: string): string[];
  sizes(config: C): Sizes;
  /** What names in tensors of a checkpoint begin with; it may be left out there: `transformer.`, `model.`. */
  readonly prefix: string;
  /** In the order in which they lie in memory: embeddings, blocks, what is on top. Without the value head. */
  table(config: C): readonly ParameterRow[];
  /** Sizes of the axes that the table names. */
  axes(config: C): Readonly<Record<string, number>>;
  /** What is added up to the first stream; the first entry is the token embedding. */
  embeddings(config: C): readonly EmbeddingTable[];
  /** Inverse frequencies of rotary positions, radians per position, [D / 2]; undefined: positions are embedded. */
  rotary?(config: C): Float32Array | undefined;
  /** The factor on q kᵀ in one layer. Layers with the same factor share their programs. */
  attentionScale(config: C, layer: number): number;
  /**
   * One block.
   * @param x stream [..., C]
   * @param p the block's parameters that are not matrices, by name within the block
   * @returns the stream after it, [..., C]
   */
  block(config: C, x: Tensor, p: Readonly<Record<string, Tensor>>, attend: Attend, product: Product): Tensor;
  /**
   * The norm before the heads.
   * @param x [R, C]
   * @param p all parameters outside the blocks, by name
   */
  normed(config: C, x: Tensor, p: Readonly<Record<string, Tensor>>): Tensor;
}

/** fp32: as they are. int8: whole numbers from -127 to 127 times a scale for each output; what they are multiplied with stays in fp32. */
export type BasePrecision = "fp32" | "int8";

/** Everything about a model but its weights. A model is one, too. */
export interface Architecture<C extends ModelConfig = ModelConfig> {
  readonly family: Family<C>;
  readonly config: C;
  readonly sizes: Sizes;
  /** What is trained beside frozen matrices; undefined: the weights are what they are. */
  readonly adapter?: LoRAConfig;
  /** How the matrices of the blocks are held under an adapter. Default fp32. */
  readonly basePrecision?: BasePrecision;
}

export const architecture = <C extends ModelConfig>(
  family: Family<C>,
  config: C,
  adapter?: LoRAConfig,
): Architecture<C> => ({ family, config, sizes: family.sizes(config), adapter });

/** The parameter that makes logits, [V, C]. */
export const lmHeadName = ({ family, config }: Architecture): string =>
  config.tieWordEmbeddings ? family.embeddings(config)[0].name : "lm_head.weight";
