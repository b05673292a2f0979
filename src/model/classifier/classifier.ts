/**
 * @file A sequence classifier of any family: the body, and one matrix on the last token of a text. transformers'
 * AutoModelForSequenceClassification (GenericForSequenceClassification.forward, GPT2ForSequenceClassification.forward in
 * huggingface/transformers@v5.24.0). With one output it is a reward model.
 */
import type { DeviceBuffer } from "../../backend/backend.ts";
import { Engine, type EngineOptions } from "../../backend/engine.ts";
import { BufferPool } from "../../backend/pool.ts";
import { fail } from "../../base/errors.ts";
import { Memo } from "../../base/memo.ts";
import { saveParameters } from "../../checkpoint/weights.ts";
import { accumulate } from "../../graph/gradient.ts";
import type { Program } from "../../graph/onnx.ts";
import { linear } from "../../graph/ops/index.ts";
import { forwardBackward, type Keep } from "../../graph/partition.ts";
import { input } from "../../graph/tensor.ts";
import { joinPath, makeDirectory, writeTextAtomic } from "../../platform/files.ts";
import type { LoRAConfig } from "../adapter.ts";
import { readTokens } from "../asked.ts";
import { Body, type Tokens } from "../body.ts";
import {
  type Architecture,
  architecture,
  type Family,
  type ModelConfig,
  type ParameterRow,
  type Sizes,
} from "../family.ts";
import { type Parameter, type ParameterBuffer, parameterInputs, parameterTable } from "../parameters.ts";
import { Rows } from "../rows.ts";
import { type ClassifierConfig, labelsToJson } from "./labels.ts";

/** transformers' name for the matrix on top, [labels, C]. */
export const SCORE = "score.weight";

/**
 * The architecture of a classifier: the family's without a language-model head and a value head, with {@link SCORE}.
 * @param base what a language model of the same body is
 */
export function classifierArchitecture<C extends ModelConfig>(
  { family, config }: Pick<Architecture<C>, "family" | "config">,
  labels: readonly string[],
): Architecture<C> {
  const score: ParameterRow = { name: SCORE, axes: "labels,C", init: "normal", decay: true };
  const headless = (config: C): C => ({ ...config, tieWordEmbeddings: true }); // no row for a head of its own
  const classifier: Family<C> = {
    ...family,
    table: (config) => [...family.table(headless(config)), score],
    axes: (config) => ({ ...family.axes(config), labels: labels.length }),
  };
  return architecture(classifier, { ...config, valueHead: false as const });
}

/** A loss of the outputs of a batch: its value, and its derivative by each output. */
export interface OutputLoss {
  /** Printed in errors. */
  readonly name: string;
  /**
   * The loss, and its derivative by each output.
   * @param outputs [B, L]
   */
  seeds(outputs: Float32Array): { loss: number; seeds: Float32Array };
}

/** A classifier as it was loaded or made. */
export interface LoadedClassifier<C extends ModelConfig> {
  /** Of {@link classifierArchitecture}. */
  readonly architecture: Architecture<C>;
  readonly classifier: ClassifierConfig;
  readonly parameters: ParameterBuffer;
  readonly directory?: string;
  readonly notes?: readonly string[];
  readonly headIsNew?: boolean;
}

/** How a classifier is opened. */
export interface ClassifierOptions extends EngineOptions {
  /** Share the sessions of another model. */
  engine?: Engine;
}

/** Texts that go through together when nothing else is said. */
const BATCH = 32;
/** Lengths are rounded up to a multiple of this, so that texts of about the same length share their programs. */
const LENGTH_MULTIPLE = 8;

