/** @file GPT-2's alphabet: a printable character for each byte (Radford et al. 2019, bytes_to_unicode). */
const CHARACTERS: string[] = [];
const BYTES = new Map<string, number>();
for (let byte = 0, more = 256; byte < 256; byte++) {
  const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xff && byte !== 0xad);
  CHARACTERS[byte] = String.fromCharCode(printable ? byte : more++);
  BYTES.set(CHARACTERS[byte], byte);
}

const utf8 = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** The UTF-8 bytes of a text, each as its character. */
export function spellBytes(text: string): string {
  let out = "";
  for (const byte of utf8.encode(text)) out += CHARACTERS[byte];
  return out;
}

/**
 * The text whose bytes the tokens spell. A token that holds a character outside the alphabet stands for itself, as added
 * tokens do. Bytes that are not UTF-8 become U+FFFD.
 */
export function unspellBytes(tokens: readonly string[]): string {
  const bytes: number[] = [];
  for (const token of tokens) {
    const start = bytes.length;
    for (const character of token) {
      const byte = BYTES.get(character);
      if (byte === undefined) {
        bytes.length = start;
        for (const own of utf8.encode(token)) bytes.push(own);
        break;
      }
      bytes.push(byte);
    }
  }
  return decoder.decode(Uint8Array.from(bytes));
}
