/**
 * @file Text from token ids as they arrive. A token may end in the middle of a character, so text is given out only when
 * its last character is complete.
 */
import { continuationStart } from "./continuation.ts";

/**
 * Made by {@link Tokenizer.createStream}. The pieces given out, joined, are the text of the whole sequence, or what it adds to
 * the ids before it.
 */
export class TokenStream {
  readonly #decode: (ids: number[]) => string;
  readonly #isByteLevel: boolean;
  readonly #cleansUp: boolean;
  /** Including those before it. */
  #ids: number[];
  /** The text of the ids before it, until something was given out. */
  #before: string | undefined;
  #given = 0;

  /**
   * @param cleansUp whether decoding takes spaces away where more text makes them superfluous
   * @param before   ids that the sequence goes on after: their text is not given out
   */
  constructor(
    decode: (ids: number[]) => string,
    isByteLevel: boolean,
    cleansUp = false,
    before: ArrayLike<number> = [],
  ) {
    this.#decode = decode;
    this.#isByteLevel = isByteLevel;
    this.#cleansUp = cleansUp;
    this.#ids = Array.from(before);
    this.#before = decode(this.#ids);
    if (isByteLevel && !this.#before.endsWith("\uFFFD")) this.#clear();
  }

  /** The text that is complete now and was not before; empty while a character is unfinished. */
  push(id: number): string {
    this.#ids.push(id);
    const text = this.#decode(this.#ids);
    // An unfinished character decodes to U+FFFD at the end. A real U+FFFD is held back too, until the next token.
    const whole = text.replace(/\uFFFD+$/, "");
    // What is cleaned up, such as " ' " and " n't", holds two spaces at most: what lies before them stays as it is.
    const complete = this.#cleansUp ? whole.replace(/ [^ ]* ?[^ ]*$/, "") : whole;
    const piece = complete.slice(this.#start(text));
    if (piece !== "") {
      this.#before = undefined;
      this.#given = complete.length;
    }
    // In byte-level text nothing depends on what lies before a complete character.
    if (this.#isByteLevel && complete.length === text.length) this.#clear();
    return piece;
  }

  /** The rest: an unfinished character comes out as U+FFFD. The stream is then ready for another sequence, after nothing. */
  end(): string {
    const text = this.#decode(this.#ids);
    const rest = text.slice(this.#start(text));
    this.#clear();
    return rest;
  }

  /** Where the text begins that was not given out. */
  #start(text: string): number {
    return this.#before === undefined ? this.#given : continuationStart(this.#before, text);
  }

  #clear(): void {
    this.#ids = [];
    this.#before = undefined;
    this.#given = 0;
  }
}
