/** @file Prompts as token ids: cut to length and checked against the context before anything is trained. */
import type { ChatMessage } from "../base/chat-messages.ts";
import { fail } from "../base/errors.ts";
import { choice, count, type OptionsOf, onOff, text, variables } from "../base/option-values.ts";
import { stream } from "../base/streams.ts";
import type { GPT2Config } from "../families/gpt2.ts";
import type { Sizes } from "../model/family.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { asPrompt, type ChatOptions, endsWithAnswer, inConversation, type Prompt, type PromptGiven } from "./chat.ts";
import type { PromptSampler, PromptSamplerState } from "./prompts.ts";

/** Prompts as {@link encodePrompts} made them ready for a model. */
export interface EncodedPrompts {
  /** As they are used: cut where they were cut. */
  readonly prompts: readonly Prompt[];
  /** int32 ids of each. */
  readonly ids: readonly Int32Array[];
  /** What was cut or left out, for people. */
  readonly notes: readonly string[];
}

/** Texts, conversations, rows of a file, or what {@link encodePrompts} made of them. */
export type PromptsGiven = readonly PromptGiven[] | EncodedPrompts;

export const chatTable = {
  chat: [onOff, false, "wrap plain prompts as a user's message in the model's chat template"],
  system: [text, "", "system message for conversations without one; plain prompts become conversations"],
  chatArgs: [variables, {}, 'variables of the chat template, {"enable_thinking": false} for instance'],
} as const;

export const promptTable = {
  promptMinTokens: [count(0), 0, "prompts are cut to a random length from this many tokens ..."],
  promptMaxTokens: [count(0), 0, "... to this many, drawn once for each prompt; 0: prompts are used whole"],
  longPrompts: [
    choice(["error", "drop", "truncate"]),
    "error",
    "prompts that leave no room for the response in the context",
  ],
  ...chatTable,
} as const;

export type PromptConfig = OptionsOf<typeof promptTable>;

/** How prompts are cut. */
export interface PromptOptions extends ChatOptions {
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
  /** Further variables for the chat template. Default: none. */
  chatArgs?: Readonly<Record<string, unknown>>;
  /** The time that a chat template is told, where it asks for the date. Default: now. */
  now?: Date;
}

/**
 * Prompts as ids. An empty prompt is the end-of-text token: a response from nothing.
 *
 * With `promptMaxTokens` each is cut to its first n tokens, n uniform in promptMinTokens ... promptMaxTokens by seed and
 * place in the list; shorter ones stay as they are. (TRL's LengthSampler(2, 8), which never draws its upper end, is 2 and 7.)
 * What is then too long for the context is an error, left out, or cut to its first tokens, as `longPrompts` says.
 *
 * A conversation is written by the model's chat template, with the beginning of an answer after it; where it ends with a message of the
 * assistant, that is left open instead. It is never cut, for the template's end would be lost: `truncate` is an error where one is too
 * long, and `promptMaxTokens` is one wherever there is a conversation.
 * @param limits a model's sizes, or the config of a GPT-2
 * @throws data - a prompt that leaves no room for the response, or no prompt left
 * @throws input - a conversation that the model's chat template refuses
 * @throws checkpoint - a conversation for a model without a chat template
 * @throws config - maxNewTokens is not below the context; conversations with promptMaxTokens
 */
