/** @file The decoders of a `tokenizer.json`: from tokens to text. */
import type { TokenizerPartJSON } from "./parts.ts";
import { compilePattern, type PatternJSON } from "./patterns.ts";
import { unspellBytes } from "./spelling.ts";

type Chain = (tokens: string[]) => string[];

/** Without a decoder the tokens stand with spaces between them. @throws Error - a type that is not known */
export function createDecoder(json: TokenizerPartJSON | null | undefined): (tokens: string[]) => string {
  if (json === null || json === undefined) return (tokens) => tokens.join(" ");
  const decode = chain(json);
  return (tokens) => decode(tokens).join("");
}

function chain(json: TokenizerPartJSON): Chain {
  switch (json.type) {
    case "Sequence": {
      const parts = ((json.decoders ?? []) as TokenizerPartJSON[]).map(chain);
      return (tokens) => parts.reduce((t, part) => part(t), tokens);
    }
    case "ByteLevel":
      return (tokens) => [unspellBytes(tokens)];
    case "WordPiece":
      return wordPiece(String(json.prefix ?? "##"), json.cleanup !== false);
    case "Metaspace": {
      const mark = String(json.replacement ?? "\u2581");
      const prepends =
        json.add_prefix_space !== false && String(json.prepend_scheme ?? "always").toLowerCase() !== "never";
      return (tokens) => tokens.map((token, i) => token.replaceAll(mark, i === 0 && prepends ? "" : " "));
    }
    case "BPEDecoder": {
      const suffix = String(json.suffix ?? "</w>");
      return (tokens) => tokens.map((token, i) => token.replaceAll(suffix, i === tokens.length - 1 ? "" : " "));
    }
    case "Replace": {
      const pattern = compilePattern(json.pattern as PatternJSON);
      const content = String(json.content ?? "");
      return (tokens) => tokens.map((token) => token.replace(pattern, () => content));
    }
    case "Fuse":
      return (tokens) => [tokens.join("")];
    case "Strip":
      return strip(String(json.content), Number(json.start ?? 0), Number(json.stop ?? 0));
    case "ByteFallback":
      return byteFallback;
    default:
      throw new Error(`Unknown Decoder type: ${json.type}`);
  }
}

function wordPiece(prefix: string, cleanup: boolean): Chain {
  return (tokens) =>
    tokens.map((token, i) => {
      const text = i === 0 ? token : token.startsWith(prefix) ? token.slice(prefix.length) : ` ${token}`;
      return cleanup ? cleanUp(text).replaceAll(" do not", " don't") : text;
    });
}

/** transformers' `clean_up_tokenization`: the spaces that splitting English at punctuation made. */
export function cleanUp(text: string): string {
  let out = text;
  for (const [spaced, tight] of SPACED) out = out.replaceAll(spaced, tight);
  return out;
}

const SPACED = [
  [" .", "."],
  [" ?", "?"],
  [" !", "!"],
  [" ,", ","],
  [" ' ", "'"],
  [" n't", "n't"],
  [" 'm", "'m"],
  [" 's", "'s"],
  [" 've", "'ve"],
  [" 're", "'re"],
];

function strip(content: string, start: number, stop: number): Chain {
  return (tokens) =>
    tokens.map((token) => {
      const characters = Array.from(token);
      let from = 0;
      while (from < Math.min(start, characters.length) && characters[from] === content) from++;
      let to = characters.length;
      while (to > from && characters.length - to < stop && characters[to - 1] === content) to--;
      return characters.slice(from, to).join("");
    });
}

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Tokens such as <0x0A> are bytes; a run of them that is not UTF-8 becomes one U+FFFD for each. */
function byteFallback(tokens: string[]): string[] {
  const out: string[] = [];
  let bytes: number[] = [];
  const flush = () => {
    if (bytes.length === 0) return;
    try {
      out.push(strict.decode(Uint8Array.from(bytes)));
    } catch {
      for (const _ of bytes) out.push("\ufffd");
    }
    bytes = [];
  };
  for (const token of tokens) {
    const byte = /^<0x([0-9a-f]{2})>$/iu.exec(token);
    if (byte !== null) bytes.push(Number.parseInt(byte[1], 16));
    else {
      flush();
      out.push(token);
    }
  }
  flush();
  return out;
}
