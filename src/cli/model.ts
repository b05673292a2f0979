/** @file A model for a command: fetched with a bar when it comes from the hub, loaded with its tokenizer. */
import { resolveModel } from "../gpt2/hub.ts";
import { GPT2HeadWithValueModel, readConfig } from "../gpt2/model.ts";
import { openWeights } from "../gpt2/weights.ts";
import { loadTokenizer } from "../tokenizer/load.ts";
import { checkVocabulary } from "../tokenizer/tokenizer.ts";
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

/** Model and tokenizer. What the loader has to say goes to stderr. */
export async function openModel(id = "tiny", options: { threads?: number } = {}) {
  const directory = await fetchModel(id);
  const progress = new Progress(true);
  progress.show(0, 1, `loading ${directory}`);
  try {
    await readConfig(directory);
    await (await openWeights(directory)).close(); // what is wrong with the model comes before what is wrong with its tokenizer
    const tokenizer = await loadTokenizer(directory);
    const model = await GPT2HeadWithValueModel.fromPretrained(directory, { ...options, tokenizer });
    checkVocabulary(tokenizer, model.config.vocabSize, directory);
    progress.clear();
    for (const text of [...model.notes, ...tokenizer.notes]) note(`note: ${text}`);
    return { model, tokenizer, directory };
  } finally {
    progress.clear();
  }
}
