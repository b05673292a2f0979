/**
 * @file What a tensor may be called in a checkpoint. transformers' names come with or without the family's prefix (`transformer.`,
 * `model.`); wrappers around a
 * model (PyTorch's DistributedDataParallel and compile, TRL, trlX) put words of their own in front; a value head has several names.
 */
import type { SafetensorsFile, TensorInfo } from "./safetensors.ts";

/** A tensor, its name in the file and the file. */
export interface StoredTensor {
  name: string;
  info: TensorInfo;
  file: SafetensorsFile;
}

const WRAPPERS = /^(?:module\.|_orig_mod\.|pretrained_model\.|base_model\.|model\.)+/;

/** The names that differ from family to family. */
export interface FamilyNames {
  /** What the body's tensors begin with. */
  readonly prefix: string;
  /** The token embedding. */
  readonly embedding: string;
}

const unwrapped = (name: string) => name.replace(WRAPPERS, "");

/**
 * What old versions of transformers saved beside the weights and computes anew: causal masks, the inverse frequencies of rotary
 * positions.
 */
export const isBuffer = (name: string) =>
  /^(transformer\.)?h\.\d+\.attn\.(masked_)?bias$/.test(unwrapped(name)) || name.endsWith("rotary_emb.inv_freq");

/** Part of a value head, whatever it is called and however it is built. */
export const isValueHead = (name: string) => /^v(alue)?_head\./.test(unwrapped(name));

/** Other names of `v_head.summary`, one matrix and one bias like it: OpenRLHF's and those of heads written by hand. */
const HEADS = ["v_head", "value_head", "value_head.summary"];

/** Finds the tensors of a checkpoint by their names in transformers' model with a language-model head, or `v_head.summary.*`. */
export class TensorNames {
  readonly #stored: ReadonlyMap<string, StoredTensor>;
  readonly #prefix: string;
  /** By bare name, of tensors whose names have a wrapper's in front. */
  readonly #wrapped = new Map<string, StoredTensor>();

  constructor(stored: ReadonlyMap<string, StoredTensor>, { prefix }: Pick<FamilyNames, "prefix">) {
    this.#stored = stored;
    this.#prefix = prefix;
    for (const [name, tensor] of stored)
      if (WRAPPERS.test(name)) this.#wrapped.set(this.#bare(unwrapped(name)), tensor);
  }

  #bare(name: string): string {
    return name.startsWith(this.#prefix) ? name.slice(this.#prefix.length) : name;
  }

  #named(name: string): StoredTensor | undefined {
    const plain = this.#bare(name);
    return this.#stored.get(this.#prefix + plain) ?? this.#stored.get(plain) ?? this.#wrapped.get(plain);
  }

  /** @param shape what a tensor of another name must have to be taken for this one */
  find(name: string, shape: readonly number[]): StoredTensor | undefined {
    const found = this.#named(name);
    if (found !== undefined || !name.startsWith("v_head.summary.")) return found;
    const others = HEADS.map((head) => this.#named(name.replace("v_head.summary", head)));
    return others.find((tensor) => tensor?.info.shape.join() === shape.join());
  }
}
