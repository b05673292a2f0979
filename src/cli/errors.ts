/** @file How errors are shown, and the exit codes they mean. */
import { type Command, CommanderError, type Option } from "commander";
import { adviceOn, nameHere } from "../algorithms/options/trl-names.ts";
import { messageOf, type Problem, ValueheadError } from "../base/errors.ts";
import { editDistance, nearest } from "../base/nearest.ts";
import { brief } from "../base/text.ts";
import { otherName, plainName } from "./other-names.ts";
import { labelled, style, writeError } from "./output.ts";

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

/** On stderr: lines for people, or one JSON object. `command` is the one that was named. */
export function reportError(
  error: unknown,
  { json, debug, command }: { json: boolean; debug: boolean; command?: Command },
): void {
  const { kind, ...problem } = describe(error, command);
  const stack = debug ? stackOf(error) : undefined;
  if (json) writeError(JSON.stringify({ error: { kind, ...problem, stack } }));
  else if (kind === "bug") writeError(`${style.red("error:")} ${problem.found}\n  ${BUG}`);
  else {
    writeError(`${style.red("error:")} ${style.bold(problem.where)}`);
    for (const part of ["found", "expected", "fix"] as const) writeError(labelled(part, problem[part]));
  }
  if (stack !== undefined && !json) writeError(stack);
}

const BUG = "this is a bug: please report it, with what --debug adds";

function describe(error: unknown, command?: Command): { kind: string } & Problem {
  if (error instanceof ValueheadError) return { kind: error.kind, ...withFlags(error.problem, command) };
  if (error instanceof CommanderError) return { kind: "usage", ...usageProblem(error, command) };
  return { kind: "bug", where: "valuehead", found: messageOf(error), expected: "no such error", fix: BUG };
}

/** The options of a command, by name. */
const optionsOf = (command?: Command): ReadonlyMap<string, Option> =>
  new Map((command?.options ?? []).filter(({ negate }) => !negate).map((o) => [o.attributeName(), o]));

/** The library says batchSize, who typed a command --batch-size. Names in quotes or paths are something else. */
function withFlags({ where, found, expected, fix }: Problem, command?: Command): Problem {
  const options = optionsOf(command);
  return {
    where: options.get(where)?.long ?? flagsIn(where, options),
    found,
    expected: flagsIn(expected, options),
    fix: flagsIn(fix, options),
  };
}

const flagsIn = (text: string, options: ReadonlyMap<string, Option>) =>
  text.replace(/(?<![\w"'./-])[a-z]+(?:[A-Z][a-z\d]*)+(?![\w"'/-])/g, (name) => options.get(name)?.long ?? name);

/** The same for what a run says while it goes on. */
export const inFlags = (text: string, command?: Command): string => flagsIn(text, optionsOf(command));

function usageProblem(error: CommanderError, command?: Command): Problem {
  const quoted = /'([^']*)'/.exec(error.message)?.[1] ?? "";
  const program = command?.parent ? `valuehead ${command.name()}` : "valuehead";
  const help = `see ${program} --help`;
  switch (error.code) {
    case "commander.unknownOption": {
      const typed = quoted.replace(/=.*/s, "");
      const fix = hint(typed, command) ?? help;
      return { where: typed, found: "an unknown option", expected: `an option of ${program}`, fix };
    }
    case "commander.unknownCommand": {
      const commands = (command?.parent ?? command)?.commands.map((c) => c.name()) ?? [];
      const fix = quoted === "" ? help : `did you mean ${nearest(quoted, commands)}?`;
      return {
        where: `valuehead ${quoted}`,
        found: "an unknown command",
        expected: `one of ${commands.join(", ")}`,
        fix,
      };
    }
    case "commander.optionMissingArgument":
      return missingValue([...optionsOf(command).values()].find(({ flags }) => flags === quoted));
    case "commander.excessArguments": {
      const [word] = command?.args ?? [];
      const found = `${brief(word)} with no option before it`;
      return { where: program, found, expected: "options, each with its dashes and its value", fix: help };
    }
    case "commander.invalidArgument": {
      const [, flags, given, choices] =
        /^error: option '([^']*)' argument '([\s\S]*)' is invalid\. Allowed choices are (.*)\.$/.exec(error.message) ??
        [];
      if (choices === undefined) return otherwise(error, program, help);
      const fix = given === "" ? help : `did you mean ${nearest(given, choices.split(", "))}?`;
      return { where: flags.replace(/[ ,].*/, ""), found: brief(given), expected: `one of ${choices}`, fix };
    }
    default:
      return otherwise(error, program, help);
  }
}

const otherwise = (error: CommanderError, program: string, help: string): Problem => ({
  where: program,
  found: error.message.replace(/^error: /, ""),
  expected: "a command and its options",
  fix: help,
});

/** The problem of an option without its value. */
export function missingValue(option?: Option): Problem {
  const { long = "the option", flags = "", description = "" } = option ?? {};
  const placeholder = /<.*>/.exec(flags)?.[0] ?? "VALUE";
  return {
    where: `${long}`,
    found: "no value",
    expected: `${placeholder}: ${description}`,
    fix: `write ${long} ${placeholder.replace(/[<>.]/g, "").toUpperCase().replaceAll(" ", "-")}`,
  };
}

/** What an unknown flag is called here. */
function hint(typed: string, command?: Command): string | undefined {
  const options = optionsOf(command);
  const name = typed.replace(/^-+(no-)?/, "");
  const same = [...options.keys()].find((key) => plainName(key) === plainName(name));
  if (same !== undefined) return `it is called ${options.get(same)?.long} here`;
  const trl = nameHere(name, (known) => options.has(known));
  const meaning = trl !== undefined ? [trl] : (otherName(name) ?? adviceOn(name));
  if (typeof meaning === "string") return meaning;
  const either = meaning !== undefined && "either" in meaning;
  const here = (either ? meaning.either : (meaning ?? [])).flatMap((key) => options.get(key) ?? []);
  if (either && here.length > 1) return `did you mean ${here.map(described).join(" or ")}?`;
  if (here.length > 0) return `it is called ${here[0].long} here`;
  const flags = [...options.values()].map(({ long }) => long ?? "");
  const close = nearest(typed, flags);
  return flags.length > 0 && isClose(typed, close) ? `did you mean ${close}?` : undefined;
}

const described = ({ long, description }: Option) => `${long} (${description.replace(/ \(default: .*/s, "")})`;

/** Whether one may be a typing error of the other: they share the most of their letters in order. */
function isClose(a: string, b: string): boolean {
  const longest = Math.max(a.length, b.length);
  return longest > 0 && editDistance(a.toLowerCase().slice(0, 64), b) <= Math.max(2, longest * 0.4);
}

/** The stack of an error and of what caused it. */
function stackOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause === undefined ? `${error.stack}` : `${error.stack}\ncaused by ${stackOf(error.cause)}`;
}
