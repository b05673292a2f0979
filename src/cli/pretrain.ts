/** @file `valuehead pretrain`. */
import type { Command } from "commander";
import type { PretrainRunEvent } from "../train/pretrain-run.ts";
import { INTERRUPTED, interruptible } from "./interrupt.ts";
import { addThreadsOption, number, readObject, whole } from "./options.ts";
import { commandLine, duration, fixed, megabytes, note, print, printJson, thousands } from "./output.ts";
import type { Progress } from "./progress.ts";

interface PretrainFlags {
  data: string[];
  column?: string;
  out: string;
  config?: string;
  model?: string;
  tokenizer?: string;
  heldOut?: string[];
  heldOutFraction?: number;
  steps?: number;
  seed?: number;
  batchSize?: number;
  learningRate?: number;
  threads?: number;
  json?: boolean;
  quiet?: boolean;
}

export function define(command: Command): void {
  command
    .requiredOption(
      "--data <file...>",
      "text: paragraphs (.txt), or a column of .jsonl, .csv, .tsv (these also .gz) or .parquet",
    )
    .option("--column <name>", "column of the text in files that have columns (default: text)")
    .requiredOption("--out <dir>", "the model directory to write; new or empty")
    .option("--model <model>", "train this model on; it also gives the tokenizer")
    .option("--tokenizer <dir>", "for a model from scratch: a directory with tokenizer files")
    .option("--config <file>", 'JSON: {"model": {"nLayer": 4, ...}, "training": {"sequenceLength": 256, ...}}')
    .option("--held-out <file...>", "text to measure the loss on")
    .option("--held-out-fraction <x>", "or this share of the data", number)
    .option("--steps <n>", "optimizer steps (default: 1000)", whole(1))
    .option("--seed <n>", "seed of everything random (default: 0)", whole(0))
    .option("--batch-size <n>", "sequences per step (default: 8)", whole(1))
    .option("--learning-rate <x>", "AdamW's step size (default: 0.001)", number)
    .option("--json", "one JSON object per event and line on stdout, nothing else there")
    .option("--quiet", "no progress bar and no table");
  addThreadsOption(command);
  command.action(pretrainCommand);
}

async function pretrainCommand(flags: PretrainFlags): Promise<void> {
  const { pretrainConfig, pretrainRun } = await import("../train/pretrain-run.ts");
  const { fail } = await import("../base/errors.ts");
  const { asUsage, usageFrom } = await import("./errors.ts");
  const { fetchModel } = await import("./model.ts");
  const { Progress } = await import("./progress.ts");
  const file = flags.config === undefined ? {} : await readObject(flags.config);
  const stray = Object.keys(file).find((name) => name !== "model" && name !== "training");
  if (stray !== undefined)
    fail("usage", {
      where: `${flags.config}, ${stray}`,
      found: "an unknown part",
      expected: "model and training",
      fix: `remove ${stray}`,
    });
  const { steps, seed, batchSize, learningRate } = flags;
  const given = Object.entries({ steps, seed, batchSize, learningRate }).filter(([, value]) => value !== undefined);
  const options = { ...(file.training as object), ...Object.fromEntries(given) };
  const where = flags.config ?? "command line";
  const config = asUsage(() => pretrainConfig(options, where));
  if (flags.model !== undefined) await fetchModel(flags.model);

  const progress = new Progress(!flags.json && !flags.quiet);
  const spec = { ...flags, config: options, modelConfig: file.model as Record<string, unknown> | undefined, where };
  const view = new PretrainView(flags, progress, config.steps);
  const end = await interruptible(
    "finishing this step, then saving",
    async (signal) => {
      const onTokenized = ({ documents, tokens, bytes }: { documents: number; tokens: number; bytes: number }) =>
        progress.show(
          0,
          1,
          `tokenizing: ${thousands(documents)} documents, ${thousands(tokens)} tokens, ${megabytes(bytes)}`,
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
      `train it on with\n  ${commandLine("pretrain", "--model", end.directory, "--data", ...flags.data, "--out", `${end.directory}-2`)}`,
    );
  } else if (!flags.json) {
    print(`\nModel after step ${end.step}: ${end.directory}`);
    print(`  ${commandLine("generate", "--model", flags.out, "--prompt", "This movie")}`);
  }
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
    this.#progress.show(step, this.#steps, facts.join(", "));
  }

  #row(
    { step, gradNorm, learningRate, epoch, tokensPerSecond }: Extract<PretrainRunEvent, { type: "step" }>,
    loss: number,
  ): void {
    this.#progress.clear();
    if (!this.#header) print("   step      loss  grad norm  learning rate    epoch  tokens/s");
    this.#header = true;
    const texts = [
      fixed(loss, 4).padStart(10),
      fixed(gradNorm, 3).padStart(11),
      learningRate.toExponential(2).padStart(15),
    ];
    print(
      `${String(step).padStart(7)}${texts.join("")}${fixed(epoch, 2).padStart(9)}${fixed(tokensPerSecond, 0).padStart(10)}`,
    );
  }
}
