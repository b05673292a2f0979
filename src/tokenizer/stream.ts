/**
 * @file Text from token ids as they arrive. A token may end in the middle of a character, so text is given out only when
 * its last character is complete.
 */

/** Made by {@link Tokenizer.createStream}. The pieces given out, joined, are the text of the whole sequence. */
export class TokenStream {
  readonly #decode: (ids: number[]) => string;
  readonly #isByteLevel: boolean;
  readonly #cleansUp: boolean;
  #ids: number[] = [];
  #given = 0;

  /** @param cleansUp whether decoding takes spaces away where more text makes them superfluous */
  constructor(decode: (ids: number[]) => string, isByteLevel: boolean, cleansUp = false) {
    this.#decode = decode;
    this.#isByteLevel = isByteLevel;
    this.#cleansUp = cleansUp;
  }

  /** The text that is complete now and was not before; empty while a character is unfinished. */
  push(id: number): string {
    this.#ids.push(id);
    const text = this.#decode(this.#ids);
    // An unfinished character decodes to U+FFFD at the end. A real U+FFFD is held back too, until the next token.
    const whole = text.replace(/\uFFFD+$/, "");
    // What is cleaned up, such as " ' " and " n't", holds two spaces at most: what lies before them stays as it is.
    const complete = this.#cleansUp ? whole.replace(/ [^ ]* ?[^ ]*$/, "") : whole;
    const piece = complete.slice(this.#given);
    this.#given = Math.max(this.#given, complete.length);
    // In byte-level text nothing depends on what lies before a complete character.
    if (this.#isByteLevel && complete.length === text.length) this.#clear();
    return piece;
  }

  /** The rest: an unfinished character comes out as U+FFFD. The stream is then ready for another sequence. */
  end(): string {
    const rest = this.#decode(this.#ids).slice(this.#given);
    this.#clear();
    return rest;
  }

  #clear(): void {
    this.#ids = [];
    this.#given = 0;
  }
}
