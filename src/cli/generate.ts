/** @file `valuehead generate`. */
import { type Command, Option } from "commander";
import { fail } from "../base/errors.ts";
import type { Response } from "../sample/generate.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import {
  addModelOption,
  addSamplingOptions,
  addThreadsOption,
  collect,
  PROMPT_COLUMN,
  PROMPT_FILES,
  type SamplingFlags,
  whole,
} from "./options.ts";
import { note, print, printJson } from "./output.ts";

/** Responses sampled together. */
const BATCH = 16;

interface GenerateFlags extends SamplingFlags {
  model: string;
  prompt?: string[];
  prompts?: string;
  promptColumn?: string;
  num: number;
  precision: "fp32" | "int8";
  threads?: number;
  json?: boolean;
}

export function define(command: Command): void {
  addModelOption(command);
  command
    .option("--prompt <text>", "a prompt; may be given several times", collect)
    .option("--prompts <file>", PROMPT_FILES)
    .option("--prompt-column <name>", PROMPT_COLUMN)
    .option("--num <n>", "responses to each prompt", whole(1), 1)
    .addOption(
      new Option("--precision <name>", "int8: sample from a quantised copy, whose log-probs are printed then")
        .choices(["fp32", "int8"])
        .default("fp32"),
    );
  addSamplingOptions(command);
  command.option(
    "--json",
    "one JSON object per response and line: prompt, response, tokens, logprobs, rawLogprobs, keptMass, values, finished",
  );
  addThreadsOption(command);
  command.action(generateCommand);
}

async function generateCommand(flags: GenerateFlags): Promise<void> {
  const prompts = await givenPrompts(flags);
  const { checkSampling } = await import("../sample/distribution.ts");
  checkSampling(flags);
  const { generate } = await import("../sample/generate.ts");
  const { encodePrompts } = await import("../train/prompts.ts");
  const { openModel } = await import("./model.ts");
  const { model, tokenizer } = await openModel(flags.model, flags);
  const stop = flags.stop && { strings: flags.stop, tokenizer };
  const { responseEnds } = await import("../sample/ends.ts");
  const { ids: eosTokenId, notes } = responseEnds(model, tokenizer);
  for (const text of notes) note(`note: ${text}`);
  const asked = prompts.flatMap((prompt) => new Array<string>(flags.num).fill(prompt));
  // The names that numReturnSequences would give: more responses or prompts do not change those there were.
  const name = (row: number) =>
    row % flags.num === 0 ? row / flags.num : [Math.floor(row / flags.num), row % flags.num];
  const queries = encodePrompts(asked, tokenizer, model.config, flags).ids;

  if (asked.length === 1 && !flags.json) {
    const stream = tokenizer.createStream({ skipSpecialTokens: true });
    process.stdout.write(asked[0]);
    const onToken = (_: number, id: number) => process.stdout.write(stream.push(id));
    await generate(model, queries, { ...flags, stop, eosTokenId, onToken });
    return print(stream.end());
  }
  const { decodingWeights } = await import("../sample/precision.ts");
  const { precision, maxNewTokens: steps } = flags;
  const weights = decodingWeights(model, { precision, rows: Math.min(asked.length, BATCH), steps });
  for (let start = 0; start < asked.length; start += BATCH) {
    const part = queries.slice(start, start + BATCH);
    const streams = part.map((_, i) => name(start + i));
    const { responses } = await generate(model, part, { ...flags, stop, eosTokenId, streams, weights });
    responses.forEach((response, i) => {
      const prompt = asked[start + i];
      if (flags.json) printJson(record(prompt, response, tokenizer));
      else print(`--- ${start + i + 1} of ${asked.length}\n${prompt}${text(response, tokenizer)}`);
    });
  }
}

async function givenPrompts({ prompt, prompts, promptColumn }: GenerateFlags): Promise<string[]> {
  if ((prompt === undefined) === (prompts === undefined))
    fail("usage", {
      where: "--prompt, --prompts",
      found: prompt === undefined ? "neither" : "both",
      expected: "one of them",
      fix: "give --prompt TEXT (several times if you like) or --prompts FILE",
    });
  if (prompt !== undefined) return prompt;
  const { readPrompts } = await import("../data/prompts.ts");
  const read = await readPrompts(prompts as string, { column: promptColumn, onNote: (text) => note(`note: ${text}`) });
  return read.map((row) => row.prompt);
}

const text = ({ tokens }: Response, tokenizer: Tokenizer) => tokenizer.decode(tokens, { skipSpecialTokens: true });

function record(prompt: string, response: Response, tokenizer: Tokenizer) {
  const { tokens, logprobs, rawLogprobs, keptMass, values, finished } = response;
  const numbers = Object.entries({ tokens, logprobs, rawLogprobs, keptMass, values }).map(([n, x]) => [
    n,
    Array.from(x),
  ]);
  return { prompt, response: text(response, tokenizer), ...Object.fromEntries(numbers), finished };
}
