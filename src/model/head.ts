/**
 * @file What is on top of the body: final layer norm, language-model head, value head, and any loss on them. Rows of
 * hidden states go through in chunks, so [rows, V] never exists for more than one chunk, and only rows that a loss or a
 * log-prob needs go through at all.
 */

import type { DeviceBuffer, Slot } from "../backend/backend.ts";
import type { Engine } from "../backend/engine.ts";
import type { BufferPool } from "../backend/pool.ts";
import { Memo } from "../base/memo.ts";
import type { Program } from "../graph/onnx.ts";
import { entropy, exp, gatherLast, linear, mul, reduceSum, reshape, softmax, sub } from "../graph/ops/index.ts";
import { forwardBackward } from "../graph/partition.ts";
import { constant, dims, input, type Tensor } from "../graph/tensor.ts";
import {
  type Distribution,
  type DistributionForm,
  distributionForm,
  distributionInputs,
  fillDistributionInputs,
  logProbs,
  type RowStatistics,
  rowStatistics,
  statisticBuffers,
} from "./distribution.ts";
import { type Architecture, lmHeadName } from "./family.ts";
import { headRows, type Parameter, type ParameterBuffer, parameterInputs, parameterTable } from "./parameters.ts";
import { gradientOutputs, gradientSlots } from "./products.ts";
import { type Rows, zeros } from "./rows.ts";
import type { ValueHead, ValueHeadForm } from "./value-head.ts";

/** Per row of the head: the quantities a loss may use. */
export interface TokenScores {
  /** log p(id), natural log, over the kept set. [R] */
  readonly logprobs: Tensor;
  /** -sum p log p over the kept set, in nats. [R] */
  readonly entropies: Tensor;
  /** The value head's output. [R] */
  readonly values: Tensor;
}

/**
 * A loss that is a sum over rows. `inputs` makes (and remembers) a per-row float32 input [R] by name; rows that only
 * fill the last chunk have 0 in every such input, and must add nothing to the loss then.
 */
export interface RowLoss {
  /** Printed in errors and profiles. */
  readonly name: string;
  /** Which of a row's scores are computed; the others come out as 0. Default: all. */
  readonly scores?: readonly (keyof TokenScores)[];
  build(scores: TokenScores, input: (name: string) => Tensor): Tensor;
}

/** A loss that joins rows, such as the tokens of a response or the responses of a pair, and so is no sum over them. */
export interface SeedLoss {
  readonly name: string;
  /** The loss, and its derivative by each log-prob [R], from log-probs [R] and what it is given of each row [R]. */
  seeds(logprobs: Float32Array, inputs: Readonly<Record<string, Float32Array>>): { loss: number; seeds: Float32Array };
}

/** Which rows, which tokens, under which distribution. */
export interface HeadRows {
  /** [N, C] hidden states before the final layer norm. */
  readonly hidden: DeviceBuffer;
  /** int32 [R]: which of the N rows. */
  readonly rows: Int32Array;
  /** int32 [R]: the token whose log-prob is asked for. */
  readonly ids: Int32Array;
  readonly distribution: Distribution;
}

/** What a model says of R asked tokens. */
export interface RowScores {
  /** log p of the asked token over the kept set, nats. [R] */
  readonly logprobs: Float32Array;
  /** Entropy of the distribution over the kept set, nats. [R] */
  readonly entropies: Float32Array;
  /** The value head's output. [R] */
  readonly values: Float32Array;
}

/** Of each row. */
export interface ExactKL {
  /** KL(policy ‖ reference) over the kept tokens, nats. [R] */
  readonly kl: Float32Array;
  /** log p of the asked token under the policy and the reference. [R] */
  readonly logprobs: Float32Array;
  /** log p of the asked token under the reference, nats. [R] */
  readonly refLogprobs: Float32Array;
}

/** What the programs of {@link Head.score} and {@link Head.logits} depend on. */
interface ScoreForm {
  R: number;
  form: DistributionForm;
  wanted: readonly (keyof TokenScores)[];
  more?: RowStatistics;
  head: ValueHeadForm;
}
interface LogitForm {
  R: number;
  wanted: readonly string[];
  head: ValueHeadForm;
}

const ALL_SCORES = ["logprobs", "entropies", "values"] as const;

/** Elements of the largest [rows, V] chunk: 64 MB. Every chunk adds the whole gradient of the embedding to the one before. */
const CHUNK_ELEMENTS = 1 << 24;
export const ROW_MULTIPLE = 32;

