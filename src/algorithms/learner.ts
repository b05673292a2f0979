/** @file Who learns: a model, its optimizer, and the gradients in between. Every algorithm changes weights through this. */
import { firstBadParameter, isBad } from "../experience/finite.ts";
import type { Keep } from "../graph/partition.ts";
import type { AskedTokens } from "../model/asked.ts";
import type { OutputLoss, SequenceClassifier } from "../model/classifier/classifier.ts";
import type { RowLoss, RowScores, SeedLoss } from "../model/head.ts";
import type { CausalLMWithValueHead } from "../model/model.ts";
import { namesAbove, ParameterBuffer, trainedRows, VALUE_HEAD_NAMES } from "../model/parameters.ts";
import { AdamW, type AdamWOptions, clipFactor } from "../nn/adamw.ts";
import { zeros } from "../nn/adamw-kernel.ts";
import { type Arithmetic, arithmeticOf } from "../nn/arithmetic.ts";

/** How a {@link Learner} learns. */
export interface LearnerOptions {
  /** Learning rate and the like; what is left out has PyTorch's defaults. */
  readonly optimizer: Partial<AdamWOptions>;
  /** Gradients are scaled down to this norm; 0: never. */
  readonly maxGradNorm: number;
  /** The embeddings and this many blocks are not trained. Default 0: everything is. */
  readonly frozenLayers?: number;
  /** Whether the value head is trained. Default true. */
  readonly valueHead?: boolean;
  /** Activations are computed again in the backward pass: less memory, more time. Default false. */
  readonly gradientCheckpointing?: boolean;
  /** Where there are several: what errors call this one. */
  readonly name?: string;
}

/** What an optimizer step did. */
export interface StepFacts {
  /** Norm of the gradient before clipping. */
  readonly gradNorm: number;
  /** Norm of the weights' change. */
  readonly updateNorm: number;
  /** A weight that is not finite any more, in words; undefined when all is well. */
  readonly spoiled?: string;
}

/** The gradient of a loss on some rows, by itself, and what the pass said of them. */
export interface PartGradient extends RowScores {
  readonly loss: number;
  /** As {@link Learner.grads} lays them out. */
  readonly grads: Float32Array;
}

/** A model that is trained in place: gradients of one or more parts add up, then the optimizer steps once. */
export class Learner<Model extends CausalLMWithValueHead | SequenceClassifier = CausalLMWithValueHead> {
  /** Trained in place. */
  readonly model: Model;
  /** Its learning rate may be changed at any time. */
  readonly optimizer: AdamW;
  /** Of the parameters that are trained. Between optimizer steps its memory is free for other uses. @internal */
  readonly grads: ParameterBuffer;
  readonly #arithmetic: Arithmetic;
  readonly #maxGradNorm: number;
  readonly #keep: Keep;
  readonly #name?: string;
  /**
   * Whether the gradient of a part is made by itself and then added, one part after the other. The sum is then the same bits whoever
   * computed the parts. It takes one more buffer of gradients: with an adapter next to nothing, and so the rule there. Otherwise parts
   * are added up inside the backward pass. @internal
   */
  sumsApart: boolean;
  /** Of a part by itself. */
  #part?: ParameterBuffer;
  /** Seconds that the quickest part took: what is slower than it had something else to do as well. @internal */
  quickest = Number.POSITIVE_INFINITY;
  /** Parts added up since the last step. */
  #parts = 0;
  /** What was not finite in one of them, in words. */
  #bad?: string;
  /** Norm of the sum, once it was taken. */
  #norm?: number;

