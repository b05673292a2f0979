/** @file `valuehead pretrain`. */
import type { Command } from "commander";
import { PRETRAIN_DEFAULTS } from "../algorithms/pretrain.ts";
import { fail } from "../base/errors.ts";
import { share } from "../base/option-values.ts";
import { fileSource, type OptionTable } from "../base/options.ts";
import { brief } from "../base/text.ts";
import { STDIN } from "../platform/files.ts";
import { type PretrainRunEvent, pretrainOptions, pretrainRun, resolvePretrainConfig } from "../run/pretrain-run.ts";
import { asUsage, usageFrom } from "./errors.ts";
import { INTERRUPTED, interruptible } from "./interrupt.ts";
import { fetchModel } from "./model.ts";
import {
  addIgnoreMemoryOption,
  addOptions,
  addThreadsOption,
  checkFlags,
  flagSource,
  readFlags,
  readObject,
  readThreads,
  required,
} from "./options.ts";
import {
  type Column,
  commandLine,
  duration,
  fittingColumns,
  fixed,
  megabytes,
  note,
  print,
  printJson,
  style,
  terminalWidth,
  thousands,
} from "./output.ts";
import { Progress } from "./progress.ts";

interface PretrainFlags {
  data?: string[];
  column?: string;
  out?: string;
  config?: string;
  model?: string;
  tokenizer?: string;
  heldOut?: string[];
  ignoreMemory?: boolean;
  json?: boolean;
  quiet?: boolean;
}

/** Those of the options that have flags; a --config file may hold all. */
const table = {
  steps: [pretrainOptions.steps[0], PRETRAIN_DEFAULTS.steps, pretrainOptions.steps[1]],
  seed: [pretrainOptions.seed[0], PRETRAIN_DEFAULTS.seed, pretrainOptions.seed[1]],
  batchSize: [pretrainOptions.batchSize[0], PRETRAIN_DEFAULTS.batchSize, pretrainOptions.batchSize[1]],
  learningRate: [pretrainOptions.learningRate[0], PRETRAIN_DEFAULTS.learningRate, pretrainOptions.learningRate[1]],
} as const satisfies OptionTable;

const fraction = {
  heldOutFraction: [share, 0, "or this share of the data, in whole documents"],
} as const satisfies OptionTable;

const DATA = "text: paragraphs (.txt), or in .json, .jsonl, .csv, .tsv (all also .gz) or .parquet; -: from stdin";

export function define(command: Command): void {
  command
    .option("--data <file...>", DATA)
    .option("--column <name>", "column of the text in files that have columns (default: text)")
    .option("--out <dir>", "the model directory to write; new or empty")
    .option("--model <model>", "train this model on; it also gives the tokenizer")
    .option(
      "--tokenizer <model>",
      "for a model from scratch: a directory with tokenizer files, or a model that has them",
    )
    .option("--config <file>", 'JSON: {"model": {"nLayer": 4, ...}, "training": {"sequenceLength": 256, ...}}')
    .option("--held-out <file...>", "text to measure the loss on");
  addOptions(command, { ...fraction, ...table });
  command
    .option("--json", "print one JSON object per event, one per line, and nothing else on stdout")
    .option("--quiet", "no progress bar and no table");
  addThreadsOption(command);
  addIgnoreMemoryOption(command);
  command.action(pretrainCommand);
}

async function pretrainCommand(flags: PretrainFlags): Promise<void> {
  checkFlags({ ...fraction, ...table }, flags);
  required(
    { name: "data", value: flags.data, placeholder: "FILE", expected: DATA },
    { name: "out", value: flags.out, placeholder: "DIR", expected: "the model directory to write" },
  );
  const { data = [], out = "" } = flags;
  const { heldOutFraction } = readFlags<{ heldOutFraction: number }>(fraction, flags);
  const threads = readThreads(flags);
  checkStdin([...data, ...(flags.heldOut ?? [])]);
  const { file, config, given } = await readConfig(flags);
  if (flags.model !== undefined) flags.model = await fetchModel(flags.model);
  if (flags.tokenizer !== undefined) flags.tokenizer = await fetchModel(flags.tokenizer);

  const where = flags.config ?? "command line";
  const modelConfig = file.model as Record<string, unknown> | undefined;
  const spec = {
    ...flags,
    data,
    out,
    threads,
    heldOutFraction,
    config: given,
    modelConfig,
    where,
    columnOption: "--column",
  };
  const progress = new Progress(!flags.json && !flags.quiet);
  const view = new PretrainView(flags, progress, config.steps);
  const end = await interruptible(
    "finishing this step, then saving",
    async (signal) => {
      const onTokenized = ({ documents, tokens, bytes }: { documents: number; tokens: number; bytes: number }) =>
        progress.show(
          0,
          1,
          `tokenizing: ${thousands(documents)} documents`,
          `${thousands(tokens)} tokens`,
          megabytes(bytes),
        );
      let last: PretrainRunEvent | undefined;
      for await (const event of pretrainRun(spec, { signal, onTokenized })) {
        if (flags.json) printJson(event);
        else view.show(event);
        last = event;
      }
      return last as Extract<PretrainRunEvent, { type: "done" }>;
    },
    progress.clear,
  )
    .catch((error) => {
      throw usageFrom(where, error);
    })
    .finally(progress.clear);

  if (end.interrupted) {
    process.exitCode = INTERRUPTED;
    if (end.directory === undefined) return note("stopped before the first step; nothing to save");
    note(`stopped after step ${end.step}; the model is saved in ${end.directory}`);
    note(
      `train it on with\n  ${commandLine("pretrain", "--model", end.directory, "--data", ...data, "--out", `${end.directory}-2`)}`,
    );
  } else if (!flags.json) {
    print(`\nModel after step ${end.step}: ${end.directory}`);
    print(`  ${commandLine("generate", "--model", out, "--prompt", "This movie")}`);
  }
}

