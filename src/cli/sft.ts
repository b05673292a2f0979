/** @file `valuehead train --algorithm sft`, whose old name is `valuehead pretrain`. */
import type { Command } from "commander";
import { resolveSFTConfig, sftOptions } from "../algorithms/options/sft-options.ts";
import { fail } from "../base/errors.ts";
import { share } from "../base/option-values.ts";
import { fileSource, type OptionSource, type OptionTable } from "../base/options.ts";
import { brief } from "../base/text.ts";
import { type Document, readCorpus } from "../data/corpus.ts";
import { readResponses } from "../data/responses.ts";
import { absolutePath, STDIN } from "../platform/files.ts";
import type { RunRecord, SFTSpec, TextSource } from "../run/spec.ts";
import { follow, givenData, readOptions } from "./data-run.ts";
import {
  ADAPTER,
  addEngineOptions,
  addOptions,
  checkFlags,
  readEngine,
  readFlags,
  readObject,
  required,
} from "./options.ts";
import { note } from "./output.ts";
import { resumedDirectory } from "./resumed.ts";
import { addRunDirectoryOptions, addTellingOptions, type RunFlags } from "./run-flags.ts";

interface SFTFlags extends RunFlags {
  data?: string[];
  responses?: boolean;
  column?: string;
  config?: string;
  model?: string;
  adapter?: string;
  tokenizer?: string;
  heldOut?: string[];
}

const fraction = {
  heldOutFraction: [share, 0, "or this share of the data, in whole documents"],
} as const satisfies OptionTable;

const DATA = "text: paragraphs (.txt), or in .json, .jsonl, .csv, .tsv (all also .gz) or .parquet; -: from stdin";

export function define(command: Command): void {
  if (command.name() === "train") command.option("--algorithm <name>", "sft: language-model training on text");
  command
    .option("--data <file...>", DATA)
    .option(
      "--responses",
      "--data holds prompts with responses (prompt and response, or messages): learn the responses alone",
    )
    .option("--column <name>", "column of the text in files that have columns (default: text)")
    .option("--model <model>", "train this model on; it also gives the tokenizer")
    .option("--adapter <adapter>", `${ADAPTER}; it is trained on`)
    .option(
      "--tokenizer <model>",
      "for a model from scratch: a directory with tokenizer files, or a model that has them",
    )
    .option("--config <file>", 'JSON: {"model": {"nLayer": 4, ...}, "training": {"sequenceLength": 256, ...}}')
    .option("--held-out <file...>", "text to measure the loss on");
  addRunDirectoryOptions(command);
  addOptions(command, { ...fraction, ...sftOptions });
  addTellingOptions(command);
  addEngineOptions(command);
  command.action((flags: SFTFlags) => train(flags, command));
}

async function train(flags: SFTFlags, command: Command): Promise<void> {
  checkFlags({ ...fraction, ...sftOptions }, flags);
  const engine = readEngine(flags);
  const { out: directory, earlier } = await resumedDirectory(flags, "sft");
  const { data, out } = givenData(
    { data: flags.data ?? earlier?.data ?? undefined, out: directory, earlier },
    { name: "text", expected: DATA },
  );
  const heldOut = flags.heldOut ?? earlier?.heldOutData ?? undefined;
  checkStdin([...data, ...(heldOut ?? [])]);
  const where = flags.config ?? "command line";
  const { modelConfig, given, config } = await readConfig(flags, earlier);
  const { heldOutFraction } = readFlags<{ heldOutFraction: number }>(fraction, flags, { ...earlier });
  const spec = {
    algorithm: "sft",
    out,
    model: flags.model ?? earlier?.model ?? undefined,
    adapter: flags.adapter ?? earlier?.adapter ?? undefined,
    tokenizer: flags.tokenizer ?? earlier?.tokenizer ?? undefined,
    modelConfig: modelConfig ?? earlier?.modelConfig ?? undefined,
    responses: flags.responses ?? earlier?.responses,
    column: flags.column ?? earlier?.column ?? undefined,
    columnOption: "--column",
    heldOutFraction,
    config: given,
    ...engine,
    where,
    resume: Boolean(flags.resume),
    allowChange: flags.allowChange,
    ignoreMemory: flags.ignoreMemory,
  } as const;
  if (earlier) refuseOtherModel(flags, earlier);
  await fetchModels(spec);
  const { sftDisplay } = await import("./run-view.ts");
  const from = [...data, ...(heldOut ?? [])].includes(STDIN) ? ["--data", STDIN] : [];
  await follow<SFTSpec>(spec, {
    display: sftDisplay,
    steps: config.steps,
    flags,
    command,
    read: async () => ({
      data: await readSources(data, spec),
      heldOut: heldOut && (await readSources(heldOut, spec)),
    }),
    resume: ["--algorithm", "sft", "--resume", out, ...from],
  });
}

