/** @file A model for a command: fetched with a bar when it comes from the hub, loaded with its tokenizer. */
import { resolveModel } from "../gpt2/hub.ts";
import { GPT2HeadWithValueModel } from "../gpt2/model.ts";
import { loadTokenizer } from "../tokenizer/load.ts";
import { checkVocabulary } from "../tokenizer/tokenizer.ts";
import { megabytes, note } from "./output.ts";
import { Progress } from "./progress.ts";

/** The directory of a model, downloaded when needed. */
export async function fetchModel(id: string): Promise<string> {
  const progress = new Progress(true);
  try {
    return await resolveModel(id, {
      onProgress: ({ file, received, total }) =>
        progress.show(received, total, `${file}, ${megabytes(received)} of ${megabytes(total)}`),
    });
  } finally {
    progress.clear();
  }
}

/** Model and tokenizer. What the loader has to say goes to stderr. */
export async function openModel(id: string, options: { threads?: number } = {}) {
  const directory = await fetchModel(id);
  const model = await GPT2HeadWithValueModel.fromPretrained(directory, options);
  const tokenizer = await loadTokenizer(directory);
  checkVocabulary(tokenizer, model.config.vocabSize, directory);
  for (const text of model.notes) note(`note: ${text}`);
  return { model, tokenizer, directory };
}
