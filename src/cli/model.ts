/** @file A model for a command: fetched with a bar when it comes from the hub, loaded with its tokenizer. */

import type { Device } from "../backend/devices.ts";
import type { Engine } from "../backend/engine.ts";
import { resolveModel } from "../checkpoint/hub.ts";
import { checkModel, loadModel } from "../families/index.ts";
import type { Architecture } from "../model/family.ts";
import type { SamplingSizes } from "../model/memory.ts";
import { availableBytes, residentBytes } from "../platform/memory.ts";
import { checkSampling } from "../run/memory.ts";
import { loadTokenizer } from "../tokenizer/load.ts";
import { checkVocabulary, type Tokenizer } from "../tokenizer/tokenizer.ts";
import { megabytes, note } from "./output.ts";
import { Progress } from "./progress.ts";

/** The directory of a model, downloaded when needed; a run's best checkpoint, and a note which one. */
export async function fetchModel(id: string): Promise<string> {
  const progress = new Progress(true);
  const notes: string[] = [];
  try {
    return await resolveModel(id, {
      onProgress: ({ file, received, total }) =>
        progress.show(received, total, file, `${megabytes(received)} of ${megabytes(total)}`),
      onNote: (text) => notes.push(text),
    });
  } finally {
    progress.clear();
    for (const text of notes) note(`note: ${text}`);
  }
}

export interface OpenOptions {
  device?: Device;
  threads?: number;
  /** One that another model has already. */
  engine?: Engine;
  /** What will be sampled or scored at a time; asked for before the weights are read. */
  sizes: (tokenizer: Tokenizer, model: Architecture) => SamplingSizes;
  ignoreMemory?: boolean;
}

/**
 * Model and tokenizer. What the loader has to say goes to stderr.
 * @throws config - the model does not fit in memory
 */
export async function openModel(id = "tiny", { sizes, ignoreMemory, ...options }: OpenOptions) {
  const directory = await fetchModel(id);
  const progress = new Progress(true);
  progress.show(0, 1, `loading ${directory}`);
  try {
    const architecture = await checkModel(directory); // what is wrong with the model comes before what is wrong with its tokenizer
    const tokenizer = await loadTokenizer(directory);
    const limits = { available: await availableBytes(), resident: residentBytes() };
    if (!ignoreMemory) checkSampling(architecture, sizes(tokenizer, architecture), limits);
    const model = await loadModel(directory, { ...options, tokenizer });
    checkVocabulary(tokenizer, model.sizes.vocabSize, directory);
    progress.clear();
    for (const text of [...model.notes, ...tokenizer.notes]) note(`note: ${text}`);
    return { model, tokenizer, directory };
  } finally {
    progress.clear();
  }
}