async function fetchModels({ model, adapter, tokenizer, resume }: Omit<SFTSpec, "data" | "heldOut">): Promise<void> {
  const { fetchModel } = await import("./model.ts");
  if (adapter !== undefined) required({ name: "model", value: model, placeholder: "BASE", expected: "its base" });
  if (model !== undefined && !resume) await fetchModel(model, adapter);
  if (tokenizer !== undefined && !resume) await fetchModel(tokenizer);
}

/** A worker cannot read stdin: its text is read here. */
async function readSources(
  paths: readonly string[],
  { column, responses }: Pick<SFTSpec, "column" | "responses">,
): Promise<TextSource[]> {
  const sources: TextSource[] = [];
  for (const path of paths) {
    if (path !== STDIN) sources.push(path);
    else {
      const read = responses ? readResponses([STDIN]) : readCorpus([STDIN], { column, columnOption: "--column" });
      const documents: Document[] = [];
      for await (const document of read) documents.push(document);
      sources.push(documents);
    }
  }
  return sources;
}

/** What a new model is like, what was given, and the complete config. */
async function readConfig(flags: SFTFlags, earlier: RunRecord | undefined) {
  const path = flags.config;
  const file = path === undefined ? {} : parts(await readObject(path), path);
  const training = file.training ?? {};
  const inFile: OptionSource = {
    ...fileSource(training, path ?? ""),
    place: (name) => `${path}, "${file.recorded ? "options" : "training"}.${name}"`,
  };
  return { modelConfig: file.model, ...readOptions(sftOptions, resolveSFTConfig, { flags, inFile, earlier }) };
}

interface ConfigParts {
  model?: Record<string, unknown>;
  training?: Record<string, unknown>;
  /** It is a run's own config.json. */
  recorded?: boolean;
}

/** @throws usage - a --config file with another part, or one of another kind */
function parts(file: Record<string, unknown>, path: string): ConfigParts {
  const isObject = (value: unknown) => typeof value === "object" && value !== null && !Array.isArray(value);
  if (file.algorithm === "sft" && isObject(file.options)) {
    const model = isObject(file.modelConfig) ? (file.modelConfig as Record<string, unknown>) : undefined;
    return { model, training: file.options as Record<string, unknown>, recorded: true };
  }
  const known = ["model", "training"];
  for (const [name, value] of Object.entries(file)) {
    if (known.includes(name) && isObject(value)) continue;
    fail("usage", {
      where: `${path}, ${JSON.stringify(name)}`,
      found: known.includes(name) ? brief(value) : "an unknown part",
      expected: known.includes(name) ? "an object" : "model and training",
      fix: Object.hasOwn(sftOptions, name)
        ? `write {"training": {${JSON.stringify(name)}: ...}}`
        : "correct or remove it",
    });
  }
  return file as ConfigParts;
}

/** A run goes on with the model of its checkpoint, so another one would be ignored. */
function refuseOtherModel(flags: SFTFlags, earlier: RunRecord): void {
  if (flags.model === undefined || [flags.model, absolutePath(flags.model)].includes(earlier.model ?? "")) return;
  fail("usage", {
    where: "--model",
    found: `${flags.model}, for a run that goes on`,
    expected: "the model of its checkpoint, which needs no name",
    fix: `leave --model out, or start a new run with --model ${flags.model} in another directory`,
  });
}

function checkStdin(paths: readonly string[]): void {
  const times = paths.filter((path) => path === STDIN).length;
  if (times > 1)
    fail("usage", {
      where: "--data, --held-out",
      found: `stdin (-) ${times} times`,
      expected: "stdin once",
      fix: "write the other texts to files",
    });
  if (times === 1 && process.stdin.isTTY) note("reading text from the terminal; Ctrl-D ends it");
}