export function encodePrompts(
  given: readonly PromptGiven[],
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
  const chats = new Chats(tokenizer, options);
  const prompts: Prompt[] = [];
  const ids: Int32Array[] = [];
  const long: { place: number; length: number; prompt: Prompt }[] = [];
  for (const [i, item] of given.entries()) {
    const prompt = inConversation(asPrompt(item, `prompt ${i + 1}`), options);
    const isChat = prompt.messages !== undefined;
    if (isChat && promptMaxTokens > 0) refuseCutting(prompt, i);
    const whole = isChat ? chats.encode(prompt, i) : tokenizer.encode(prompt.prompt);
    let limit = promptMaxTokens > 0 ? drawLength(i) : whole.length;
    if (Math.min(limit, whole.length) > room) {
      long.push({ place: i, length: whole.length, prompt });
      limit = room;
      if (longPrompts !== "truncate" || isChat) continue;
    }
    ids.push(whole.length === 0 ? fromNothing(tokenizer, i) : whole.slice(0, limit));
    const cut = whole.length > limit;
    prompts.push(cut ? { ...prompt, prompt: tokenizer.decode(whole.slice(0, limit)) } : prompt);
  }
  const context = `${room}: the context of ${length} less ${maxNewTokens} for the response`;
  const uncut = long.find(({ prompt }) => prompt.messages !== undefined);
  if (long.length > 0 && (longPrompts === "error" || prompts.length === 0 || (uncut && longPrompts === "truncate"))) {
    const { place, length, prompt } = (longPrompts === "truncate" && uncut) || long[0];
    const alone = prompt.messages ? chats.templateAlone(prompt) : 0;
    const others = long.length === 1 ? "" : `, and ${long.length - 1} more prompts that are too long`;
    fail("data", {
      where: placeOf(prompt, place),
      found: `${length} tokens${alone > 0 ? `, ${alone} of them the chat template's${options.system ? " and the system message's" : ""} own` : ""}${others}`,
      expected: `at most ${context}`,
      fix: howToFit(prompt, alone > room),
    });
  }
  const done = longPrompts === "drop" ? "left out" : "cut to their first tokens";
  const notes = long.length === 0 ? [] : [`${long.length} of ${given.length} prompts ${done}: longer than ${context}`];
  return { prompts, ids, notes: [...notes, ...chats.notes(prompts)] };
}

function howToFit({ messages }: Prompt, hopeless: boolean): string {
  if (messages === undefined) return "shorten the prompt, lower maxNewTokens, or set longPrompts to truncate or drop";
  if (hopeless)
    return `lower maxNewTokens${messages[0].role === "system" ? ", shorten the system message," : ""} or use a model with a longer context`;
  return "shorten the conversation, lower maxNewTokens, or set longPrompts to drop: a conversation is not cut, for it would lose the end of its template";
}

const placeOf = ({ prompt, where }: Prompt, place: number) =>
  where ?? `prompt ${place + 1} (${JSON.stringify(prompt.slice(0, 40))}...)`;

function refuseCutting(prompt: Prompt, place: number): never {
  return fail("config", {
    where: "promptMaxTokens",
    found: `a conversation (${placeOf(prompt, place)}), which would lose the end of its template`,
    expected: "plain prompts where prompts are cut",
    fix: "set promptMaxTokens to 0",
  });
}

/** Writes conversations by the template of a model. */
class Chats {
  readonly #tokenizer: Tokenizer;
  readonly #options: PromptOptions;

  constructor(tokenizer: Tokenizer, options: PromptOptions) {
    this.#tokenizer = tokenizer;
    this.#options = options;
  }

  encode({ messages = [], where }: Prompt, place: number): Int32Array {
    return this.#write(messages, where ?? `prompt ${place + 1}`);
  }

  #write(messages: readonly ChatMessage[], where: string): Int32Array {
    const { chatArgs: args, now } = this.#options;
    const open = endsWithAnswer(messages);
    const how = { addGenerationPrompt: !open, continueFinalMessage: open, args, now, where };
    const { ids } = this.#tokenizer.applyChatTemplate(messages, how);
    if (ids.length > 0) return ids;
    return fail("checkpoint", {
      where: `${this.#tokenizer.where}, chat template`,
      found: `a template that writes nothing for ${where}`,
      expected: "one that writes the conversation",
      fix: "copy the template of the original model",
    });
  }

  /** Tokens of a conversation in which nobody says anything; 0 where that cannot be written. */
  templateAlone({ messages = [] }: Prompt): number {
    const { system } = this.#options;
    const silent = messages.map((message, i) => {
      const kept = i === 0 && system && message.content === system;
      return kept ? message : { ...message, content: "" };
    });
    try {
      return this.#write(silent, "template").length;
    } catch {
      return 0;
    }
  }

  /** What was done to conversations, for people. */
  notes(prompts: readonly Prompt[]): string[] {
    const { system = "" } = this.#options;
    const chats = prompts.filter(({ messages }) => messages !== undefined);
    const own = chats.filter(
      ({ messages }) => messages?.[0].role === "system" && messages[0].content !== system,
    ).length;
    const notes: string[] = [];
    if (chats.length > 0 && chats.length < prompts.length)
      notes.push(
        `${chats.length} of ${prompts.length} prompts are conversations, the others plain text (the option chat wraps those too)`,
      );
    if (system !== "" && own > 0)
      notes.push(`${own} of ${chats.length} conversations have a system message of their own, which they keep`);
    return notes;
  }
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
