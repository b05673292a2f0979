/** @file A causal language model with a second head that gives every position a scalar, of any family. */
import { Engine } from "../backend/engine.ts";
import { BufferPool } from "../backend/pool.ts";
import { fail } from "../base/errors.ts";
import { type GenerationConfig, generationFromConfig, saveGenerationConfig } from "../checkpoint/generation-config.ts";
import { saveParameters } from "../checkpoint/weights.ts";
import { mul, reduceSum } from "../graph/ops/index.ts";
import type { Keep } from "../graph/partition.ts";
import { joinPath, makeDirectory, writeTextAtomic } from "../platform/files.ts";
import { type LoRAConfig, loraConfig } from "./adapter.ts";
import { type AskedTokens, checkSameVocabulary, readAsked } from "./asked.ts";
import { Body } from "./body.ts";
import type { RowStatistics } from "./distribution.ts";
import { drawableIds } from "./drawable.ts";
import {
  type Architecture,
  architecture,
  type BasePrecision,
  type Family,
  lmHeadName,
  type ModelConfig,
  type Sizes,
} from "./family.ts";
import { type FloatTensor, type ForwardInput, type ForwardOutput, forward, type LayerCache } from "./forward.ts";
import { type ExactKL, Head, type HeadRows, type RowLoss, type RowScores, type SeedLoss } from "./head.ts";
import type { KeptSet } from "./kept-set.ts";
import type { Loaded, ModelOptions } from "./load.ts";
import {
  adapterParameters,
  namesAbove,
  type Parameter,
  ParameterBuffer,
  parameterTable,
  roundedParameters,
  trainedRows,
  VALUE_HEAD_NAMES,
} from "./parameters.ts";
import { mergedMatrices } from "./products.ts";
import { Rows } from "./rows.ts";
import { ValueHead } from "./value-head.ts";

/** A causal language model with a value head, of any family. {@link loadModel} opens one. */
export class CausalLMWithValueHead<C extends ModelConfig = ModelConfig> {
  /** The architecture. @internal */
  readonly family: Family<C>;
  /** The model's config, under the names of its family. */
  readonly config: C;
  /** The config's numbers under names that all families share. */
  readonly sizes: Sizes;
  /** All weights in fp32, value head and adapter included. With an adapter, the others are the base's, which does not change. */
  parameters: ParameterBuffer;
  /** The adapter it has; undefined: none. */
  adapter?: LoRAConfig;
  /** How the matrices of the base are held. */
  basePrecision: BasePrecision;
  /** What runs its programs; may be shared with other models. */
  readonly engine: Engine;
  /** Its weights were trained since they were loaded: what it was loaded from is no base for an adapter any more. @internal */
  trained = false;
  /** @internal */
  readonly pool: BufferPool;
  /** @internal */
  readonly rows: Rows;
  /** @internal */
  body: Body;
  /** @internal */
  readonly head: Head;
  /** The value head: its mode and its dropout. */
  readonly vHead: ValueHead;
  /** What generation_config.json says, or config.json where there is none. */
  readonly generationConfig: GenerationConfig;
  /** Ids that text can be made of: the others are never drawn. undefined: all, as far as is known. */
  readonly drawable?: KeptSet;
  /** The directory it was loaded from. */
  readonly directory?: string;
  /** How the model without its adapter can be found again: a hub id or a whole path. What is saved of an adapter names it. */
  readonly baseName?: string;
  /** Whether the value head was made rather than loaded. */
  readonly valueHeadIsNew: boolean;
  /** What a loader should tell its user: a value head that was not there, tensors that were not used. */
  readonly notes: readonly string[];

  /** @internal */
  constructor(loaded: Loaded<C>, options: ModelOptions = {}) {
    const { family, config, sizes } = loaded;
    this.family = family;
    this.config = config;
    this.sizes = sizes;
    this.parameters = loaded.parameters;
    this.adapter = loaded.adapter;
    this.basePrecision = loaded.basePrecision ?? "fp32";
    this.engine = options.engine ?? new Engine(options);
    this.parameters.keepIn(this.engine);
    this.pool = new BufferPool(this.engine.backend);
    this.rows = new Rows(sizes.width, this.engine);
    this.body = new Body(this, this.engine, this.pool, this.rows);
    this.vHead = new ValueHead(config, sizes.width, options.seed);
    this.head = new Head(this, this.engine, this.pool, this.rows, this.vHead);
    this.generationConfig = loaded.generationConfig ?? generationFromConfig(config);
    const { tokenizer } = options;
    this.drawable = tokenizer ? drawableIds(tokenizer, sizes.vocabSize) : loaded.drawable;
    this.directory = loaded.directory;
    this.baseName = loaded.baseName;
    this.notes = loaded.notes ?? [];
    this.valueHeadIsNew = loaded.valueHeadIsNew ?? true;
  }

  /** The tokens that end a text, each once; empty: none does. */
  get eosTokenIds(): readonly number[] {
    return this.generationConfig.eosTokenIds;
  }

