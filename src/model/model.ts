/** @file GPT2HeadWithValueModel: a GPT-2 language model with a second head that gives every position a scalar. */

import { BufferPool, Engine, type EngineOptions } from "../backend/engine.ts";
import { fail } from "../base/errors.ts";
import { stream } from "../base/streams.ts";
import { type ResolveOptions, resolveModel } from "../checkpoint/hub.ts";
import { noConfig } from "../checkpoint/no-weights.ts";
import { isValueHead } from "../checkpoint/tensor-names.ts";
import { findParameters, hasOwnHead, loadParameters, openWeights, saveParameters } from "../checkpoint/weights.ts";
import type { Keep } from "../graph/partition.ts";
import { exists, joinPath, makeDirectory, readJson, writeTextAtomic } from "../platform/files.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { type AskedTokens, readAsked } from "./asked.ts";
import { configNotes, configToJson, type GPT2Config, parseConfig } from "./config.ts";
import type { RowStatistics } from "./distribution.ts";
import { drawableIds, drawableIdsOf, drawableNotes } from "./drawable.ts";
import { type FloatTensor, type ForwardInput, type ForwardOutput, forward, type LayerCache } from "./forward.ts";
import {
  type GenerationConfig,
  generationFromConfig,
  readGenerationConfig,
  saveGenerationConfig,
} from "./generation-config.ts";
import { type ExactKL, Head, type RowLoss, type RowScores } from "./head.ts";
import type { KeptSet } from "./kept-set.ts";
import { initialize, initializeParameter, ParameterBuffer, parameterTable, trainedTable } from "./parameters.ts";
import { Transformer } from "./transformer.ts";
import { ValueHead } from "./value-head.ts";

export interface ModelOptions extends EngineOptions {
  /** Share the sessions of another model: a frozen reference model costs its weights and nothing else. */
  engine?: Engine;
  /** Seed of whatever is initialised rather than loaded, and of the value head's dropout. */
  seed?: number;
  /** What tells which ids text can be made of; default for a model that is loaded: the one in its directory. */
  tokenizer?: Pick<Tokenizer, "has">;
}

const VALUE_HEAD = ["v_head.summary.weight", "v_head.summary.bias"];

/** The config of the model in a directory. */
export async function readConfig(directory: string): Promise<GPT2Config> {
  const path = joinPath(directory, "config.json");
  if (!(await exists(path))) await noConfig(directory);
  return parseConfig(await readJson(path), path);
}

const storedTable = (config: GPT2Config) =>
  parameterTable(config).map((p) => ({ ...p, optional: VALUE_HEAD.includes(p.name) }));

/**
 * The config of the model in a directory, whose weights are there with the right names, shapes and types. Reads no weights.
 * @throws checkpoint - they are not
 */
export async function checkModel(directory: string): Promise<GPT2Config> {
  const config = await readConfig(directory);
  const weights = await openWeights(directory);
  try {
    findParameters(weights, storedTable(config));
    return config;
  } finally {
    await weights.close();
  }
}

export class GPT2HeadWithValueModel {
  readonly config: GPT2Config;
  readonly parameters: ParameterBuffer;
  readonly engine: Engine;
  /** @internal */
  readonly pool = new BufferPool();
  /** @internal */
  readonly transformer: Transformer;
  /** @internal */
  readonly head: Head;
  readonly vHead: ValueHead;
  /** What generation_config.json says, or config.json where there is none. */
  readonly generationConfig: GenerationConfig;
  /** Ids that text can be made of: the others are never drawn. undefined: all, as far as is known. */
  readonly drawable?: KeptSet;
  /** The directory it was loaded from. */
  readonly directory?: string;
  /** Whether the value head was made rather than loaded. */
  readonly valueHeadIsNew: boolean;
  /** What a loader should tell its user: a value head that was not there, tensors that were not used. */
  readonly notes: readonly string[];

