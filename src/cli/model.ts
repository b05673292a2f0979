/** @file A model for a command: fetched with a bar when it comes from the hub, loaded with its tokenizer. */

import type { Device } from "../backend/devices.ts";
import type { Engine } from "../backend/engine.ts";
import { locate, type ModelFiles, tokenizerOf } from "../checkpoint/model-files.ts";
import { checkModel, openModel as openFiles } from "../families/index.ts";
import type { Architecture } from "../model/family.ts";
import { absolutePath, isDirectory } from "../platform/files.ts";
import { availableBytes, residentBytes } from "../platform/memory.ts";
import { type CheckedSampling, checkSampling } from "../run/memory.ts";
import { checkVocabulary } from "../tokenizer/load.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { megabytes, note } from "./output.ts";
import { Progress } from "./progress.ts";

/** Where a model's files lie, downloaded when needed; of a run its best checkpoint, and a note which one. */
export async function fetchModel(id: string, adapter?: string): Promise<ModelFiles> {
  const progress = new Progress(true);
  const notes: string[] = [];
  try {
    return await locate(id, {
      adapter,
      onProgress: ({ file, received, total }) =>
        progress.show(received, total, file, `${megabytes(received)} of ${megabytes(total)}`),
      onNote: (text) => notes.push(text),
    });
  } finally {
    progress.clear();
    for (const text of notes) note(`note: ${text}`);
  }
}

/** A run's model and adapter, fetched; a run directory as the checkpoint that it means today, for it may mean another one tomorrow. */
export async function meantModel(spec: {
  model: string;
  adapter?: string;
}): Promise<{ model: string; adapter?: string }> {
  const { directory, base } = await fetchModel(spec.model, spec.adapter);
  const meant = async (name: string, place: string) => ((await isDirectory(name)) ? absolutePath(place) : name);
  if (spec.adapter === undefined) return { model: await meant(spec.model, directory) };
  return { model: await meant(spec.model, base), adapter: await meant(spec.adapter, directory) };
}

export interface OpenOptions {
  device?: Device;
  threads?: number;
  /** One that another model has already. */
  engine?: Engine;
  /** An adapter of the model. */
  adapter?: string;
  /** What will be sampled or scored at a time; asked for before the weights are read. */
  sizes: (tokenizer: Tokenizer, model: Architecture) => CheckedSampling;
  ignoreMemory?: boolean;
}

/**
 * Model and tokenizer. What the loader has to say goes to stderr.
 * @throws config - the model does not fit in memory
 */
export async function openModel(id = "tiny", { sizes, ignoreMemory, adapter, ...options }: OpenOptions) {
  const files = await fetchModel(id, adapter);
  const { directory } = files;
  const progress = new Progress(true);
  progress.show(0, 1, `loading ${directory}`);
  try {
    const architecture = await checkModel(files); // what is wrong with the model comes before what is wrong with its tokenizer
    const tokenizer = await tokenizerOf(files);
    const limits = { available: await availableBytes(), resident: residentBytes() };
    if (!ignoreMemory) checkSampling(architecture, sizes(tokenizer, architecture), limits);
    const model = await openFiles(files, { ...options, tokenizer });
    checkVocabulary(tokenizer, model.sizes.vocabSize, directory);
    progress.clear();
    for (const text of [...model.notes, ...tokenizer.notes]) note(`note: ${text}`);
    return { model, tokenizer, directory };
  } finally {
    progress.clear();
  }
}
