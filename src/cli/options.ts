/** @file Options that several commands share, and how their values are read. */
import { type Command, InvalidArgumentError, Option } from "commander";
import { z } from "zod";
import { DEVICES, type Device } from "../backend/devices.ts";
import { fail } from "../base/errors.ts";
import { parseJson } from "../base/json.ts";
import { count } from "../base/option-values.ts";
import { checkOption, type OptionSource, type OptionTable, resolveOptions, shown } from "../base/options.ts";
import { promptTable } from "../data/encode.ts";
import type { Prompt } from "../data/prompts.ts";
import { LORA_DEFAULTS } from "../model/adapter.ts";
import { isDirectory, joinPath, readJson, STDIN } from "../platform/files.ts";
import { samplingTable as drawing } from "../sample/options.ts";
import { asUsage } from "./errors.ts";
import { note } from "./output.ts";

/** `batchSize` as `--batch-size`. */
export const flag = (name: string) => `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;

/** A number, or the text as it stands: what an option may be is checked when all are read. */
export const numberOrText = (text: string): number | string => {
  const value = Number(text);
  return text.trim() === "" || Number.isNaN(value) ? text : value;
};

/** A JSON value, or the text as it stands, for the same reason. */
function jsonOrText(text: string): unknown {
  try {
    return parseJson(text);
  } catch {
    return text;
  }
}

const isNone = (text: string) => /^(none|null)$/i.test(text);
const numberOrNone = (text: string) => (isNone(text) ? null : numberOrText(text));

interface Choice {
  options: string[];
}
/** What a nullable option may be besides null. */
const unwrapped = (values: object) => (values as { unwrap(): object }).unwrap();

/** For options that may be given several times. */
export const collect = (text: string, before: string[] = []): string[] => [...before, text];

/** One of some words, several times. */
export const collectChoices =
  <T extends string>(choices: readonly T[]) =>
  (text: string, before: T[] = []): T[] => {
    const chosen = choices.find((choice) => choice === text);
    if (chosen === undefined) throw new InvalidArgumentError(`Allowed choices are ${choices.join(", ")}.`);
    return [...before, chosen];
  };

const collectNumbers = (text: string, before: (number | string)[] = []) => [...before, numberOrText(text)];

/**
 * Every option of a table as a flag. What is not given stays undefined; {@link readFlags} and the like fill in defaults.
 * @param standard defaults other than the table's
 * @param groups   headings, by the option they stand before
 */
export function addOptions(
  command: Command,
  table: OptionTable,
  standard: Readonly<Record<string, unknown>> = {},
  groups: { readonly [name: string]: string | undefined } = {},
): void {
  for (const [name, [values, general, meaning]] of Object.entries(table)) {
    const heading = groups[name];
    if (heading) command.optionsGroup(heading);
    const value = standard[name] ?? general;
    const said = /\(default: /.test(meaning);
    const several = Array.isArray(general) ? "; may be given several times" : "";
    const text = said ? meaning : `${meaning} (default: ${shown(value)}${several})`;
    if (name === "lora") command.addOption(loraOption(text));
    else if (typeof general === "boolean") command.option(flag(name), text).option(flag(`no-${name}`), "");
    else if (name === "bannedTokens") command.option(`${flag(name)} <id>`, text, collectNumbers);
    else if (Array.isArray(general)) command.option(`${flag(name)} <text>`, text, collect);
    else if (typeof general === "object" && general !== null) command.option(`${flag(name)} <json>`, text, jsonOrText);
    else if ("unwrap" in values && "options" in unwrapped(values)) {
      const option = new Option(`${flag(name)} <name>`, text).choices([...(unwrapped(values) as Choice).options]);
      command.addOption(option.argParser((name) => (isNone(name) ? null : name)));
    } else if (general === null) command.option(`${flag(name)} <number>`, text, numberOrNone);
    else if (typeof general === "number") command.option(`${flag(name)} <number>`, text, numberOrText);
    else if ("options" in values) {
      const option = new Option(`${flag(name)} <name>`, text).choices([...(values as Choice).options]);
      command.addOption(option.argParser((name) => name)); // what may be chosen is in the help; checked with all others
    } else command.option(`${flag(name)} <text>`, text);
  }
}

/** `--lora` or `--lora 8`. */
const loraOption = (text: string) =>
  new Option("--lora [rank]", text).preset(String(LORA_DEFAULTS.rank)).argParser(numberOrText);

/** What was typed: errors call it `--batch-size`. */
export const flagSource = (values: Readonly<Record<string, unknown>>, names: Iterable<string>): OptionSource => ({
  values: Object.fromEntries(Array.from(names, (name) => [name, values[name]])),
  place: flag,
  called: flag,
  write: flag,
});

/**
 * The options of a table among the flags of a command, with defaults where they were not given.
 * @throws usage
 */
export function readFlags<T>(table: OptionTable, flags: object, standard: Readonly<Record<string, unknown>> = {}): T {
  const names = Object.keys(table);
  const defaults = Object.fromEntries(names.map((name) => [name, standard[name] ?? table[name][1]]));
  const sources = [flagSource(defaults, names), flagSource(flags as Record<string, unknown>, names)];
  return asUsage(() => resolveOptions(table, sources).values as T);
}

/** @throws usage - a flag with a value it may not have, whatever else is missing */
export function checkFlags(table: OptionTable, flags: object): void {
  const names = Object.keys(table);
  const source = flagSource(flags as Record<string, unknown>, names);
  for (const name of names)
    if (source.values[name] !== undefined) asUsage(() => checkOption(table, name, source.values[name], source));
}

/** What a command cannot do without. */
interface Needed {
  name: string;
  value: unknown;
  placeholder: string;
  /** What it may be. */
  expected: string;
}

/** @throws usage - any of them was not given */
export function required(...needed: readonly Needed[]): void {
  const missing = needed.filter(({ value }) => value === undefined);
  if (missing.length === 0) return;
  const flags = missing.map(({ name }) => flag(name));
  fail("usage", {
    where: flags.join(", "),
    found: missing.length === 1 ? "nothing: it was not given" : "nothing: they were not given",
    expected: missing
      .map(({ name, expected }) => (missing.length === 1 ? expected : `${flag(name)}: ${expected}`))
      .join("; "),
    fix: `add ${missing.map(({ name, placeholder }) => `${flag(name)} ${placeholder}`).join(" ")}`,
  });
}

export const PROMPT_FILES =
  "prompts: one a line (.txt), or in .json, .jsonl, .csv, .tsv (all also .gz) or .parquet; -: from stdin";
export const PROMPT_COLUMN =
  "column with the prompts, texts or lists of messages (default: prompt, text, query or messages, the first that exists)";

/** Prompts for any command; says so when somebody has to type them. */
export async function readPromptsFrom(
  path: string,
  column: string | undefined,
  onNote: (text: string) => void,
): Promise<Prompt[]> {
  const { readPrompts } = await import("../data/prompts.ts");
  if (path === STDIN && process.stdin.isTTY) note("reading prompts from the terminal, one a line; Ctrl-D ends them");
  return readPrompts(path, { column, columnOption: "--prompt-column", onNote });
}

/** Options of every command that samples, and their defaults there. */
export interface SamplingFlags {
  maxNewTokens: number;
  minNewTokens: number;
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
  repetitionPenalty: number;
  bannedTokens: number[];
  stop: string[];
  seed: number;
}

const { maxNewTokens, minNewTokens, temperature, topK, topP, minP } = drawing;
const { repetitionPenalty, bannedTokens, stop } = drawing;
/** Conversations, for every command that writes prompts. */
const { chat, system, chatArgs } = promptTable;
export const chatTable = { chat, system, chatArgs } as const satisfies OptionTable;

export interface ChatFlags {
  chat: boolean;
  system: string;
  chatArgs: Record<string, unknown>;
}

/** The flags that make a conversation of a text as a run did; none where its prompts were plain. */
export function chatFlags({ chat, system, chatArgs }: ChatFlags, isChat: boolean): string[] {
  if (!isChat && !chat && system === "") return [];
  const args = Object.keys(chatArgs).length > 0 ? ["--chat-args", JSON.stringify(chatArgs)] : [];
  return [...(system === "" ? ["--chat"] : ["--system", system]), ...args];
}

export const samplingTable = {
  maxNewTokens: [maxNewTokens[0], 48, maxNewTokens[2]],
  minNewTokens,
  temperature: [temperature[0], 1, "logits are divided by this"],
  topK,
  topP,
  minP,
  repetitionPenalty,
  bannedTokens,
  stop,
  seed: [count(0, Number.MAX_SAFE_INTEGER), 0, "seed of the sampler"],
} as const satisfies OptionTable;

const engine = {
  device: [
    z
      .enum(DEVICES)
      .optional()
      .describe(`one of ${DEVICES.join(", ")}`),
    undefined,
    "what computes: cpu, webgpu (a GPU), or wasm, which needs the package onnxruntime-web (default: cpu)",
  ],
  threads: [
    count()
      .optional()
      .describe(count().description ?? ""),
    undefined,
    "number of engine threads (default: all cores)",
  ],
} as const satisfies OptionTable;

export function addModelOption(command: Command): void {
  command
    .option("--model <model>", "a model directory, a run directory, a hub id, or tiny (embedded) (default: tiny)")
    .option("--adapter <adapter>", ADAPTER);
}

/** The adapter of a run's model, where there is one. */
export const adapterGiven = (adapter: string | null | undefined) => (adapter == null ? {} : { adapter });

export const ADAPTER = "a LoRA adapter of the model in PEFT's layout: a directory or a hub id";

export function addIgnoreMemoryOption(command: Command): void {
  command.option("--ignore-memory", "start even if more memory may be needed than is available");
}

export function addDeviceOption(command: Command): void {
  command.addOption(new Option("--device <name>", engine.device[2]).choices([...DEVICES]).argParser((name) => name));
}

/** What computes, and on how many threads. */
export function addEngineOptions(command: Command): void {
  addDeviceOption(command);
  command.option("--threads <n>", engine.threads[2], numberOrText);
}

/** @throws usage - a number of threads that is none, no such device */
export const readEngine = (flags: object) => readFlags<{ device?: Device; threads?: number }>(engine, flags);

/** A JSON file with an object in it. */
export async function readObject(file: string): Promise<Record<string, unknown>> {
  const json = await readJson((await isDirectory(file)) ? joinPath(file, "config.json") : file, "usage");
  if (typeof json === "object" && json !== null && !Array.isArray(json)) return json as Record<string, unknown>;
  return fail("usage", {
    where: file,
    found: "no JSON object",
    expected: '{"option": value, ...}',
    fix: "correct the file",
  });
}
