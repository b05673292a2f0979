/**
 * @file SentencePiece's precompiled character map: a double-array trie (Darts-clone) from strings to their replacements.
 * Source: Kudo, SentencePiece, normalizer.cc; the walk over a text is that of Hugging Face's `spm_precompiled`.
 */
const GRAPHEMES = new Intl.Segmenter("en", { granularity: "grapheme" });
const utf8 = new TextEncoder();

/** Code units that are segmented at a time: the time of a segmenter grows with the square of its text. */
const WINDOW = 512;

function* graphemes(text: string): Generator<string> {
  for (let start = 0, size = WINDOW; start < text.length; ) {
    const segments = Array.from(GRAPHEMES.segment(text.slice(start, start + size)), ({ segment }) => segment);
    const atEnd = start + size >= text.length;
    if (!atEnd) segments.pop(); // it may go on after the window
    if (segments.length === 0) size *= 2;
    else {
      for (const segment of segments) start += segment.length;
      yield* segments;
      size = WINDOW;
    }
  }
}

/** The normalizer of a charsmap in base64. Text is replaced by whole graphemes of up to 5 bytes, else by code points. */
export function precompiledNormalizer(base64: string): (text: string) => string {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const size = view.getUint32(0, true);
  const units = new Uint32Array(size / 4);
  for (let i = 0; i < units.length; i++) units[i] = view.getUint32(4 + 4 * i, true);
  const replacements = bytes.subarray(4 + size);
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

  const offsetOf = (unit: number) => (unit >>> 10) << ((unit & 0x200) >>> 6);
  /** What the shortest prefix of the text that is in the trie becomes; undefined: nothing is. */
  const replaced = (text: string): string | undefined => {
    let unit = units[0];
    let node = offsetOf(unit);
    for (const byte of utf8.encode(text)) {
      if (byte === 0) return undefined;
      node ^= byte;
      unit = units[node];
      if ((unit & 0x800000ff) !== byte) return undefined;
      node ^= offsetOf(unit);
      if (((unit >>> 8) & 1) === 1) {
        const start = units[node] & 0x7fffffff;
        const end = replacements.indexOf(0, start);
        return decoder.decode(replacements.subarray(start, end === -1 ? undefined : end));
      }
    }
    return undefined;
  };

  return (text) => {
    let out = "";
    for (const segment of graphemes(text)) {
      const whole = utf8.encode(segment).length < 6 ? replaced(segment) : undefined;
      if (whole !== undefined) out += whole;
      else for (const character of segment) out += replaced(character) ?? character;
    }
    return out;
  };
}
