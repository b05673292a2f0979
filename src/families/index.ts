/** @file The families there are, and opening a model of any of them. */

import { wrongField } from "../checkpoint/config-json.ts";
import { type LocateOptions, locate, type ModelFiles } from "../checkpoint/model-files.ts";
import type { Architecture, Family, ModelConfig } from "../model/family.ts";
import { checkCheckpoint, loadCheckpoint, type ModelOptions, newModel, readArchitecture } from "../model/load.ts";
import { CausalLMWithValueHead } from "../model/model.ts";
import { type GPT2Config, gpt2 } from "./gpt2.ts";
import { type LlamaConfig, llama } from "./llama.ts";

const FAMILIES = [gpt2, llama] as unknown as readonly Family[];

/**
 * The family of a config.json, by its `model_type`. The oldest GPT-2s have none, and its reader says whether this is one.
 * @param where what errors call it
 * @throws config - a family that is not supported
 */
export function familyOf(json: unknown, where: string): Family {
  const type = (json as { model_type?: unknown } | null)?.model_type ?? "gpt2";
  const family = FAMILIES.find(({ modelTypes }) => modelTypes.includes(type as string));
  if (family) return family;
  const known = FAMILIES.flatMap(({ modelTypes }) => modelTypes).map((name) => JSON.stringify(name));
  const fix = "use a checkpoint of GPT-2, Llama, SmolLM2, Qwen2, Qwen2.5 or Qwen3";
  return wrongField(where, "model_type", type, `one of ${known.join(", ")}`, fix);
}

/** The architecture of a model: its family, config, sizes and adapter. */
export const readModel = async (at: string | ModelFiles): Promise<Architecture> =>
  readArchitecture(await filesOf(at), familyOf);

/**
 * The same, once it is known that its weights are there with the right names, shapes and types. Reads no weights.
 * @throws checkpoint - they are not
 */
export const checkModel = async (at: string | ModelFiles): Promise<Architecture> =>
  checkCheckpoint(await filesOf(at), familyOf);

const filesOf = async (at: string | ModelFiles) => (typeof at === "string" ? locate(at) : at);

/** {@link loadModel} where it is known where its files lie. */
export const openModel = async (files: ModelFiles, options: ModelOptions = {}, notes: readonly string[] = []) =>
  new CausalLMWithValueHead<ModelConfig>(await loadCheckpoint(files, familyOf, options, notes), options);

/**
 * A model of any family from a directory in Hugging Face layout, a run directory (its best checkpoint) or a hub id; or a LoRA adapter
 * in PEFT's layout with its base, which it names itself (`loadModel("adapter")`) or which is given (`loadModel("base", { adapter })`).
 * A checkpoint without a value head gets a new one, N(0, initializerRange) with bias 0, and `notes` says so.
 * @throws usage - an id that names nothing
 * @throws config, checkpoint - what is there cannot be loaded, and why
 */
export async function loadModel(
  id: string,
  options: ModelOptions & LocateOptions = {},
): Promise<CausalLMWithValueHead> {
  const notes: string[] = [];
  const files = await locate(id, { onNote: (text) => notes.push(text), ...options });
  return openModel(files, options, notes);
}

/**
 * A new model of any family with random weights, as its parameter table says, in fp32. The config comes from `makeConfig` (GPT-2) or
 * `makeLlamaConfig` (Llama, Qwen2, Qwen3); `options.seed` decides the weights.
 * @throws config - a `modelType` of no family
 */
export function modelFromConfig<C extends GPT2Config | LlamaConfig>(
  config: C,
  options: ModelOptions = {},
): CausalLMWithValueHead<C> {
  const family = familyOf({ model_type: config.modelType }, "modelFromConfig") as unknown as Family<C>;
  return new CausalLMWithValueHead(newModel(family, config, options), options);
}

/** A GPT-2 language model with a value head: {@link loadModel} and {@link modelFromConfig} know other families too. */
export class GPT2HeadWithValueModel extends CausalLMWithValueHead<GPT2Config> {
  /** A new model with random weights, as the parameter table says. */
  static fromConfig(config: GPT2Config, options: ModelOptions = {}): GPT2HeadWithValueModel {
    return new GPT2HeadWithValueModel(newModel(gpt2, config, options), options);
  }

  /**
   * {@link loadModel} for a GPT-2.
   * @throws config - a model of another family
   */
  static async fromPretrained(id: string, options: ModelOptions & LocateOptions = {}): Promise<GPT2HeadWithValueModel> {
    const notes: string[] = [];
    const files = await locate(id, { onNote: (text) => notes.push(text), ...options });
    return new GPT2HeadWithValueModel(await loadCheckpoint(files, () => gpt2, options, notes), options);
  }
}
