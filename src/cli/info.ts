/** @file `valuehead info`. */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import type { Command } from "commander";
import { DEVICES, type Device } from "../backend/devices.ts";
import { count } from "../base/option-values.ts";
import type { OptionTable } from "../base/options.ts";
import { optionsOf, readConfigFile } from "./config-file.ts";
import { addDeviceOption, addModelOption, addOptions, flag, readEngine, readFlags } from "./options.ts";
import { megabytes, note, print, printFacts, printJson, printWrapped, style, thousands } from "./output.ts";
import { addPpoOptions, readPpoOptions } from "./ppo-options.ts";

const table = {
  promptTokens: [count(), 40, "prompt length to estimate memory for"],
} as const satisfies OptionTable;

export function define(command: Command): void {
  addModelOption(command);
  addDeviceOption(command);
  addOptions(command, table);
  command
    .option("--config <file>", "PPO options and model as JSON, or a run's config.json; flags win")
    .option("--json", "everything as one JSON object");
  addPpoOptions(command);
  command.action(info);
}

async function info(flags: { model?: string; adapter?: string; config?: string; json?: boolean }): Promise<void> {
  const asked = readFlags<{ promptTokens: number }>(table, flags);
  const { device } = readEngine(flags);
  const file = flags.config === undefined ? undefined : await readConfigFile(flags.config);
  const options = readPpoOptions(flags as Record<string, unknown>, file ? [optionsOf(file)] : [], (text) =>
    note(`note: ${text}`),
  );
  const { bytesInWords, countParameters, memoryParts, samplingMemory } = await import("../model/memory.ts");
  const { fileSize, joinPath, listDirectory } = await import("../platform/files.ts");
  const { fittingOptions, precisionMemory, runMemory } = await import("../run/memory.ts");
  const { availableBytes, residentBytes } = await import("../platform/memory.ts");
  const { fetchModel } = await import("./model.ts");
  const { checkModel, openModel } = await import("../families/index.ts");
  const { tokenizerOf } = await import("../checkpoint/model-files.ts");
  const { withAskedAdapter } = await import("../algorithms/options/lora.ts");

  const { model = file?.settings.model ?? "tiny", adapter = file?.settings.adapter } = flags;
  const found = await fetchModel(model, adapter);
  const { directory } = found;
  const tokenizer = await tokenizerOf(found).catch(() => undefined); // a model without one is still a model
  const { isClassifier, openClassifier } = await import("../families/classifier.ts");
  if (await isClassifier(found)) {
    const { countParameters } = await import("../model/memory.ts");
    const judge = await openClassifier(found, { device });
    const said = { directory, ...judge.classifier, parameters: countParameters(judge).total };
    for (const text of [...judge.notes, ...(tokenizer?.notes ?? [])]) note(`note: ${text}`);
    if (flags.json) return printJson(said);
    print(style.bold(judge.labels.length > 1 ? "A classifier of texts" : "A reward model"));
    return printFacts(Object.entries(said).map(([name, value]) => [name, JSON.stringify(value) ?? "none"]));
  }
  const architecture = await checkModel(found);
  const devices = await whatComputes();
  const available = (await availableBytes()) + residentBytes();
  const least = samplingMemory(architecture, { rows: 1, length: 1 });
  const unread =
    `the weights were not read: a model that takes about ${bytesInWords(least.total)} does not fit in the ` +
    `${bytesInWords(available)} that this process may use now`;
  // Reads and checks every weight, where there is room for them.
  const said = least.total > available ? [unread] : (await openModel(found, { tokenizer, device })).notes;
  const files = await Promise.all(
    (await listDirectory(directory)).map(async (name) => ({
      name,
      bytes: (await fileSize(joinPath(directory, name))) ?? 0,
    })),
  );
  const config = architecture.family.writeConfig(architecture.config);
  const parameters = countParameters(architecture);
  const { rolloutBatchSize: rows, miniBatchSize, maxNewTokens } = options;
  const promptTokens = Math.max(1, Math.min(asked.promptTokens, architecture.sizes.context - maxNewTokens));
  const sizes = { rows, promptTokens, length: promptTokens + maxNewTokens };
  const sampling = precisionMemory(architecture, sizes, options.rolloutPrecision);
  const trained = withAskedAdapter(architecture, options);
  const training = runMemory(trained, options, promptTokens);
  const fits = training.total <= available;
  const change = fits ? undefined : fittingOptions(trained, options, promptTokens, available);
  const notes = [...said, ...(tokenizer?.notes ?? [])];
  const tokens = tokenizer && {
    vocabSize: tokenizer.vocabSize,
    eosTokenId: tokenizer.eosTokenId,
    eosToken: tokenizer.eosTokenId === null ? null : tokenizer.decode([tokenizer.eosTokenId]),
    padTokenId: tokenizer.padTokenId,
    byteLevel: tokenizer.isByteLevel,
    chatTemplates: [...tokenizer.chatTemplates.keys()],
  };
  if (flags.json)
    return printJson({
      directory,
      ...(architecture.adapter && { base: found.baseName, adapter: architecture.adapter }),
      config,
      parameters,
      files,
      tokenizer: tokens ?? null,
      memory: { sampling, training, available, fits, change },
      devices,
      notes,
    });

  print(`${directory}\n\n${style.bold("Config")}`);
  printFacts(Object.entries(config).map(([name, value]) => [name, JSON.stringify(value)]));
  if (architecture.adapter) {
    print(`\n${style.bold("Adapter")} (LoRA) of ${found.baseName}`);
    printFacts(
      Object.entries(architecture.adapter).flatMap(([name, x]) => (x === undefined ? [] : [[name, JSON.stringify(x)]])),
    );
  }
  print(`\n${style.bold("Parameters")}`);
  const there = Object.entries(parameters).filter(([, n]) => n > 0);
  printFacts(there.map(([name, n]) => [name, thousands(n)]));
  print(`\n${style.bold("Tokenizer")}`);
  if (!tokens) print("  none");
  else printFacts(Object.entries(tokens).map(([name, value]) => [name, JSON.stringify(value)]));
  print();
  printWrapped(
    `${style.bold("Memory")}, estimated, for prompts of up to ${promptTokens} tokens and ${maxNewTokens} new ones`,
  );
  const advice = Object.entries(change ?? {}).map(([name, value]) => `${flag(name)} ${value}`);
  const verdict = fits
    ? "enough"
    : `too little: ${advice.length > 0 ? `fits with ${advice.join(", ")}` : "no option helps"}`;
  printFacts([
    [`sampling, ${rows} at a time`, `${megabytes(sampling.total)}: ${memoryParts(sampling)}`],
    [`PPO, minibatches of ${miniBatchSize}`, `${megabytes(training.total)}: ${memoryParts(training)}`],
    ["available", `${megabytes(available)}, ${verdict}`],
  ]);
  print(`\n${style.bold("Devices")}`);
  printFacts(devices.map(({ name, why }) => [name, why ?? "can be used here"]));
  print(`\n${style.bold("Files")}`);
  printFacts(files.map(({ name, bytes }) => [name, `${thousands(bytes)} bytes`]));
  for (const text of notes) note(`note: ${text}`);
}

/** Every device there is, and why those cannot be used that cannot. Asked in processes of their own: drivers print what they please. */
async function whatComputes(): Promise<{ name: Device; usable: boolean; why?: string }[]> {
  const { packageModule } = await import("../platform/package.ts");
  const engine = JSON.stringify(packageModule("backend/engine"));
  return Promise.all(
    DEVICES.map(async (name) => {
      const code = `import { Engine } from ${engine};
        try { new Engine({ device: "${name}", threads: 1 }); console.log("null"); }
        catch (error) { console.log(JSON.stringify(error.problem ?? { found: String(error), fix: "report this" })); }`;
      const answer = promisify(execFile)(process.execPath, ["--input-type=module", "-e", code]);
      const { found, fix } = await answer.then(
        ({ stdout }) => JSON.parse(stdout) ?? {},
        (error) => ({
          found: `a process that ended with ${error.signal ?? error.code}`,
          fix: "install its driver anew",
        }),
      );
      return found === undefined ? { name, usable: true } : { name, usable: false, why: `${found}: ${fix}` };
    }),
  );
}