  /**
   * Write config.json, model.safetensors (fp32, Hugging Face names, value head included) and, where there was one,
   * generation_config.json. Each file is replaced whole. Of a model with an adapter, what PEFT writes in place of the first two:
   * adapter_config.json and adapter_model.safetensors, and the value head in v_head.safetensors.
   * @throws checkpoint - a directory that cannot be written, a full disk and its like
   */
  async savePretrained(directory: string): Promise<void> {
    await makeDirectory(directory);
    await this.parameters.refresh();
    const { table } = this.parameters;
    const isSaved = ({ rounded }: Parameter) => !(rounded && this.adapter); // of a base its names alone are
    const entries = table.map((p) => ({ ...p, data: isSaved(p) ? this.parameters.numbers(p.name) : NO_NUMBERS }));
    if (this.adapter) {
      const { saveAdapter } = await import("../checkpoint/adapter-weights.ts");
      await saveAdapter(directory, this.adapter, entries, this.baseName);
    } else {
      await saveParameters(directory, entries);
      const { valueHead: _, ...config } = this.config; // the weights say whether there is one
      await writeTextAtomic(
        joinPath(directory, "config.json"),
        `${JSON.stringify(this.family.writeConfig(config as C), null, 2)}\n`,
      );
    }
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
   * Add a low-rank adapter (LoRA): from now on its rows and the value head are what is trained, and the weights there were are the
   * base, which does not change any more. A is drawn at random and B is 0, so the model computes what it did before.
   * @param config what differs from {@link LORA_DEFAULTS}
   * @param seed   of A; default 0
   * @throws config - options out of range, targets that match nothing; the model has an adapter already, or was trained and not loaded again
   */
  addAdapter(config: Partial<LoRAConfig> = {}, seed = 0): this {
    if (this.adapter)
      fail("config", {
        where: "addAdapter",
        found: "a model that has an adapter",
        expected: "one without",
        fix: "train the adapter it has, or merge() it first",
      });
    if (this.trained)
      fail("config", {
        where: "addAdapter",
        found: "a model whose weights were trained since it was loaded",
        expected: "one that can be found again: an adapter is saved with the name of its base",
        fix: "save it (savePretrained) and add the adapter to what loadModel opens there",
      });
    const adapter = loraConfig(config);
    const parameters = adapterParameters(architecture(this.family, this.config, adapter), this.parameters, seed);
    this.adapter = adapter;
    this.parameters = parameters;
    parameters.keepIn(this.engine);
    this.body = new Body(this, this.engine, this.pool, this.rows);
    return this;
  }

  /**
   * Hold the matrices of the blocks in int8, as whole numbers and one scale for each output, in place of fp32: a quarter of their
   * memory. From now on the base is the rounded one, for training, sampling and the reference alike; products by it are in fp32.
   * Embeddings, norms, biases, heads and the adapter stay as they are.
   * @throws usage - the model has no adapter
   */
  roundBase(): this {
    this.#requireAdapter("roundBase");
    if (this.basePrecision === "int8") return this;
    const made = { ...architecture(this.family, this.config, this.adapter), basePrecision: "int8" as const };
    this.parameters = roundedParameters(made, this.parameters);
    this.parameters.keepIn(this.engine);
    this.basePrecision = "int8";
    this.body = new Body(this, this.engine, this.pool, this.rows);
    return this;
  }

  /**
   * The base without the adapter: what PPO measures the KL against. It shares the base's memory and has a value head of its own.
   * @throws usage - the model has no adapter
   */
  withoutAdapter(): CausalLMWithValueHead<C> {
    this.#requireAdapter("withoutAdapter");
    return this.#copy(
      { ...architecture(this.family, this.config), basePrecision: this.basePrecision },
      new Set(VALUE_HEAD_NAMES),
    );
  }

  /**
   * A model without an adapter that computes the same: W + s B A in place of W, in memory of its own.
   * @throws usage - the model has no adapter
   */
  async merge(): Promise<CausalLMWithValueHead<C>> {
    this.#requireAdapter("merge");
    await this.parameters.refresh();
    const plain = architecture(this.family, this.config);
    const all = new Set(parameterTable(plain).map(({ name }) => name));
    const merged = this.#copy(plain, all, { baseName: undefined }); // an adapter on top of it is none of the base
    await mergedMatrices(this.engine, this.parameters, merged.parameters);
    await merged.parameters.refresh();
    return merged;
  }

