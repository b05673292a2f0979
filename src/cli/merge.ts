/** @file `valuehead merge`: an adapter and its base as one model. */
import type { Command } from "commander";
import { fail } from "../base/errors.ts";
import { ADAPTER, addEngineOptions, readEngine, required } from "./options.ts";
import { note, printFacts, printJson, thousands } from "./output.ts";

interface MergeFlags {
  model?: string;
  adapter?: string;
  out?: string;
  json?: boolean;
}

export function define(command: Command): void {
  command
    .option("--model <model>", "the adapter, a directory, a run directory or a hub id; or, with --adapter, its base")
    .option("--adapter <adapter>", ADAPTER)
    .option("--out <dir>", "the directory that the model is written to: new or empty")
    .option("--json", "one JSON object");
  addEngineOptions(command);
  command.action(merge);
}

async function merge(flags: MergeFlags): Promise<void> {
  const expected = "an adapter, or a base with --adapter";
  // An adapter alone names its base itself.
  const [model, adapter] = flags.model === undefined ? [flags.adapter, undefined] : [flags.model, flags.adapter];
  required(
    { name: "model", value: model, placeholder: "ADAPTER", expected },
    { name: "out", value: flags.out, placeholder: "DIR", expected: "the directory that the model is written to" },
  );
  const engine = readEngine(flags);
  const { isDirectory, listDirectory } = await import("../platform/files.ts");
  const out = flags.out as string;
  if ((await isDirectory(out)) && (await listDirectory(out)).length > 0)
    fail("usage", {
      where: `--out ${out}`,
      found: "a directory that is not empty",
      expected: "a new or empty one",
      fix: "choose another directory",
    });
  const { fetchModel } = await import("./model.ts");
  const { checkModel, openModel } = await import("../families/index.ts");
  const { tokenizerOf } = await import("../checkpoint/model-files.ts");
  const { countParameters } = await import("../model/memory.ts");
  const files = await fetchModel(model as string, adapter);
  const architecture = await checkModel(files);
  if (!architecture.adapter)
    fail("usage", {
      where: `--model ${model}`,
      found: "a model without an adapter",
      expected,
      fix: "name the adapter: --adapter ADAPTER",
    });
  const tokenizer = await tokenizerOf(files).catch(() => undefined); // a model without one is still a model
  const adapted = await openModel(files, { ...engine, tokenizer });
  for (const text of adapted.notes) note(`note: ${text}`);
  const merged = await adapted.merge();
  await merged.savePretrained(out);
  await tokenizer?.save(out);
  const parameters = countParameters(merged).total;
  adapted.dispose();
  const facts = { out, base: files.baseName, adapter: files.directory, parameters };
  if (flags.json) printJson(facts);
  else
    printFacts([
      ["base", files.baseName],
      ["adapter", files.directory],
      ["merged", `${out}, ${thousands(parameters)} parameters`],
    ]);
}
