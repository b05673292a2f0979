/** @file Options that several commands share, and how their values are read. */
import { type Command, InvalidArgumentError } from "commander";
import { fail } from "../base/errors.ts";
import { readJson } from "../runtime/files.ts";

export function number(text: string): number {
  const value = Number(text);
  if (text.trim() === "" || Number.isNaN(value)) throw new InvalidArgumentError("It is not a number.");
  return value;
}

/** A reader of whole numbers from `min` on. */
export const whole = (min: number) => (text: string) => {
  const value = number(text);
  if (!Number.isSafeInteger(value) || value < min)
    throw new InvalidArgumentError(`It is not a whole number from ${min}.`);
  return value;
};

/** For options that may be given several times. */
export const collect = (text: string, before: string[] = []): string[] => [...before, text];

export const collectNumbers = (text: string, before: number[] = []): number[] => [...before, number(text)];

export const PROMPT_FILES =
  "prompts: one a line (.txt), or in a column of .jsonl, .csv, .tsv (these also .gz) or .parquet";
export const PROMPT_COLUMN = "column of the prompts (default: the first there is of prompt, text, query)";

/** Options of every command that samples. */
export interface SamplingFlags {
  maxNewTokens: number;
  minNewTokens: number;
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
  repetitionPenalty: number;
  bannedTokens?: number[];
  stop?: string[];
  seed: number;
}

export function addSamplingOptions(command: Command): void {
  command
    .option("--max-new-tokens <n>", "tokens per response at most", whole(1), 48)
    .option("--min-new-tokens <n>", "no end of text before this many tokens", whole(0), 0)
    .option("--temperature <x>", "logits are divided by this", number, 1)
    .option("--top-k <n>", "sample from the k most likely tokens; 0: all", whole(0), 0)
    .option("--top-p <x>", "sample from the most likely tokens that hold this much probability", number, 1)
    .option("--min-p <x>", "sample from tokens at least this share as likely as the most likely one; 0: all", number, 0)
    .option(
      "--repetition-penalty <x>",
      "divides the logits (or multiplies negative ones) of tokens seen before",
      number,
      1,
    )
    .option("--banned-tokens <id>", "an id that is never drawn; may be given several times", collectNumbers)
    .option("--stop <text>", "a response also ends when its text contains this; may be given several times", collect)
    .option("--seed <n>", "seed of the sampler", whole(0), 0);
}

export function addModelOption(command: Command): void {
  command.option("--model <model>", "a model directory, a hub id, or tiny (embedded)", "tiny");
}

export function addThreadsOption(command: Command): void {
  command.option("--threads <n>", "threads of the engine (default: all cores)", whole(1));
}

/** A JSON file with an object in it. */
export async function readObject(file: string): Promise<Record<string, unknown>> {
  const json = await readJson(file, "usage");
  if (typeof json === "object" && json !== null && !Array.isArray(json)) return json as Record<string, unknown>;
  return fail("usage", {
    where: file,
    found: "no JSON object",
    expected: '{"option": value, ...}',
    fix: "correct the file",
  });
}
