/** @file How errors are shown, and the exit codes they mean. */
import { CommanderError } from "commander";
import { messageOf, ValueheadError } from "../base/errors.ts";
import { nameHere } from "../train/trl-names.ts";

/** 2 for wrong usage, 1 for anything else. */
export function exitCodeOf(error: unknown): 1 | 2 {
  if (error instanceof CommanderError) return 2;
  return error instanceof ValueheadError && error.kind === "usage" ? 2 : 1;
}

/** What the user gave on the command line or in a --config file is usage, whatever part of the library refuses it. */
export function asUsage<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof ValueheadError && error.kind === "config")
      throw new ValueheadError("usage", error.problem, { cause: error });
    throw error;
  }
}

/** The same for errors that come later; `where` is how they call what the user gave. */
export function usageFrom(where: string, error: unknown): unknown {
  return error instanceof ValueheadError && error.kind === "config" && error.problem.where.startsWith(`${where}, `)
    ? new ValueheadError("usage", error.problem, { cause: error })
    : error;
}

/** On stderr: lines for people, or one JSON object. */
export function reportError(error: unknown, { json, debug }: { json: boolean; debug: boolean }): void {
  const stack = debug ? stackOf(error) : undefined;
  const text = json ? JSON.stringify({ error: { ...describe(error), stack } }) : lines(error, stack);
  process.stderr.write(`${text}\n`);
}

function describe(error: unknown) {
  if (error instanceof ValueheadError) return { kind: error.kind, ...error.problem };
  if (error instanceof CommanderError)
    return {
      kind: "usage",
      where: "command line",
      found: commanderMessage(error).replace(/^error: /, ""),
      expected: "a command and its options",
      fix: "see valuehead <command> --help",
    };
  return { kind: "bug", where: "valuehead", found: messageOf(error), expected: "no such error", fix: BUG };
}

/** `batchSize` as `--batch-size`. */
export const flag = (name: string) => `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;

/** Commander's own words, but for an option that has another name here. */
function commanderMessage(error: CommanderError): string {
  const name = error.code === "commander.unknownOption" ? /'--([\w-]+)/.exec(error.message)?.[1] : undefined;
  const here = name === undefined ? undefined : nameHere(name);
  return here ? `error: unknown option '--${name}': it is called ${flag(here)} here` : error.message;
}

const BUG = "this is a bug: please report it, with what --debug adds";

function lines(error: unknown, stack?: string): string {
  const tail = stack ? `\n${stack}` : "";
  if (error instanceof CommanderError) return `${commanderMessage(error)}\nSee valuehead <command> --help.${tail}`;
  if (!(error instanceof ValueheadError)) return `error: ${messageOf(error)}\n  ${BUG}${tail}`;
  const { where, found, expected, fix } = error.problem;
  return `error: ${where}\n  found     ${found}\n  expected  ${expected}\n  fix       ${fix}${tail}`;
}

/** The stack of an error and of what caused it. */
function stackOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause === undefined ? `${error.stack}` : `${error.stack}\ncaused by ${stackOf(error.cause)}`;
}
