/** @file Prompts as token ids: cut to length and checked against the context before anything is trained. */
import { fail } from "../base/errors.ts";
import { choice, count, type OptionsOf } from "../base/option-values.ts";
import { stream } from "../base/streams.ts";
import type { GPT2Config } from "../families/gpt2.ts";
import type { Sizes } from "../model/family.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { Prompt, PromptSampler, PromptSamplerState } from "./prompts.ts";

/** Prompts as {@link encodePrompts} made them ready for a model. */
export interface EncodedPrompts {
  /** As they are used: cut where they were cut. */
  readonly prompts: readonly Prompt[];
  /** int32 ids of each. */
  readonly ids: readonly Int32Array[];
  /** What was cut or left out, for people. */
  readonly notes: readonly string[];
}

/** Texts, rows of a file, or what {@link encodePrompts} made of either. */
export type PromptsGiven = readonly (string | Prompt)[] | EncodedPrompts;

export const promptTable = {
  promptMinTokens: [count(0), 0, "prompts are cut to a random length from this many tokens ..."],
  promptMaxTokens: [count(0), 0, "... to this many, drawn once for each prompt; 0: prompts are used whole"],
  longPrompts: [
    choice(["error", "drop", "truncate"]),
    "error",
    "prompts that leave no room for the response in the context",
  ],
} as const;

export type PromptConfig = OptionsOf<typeof promptTable>;

/** How prompts are cut. */
export interface PromptOptions {
  /** What is left free in the context for the response, tokens. */
  maxNewTokens: number;
  /** With promptMaxTokens: the shortest random length. Default 0. */
  promptMinTokens?: number;
  /** The longest random length; 0, the default: prompts are used whole. */
  promptMaxTokens?: number;
  /** What becomes of prompts that leave no room for the response. Default "error". */
  longPrompts?: "error" | "drop" | "truncate";
  /** Of the random lengths. Default 0. */
  seed?: number;
}

/**
 * Prompts as ids. An empty prompt is the end-of-text token: a response from nothing.
 *
 * With `promptMaxTokens` each is cut to its first n tokens, n uniform in promptMinTokens ... promptMaxTokens by seed and
 * place in the list; shorter ones stay as they are. (TRL's LengthSampler(2, 8), which never draws its upper end, is 2 and 7.)
 * What is then too long for the context is an error, left out, or cut to its first tokens, as `longPrompts` says.
 * @param limits a model's sizes, or the config of a GPT-2
 * @throws data - a prompt that leaves no room for the response, or no prompt left
 * @throws config - maxNewTokens is not below the context
 */
export function encodePrompts(
  given: readonly (string | Prompt)[],
  tokenizer: Tokenizer,
  limits: Pick<Sizes, "context"> | Pick<GPT2Config, "nPositions">,
  options: PromptOptions,
): EncodedPrompts {
  const { maxNewTokens, promptMinTokens = 0, promptMaxTokens = 0, longPrompts = "error", seed = 0 } = options;
  const length = "context" in limits ? limits.context : limits.nPositions;
  const room = length - maxNewTokens;
  if (room < 1)
    fail("config", {
      where: "maxNewTokens",
      found: String(maxNewTokens),
      expected: `less than the model's context of ${length} tokens`,
      fix: "lower maxNewTokens",
    });
  const lowest = Math.max(1, promptMinTokens);
  const drawLength = (i: number) => lowest + stream(seed, "promptLength", i).int(promptMaxTokens - lowest + 1);
  const prompts: Prompt[] = [];
  const ids: Int32Array[] = [];
  const long: { place: number; length: number }[] = [];
  for (const [i, item] of given.entries()) {
    const { prompt, row } = typeof item === "string" ? { prompt: item, row: {} } : item;
    const whole = tokenizer.encode(prompt);
    let limit = promptMaxTokens > 0 ? drawLength(i) : whole.length;
    if (Math.min(limit, whole.length) > room) {
      long.push({ place: i, length: whole.length });
      limit = room;
      if (longPrompts !== "truncate") continue;
    }
    ids.push(whole.length === 0 ? fromNothing(tokenizer, i) : whole.slice(0, limit));
    prompts.push({ prompt: whole.length > limit ? tokenizer.decode(whole.slice(0, limit)) : prompt, row });
  }
  const context = `${room}: the context of ${length} less ${maxNewTokens} for the response`;
  if (long.length > 0 && (longPrompts === "error" || prompts.length === 0)) {
    const [{ place, length }] = long;
    const item = given[place];
    const text = typeof item === "string" ? item : item.prompt;
    fail("data", {
      where: `prompt ${place + 1} (${JSON.stringify(text.slice(0, 40))}...)`,
      found: `${length} tokens${long.length === 1 ? "" : `, and ${long.length - 1} more prompts that are too long`}`,
      expected: `at most ${context}`,
      fix: "shorten the prompt, lower maxNewTokens, or set longPrompts to truncate or drop",
    });
  }
  const done = longPrompts === "drop" ? "left out" : "cut to their first tokens";
  const notes = long.length === 0 ? [] : [`${long.length} of ${given.length} prompts ${done}: longer than ${context}`];
  return { prompts, ids, notes };
}

/** Prompts of a step, as rows and as ids. */
export interface PromptBatch {
  readonly prompts: readonly Prompt[];
  readonly queries: readonly Int32Array[];
  /** Where the sampler is after them. */
  readonly state: PromptSamplerState;
}

/** The next `n` of endless prompts, each `copies` times in a row. */
export function nextPrompts(
  { prompts, ids }: EncodedPrompts,
  sampler: PromptSampler,
  n: number,
  copies = 1,
): PromptBatch {
  const chosen = sampler.next(n).flatMap((i) => new Array<number>(copies).fill(i));
  const [asked, queries] = [chosen.map((i) => prompts[i]), chosen.map((i) => ids[i])];
  return { prompts: asked, queries, state: sampler.getState() };
}

function fromNothing(tokenizer: Tokenizer, i: number): Int32Array {
  if (tokenizer.eosTokenId !== null) return Int32Array.of(tokenizer.eosTokenId);
  return fail("data", {
    where: `prompt ${i + 1}`,
    found: "no tokens",
    expected: "at least one, and this tokenizer has no end-of-text token to start from",
    fix: "remove the empty prompt",
  });
}