/** A sequence classifier, or a reward model where it has one output. {@link loadClassifier} opens one. */
export class SequenceClassifier<C extends ModelConfig = ModelConfig> {
  /** The architecture. @internal */
  readonly family: Family<C>;
  /** The model's config, under the names of its family. */
  readonly config: C;
  /** The config's numbers under names that all families share. */
  readonly sizes: Sizes;
  /** There is none: adapters are for language models. */
  readonly adapter?: LoRAConfig;
  /** What its outputs are called. */
  readonly classifier: ClassifierConfig;
  /** All weights in fp32. */
  readonly parameters: ParameterBuffer;
  /** What runs its programs; may be shared with other models. */
  readonly engine: Engine;
  /** The directory it was loaded from. */
  readonly directory?: string;
  /** Whether the matrix on top was made rather than loaded. */
  readonly headIsNew: boolean;
  /** What a loader should tell its user. */
  readonly notes: readonly string[];
  readonly #pool: BufferPool;
  readonly #rows: Rows;
  readonly #body: Body;
  readonly #topRows: readonly Parameter[];
  readonly #programs = new Memo(
    (B: number): Program => ({ name: "classifier", outputs: { outputs: this.#top(B).outputs } }),
  );

  /** @internal */
  constructor(loaded: LoadedClassifier<C>, options: ClassifierOptions = {}) {
    const { family, config, sizes } = loaded.architecture;
    this.family = family;
    this.config = config;
    this.sizes = sizes;
    this.classifier = loaded.classifier;
    this.parameters = loaded.parameters;
    this.directory = loaded.directory;
    this.headIsNew = loaded.headIsNew ?? true;
    this.notes = loaded.notes ?? [];
    this.engine = options.engine ?? new Engine(options);
    this.parameters.keepIn(this.engine);
    this.#pool = new BufferPool(this.engine.backend);
    this.#rows = new Rows(sizes.width, this.engine);
    this.#body = new Body(this, this.engine, this.#pool, this.#rows);
    const embeddings = family.embeddings(config).map(({ name }) => name);
    this.#topRows = parameterTable(this).filter(({ name, layer }) => layer === undefined && !embeddings.includes(name));
  }

  /** The name of each output. */
  get labels(): readonly string[] {
    return this.classifier.labels;
  }

  /**
   * The outputs for texts, each as if it were alone.
   * @param texts     int32 token ids, at least one each, at most the context
   * @param batchSize texts that go through together
   * @returns [N, L], a row for each text
   * @throws input - a text without tokens or with too many, ids outside the vocabulary
   */
  async outputs(texts: readonly Int32Array[], batchSize = BATCH): Promise<Float32Array> {
    const L = this.labels.length;
    const all = new Float32Array(texts.length * L);
    const order = texts.map((_, i) => i).sort((a, b) => texts[a].length - texts[b].length); // little is padding
    for (let start = 0; start < order.length; start += batchSize) {
      const part = order.slice(start, start + batchSize);
      const { tokens, rows } = this.#batch(part.map((i) => texts[i]));
      const hidden = await this.#body.hidden(this.parameters, tokens);
      const picked = this.#pool.take(part.length * this.sizes.width);
      await this.#rows.gather([{ from: hidden, rows }], picked);
      const outputs = await this.#outputsOf(picked, part.length);
      this.#pool.release(hidden, picked);
      part.forEach((i, b) => {
        all.set(outputs.subarray(b * L, (b + 1) * L), i * L);
      });
    }
    return all;
  }

  /**
   * A loss of the outputs of a batch, and the gradient of every parameter that `grads` has.
   * @param accumulates add to what `grads` holds instead of replacing it
   * @param keep        "nothing" recomputes activations in the backward pass
   * @returns outputs [B, L]
   * @internal
   */
  async lossAndGradients(
    texts: readonly Int32Array[],
    loss: OutputLoss,
    grads: ParameterBuffer,
    accumulates = false,
    keep: Keep = "heavy",
  ): Promise<{ outputs: Float32Array; loss: number }> {
    const { tokens, rows } = this.#batch(texts);
    const kept = await this.#body.forward(this.parameters, tokens, grads, keep);
    const hidden = kept.streams[kept.streams.length - 1];
    const { width: C } = this.sizes;
    const B = texts.length;
    const picked = this.#pool.take(B * C);
    await this.#rows.gather([{ from: hidden, rows }], picked);
    const outputs = await this.#outputsOf(picked, B);
    const { loss: value, seeds } = loss.seeds(outputs);
    const trained = this.#topRows.map(({ name }) => name).filter((name) => grads.has(name));
    const program = this.#backward.get({ B, trained, accumulates });
    const dRows = this.#pool.take(B * C);
    const before = accumulates ? views(grads, trained, "before.") : {};
    const feeds = { hidden: picked, "d.outputs": seeds, ...this.#topWeights(), ...before };
    await this.engine.run(program, feeds, { "d.hidden": dRows, ...views(grads, trained, "d.") });
    const dHidden = this.#pool.take(hidden.length);
    await this.#rows.add(dHidden, { from: dRows, rows }, true);
    this.#pool.release(picked, dRows);
    await this.#body.backward(this.parameters, kept, dHidden, grads, accumulates, false, keep);
    this.#pool.release(dHidden);
    return { outputs, loss: value };
  }

  /**
   * Write config.json and model.safetensors (fp32) as transformers' AutoModelForSequenceClassification has them. Each file is replaced
   * whole.
   * @throws checkpoint - a directory that cannot be written, a full disk and its like
   */
  async savePretrained(directory: string): Promise<void> {
    await makeDirectory(directory);
    await this.parameters.refresh();
    await saveParameters(
      directory,
      this.parameters.table.map((p) => ({ ...p, data: this.parameters.numbers(p.name) })),
    );
    await writeTextAtomic(joinPath(directory, "config.json"), `${JSON.stringify(this.#configJson(), null, 2)}\n`);
  }

  /** Free the engine's sessions and every pooled buffer. */
  dispose(): void {
    this.engine.dispose();
    this.#pool.clear();
  }

  #configJson() {
    const { valueHead: _, ...config } = this.config;
    const json = this.family.writeConfig(config as C);
    const [name] = json.architectures as [string];
    const architectures = [name.replace(/(LMHeadModel|ForCausalLM)$/, "ForSequenceClassification")];
    const { pad_token_id, ...said } = labelsToJson(this.classifier);
    // Last, wherever they were in what was read: a config that is read and written again is the same.
    const others = Object.entries(json).filter(([name]) => !Object.hasOwn(said, name));
    return { ...Object.fromEntries(others), architectures, pad_token_id, ...said };
  }

  /** Texts side by side, right-padded, and the row of [B T] where each is pooled. */
  #batch(texts: readonly Int32Array[]): { tokens: Tokens; rows: Int32Array } {
    const { context, contextName } = this.sizes;
    const { padTokenId } = this.classifier;
    texts.forEach((ids, b) => {
      if (ids.length === 0 || ids.length > context)
        fail("input", {
          where: `classifier, text ${b + 1} of ${texts.length}`,
          found: `${ids.length} tokens`,
          expected: `1 to ${context} (${contextName})`,
          fix: ids.length === 0 ? "leave it out" : "shorten it",
        });
    });
    const longest = Math.max(...texts.map(({ length }) => length));
    const T = Math.min(context, Math.ceil(longest / LENGTH_MULTIPLE) * LENGTH_MULTIPLE);
    const ids = new Int32Array(texts.length * T);
    const rows = new Int32Array(texts.length);
    for (const [b, text] of texts.entries()) {
      ids.set(text, b * T);
      // As in transformers a text of nothing but padding is pooled at its first token.
      const last =
        padTokenId === null
          ? text.length - 1
          : Math.max(
              0,
              text.findLastIndex((id) => id !== padTokenId),
            );
      rows[b] = b * T + last;
    }
    return { tokens: readTokens(this.sizes, { ids, B: texts.length, T }), rows };
  }

  /** Rows before the final norm [B, C] -> outputs [B, L]. */
  async #outputsOf(picked: DeviceBuffer, B: number): Promise<Float32Array> {
    const outputs = new Float32Array(B * this.labels.length);
    await this.engine.run(this.#programs.get(B), { hidden: picked, ...this.#topWeights() }, { outputs });
    return outputs;
  }

  /** hidden [B, C], before the final norm -> outputs [B, L]. */
  #top(B: number) {
    const hidden = input("hidden", { B, C: this.sizes.width });
    const parameters = parameterInputs(this.#topRows);
    const normed = this.family.normed(this.config, hidden, parameters);
    return { hidden, parameters, outputs: linear(normed, parameters[SCORE], undefined, { transW: true }) };
  }

  readonly #backward = new Memo(
    ({ B, trained, accumulates }: { B: number; trained: readonly string[]; accumulates: boolean }): Program => {
      const { hidden, parameters, outputs } = this.#top(B);
      const { backward } = forwardBackward(
        "classifier",
        { outputs },
        { outputs: input("d.outputs", outputs.shape) },
        { hidden, ...Object.fromEntries(trained.map((name) => [name, parameters[name]])) },
        {
          keep: "nothing",
          finish: (name, g) => (accumulates && name !== "hidden" ? accumulate(input(`before.${name}`, g.shape), g) : g),
        },
      );
      return backward;
    },
  );

  #topWeights(): Record<string, Float32Array> {
    return views(
      this.parameters,
      this.#topRows.map(({ name }) => name),
    );
  }
}

const views = (buffer: ParameterBuffer, names: readonly string[], prefix = ""): Record<string, Float32Array> =>
  Object.fromEntries(names.map((name) => [prefix + name, buffer.slot(name)]));
