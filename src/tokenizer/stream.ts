/**
 * @file Text from token ids as they arrive. A token may end in the middle of a character, so text is given out only when
 * its last character is complete.
 */

/** Made by {@link Tokenizer.createStream}. The pieces given out, joined, are the text of the whole sequence. */
export class TokenStream {
  readonly #decode: (ids: number[]) => string;
  readonly #isByteLevel: boolean;
  #ids: number[] = [];
  #given = 0;

  constructor(decode: (ids: number[]) => string, isByteLevel: boolean) {
    this.#decode = decode;
    this.#isByteLevel = isByteLevel;
  }

  /** The text that is complete now and was not before; empty while a character is unfinished. */
  push(id: number): string {
    this.#ids.push(id);
    const text = this.#decode(this.#ids);
    // An unfinished character decodes to U+FFFD at the end. A real U+FFFD is held back too, until the next token.
    const complete = text.replace(/\uFFFD+$/, "");
    const piece = complete.slice(this.#given);
    this.#given = complete.length;
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
