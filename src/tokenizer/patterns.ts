/**
 * @file Regular expressions of a `tokenizer.json`. They are written for Oniguruma and Rust, whose character classes are
 * Unicode's: JavaScript's \s has U+FEFF in addition and lacks U+0085, its \w and \d are ASCII's.
 */
import * as library from "@huggingface/tokenizers";

/** Its type declarations cannot be resolved by Node's rules. */
const PatternMaker = (library as unknown as Patterns).SplitPreTokenizer;

interface Patterns {
  SplitPreTokenizer: new (json: object) => { pattern: RegExp | null };
}

/** White space as Rust's `char::is_whitespace` and \s have it. */
export const WHITE_SPACE = "\\p{White_Space}";
const SPACE = new RegExp(WHITE_SPACE, "u");

/** How many white spaces, each one code unit, there are from a place on. A pattern with + would take quadratic time. */
export function spacesAfter(text: string, place: number): number {
  let end = place;
  while (end < text.length && SPACE.test(text[end])) end++;
  return end - place;
}

/** How many there are right before a place. */
export function spacesBefore(text: string, place: number): number {
  let start = place;
  while (start > 0 && SPACE.test(text[start - 1])) start--;
  return place - start;
}

/** \w of Rust's regex: UTS #18, Annex C. */
export const WORD = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}";
/** ASCII's punctuation, of which $+<=>^`|~ are symbols to Unicode, and Unicode's. */
export const PUNCTUATION = "!-\\/:-@\\[-`{-~\\p{P}";

/** GPT-2's pre-tokenizer (Radford et al. 2019). */
export const gpt2Words = () =>
  new RegExp(
    `'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^${WHITE_SPACE}\\p{L}\\p{N}]+` +
      `|${WHITE_SPACE}+(?!\\P{White_Space})|${WHITE_SPACE}+`,
    "gu",
  );

/** A pattern as `tokenizer.json` writes it: `{ String }`, `{ Regex }` or the bare string of older files. */
export type PatternJSON = { String?: string; Regex?: string } | string | undefined;

/** The pattern with the flags g and u. @throws Error - no pattern, or one JavaScript cannot express */
export function compilePattern(json: PatternJSON): RegExp {
  const literal = typeof json === "string" ? json : json?.String;
  if (literal !== undefined) return new RegExp(escapePattern(literal), "gu");
  if (typeof json === "object" && json.Regex !== undefined) {
    // The library's translation of Oniguruma's syntax; nothing else of its pre-tokenizer is used.
    const { pattern } = new PatternMaker({ type: "Split", pattern: json, behavior: "Isolated", invert: false });
    if (pattern !== null) {
      // Ignoring case, Oniguruma takes U+017F for an s and U+212A for a k.
      const source = pattern.source.replaceAll("[sS]", "[sS\\u017F]").replaceAll("[kK]", "[kK\\u212A]");
      return new RegExp(source, "gu");
    }
  }
  throw new Error(`no pattern: ${JSON.stringify(json)}`);
}

export function escapePattern(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/]/gu, "\\$&");
}