/** Rows that go through the head at a time, at most. */
export function chunkRows(vocabSize: number): number {
  const rows = Math.floor(CHUNK_ELEMENTS / vocabSize / ROW_MULTIPLE) * ROW_MULTIPLE;
  return Math.min(4096, Math.max(ROW_MULTIPLE, rows));
}

/** Rows of each chunk when so many go through: as few chunks as possible, all of one size, the last padded. */
export function chunksOf(rows: number, vocabSize: number): number {
  const chunks = Math.max(1, Math.ceil(rows / chunkRows(vocabSize)));
  return Math.ceil(rows / chunks / ROW_MULTIPLE) * ROW_MULTIPLE;
}

export class Head {
  readonly #architecture: Architecture;
  readonly #headRows: readonly Parameter[];
  readonly #engine: Engine;
  readonly #pool: BufferPool;
  readonly #rows: Rows;
  readonly #valueHead: ValueHead;

  readonly #scorePrograms = new Memo((form: ScoreForm): Program => {
    const { scores, everyLogprob } = this.#symbolic(form.R, form.form, form.head);
    const more = rowStatistics(form.more, everyLogprob, this.#vocabSize);
    return { name: "score", outputs: { ...only(scores, form.wanted), ...more } };
  });
  readonly #logitPrograms = new Memo(({ R, wanted, head }: LogitForm): Program => {
    const { logits, values, normed } = this.#outputs(R, head);
    const outputs: Record<string, Tensor> = { logits, values, normed, probabilities: softmax(logits) };
    return { name: "logits", outputs: Object.fromEntries(wanted.map((name) => [name, outputs[name]])) };
  });

  constructor(architecture: Architecture, engine: Engine, pool: BufferPool, rows: Rows, valueHead: ValueHead) {
    this.#architecture = architecture;
    this.#headRows = headRows(architecture, parameterTable(architecture));
    this.#engine = engine;
    this.#pool = pool;
    this.#rows = rows;
    this.#valueHead = valueHead;
  }

  /**
   * log p, entropy and value of each row.
   * @param wanted which of them are computed; the others are 0. Values alone need no [rows, V]
   * @param more   what else is computed, by name as {@link statisticBuffers} has it
   */
  async score(
    params: ParameterBuffer,
    asked: HeadRows,
    wanted: readonly (keyof TokenScores)[] = ALL_SCORES,
    more?: RowStatistics,
  ): Promise<RowScores & { more: Record<string, Float32Array> }> {
    const all = statisticBuffers(more, asked.rows.length);
    const scores = await this.#chunks(params, asked, {}, async (R, form, feeds, results, rows, start) => {
      const program = this.#scorePrograms.get({ R, form, wanted, more, head: this.#valueHead.form(false) });
      const chunk = statisticBuffers(more, R);
      await this.#engine.run(program, feeds, { ...results, ...chunk });
      for (const [name, part] of Object.entries(chunk)) all[name].set(part.subarray(0, rows.length), start);
    });
    return { ...scores, more: all };
  }

  /**
   * KL(policy ‖ reference) at each row over the whole vocabulary, in nats: sum over the kept tokens of p (log p - log q), both
   * under the same requested distribution.
   * @param reference its head, its parameters and its hidden states [N, C'] of the same N positions
   */
  async exactKl(
    params: ParameterBuffer,
    asked: HeadRows,
    reference: { head: Head; parameters: ParameterBuffer; hidden: DeviceBuffer },
  ): Promise<ExactKL> {
    const V = this.#vocabSize;
    const { head } = reference;
    const out = { kl: new Float32Array(asked.rows.length), refLogprobs: new Float32Array(asked.rows.length) };
    const { logprobs } = await this.#chunks(params, asked, {}, async (R, form, feeds, results, rows, start) => {
      const distribution = distributionInputs(form, R, V);
      const p = logProbs(this.#outputs(R, this.#valueHead.form(false)).logits, form, distribution);
      const q = logProbs(head.#outputs(R, head.#valueHead.form(false), "reference.").logits, form, distribution);
      const ids = input("ids", { R }, "int32");
      const kl = reduceSum(mul(exp(p), sub(p, q)), [1]); // [R, V] -> [R]
      const outputs = { logprobs: gatherLast(p, ids), refLogprobs: gatherLast(q, ids), kl };
      const refRows = await head.#pickRows(reference.hidden, rows, R);
      const refFeeds = {
        "reference.hidden": refRows,
        ...views(reference.parameters, head.#parameterNames(), "reference."),
      };
      const chunk = { kl: new Float32Array(R), refLogprobs: new Float32Array(R) };
      const program = { name: "exact KL", outputs };
      await this.#engine.run(program, { ...feeds, ...refFeeds }, { logprobs: results.logprobs, ...chunk });
      for (const name of ["kl", "refLogprobs"] as const) out[name].set(chunk[name].subarray(0, rows.length), start);
      head.#pool.release(refRows);
    });
    return { logprobs, ...out };
  }

  /**
   * A loss over the rows, and its gradients. In train mode the value head's dropout is on.
   * @param inputs   per-row inputs of the loss, each [R]
   * @param dHidden  [N, C], receives the gradient of the hidden states
   * @param grads    receives the gradients of those of the head's parameters that it has
   * @param adds     add to what `grads` holds instead of replacing it
   */
  async loss(
    params: ParameterBuffer,
    asked: HeadRows,
    loss: RowLoss,
    inputs: Readonly<Record<string, Float32Array>>,
    dHidden: DeviceBuffer,
    grads: ParameterBuffer,
    adds: boolean,
  ): Promise<RowScores & { loss: number }> {
    const C = this.#architecture.sizes.width;
    const trained = this.#parameterNames().filter((n) => grads.has(n));
    const form = this.#valueHead.form(this.#valueHead.training);
    let total = 0;
    let chunks = 0;
    const scores = await this.#chunks(params, asked, inputs, async (R, distribution, feeds, results, rows) => {
      const adding = adds || chunks > 0;
      const program = this.#lossProgram(R, distribution, form, loss, adding, trained);
      const lossValue = new Float32Array(1);
      const dRows = this.#pool.take(R * C);
      const before = adding ? gradientSlots(program, grads, trained, "before.") : {};
      const masks = form.dropout ? this.#valueHead.drawMasks(rows.length, R) : {};
      const into = gradientSlots(program, grads, trained, "d.");
      const outputs = { loss: lossValue, "d.hidden": dRows, ...results, ...into };
      // A loss that does not use the value head leaves its gradient at zero.
      if (!adding)
        for (const n of trained) if (!Object.hasOwn(program.outputs, `d.${n}`)) await this.#rows.clear(grads.slot(n));
      await this.#engine.run(program, { ...feeds, ...before, ...masks }, outputs);
      await this.#rows.add(dHidden, { from: dRows, rows }, chunks === 0);
      this.#pool.release(dRows);
      total += lossValue[0];
      chunks++;
    });
    return { ...scores, loss: total };
  }

  /**
   * Logits [R, V] and values [R, width of the value head] of given rows [R, C], written where the caller wants them.
   * @param more    also the rows after the final layer norm, [R, C], or the softmax of the logits, [R, V]
   * @param dropout draw masks for the value head's dropout and apply them
   */
  async logits(
    params: ParameterBuffer,
    rows: Slot,
    R: number,
    logits: Float32Array,
    values: Float32Array,
    more: { normed?: Float32Array; probabilities?: Float32Array } = {},
    dropout = false,
  ): Promise<void> {
    const wanted = { logits, values, ...more };
    const program = this.#logitPrograms.get({ R, wanted: Object.keys(wanted), head: this.#valueHead.form(dropout) });
    const masks = dropout ? this.#valueHead.drawMasks(R, R) : {};
    const feeds = { hidden: rows, ...views(params, this.#parameterNames()), ...masks };
    await this.#engine.run(program, feeds, wanted);
  }

  /** Rows that fit in one chunk. */
  get chunkRows(): number {
    return chunkRows(this.#vocabSize);
  }

  #lossProgram(
    R: number,
    form: DistributionForm,
    head: ValueHeadForm,
    loss: RowLoss,
    adds: boolean,
    trained: readonly string[],
  ): Program {
    const { hidden, scores, parameters } = this.#symbolic(R, form, head);
    const rowInputs = new Map<string, Tensor>();
    const rowInput = (name: string) => {
      const made = rowInputs.get(name) ?? input(name, { R });
      rowInputs.set(name, made);
      return made;
    };
    const lossTensor = reshape(loss.build(scores, rowInput), dims({ one: 1 }));
    const { backward } = forwardBackward(
      loss.name,
      { loss: lossTensor },
      { loss: constant(1, lossTensor.shape) },
      { hidden, ...Object.fromEntries(trained.map((n) => [n, parameters[n]])) },
      { keep: "nothing" },
    );
    const { "d.hidden": dHidden = zeros(hidden), ...made } = backward.outputs; // a detached value head reaches no row
    const whole = this.#engine.kept !== undefined; // slots are told apart by the whole view
    const outputs = { "d.hidden": dHidden, ...gradientOutputs(made, adds, whole) };
    return { name: loss.name, outputs: { loss: lossTensor, ...only(scores, loss.scores), ...outputs } };
  }

  /** hidden [R, C] -> logits [R, V], values [R, width of the value head]. `prefix` is that of the inputs' names. */
  #outputs(R: number, head: ValueHeadForm, prefix = "") {
    const { family, config, sizes } = this.#architecture;
    const hidden = input(`${prefix}hidden`, { R, C: sizes.width });
    const parameters = parameterInputs(this.#headRows, prefix);
    const normed = family.normed(config, hidden, parameters);
    const logits = linear(normed, parameters[lmHeadName(this.#architecture)], undefined, { transW: true }); // [R, V]
    return { hidden, parameters, normed, logits, values: this.#valueHead.build(normed, parameters, head) };
  }

  #symbolic(R: number, form: DistributionForm, head: ValueHeadForm) {
    this.#valueHead.requireScalar();
    const { hidden, parameters, logits, values: valueColumn } = this.#outputs(R, head);
    const values = reshape(valueColumn, dims({ R })); // [R, 1] -> [R]
    const everyLogprob = logProbs(logits, form, distributionInputs(form, R, this.#vocabSize));
    const logprobs = gatherLast(everyLogprob, input("ids", { R }, "int32"));
    const scores = { logprobs, entropies: entropy(everyLogprob), values };
    return { hidden, parameters, scores, everyLogprob };
  }

  get #vocabSize(): number {
    return this.#architecture.sizes.vocabSize;
  }

  #parameterNames(): string[] {
    return this.#headRows.map(({ name }) => name);
  }

  /** Some rows of [N, C] in a buffer of the pool, [R, C]; the last one is repeated if R is larger. */
  async #pickRows(hidden: DeviceBuffer, rows: Int32Array, R: number): Promise<DeviceBuffer> {
    const picked = this.#pool.take(R * this.#architecture.sizes.width);
    await this.#rows.gather([{ from: hidden, rows }], picked);
    return picked;
  }

  /** Call `run` for each chunk of rows with its feeds, and put the chunks' results together. */
  async #chunks(
    params: ParameterBuffer,
    { hidden, rows, ids, distribution }: HeadRows,
    inputs: Readonly<Record<string, Float32Array>>,
    run: (
      R: number,
      form: DistributionForm,
      feeds: Record<string, Slot>,
      results: RowBuffers,
      rows: Int32Array,
      start: number,
    ) => Promise<void>,
  ): Promise<RowScores> {
    const V = this.#vocabSize;
    const form = distributionForm(distribution);
    const out = rowBuffers(rows.length);
    const R = chunksOf(rows.length, V);
    for (let start = 0; start < rows.length; start += R) {
      const part = rows.subarray(start, start + R);
      const picked = await this.#pickRows(hidden, part, R);
      const chunkIds = new Int32Array(R);
      chunkIds.set(ids.subarray(start, start + part.length));
      const dense = fillDistributionInputs(distribution, form, start, R, V, this.#pool);
      const feeds: Record<string, Slot> = {
        hidden: picked,
        ids: chunkIds,
        ...dense,
        ...views(params, this.#parameterNames()),
      };
      for (const [name, data] of Object.entries(inputs)) {
        const chunk = new Float32Array(R);
        chunk.set(data.subarray(start, start + part.length));
        feeds[name] = chunk;
      }
      const results = rowBuffers(R);
      await run(R, form, feeds, results, part, start);
      for (const name of ["logprobs", "entropies", "values"] as const)
        out[name].set(results[name].subarray(0, part.length), start);
      this.#pool.release(picked, ...Object.values(dense));
    }
    return out;
  }
}

const only = (scores: TokenScores, names: readonly (keyof TokenScores)[] = ALL_SCORES): Record<string, Tensor> =>
  Object.fromEntries(names.map((name) => [name, scores[name]]));

type RowBuffers = Record<keyof TokenScores, Float32Array>;
const rowBuffers = (n: number): RowBuffers =>
  Object.fromEntries(ALL_SCORES.map((name) => [name, new Float32Array(n)])) as RowBuffers;

function views(buffer: ParameterBuffer, names: readonly string[], prefix = ""): Record<string, Float32Array> {
  return Object.fromEntries(names.map((n) => [prefix + n, buffer.slot(n)]));
}