/** The --config file, the complete config, and what of it was given. */
async function readConfig(flags: PretrainFlags) {
  const path = flags.config;
  const file = path === undefined ? {} : await readObject(path);
  const parts = ["model", "training"];
  for (const [name, value] of Object.entries(file)) {
    const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
    if (parts.includes(name) && isObject) continue;
    fail("usage", {
      where: `${path}, ${JSON.stringify(name)}`,
      found: parts.includes(name) ? brief(value) : "an unknown part",
      expected: parts.includes(name) ? "an object" : "model and training",
      fix: Object.hasOwn(pretrainOptions, name)
        ? `write {"training": {${JSON.stringify(name)}: ...}}`
        : "correct or remove it",
    });
  }
  const training = (file.training ?? {}) as Record<string, unknown>;
  const typed = flagSource(flags as Record<string, unknown>, Object.keys(table));
  const inFile = { ...fileSource(training, path ?? ""), place: (name: string) => `${path}, "training.${name}"` };
  const config = asUsage(() => resolvePretrainConfig([inFile, typed]));
  const given = Object.fromEntries(
    Object.keys({ ...training, ...definedIn(typed.values) }).map((name) => [name, config[name as keyof typeof config]]),
  );
  return { file, config, given };
}

const definedIn = (values: Readonly<Record<string, unknown>>) =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));

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

/** Steps between rows of the table. */
const ROW_EVERY = 50;

class PretrainView {
  readonly #progress: Progress;
  readonly #quiet: boolean;
  readonly #steps: number;
  /** Of the last steps. */
  #losses: number[] = [];
  #started = 0;
  #header = false;

  constructor(flags: { quiet?: boolean }, progress: Progress, steps: number) {
    this.#progress = progress;
    this.#quiet = flags.quiet ?? false;
    this.#steps = steps;
  }

  show(event: PretrainRunEvent): void {
    if (event.type === "step") this.#step(event);
    else this.#progress.clear();
    if (event.type === "loaded") {
      this.#started = performance.now();
      for (const text of event.notes) note(`note: ${text}`);
      const { parameters, tokens, heldOutTokens } = event;
      if (!this.#quiet)
        note(`${thousands(parameters)} parameters, ${thousands(tokens)} tokens, ${thousands(heldOutTokens)} held out`);
    } else if (event.type === "eval" && !this.#quiet) {
      const { loss, bitsPerByte } = event.heldOut;
      print(
        `held-out loss after step ${event.step}: ${fixed(loss, 4)} nats per token, ${fixed(bitsPerByte, 4)} bits per byte`,
      );
    }
  }

  #step(event: Extract<PretrainRunEvent, { type: "step" }>): void {
    const { step, tokensPerSecond } = event;
    this.#losses = [...this.#losses, event.loss].slice(-ROW_EVERY);
    const loss = this.#losses.reduce((a, b) => a + b, 0) / this.#losses.length;
    if (!this.#quiet && (step % ROW_EVERY === 0 || step === this.#steps)) this.#row(event, loss);
    const left = ((performance.now() - this.#started) / 1000 / step) * (this.#steps - step);
    const facts = [
      `step ${step}/${this.#steps}`,
      `${duration(left)} left`,
      `${fixed(tokensPerSecond, 0)} tokens/s`,
      `loss ${fixed(loss, 3)}`,
    ];
    this.#progress.show(step, this.#steps, ...facts);
  }

  #row(event: Extract<PretrainRunEvent, { type: "step" }>, loss: number): void {
    this.#progress.clear();
    const columns = fittingColumns(COLUMNS, terminalWidth());
    const line = (texts: readonly string[]) => texts.map((text, c) => text.padStart(columns[c].width)).join("");
    if (!this.#header) print(style.bold(line(columns.map(({ title }) => title))));
    this.#header = true;
    print(line(columns.map(({ text }) => text(event, loss))));
  }
}

type Step = Extract<PretrainRunEvent, { type: "step" }>;

const COLUMNS: readonly (Column & { text: (event: Step, loss: number) => string })[] = [
  { title: "step", width: 7, text: ({ step }) => String(step) },
  { title: "loss", width: 10, text: (_, loss) => fixed(loss, 4) },
  { title: "grad norm", width: 11, keep: 1, text: ({ gradNorm }) => fixed(gradNorm, 3) },
  { title: "learning rate", width: 15, keep: 2, text: ({ learningRate }) => learningRate.toExponential(2) },
  { title: "epoch", width: 9, keep: 4, text: ({ epoch }) => fixed(epoch, 2) },
  { title: "tokens/s", width: 10, keep: 3, text: ({ tokensPerSecond }) => fixed(tokensPerSecond, 0) },
];
