/** @file `valuehead generate`. */
import type { Command } from "commander";
import { fail } from "../base/errors.ts";
import { choice, count } from "../base/option-values.ts";
import type { OptionTable } from "../base/options.ts";
import type { Prompt } from "../data/prompts.ts";
import type { Architecture } from "../model/family.ts";
import type { CausalLMWithValueHead } from "../model/model.ts";
import type { SampledResponse } from "../sample/generate.ts";
import type { Precision } from "../sample/precision.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { inFlags } from "./errors.ts";
import {
  addEngineOptions,
  addIgnoreMemoryOption,
  addModelOption,
  addOptions,
  type ChatFlags,
  chatTable,
  collect,
  PROMPT_COLUMN,
  PROMPT_FILES,
  readEngine,
  readFlags,
  readPromptsFrom,
  type SamplingFlags,
  samplingTable,
} from "./options.ts";
import { note, print, printJson, write } from "./output.ts";
import { Progress } from "./progress.ts";

/** Responses sampled together. */
const BATCH = 16;

const table = {
  num: [count(), 1, "responses to each prompt"],
  precision: [
    choice(["fp32", "int8", "auto"]),
    "fp32",
    "int8: sample from a quantised copy, whose log-probs are printed then; auto: what takes less time, measured at the start",
  ],
  ...samplingTable,
  ...chatTable,
} as const satisfies OptionTable;

interface GenerateFlags {
  model?: string;
  adapter?: string;
  prompt?: string[];
  prompts?: string;
  promptColumn?: string;
  maxNewTokens?: number;
  ignoreMemory?: boolean;
  json?: boolean;
}

interface GenerateOptions extends SamplingFlags, ChatFlags {
  num: number;
  precision: "fp32" | "int8" | "auto";
}

export function define(command: Command): void {
  addModelOption(command);
  command
    .option("--prompt <text>", "a prompt; may be given several times", collect)
    .option("--prompts <file>", PROMPT_FILES)
    .option("--prompt-column <name>", PROMPT_COLUMN);
  addOptions(command, table);
  command.option(
    "--json",
    "one JSON object per response and line: prompt (and messages), response, responseWithSpecialTokens, tokens, logprobs, rawLogprobs, keptMass, values, finished",
  );
  addEngineOptions(command);
  addIgnoreMemoryOption(command);
  command.action(generateCommand);
}

async function generateCommand(flags: GenerateFlags, command: Command): Promise<void> {
  const options = readFlags<GenerateOptions>(table, flags);
  const engine = readEngine(flags);
  const prompts = await givenPrompts(flags);
  const { generate } = await import("../sample/generate.ts");
  const { encodePrompts } = await import("../data/encode.ts");
  const { openModel } = await import("./model.ts");
  const longestOf = (tokenizer: Tokenizer) => {
    const whole = encodePrompts(
      prompts,
      tokenizer,
      { context: Number.POSITIVE_INFINITY },
      { ...options, maxNewTokens: 1 },
    );
    return Math.max(...whole.ids.map((ids) => ids.length));
  };
  const sizes = (tokenizer: Tokenizer, { sizes: { context } }: Architecture) => {
    const longest = longestOf(tokenizer);
    const length = Math.min(context, longest + options.maxNewTokens);
    const rows = Math.min(BATCH, prompts.length * options.num);
    return { rows, length, promptTokens: longest, precision: options.precision };
  };
  const { ignoreMemory } = flags;
  const { model, tokenizer } = await openModel(flags.model, { ...engine, adapter: flags.adapter, sizes, ignoreMemory });
  fitLengths(flags, options, model.sizes.context, longestOf(tokenizer));
  const stop = options.stop.length > 0 ? { strings: options.stop, tokenizer } : undefined;
  const { responseEnds, turnNotes } = await import("../sample/ends.ts");
  const { ids: eosTokenId, notes } = responseEnds(model, tokenizer);
  const encoded = encodePrompts(prompts, tokenizer, model.sizes, options);
  for (const text of [...notes, ...encoded.notes, ...turnNotes(encoded.prompts, tokenizer, eosTokenId)])
    note(`note: ${inFlags(text, command)}`);
  const precision = await chosenPrecision(model, options, encoded.ids);
  const times = <T>(list: readonly T[]) => list.flatMap((item) => new Array<T>(options.num).fill(item));
  const [asked, queries] = [times(encoded.prompts), times(encoded.ids)];
  // A stream for each prompt and copy: asking for more responses or prompts does not change the earlier ones.
  const name = (row: number) =>
    row % options.num === 0 ? row / options.num : [Math.floor(row / options.num), row % options.num];

  if (asked.length === 1 && !flags.json) {
    const stream = tokenizer.createStream({ skipSpecialTokens: true, before: queries[0] });
    write(shownBefore(asked[0]));
    await generate(model, queries, {
      ...{ ...options, precision, stop, eosTokenId },
      onToken: (_, id) => write(stream.push(id)),
    });
    return print(stream.end());
  }
  const { decodingWeights } = await import("../sample/precision.ts");
  const rows = Math.min(asked.length, BATCH);
  const weights = decodingWeights(model, { precision, rows, steps: options.maxNewTokens });
  const progress = new Progress(asked.length > BATCH);
  for (let start = 0; start < asked.length; start += BATCH) {
    progress.show(start, asked.length, `${start} of ${asked.length} responses`);
    const part = queries.slice(start, start + BATCH);
    const streams = part.map((_, i) => name(start + i));
    const { responses } = await generate(model, part, { ...options, precision, stop, eosTokenId, streams, weights });
    progress.clear();
    responses.forEach((response, i) => {
      const prompt = asked[start + i];
      if (flags.json) printJson(record(prompt, part[i], response, tokenizer));
      else
        print(`--- ${start + i + 1} of ${asked.length}\n${shownBefore(prompt)}${text(part[i], response, tokenizer)}`);
    });
  }
}