  private constructor(
    config: GPT2Config,
    parameters: ParameterBuffer,
    options: ModelOptions,
    from: Partial<
      Pick<GPT2HeadWithValueModel, "directory" | "notes" | "valueHeadIsNew" | "generationConfig" | "drawable">
    > = {},
  ) {
    this.config = config;
    this.parameters = parameters;
    this.engine = options.engine ?? new Engine(options);
    this.transformer = new Transformer(config, this.engine, this.pool);
    this.vHead = new ValueHead(config, options.seed);
    this.head = new Head(config, this.engine, this.pool, this.vHead);
    this.generationConfig = from.generationConfig ?? generationFromConfig(config);
    const { tokenizer } = options;
    this.drawable = tokenizer ? drawableIds(tokenizer, config.vocabSize) : from.drawable;
    this.directory = from.directory;
    this.notes = from.notes ?? [];
    this.valueHeadIsNew = from.valueHeadIsNew ?? true;
  }

  /** A new model with random weights, as the parameter table says. */
  static fromConfig(config: GPT2Config, options: ModelOptions = {}): GPT2HeadWithValueModel {
    const parameters = new ParameterBuffer(parameterTable(config));
    initialize(parameters, config, options.seed ?? 0);
    return new GPT2HeadWithValueModel(config, parameters, options);
  }

  /**
   * A model from a directory in Hugging Face layout, a run directory (its best checkpoint) or a hub id. A checkpoint without a value head gets a new one,
   * N(0, initializerRange) with bias 0, and `notes` says so.
   */
  static async fromPretrained(
    id: string,
    options: ModelOptions & ResolveOptions = {},
  ): Promise<GPT2HeadWithValueModel> {
    const notes: string[] = [];
    const directory = await resolveModel(id, { onNote: (text) => notes.push(text), ...options });
    const path = joinPath(directory, "config.json");
    const written = await readConfig(directory);
    const generationConfig = await readGenerationConfig(directory, written);
    const weights = await openWeights(directory);
    try {
      findParameters(weights, storedTable(written));
      // As in transformers 5: the weights are right, the config is not.
      const untied = written.tieWordEmbeddings && (await hasOwnHead(weights));
      const config = untied ? { ...written, tieWordEmbeddings: false } : written;
      const table = storedTable(config);
      const { found } = findParameters(weights, table); // before the memory for them is taken: a broken config may claim any size
      const parameters = new ParameterBuffer(table);
      const wanted = table.map((p) => ({ ...p, target: parameters.view(p.name) }));
      const { missing, ignored } = await loadParameters(weights, wanted);
      notes.push(...configNotes(config, path));
      if (untied)
        notes.push(
          `${weights.name}: lm_head.weight differs from the token embedding, so the two are not tied, whatever ${path} says`,
        );
      const valueHeadIsNew = missing.includes(VALUE_HEAD[0]);
      const named = found.find(([{ name }, stored]) => name === VALUE_HEAD[0] && !stored.name.endsWith(name));
      if (named) notes.push(`${weights.name}: ${named[1].name} was read as the value head`);
      if (missing.length > 0) {
        // A bias alone is no value head.
        const made = valueHeadIsNew ? VALUE_HEAD : missing;
        parameters.table.forEach((p, i) => {
          if (made.includes(p.name))
            initializeParameter(parameters.view(p.name), p, config, stream(options.seed ?? 0, "parameter", i));
        });
        const others = ignored.filter(isValueHead);
        const other = others.length > 0 ? ` (${others.join(", ")}: a value head of another form, not read)` : "";
        notes.push(
          valueHeadIsNew
            ? `${weights.name} has no ${missing.join(", ")}${other}: a new value head, N(0, ${config.initializerRange}), was made`
            : `${weights.name} has no ${missing.join(", ")}: taken as 0`,
        );
      }
      if (ignored.length > 0)
        notes.push(`${weights.name}: not used: ${ignored.slice(0, 5).join(", ")}${ignored.length > 5 ? ", ..." : ""}`);
      if (config.summaryActivation !== null && config.summaryActivation !== "tanh")
        notes.push(
          `${path}: summary_activation "${config.summaryActivation}" is not applied: a value head knows "tanh" only`,
        );
      const { tokenizer } = options;
      const { vocabSize } = config;
      const drawable = tokenizer ? drawableIds(tokenizer, vocabSize) : await drawableIdsOf(directory, vocabSize);
      notes.push(...drawableNotes(drawable, vocabSize));
      const from = { directory, notes, valueHeadIsNew, generationConfig, drawable };
      return new GPT2HeadWithValueModel(config, parameters, options, from);
    } finally {
      await weights.close();
    }
  }