  /** @param model weights of its own; those of frozen layers may be another model's */
  constructor(model: Model, options: LearnerOptions) {
    const { table } = model.parameters;
    const names = namesAbove(model, table, options.frozenLayers ?? 0);
    if (options.valueHead === false) for (const name of VALUE_HEAD_NAMES) names.delete(name);
    const trained = trainedRows(table, names);
    this.model = model;
    this.optimizer = new AdamW(trained, options.optimizer);
    const { size } = this.optimizer;
    this.grads = new ParameterBuffer(trained, undefined, trained, zeros(size, 2, model.parameters.buffer));
    this.optimizer.near = this.grads.buffer;
    this.grads.keepIn(model.engine);
    this.#arithmetic = arithmeticOf(model.engine);
    this.#maxGradNorm = options.maxGradNorm;
    this.#keep = options.gradientCheckpointing ? "nothing" : "heavy";
    this.#name = options.name;
    this.sumsApart = model.adapter !== undefined;
  }

  /**
   * Add the gradient of a loss on some rows to those since the last step.
   * @param inputs what the loss is given of each row, [R]
   * @returns scores of the rows by the weights as they are, [R], and the loss
   * @internal
   */
  async accumulate(
    this: Learner<CausalLMWithValueHead>,
    asked: AskedTokens,
    loss: RowLoss | SeedLoss,
    inputs: Readonly<Record<string, Float32Array>>,
  ): Promise<RowScores & { loss: number }> {
    return this.#add(
      (into, adds) => this.model.lossAndGradients(asked, loss, inputs, into, adds, this.#keep),
      (scores) => scoresOf(scores),
    );
  }

  /**
   * The gradient of a loss on some rows by itself; what was added up stays.
   * @returns its `grads` are overwritten by the next part
   * @internal
   */
  async gradient(
    this: Learner<CausalLMWithValueHead>,
    asked: AskedTokens,
    loss: RowLoss | SeedLoss,
    inputs: Readonly<Record<string, Float32Array>>,
  ): Promise<PartGradient> {
    const into = this.#apart();
    const pass = () => this.model.lossAndGradients(asked, loss, inputs, into, false, this.#keep);
    const scores = await this.#timed(pass);
    await into.refresh();
    return { ...scores, grads: into.data };
  }

  /** Add a gradient that was made by itself, here or elsewhere, as {@link accumulate} does where `sumsApart`. @internal */
  async add(this: Learner<CausalLMWithValueHead>, { grads, ...result }: PartGradient): Promise<void> {
    if (this.#parts === 0) this.grads.overwrite(grads);
    else await this.#arithmetic.add(this.grads, grads);
    await this.#added(result.loss, scoresOf(result));
  }

  /**
   * The same for a loss of a classifier's outputs for some texts.
   * @returns outputs by the weights as they are, [B, L], and the loss
   * @internal
   */
  async accumulateOutputs(
    this: Learner<SequenceClassifier>,
    texts: readonly Int32Array[],
    loss: OutputLoss,
  ): Promise<{ outputs: Float32Array; loss: number }> {
    return this.#add(
      (into, adds) => this.model.lossAndGradients(texts, loss, into, adds, this.#keep),
      ({ outputs }) => ({ outputs }),
    );
  }

  /** @param scoresIn what is looked at where the loss is not finite */
  async #add<Result extends { loss: number }>(
    pass: (into: ParameterBuffer, adds: boolean) => Promise<Result>,
    scoresIn: (result: Result) => Readonly<Record<string, Float32Array>>,
  ): Promise<Result> {
    const follows = this.#parts > 0;
    const apart = follows && this.sumsApart ? this.#apart() : undefined;
    const result = await this.#timed(() => pass(apart ?? this.grads, follows && !apart));
    if (apart) await this.#arithmetic.add(this.grads, apart);
    await this.#added(result.loss, scoresIn(result));
    return result;
  }

  async #added(loss: number, scores: Readonly<Record<string, Float32Array>>): Promise<void> {
    this.#parts++;
    this.#norm = undefined;
    if (!isBad(loss) || this.#bad !== undefined) return;
    await this.model.parameters.refresh();
    this.#bad = badScores(loss, scores, this.model.parameters);
  }

  #apart(): ParameterBuffer {
    if (!this.#part) {
      this.#part = new ParameterBuffer(this.grads.table);
      this.#part.keepIn(this.model.engine);
    }
    return this.#part;
  }

