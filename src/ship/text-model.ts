/**
 * @file A model with its tokenizer: text in, text out. Everything below it speaks ids, since that is what is trained on; this is for
 * programs that use what was trained.
 */
import { fail } from "../base/errors.ts";
import { type ResolveOptions, resolveModel } from "../checkpoint/hub.ts";
import { encodePrompts, type PromptOptions } from "../data/encode.ts";
import { loadModel } from "../families/index.ts";
import type { ModelOptions } from "../model/load.ts";
import type { CausalLMWithValueHead } from "../model/model.ts";
import { responseEnds } from "../sample/ends.ts";
import { type GenerateOptions, generate } from "../sample/generate.ts";
import { scoreTokens } from "../sample/score.ts";
import type { ChatMessage } from "../tokenizer/chat-template.ts";
import { checkVocabulary, loadTokenizer } from "../tokenizer/load.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";

/** A text to go on with, or a conversation to answer. */
export type TextPrompt = string | readonly ChatMessage[];

/** How a text is written. Everything of {@link GenerateOptions} that is about one text, and: */
export interface CompleteOptions
  extends Omit<
    GenerateOptions,
    "maxNewTokens" | "stop" | "onToken" | "numReturnSequences" | "streams" | "rawLogprobs"
  > {
  /** Tokens at most. Default: 256, or what the context has room for. */
  maxNewTokens?: number;
  /** Texts that end it; the one that did is not part of the result. */
  stop?: readonly string[];
  /** A conversation begins with this system message, unless it has one. */
  system?: string;
  /** Further variables for the chat template. */
  chatArgs?: PromptOptions["chatArgs"];
  /** Ends it: what was written until then is the result. */
  signal?: AbortSignal;
}

/** What {@link TextModel.score} says of a text. */
export interface TextScore {
  /** Σ log p(token | those before it), natural log: how likely the text is, or the response to a prompt. */
  logprob: number;
  /** Tokens in that sum. */
  tokens: number;
  /** exp(-logprob / tokens). */
  perplexity: number;
}

const LONGEST = 256;

/** Thrown into a generation that nobody listens to any more. */
class Enough extends Error {}

/** A model and its tokenizer: text in, text out. */
export class TextModel {
  /** What writes. */
  readonly model: CausalLMWithValueHead;
  /** Its own. */
  readonly tokenizer: Tokenizer;
  /** What a user should know of the model and its tokenizer. */
  readonly notes: readonly string[];
  readonly #ends: readonly number[];

  /** @throws checkpoint - a tokenizer with more tokens than the model has */
  constructor(model: CausalLMWithValueHead, tokenizer: Tokenizer) {
    checkVocabulary(tokenizer, model.sizes.vocabSize, model.directory ?? tokenizer.where);
    const { ids, notes } = responseEnds(model, tokenizer);
    this.model = model;
    this.tokenizer = tokenizer;
    this.notes = [...model.notes, ...tokenizer.notes, ...notes];
    this.#ends = ids;
  }

  /**
   * A directory, a run (its best checkpoint), a hub id, or "tiny".
   * @throws usage, config, checkpoint - as {@link loadModel} and {@link loadTokenizer}
   */
  static async open(id: string, options: ModelOptions & ResolveOptions = {}): Promise<TextModel> {
    const directory = await resolveModel(id, options);
    const tokenizer = await loadTokenizer(directory);
    return new TextModel(await loadModel(directory, { ...options, tokenizer }), tokenizer);
  }

  /**
   * What the model writes after a text, or answers in a conversation; special tokens left out.
   * @throws usage - options that make no sense
   * @throws data - a prompt that leaves no room in the context
   * @throws input, checkpoint - a conversation that the model's chat template refuses; a model without one
   */
  async complete(prompt: TextPrompt, options: CompleteOptions = {}): Promise<string> {
    let text = "";
    for await (const piece of this.stream(prompt, options)) text += piece;
    return text;
  }

