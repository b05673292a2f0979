/** @file `valuehead info`. */
import type { Command } from "commander";
import { addModelOption } from "./options.ts";
import { megabytes, print, printFacts, printJson, thousands } from "./output.ts";

export function define(command: Command): void {
  addModelOption(command);
  command.option("--json", "everything as one JSON object").action(info);
}

async function info(flags: { model: string; json?: boolean }): Promise<void> {
  const { configToJson } = await import("../gpt2/config.ts");
  const { countParameters, samplingMemory, trainingMemory } = await import("../gpt2/memory.ts");
  const { fileSize, joinPath, listDirectory } = await import("../runtime/files.ts");
  const { PPO_DEFAULTS } = await import("../train/config.ts");
  const { fetchModel } = await import("./model.ts");
  const { GPT2HeadWithValueModel } = await import("../gpt2/model.ts");
  const { loadTokenizer } = await import("../tokenizer/load.ts");

  const directory = await fetchModel(flags.model);
  const model = await GPT2HeadWithValueModel.fromPretrained(directory); // reads and checks every weight
  const tokenizer = await loadTokenizer(directory).catch(() => undefined); // a model without one is still a model
  const files = await Promise.all(
    (await listDirectory(directory)).map(async (name) => ({
      name,
      bytes: (await fileSize(joinPath(directory, name))) ?? 0,
    })),
  );
  const config = configToJson(model.config);
  const parameters = countParameters(model.config);
  const { rolloutBatchSize: rows, miniBatchSize } = PPO_DEFAULTS;
  const length = Math.min(64, model.config.nPositions);
  const sampling = samplingMemory(model.config, { rows, length });
  const { chunkRows } = model.head;
  const training = trainingMemory(model.config, { rows, miniBatchSize, length, chunkRows });
  const tokens = tokenizer && {
    vocabSize: tokenizer.vocabSize,
    eosTokenId: tokenizer.eosTokenId,
    eosToken: tokenizer.eosTokenId === null ? null : tokenizer.decode([tokenizer.eosTokenId]),
    padTokenId: tokenizer.padTokenId,
    byteLevel: tokenizer.isByteLevel,
  };
  if (flags.json)
    return printJson({
      directory,
      config,
      parameters,
      files,
      tokenizer: tokens ?? null,
      memory: { sampling, training },
      notes: model.notes,
    });

  print(`${directory}\n\nConfig`);
  printFacts(Object.entries(config).map(([name, value]) => [name, JSON.stringify(value)]));
  print("\nParameters");
  printFacts(Object.entries(parameters).map(([name, n]) => [name, thousands(n)]));
  print("\nTokenizer");
  if (!tokens) print("  none");
  else printFacts(Object.entries(tokens).map(([name, value]) => [name, JSON.stringify(value)]));
  print(`\nMemory, estimated, for sequences of ${length} tokens`);
  printFacts([
    [`sampling, ${rows} at a time`, `${megabytes(sampling.total)}: ${parts(sampling.parts)}`],
    [`PPO, minibatches of ${miniBatchSize}`, `${megabytes(training.total)}: ${parts(training.parts)}`],
  ]);
  print("\nFiles");
  printFacts(files.map(({ name, bytes }) => [name, `${thousands(bytes)} bytes`]));
  for (const note of model.notes) print(`\nnote: ${note}`);
}

const parts = (bytes: Record<string, number>) =>
  Object.entries(bytes)
    .map(([name, n]) => `${name} ${megabytes(n)}`)
    .join(", ");