  #requireAdapter(where: string): void {
    if (!this.adapter)
      fail("usage", {
        where: `${where}()`,
        found: "a model without an adapter",
        expected: "one with an adapter",
        fix: "add one with addAdapter(), or load one",
      });
  }

  /**
   * A copy with weights of its own and the same engine: what PPO measures the KL against, where there is no adapter.
   * @param sharedLayers the embeddings and so many blocks are not copied: they are this model's own; 0: all are copied. Of a model
   *   with an adapter the base is never copied
   */
  frozenCopy(sharedLayers = 0): CausalLMWithValueHead<C> {
    return this.#copy(this, namesAbove(this, this.parameters.table, sharedLayers));
  }

  /** A model on the same engine, with memory of its own for the parameters named and this one's for the others. */
  #copy(
    { family, config, sizes, adapter, basePrecision }: Architecture<C>,
    names: ReadonlySet<string>,
    { baseName }: Pick<Loaded<C>, "baseName"> = this,
  ): CausalLMWithValueHead<C> {
    const { generationConfig, drawable } = this;
    const table = parameterTable({ family, config, sizes, adapter, basePrecision });
    const own = trainedRows(table, names);
    const parameters = new ParameterBuffer(table, this.parameters, own);
    for (const { name } of own) parameters.view(name).set(this.parameters.numbers(name));
    const copy = { family, config, sizes, adapter, basePrecision, parameters, generationConfig, drawable, baseName };
    return new CausalLMWithValueHead(copy, { engine: this.engine });
  }

  /**
   * Train mode: the value head's dropout is on in {@link CausalLMWithValueHead.forward} and in the loss, with new
   * masks each call. A new model is in eval mode. The body's dropouts do not exist here in either mode. Sampling and
   * scoring never have dropout, and PPO refuses a model in train mode: its old log-probs and values must be those that
   * the same weights give again.
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

  /**
   * Logits, values and whatever else is asked, of whole sequences. In train mode the values have dropout.
   * @throws input - shapes that do not fit each other or the model, ids outside the vocabulary, more tokens than the context has
   */
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
    const { vocabSize, width } = this.sizes;
    return { data: this.parameters.view(lmHeadName(this)), shape: [vocabSize, width] };
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
    const { tokens, rows, ids, distribution } = readAsked(this.sizes, asked);
    const hidden = await this.body.hidden(this.parameters, tokens);
    const scores = await this.head.score(this.parameters, { hidden, rows, ids, distribution }, wanted, more);
    this.pool.release(hidden);
    return scores;
  }

  /**
   * KL(this ‖ reference) over the vocabulary at each asked token's place, and the token's log-prob under both: one forward
   * pass of each, twice the work of {@link score}.
   * @throws input - as {@link score}; the vocabularies differ, or the sequences are longer than the reference's context
   */
  async exactKl(asked: AskedTokens, reference: CausalLMWithValueHead): Promise<ExactKL> {
    const { tokens, rows, ids, distribution } = readAsked(this.sizes, asked);
    checkSameVocabulary(this.sizes, reference.sizes, "input", "reference model");
    readAsked(reference.sizes, asked);
    const hidden = await this.body.hidden(this.parameters, tokens);
    const refHidden = await reference.body.hidden(reference.parameters, tokens);
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
   * A loss over asked tokens, and the gradient of every parameter that `grads` has: the backward pass ends at the lowest of them.
   * @param inputs     what the loss wants to know about each token, each [R]
   * @param grads      receives the gradients
   * @param accumulate add to what `grads` holds instead of replacing it
   * @param keep       "nothing" recomputes activations in the backward pass: less memory, about a third more time
   * @internal
   */
  async lossAndGradients(
    asked: AskedTokens,
    loss: RowLoss | SeedLoss,
    inputs: Readonly<Record<string, Float32Array>>,
    grads: ParameterBuffer,
    accumulate = false,
    keep: Keep = "heavy",
  ): Promise<RowScores & { loss: number }> {
    const { tokens, rows, ids, distribution } = readAsked(this.sizes, asked);
    const kept = await this.body.forward(this.parameters, tokens, grads, keep);
    const hidden = kept.streams[kept.streams.length - 1];
    const dHidden = this.pool.take(hidden.length);
    const headRows = { hidden, rows, ids, distribution };
    const [rowLoss, given, joined] = "seeds" in loss ? await this.#seeded(loss, headRows, inputs) : [loss, inputs];
    const result = await this.head.loss(this.parameters, headRows, rowLoss, given, dHidden, grads, accumulate);
    const tied = this.config.tieWordEmbeddings;
    await this.body.backward(this.parameters, kept, dHidden, grads, accumulate, tied, keep);
    this.pool.release(dHidden);
    return joined === undefined ? result : { ...result, loss: joined };
  }

  /** A loss that joins rows, as one that does not and has the same gradient: one more pass of the head. */
  async #seeded(
    loss: SeedLoss,
    rows: HeadRows,
    inputs: Readonly<Record<string, Float32Array>>,
  ): Promise<[RowLoss, Readonly<Record<string, Float32Array>>, number]> {
    const { logprobs } = await this.head.score(this.parameters, rows, ["logprobs"]);
    const { loss: joined, seeds } = loss.seeds(logprobs, inputs);
    return [LINEAR, { seeds }, joined];
  }

  /** Free the engine's sessions and every pooled buffer. */
  dispose(): void {
    this.engine.dispose();
    this.pool.clear();
  }
}

const NO_NUMBERS = new Float32Array();

/** Has the seeds for its gradient. */
const LINEAR: RowLoss = {
  name: "linear loss",
  scores: ["logprobs", "entropies"],
  build: ({ logprobs }, input) => reduceSum(mul(logprobs, input("seeds")), [0]),
};