  async #timed<T>(pass: () => Promise<T>): Promise<T> {
    const begun = performance.now();
    const result = await pass();
    this.quickest = Math.min(this.quickest, (performance.now() - begun) / 1000);
    return result;
  }

  /** Norm of the gradient that was added up, before clipping. @internal */
  async gradNorm(): Promise<number> {
    this.#norm ??= await this.#arithmetic.norm(this.grads);
    return this.#norm;
  }

  /** What is not finite in a part's scores, in words; undefined when all is well. @internal */
  get badScores(): string | undefined {
    return this.#called(this.#bad);
  }

  /** What is wrong with the gradient that was added up, in words; undefined when all is well. @internal */
  async badGradient(): Promise<string | undefined> {
    const norm = await this.gradNorm();
    if (isBad(norm)) await this.grads.refresh();
    return this.#called(badGradient(this.grads, norm, this.#scale(norm)));
  }

  /** One optimizer step with what was added up, clipped; the next part begins a new sum. @internal */
  async apply(): Promise<StepFacts> {
    const { parameters } = this.model;
    const gradNorm = await this.gradNorm();
    const updateNorm = await this.#arithmetic.step(this.optimizer, parameters, this.grads, this.#scale(gradNorm));
    if (isBad(updateNorm)) await parameters.refresh();
    if ("trained" in this.model && !this.model.adapter) this.model.trained = true;
    this.discard();
    return { gradNorm, updateNorm, spoiled: this.#called(badWeights(parameters, updateNorm)) };
  }

  /** Forget what was added up. @internal */
  discard(): void {
    this.#parts = 0;
    this.#bad = undefined;
    this.#norm = undefined;
  }

  /** What clipping multiplies the gradient with. */
  #scale(norm: number): number {
    return clipFactor(norm, this.#maxGradNorm);
  }

  #called(bad: string | undefined): string | undefined {
    return bad === undefined || this.#name === undefined ? bad : `${this.#name}: ${bad}`;
  }
}

const scoresOf = ({ logprobs, values, entropies }: RowScores) => ({ "log-probs": logprobs, values, entropies });

/** What is not finite in the forward pass of a minibatch whose loss is not, in words. */
function badScores(loss: number, scores: Readonly<Record<string, Float32Array>>, weights: ParameterBuffer): string {
  const weight = firstBadParameter(weights);
  if (weight !== undefined) return `the weight ${weight}`;
  for (const [name, array] of Object.entries(scores)) {
    const bad = array.find(isBad);
    if (bad !== undefined) return `the ${name} of the minibatch (${bad}), so in the loss (${loss})`;
  }
  return `the loss (${loss})`;
}

/**
 * What is wrong with a gradient, in words; undefined when all is well.
 * @param norm  its norm
 * @param scale what clipping multiplies it with
 */
function badGradient(grads: ParameterBuffer, norm: number, scale: number): string | undefined {
  if (isBad(norm)) return `the gradient of ${firstBadParameter(grads) ?? "the parameters, whose norm overflows"}`;
  // Adam's second moment holds its square: infinite, it would keep the weight from ever moving again.
  if (isBad(Math.fround((norm * scale) ** 2))) return `the square of the gradient (norm ${norm * scale})`;
  return undefined;
}

/** What an optimizer step has spoiled, in words; undefined when all is well. `change` is the norm of what it changed. */
export function badWeights(weights: ParameterBuffer, change: number): string | undefined {
  if (!isBad(change)) return undefined;
  const weight = firstBadParameter(weights);
  return weight === undefined
    ? "the change of the weights, which the optimizer step made too large to be added up"
    : `the weight ${weight} after the optimizer step`;
}