/** What is sampled in: what was asked for, or what takes less time for all responses. */
async function chosenPrecision(
  model: CausalLMWithValueHead,
  { precision, num, maxNewTokens: tokens }: GenerateOptions,
  prompts: readonly Int32Array[],
): Promise<Precision> {
  if (precision !== "auto") return precision;
  const { choosePrecision, samplingCosts } = await import("../sample/timing.ts");
  const work = { prompts, responses: prompts.length * num, together: BATCH, copies: num, tokens };
  const chosen = choosePrecision(await samplingCosts(model, work), work);
  note(`note: --precision auto: ${chosen.why}`);
  return chosen.precision;
}

/** The default length follows what is given: a longer minimum, a context with less room. */
function fitLengths(flags: GenerateFlags, options: GenerateOptions, context: number, longest: number): void {
  const { minNewTokens, maxNewTokens } = options;
  if (flags.maxNewTokens === undefined)
    options.maxNewTokens = Math.max(1, minNewTokens, Math.min(maxNewTokens, context - longest));
  else if (minNewTokens > maxNewTokens)
    fail("usage", {
      where: "--min-new-tokens",
      found: `${minNewTokens}`,
      expected: `at most --max-new-tokens (${maxNewTokens})`,
      fix: "change --min-new-tokens or --max-new-tokens",
    });
}

/** A plain prompt goes on in its response; a message is answered below it. */
const shownBefore = ({ prompt, messages }: Prompt) => (messages ? `${prompt}\n\n` : prompt);

async function givenPrompts({ prompt, prompts, promptColumn }: GenerateFlags): Promise<Prompt[]> {
  if ((prompt === undefined) === (prompts === undefined))
    fail("usage", {
      where: "--prompt, --prompts",
      found: prompt === undefined ? "neither" : "both",
      expected: "one of them",
      fix: "give --prompt TEXT (several times if you like) or --prompts FILE",
    });
  if (prompt !== undefined) return prompt.map((text) => ({ prompt: text, row: {} }));
  return readPromptsFrom(prompts as string, promptColumn, (text) => note(`note: ${text}`));
}

const text = (query: Int32Array, { tokens }: SampledResponse, tokenizer: Tokenizer, skipSpecialTokens = true) =>
  tokenizer.decodeAfter(query, tokens, { skipSpecialTokens });

function record({ prompt, messages }: Prompt, query: Int32Array, response: SampledResponse, tokenizer: Tokenizer) {
  const { tokens, logprobs, rawLogprobs, keptMass, values, finished } = response;
  const numbers = Object.entries({ tokens, logprobs, rawLogprobs, keptMass, values }).map(([n, x]) => [
    n,
    Array.from(x),
  ]);
  const responseWithSpecialTokens = text(query, response, tokenizer, false);
  return {
    prompt,
    ...(messages && { messages }),
    response: text(query, response, tokenizer),
    responseWithSpecialTokens,
    ...Object.fromEntries(numbers),
    finished,
  };
}
