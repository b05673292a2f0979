/**
 * @file What ids add to the text before them. Few tokenizers decode a sequence piece by piece: the first token of a text loses
 * its space (Metaspace), gets none (WordPiece), or is the end of a character that began before it (byte-level). So a response
 * is decoded together with its prompt, and what the prompt alone says is taken off.
 */

type Decode = (ids: number[]) => string;

/** Where `text` leaves `before`: the length of what both begin with, never inside a surrogate pair. */
export function continuationStart(before: string, text: string): number {
  let n = 0;
  while (n < before.length && n < text.length && before[n] === text[n]) n++;
  const isHigh = n > 0 && n < text.length && /[\uD800-\uDBFF]/.test(text[n - 1]);
  return isHigh && /[\uDC00-\uDFFF]/.test(text[n]) ? n - 1 : n;
}

/**
 * Ids decoded after those before them.
 * @returns the text of both, and what `ids` add to it. A character that was unfinished before belongs to what is added
 */
export function decodeContinuation(
  decode: Decode,
  before: ArrayLike<number>,
  ids: ArrayLike<number>,
): { text: string; added: string } {
  const context = Array.from(before);
  const text = decode([...context, ...Array.from(ids)]);
  return { text, added: text.slice(continuationStart(decode(context), text)) };
}
