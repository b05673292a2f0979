/** @file The command `valuehead`. A command's module is loaded only when that command is named. */
import { Command, CommanderError, Option } from "commander";
import { VERSION } from "../base/version.ts";
import { exitCodeOf, reportError } from "./errors.ts";
import { nameForeign } from "./foreign.ts";
import { brokenPipe, endWith } from "./interrupt.ts";

interface CommandModule {
  define(command: Command): void | Promise<void>;
}

const COMMANDS: Record<string, { summary: string; load: () => Promise<CommandModule> }> = {
  demo: {
    summary: "see PPO work: train the embedded model, with text before and after",
    load: () => import("./demo.ts"),
  },
  train: { summary: "PPO: a model, prompts and a reward in, a better model out", load: () => import("./train.ts") },
  generate: { summary: "write responses to prompts", load: () => import("./generate.ts") },
  score: { summary: "log-probability, value and greedy next token of every token", load: () => import("./score.ts") },
  pretrain: { summary: "language-model training on text files", load: () => import("./pretrain.ts") },
  info: { summary: "config, parameters and memory of a model", load: () => import("./info.ts") },
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
  const report = (error: unknown) => {
    process.exitCode = exitCodeOf(error);
    reportError(error, { json, debug });
  };
  process.stdout.on("error", brokenPipe);
  process.stderr.on("error", () => {}); // nobody is left to tell
  process.on("uncaughtException", (thrown) => {
    const error = nameForeign(thrown);
    if (endWith(error)) return; // a run is saved first
    report(error);
    process.exit();
  });
  try {
    const program = await build(argv);
    if (argv.length === 0) {
      program.outputHelp({ error: true });
      process.exitCode = 2;
    } else await program.parseAsync(argv, { from: "user" });
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return; // --help, --version
    report(error);
  }
}

async function build(argv: readonly string[]): Promise<Command> {
  const program = new Command("valuehead")
    .description(
      "PPO for language models with a value head: a GPT-2 checkpoint and a reward in, a better checkpoint out.",
    )
    .version(VERSION)
    .exitOverride()
    .configureOutput({ outputError: () => {} }) // reported once, by main()
    .addHelpText("after", EPILOGUE);
  const named = argv.find((argument) => Object.hasOwn(COMMANDS, argument));
  for (const [name, { summary, load }] of Object.entries(COMMANDS)) {
    const command = program.command(name).summary(summary).description(summary); // inherits exitOverride
    if (name !== named) continue;
    await (await load()).define(command);
    command.addOption(new Option("--debug", "show the stack of an error").helpGroup("Options:"));
  }
  return program;
}