  /** The tokens that end a text, each once; empty: none does. */
  get eosTokenIds(): readonly number[] {
    return this.generationConfig.eosTokenIds;
  }

  /**
   * Write config.json, model.safetensors (fp32, Hugging Face names, value head included) and, where there was one,
   * generation_config.json. Each file is replaced whole.
   */
  async savePretrained(directory: string): Promise<void> {
    await makeDirectory(directory);
    const entries = this.parameters.table.map((p) => ({
      name: p.name,
      shape: p.shape,
      data: this.parameters.view(p.name),
    }));
    await saveParameters(directory, entries);
    await writeTextAtomic(
      joinPath(directory, "config.json"),
      `${JSON.stringify(configToJson(this.config), null, 2)}\n`,
    );
    await saveGenerationConfig(directory, this.generationConfig);
  }

  /** From now on the value loss moves the value head alone; no gradient of it reaches the body. The notebook's code. */
  detachValueHead(): void {
    this.vHead.detachHead = true;
  }

  /** The same: the name in the notebook's text. */
  detachHead(): void {
    this.detachValueHead();
  }

  /**
   * A copy with weights of its own and the same engine: what PPO measures the KL against.
   * @param sharedLayers the embeddings and so many blocks are not copied: they are this model's own; 0: all are copied
   */
  frozenCopy(sharedLayers = 0): GPT2HeadWithValueModel {
    const { table, data } = this.parameters;
    const copied = trainedTable(table, sharedLayers).at(-1)?.end ?? 0;
    const copy = new ParameterBuffer(table, data.slice(data.length - copied), this.parameters);
    const { generationConfig, drawable } = this;
    return new GPT2HeadWithValueModel(this.config, copy, { engine: this.engine }, { generationConfig, drawable });
  }

  /**
   * Train mode: the value head's dropout is on in {@link GPT2HeadWithValueModel.forward} and in the loss, with new
   * masks each call. A new model is in eval mode. The body's dropouts (`embdPdrop`, `attnPdrop`, `residPdrop`) do not exist here in either
   * mode. Sampling and scoring never have dropout, and PPO refuses a model in train mode: its old log-probs and values
   * must be those that the same weights give again.
   */
  train(mode = true): this {
    this.vHead.training = mode;
    return this;
  }

  /** Eval mode: no dropout. */
  eval(): this {
    return this.train(false);
  }

  /** Whether the model is in train mode. */
  get training(): boolean {
    return this.vHead.training;
  }

  /** Logits, values and whatever else is asked, of whole sequences. In train mode the values have dropout. */
  async forward(given: ForwardInput): Promise<ForwardOutput> {
    return forward(this, given);
  }

  /** The same in the notebook's order: logits, then pastKeyValues, hiddenStates and attentions where asked for, values last. */
  async forwardTuple(given: ForwardInput): Promise<(FloatTensor | LayerCache[] | FloatTensor[])[]> {
    const { logits, values, pastKeyValues, hiddenStates, attentions } = await forward(this, given);
    return [
      logits,
      pastKeyValues,
      ...(hiddenStates ? [hiddenStates] : []),
      ...(attentions ? [attentions] : []),
      values,
    ];
  }

  /** The matrix that makes logits, [V, C]: the token embedding when the two are tied. */
  getOutputEmbeddings(): FloatTensor {
    const name = this.config.tieWordEmbeddings ? "transformer.wte.weight" : "lm_head.weight";
    return { data: this.parameters.view(name), shape: [this.config.vocabSize, this.config.nEmbd] };
  }

