/** @file The command `valuehead`. A command's module is loaded only when that command is named. */
import { Command, CommanderError, Option } from "commander";
import { messageOf, ValueheadError } from "../base/errors.ts";
import { VERSION } from "../base/version.ts";
import { exitCodeOf, missingValue, reportError } from "./errors.ts";
import { nameForeign } from "./foreign.ts";
import { brokenPipe, endWith } from "./interrupt.ts";
import { terminalWidth } from "./output.ts";

interface CommandModule {
  define(command: Command, argv: readonly string[]): void | Promise<void>;
}

const COMMANDS: Record<string, { summary: string; load: () => Promise<CommandModule> }> = {
  demo: {
    summary: "see PPO work: train the embedded model, with text before and after",
    load: () => import("./demo.ts"),
  },
  train: {
    summary: "PPO, or --algorithm grpo, rloo, dpo, sft, reward: a model, prompts and a reward in, a better model out",
    load: () => import("./train.ts"),
  },
  generate: { summary: "write responses to prompts", load: () => import("./generate.ts") },
  score: {
    summary: "log-probability, value and greedy next token for every token; what a reward model says",
    load: () => import("./score.ts"),
  },
  pretrain: { summary: "language-model training on text files: train --algorithm sft", load: () => import("./sft.ts") },
  compare: {
    summary: "two models on the same prompts: reward, KL, length, diversity",
    load: () => import("./compare.ts"),
  },
  export: {
    summary: "a model as ONNX, for transformers.js in Node and browsers",
    load: () => import("./export.ts"),
  },
  push: { summary: "upload a checkpoint with its model card to the Hugging Face hub", load: () => import("./push.ts") },
  view: {
    summary: "the page of a run or several, live or finished: curves, samples token by token, the audit",
    load: () => import("./view.ts"),
  },
  worker: {
    summary: "answer prompts for runs on other machines, over a NATS server: train --workers",
    load: () => import("./worker.ts"),
  },
  merge: { summary: "a LoRA adapter and its base as one model", load: () => import("./merge.ts") },
  info: { summary: "configuration, parameters and memory use of a model", load: () => import("./info.ts") },
};

const EPILOGUE = `
A model is a directory in Hugging Face layout, a hub id, or "tiny" (embedded, the default).
Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted with everything saved.

  valuehead demo
  valuehead <command> --help`;

/** Run one command line. Sets process.exitCode; never throws. */
export async function main(argv: readonly string[]): Promise<void> {
  const json = argv.includes("--json");
  const debug = argv.includes("--debug");
  let command: Command | undefined;
  let lost = false;
  const report = (error: unknown) => {
    process.exitCode = exitCodeOf(error);
    reportError(error, { json, debug, command });
  };
  // Nobody can read on: whatever runs ends as for a closed pipe, with everything saved, but this was no wish of the reader.
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    const isGone = error.code === "EPIPE" || error.code === "EIO";
    if (!isGone && !lost) report(lostOutput(error));
    lost ||= !isGone;
    brokenPipe(Object.assign(error, { code: "EPIPE" }));
  });
  process.stderr.on("error", () => {}); // nobody is left to tell
  process.on("uncaughtException", (thrown) => {
    const error = nameForeign(thrown);
    if (endWith(error)) return; // a run is saved first
    report(error);
    process.exit();
  });
  try {
    const { program, named } = await build(argv);
    command = named ?? program;
    if (argv.length === 0) {
      program.outputHelp({ error: true });
      process.exitCode = 2;
    } else {
      if (named) checkValues(named, argv);
      await program.parseAsync(argv, { from: "user" });
    }
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return; // --help, --version
    report(error);
  } finally {
    if (lost) process.exitCode = 1;
  }
}

/** `--steps --quiet`: commander takes any word after an option for its value. */
function checkValues(command: Command, argv: readonly string[]): void {
  const flags = new Map(command.options.flatMap((o) => [o.long, o.short].map((name) => [name, o] as const)));
  for (const [i, typed] of argv.entries()) {
    if (typed === "--") return;
    const option = flags.get(typed);
    const next = argv[i + 1];
    if (option?.required && next !== undefined && (flags.has(next) || next === "--help" || next === "-h"))
      throw new ValueheadError("usage", missingValue(option));
  }
}

/** Why stdout takes nothing more. */
const lostOutput = (error: NodeJS.ErrnoException) =>
  new ValueheadError("engine", {
    where: "stdout",
    found: error.code === "ENOSPC" ? "a full disk (ENOSPC)" : messageOf(error),
    expected: "room to print to",
    fix: "send the output to another place; with --out everything that was trained is saved there",
  });

async function build(argv: readonly string[]): Promise<{ program: Command; named?: Command }> {
  const program = new Command("valuehead")
    .description(
      "PPO for language models with a value head: a GPT-2 or Llama checkpoint and a reward in, a better checkpoint out.",
    )
    .version(VERSION)
    .exitOverride()
    .configureOutput({
      outputError: () => {}, // reported once, by main()
      getOutHelpWidth: terminalWidth,
      getErrHelpWidth: terminalWidth,
    })
    .configureHelp({ minWidthToWrap: 20 })
    .addHelpText("after", EPILOGUE);
  const name = argv.find((argument) => Object.hasOwn(COMMANDS, argument));
  let named: Command | undefined;
  for (const [known, { summary, load }] of Object.entries(COMMANDS)) {
    const command = program.command(known).summary(summary).description(summary); // inherits exitOverride
    if (known !== name) continue;
    named = command;
    await (await load()).define(command, argv);
    command.addOption(new Option("--debug", "show the stack trace of an error").helpGroup("Options:"));
  }
  return { program, named };
}
