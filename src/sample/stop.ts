/** @file Ends a response when its text contains a stop string. */
import { fail } from "../base/errors.ts";
import type { TokenStream } from "../tokenizer/stream.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";

/** Texts that end a response. */
export interface StopOptions {
  /** None of them empty. The response ends with the token that completes one. */
  readonly strings: readonly string[];
  /** Decodes the response to find them. */
  readonly tokenizer: Tokenizer;
}

/** @throws usage - an empty string, which every text contains */
export function checkStop({ strings }: StopOptions): void {
  const empty = strings.indexOf("");
  if (empty >= 0)
    fail("usage", {
      where: `stop string ${empty + 1}`,
      found: "an empty string",
      expected: "some text",
      fix: "remove it: every response contains it",
    });
}

/** Reads a response token by token. */
export class StopWatch {
  readonly #strings: readonly string[];
  readonly #stream: TokenStream;
  /** Characters that the beginning of a stop string can lie in. */
  readonly #memory: number;
  #tail = "";

  /** @param prompt ids that the response follows: what it adds to their text is what is read */
  constructor({ strings, tokenizer }: StopOptions, prompt: ArrayLike<number> = []) {
    this.#strings = strings;
    this.#stream = tokenizer.createStream({ before: prompt });
    this.#memory = Math.max(0, ...strings.map((s) => s.length)) - 1;
  }

  /** Whether the text up to this token contains a stop string, which it did not before. */
  push(id: number): boolean {
    const text = this.#tail + this.#stream.push(id);
    this.#tail = this.#memory > 0 ? text.slice(-this.#memory) : "";
    return this.#strings.some((s) => text.includes(s));
  }
}