  /**
   * The same, in pieces, as they are written: whole characters, and nothing that could yet become a stop text. Joined they are what
   * {@link complete} gives. Whoever stops reading ends it.
   * @throws usage, data, input, checkpoint - as {@link complete}
   */
  async *stream(prompt: TextPrompt, options: CompleteOptions = {}): AsyncGenerator<string, void, undefined> {
    const { maxNewTokens, stop = [], system, chatArgs, signal, ...sampling } = options;
    const { query, room } = this.#query(prompt, { system, chatArgs, maxNewTokens });
    const reader = this.tokenizer.createStream({ skipSpecialTokens: true, before: query });
    const guard = new StopGuard(stop);
    const pieces: string[] = [];
    let left = false;
    let wake = () => {};
    const say = (piece: string) => {
      if (piece !== "") pieces.push(piece);
      wake();
    };
    const work = generate(this.model, [query], {
      eosTokenId: this.#ends,
      ...sampling,
      maxNewTokens: maxNewTokens ?? Math.min(LONGEST, room),
      rawLogprobs: false,
      onToken: (_, id) => {
        if (left || signal?.aborted) throw new Enough();
        say(guard.push(reader.push(id)));
        if (guard.found) throw new Enough();
      },
    });
    let done = false;
    const finished = work
      .then(
        () => undefined,
        (error: unknown) => (error instanceof Enough ? undefined : { error }),
      )
      .finally(() => {
        done = true;
        wake();
      });
    try {
      for (;;) {
        while (pieces.length > 0) yield pieces.shift() as string;
        if (done) break;
        await new Promise<void>((resolve) => {
          wake = resolve;
          if (done || pieces.length > 0) resolve();
        });
      }
      const failed = await finished;
      if (failed) throw failed.error;
      const rest = guard.found ? "" : guard.push(reader.end()) + guard.end();
      if (rest !== "") yield rest;
    } finally {
      left = true;
      await finished; // the model can be used again
    }
  }

  /**
   * How likely a text is; or, with a prompt, how likely it is as the answer.
   * @throws input - texts without a token to judge, or longer than the context
   */
  async score(text: string, prompt?: TextPrompt): Promise<TextScore> {
    const before = prompt === undefined ? new Int32Array() : this.#query(prompt, { maxNewTokens: 1 }).query;
    const own = this.tokenizer.encode(text, { addSpecialTokens: prompt === undefined });
    const from = Math.max(1, before.length); // nothing predicts the first token of all
    const ids = Int32Array.of(...before, ...own);
    if (ids.length <= from)
      fail("input", {
        where: "score",
        found: prompt === undefined ? `a text of ${own.length} tokens` : "an empty answer",
        expected: prompt === undefined ? "at least two: nothing predicts the first" : "at least one token",
        fix: "give a longer text",
      });
    const { logprobs } = await scoreTokens(this.model, ids);
    const logprob = logprobs.subarray(from).reduce((sum, x) => sum + x, 0);
    const tokens = ids.length - from;
    return { logprob, tokens, perplexity: Math.exp(-logprob / tokens) };
  }

  /** Free what the model holds. */
  dispose(): void {
    this.model.dispose();
  }

  /** A prompt as ids, and how many tokens the context has room for behind it. */
  #query(prompt: TextPrompt, options: Pick<CompleteOptions, "system" | "chatArgs" | "maxNewTokens">) {
    const given = typeof prompt === "string" ? prompt : { messages: prompt };
    const { sizes } = this.model;
    const { maxNewTokens = 1, ...chat } = options;
    const [query] = encodePrompts([given], this.tokenizer, sizes, { ...chat, maxNewTokens }).ids;
    return { query, room: sizes.context - query.length };
  }
}

/** Gives text on as long as it cannot be the beginning of a stop text. */
class StopGuard {
  readonly #stops: readonly string[];
  #held = "";
  /** A stop text is there: what comes behind it is not given on. */
  found = false;

  constructor(stops: readonly string[]) {
    const empty = stops.indexOf("");
    if (empty >= 0)
      fail("usage", {
        where: `stop, text ${empty + 1}`,
        found: "an empty text",
        expected: "some text",
        fix: "remove it: every text contains it",
      });
    this.#stops = stops;
  }

  push(piece: string): string {
    if (this.found) return "";
    const text = this.#held + piece;
    const at = this.#stops.map((stop) => text.indexOf(stop)).filter((i) => i >= 0);
    if (at.length > 0) {
      this.found = true;
      this.#held = "";
      return text.slice(0, Math.min(...at));
    }
    const keep = this.#stops.reduce((most, stop) => Math.max(most, overlap(text, stop)), 0);
    this.#held = text.slice(text.length - keep);
    return text.slice(0, text.length - keep);
  }

  end(): string {
    const rest = this.#held;
    this.#held = "";
    return rest;
  }
}

/** Characters at the end of `text` that `stop` begins with. */
function overlap(text: string, stop: string): number {
  for (let n = Math.min(text.length, stop.length - 1); n > 0; n--) if (text.endsWith(stop.slice(0, n))) return n;
  return 0;
}