  /**
   * log p, entropy and value for asked tokens: one forward pass, without dropout.
   * @param wanted which of them are computed, by default all; the others are 0
   * @param more   further numbers of each row, given as `more` by name
   * @throws input - ids outside the vocabulary, sequences longer than the context, rows that are no positions of them
   */
  async score(
    asked: AskedTokens,
    wanted?: readonly (keyof RowScores)[],
    more?: RowStatistics,
  ): Promise<RowScores & { more: Record<string, Float32Array> }> {
    const { tokens, rows, ids, distribution } = readAsked(this.config, asked);
    const hidden = await this.transformer.hidden(this.parameters, tokens);
    const scores = await this.head.score(this.parameters, { hidden, rows, ids, distribution }, wanted, more);
    this.pool.release(hidden);
    return scores;
  }

  /**
   * KL(this ‖ reference) over the vocabulary at each asked token's place, and the token's log-prob under both: one forward
   * pass of each, twice the work of {@link score}.
   * @throws input - as {@link score}; the vocabularies differ, or the sequences are longer than the reference's context
   */
  async exactKl(asked: AskedTokens, reference: GPT2HeadWithValueModel): Promise<ExactKL> {
    const { tokens, rows, ids, distribution } = readAsked(this.config, asked);
    if (reference.config.vocabSize !== this.config.vocabSize)
      fail("input", {
        where: "reference model",
        found: `a vocabulary of ${reference.config.vocabSize}`,
        expected: `${this.config.vocabSize}, as the policy's`,
        fix: "take the KL to a model with the same tokenizer",
      });
    readAsked(reference.config, asked);
    const hidden = await this.transformer.hidden(this.parameters, tokens);
    const refHidden = await reference.transformer.hidden(reference.parameters, tokens);
    const result = await this.head.exactKl(
      this.parameters,
      { hidden, rows, ids, distribution },
      { head: reference.head, parameters: reference.parameters, hidden: refHidden },
    );
    this.pool.release(hidden);
    reference.pool.release(refHidden);
    return result;
  }

  /**
   * A loss over asked tokens, and the gradient of every parameter that `grads` has: the backward pass ends above the blocks
   * that it does not have.
   * @param inputs     what the loss wants to know about each token, each [R]
   * @param grads      receives the gradients
   * @param accumulate add to what `grads` holds instead of replacing it
   * @param keep       "nothing" recomputes activations in the backward pass: less memory, about a third more time
   * @internal
   */
  async lossAndGradients(
    asked: AskedTokens,
    loss: RowLoss,
    inputs: Readonly<Record<string, Float32Array>>,
    grads: ParameterBuffer,
    accumulate = false,
    keep: Keep = "heavy",
  ): Promise<RowScores & { loss: number }> {
    const { tokens, rows, ids, distribution } = readAsked(this.config, asked);
    const kept = await this.transformer.forward(this.parameters, tokens, keep, this.#frozenLayers(grads));
    const hidden = kept.streams[kept.streams.length - 1];
    const dHidden = this.pool.take(hidden.length).fill(0);
    const result = await this.head.loss(
      this.parameters,
      { hidden, rows, ids, distribution },
      loss,
      inputs,
      dHidden,
      grads,
      accumulate,
    );
    const embedding = "transformer.wte.weight";
    if (!accumulate && !this.config.tieWordEmbeddings && grads.has(embedding)) grads.view(embedding).fill(0);
    await this.transformer.backward(this.parameters, kept, dHidden, grads, accumulate, keep);
    this.pool.release(dHidden);
    return result;
  }

  /** Blocks that `grads` does not have, counted from the first. */
  #frozenLayers(grads: ParameterBuffer): number {
    let layer = 0;
    while (layer < this.config.nLayer && !grads.has(`transformer.h.${layer}.ln_1.weight`)) layer++;
    return layer;
  }

  /** Free the engine's sessions and every pooled buffer. */
  dispose(): void {
    this.engine.dispose();
    this.pool.clear();
  }
}
