/** @file Added tokens: strings that are one token wherever they stand, found before anything else happens to a text. */
import type { Normalizer } from "./normalizers.ts";
import { escapePattern, spacesAfter, spacesBefore, WORD } from "./patterns.ts";

/** A token as `added_tokens` of a `tokenizer.json` lists it. */
export interface AddedToken {
  /** Its id. */
  id: number;
  /** The string that is this token. */
  content: string;
  /** Only between characters that are not of a word. Default false. */
  single_word?: boolean;
  /** Takes the white space before it. Default false. */
  lstrip?: boolean;
  /** Takes the white space after it. Default false. */
  rstrip?: boolean;
  /** Looked for in normalized text. Default: unless it is special. */
  normalized?: boolean;
  /** Left out by skipSpecialTokens. Default false. */
  special?: boolean;
}

/** A stretch of text between tokens, or a token; `start` is its place in the text that was searched. */
export type Found = { start: number; text: string } | { id: number };

/** Finds the tokens in a text; of those that begin at one place the longest counts. */
export type Finder = (text: string) => Found[];

export function isNormalized(token: AddedToken): boolean {
  return token.normalized ?? token.special !== true;
}

/** The finders for the text as it is and for normalized text; null where no token is looked for. */
export function tokenFinders(
  tokens: readonly AddedToken[],
  normalize: Normalizer,
): { raw: Finder | null; normalized: Finder | null } {
  return {
    raw: finder(tokens.filter((token) => !isNormalized(token)).map((token) => [token.content, token])),
    normalized: finder(tokens.filter(isNormalized).map((token) => [normalize(token.content), token])),
  };
}

function finder(all: [string, AddedToken][]): Finder | null {
  const tokens = all.filter(([content]) => content !== "");
  if (tokens.length === 0) return null;
  const byContent = new Map(tokens);
  const contents = [...byContent.keys()].sort((a, b) => b.length - a.length);
  const pattern = new RegExp(contents.map(escapePattern).join("|"), "gu");
  const edges = tokens.some(([, token]) => token.single_word) && {
    last: new RegExp(`[${WORD}]$`, "u"),
    first: new RegExp(`^[${WORD}]`, "u"),
  };
  return (text) => {
    const found: Found[] = [];
    let done = 0;
    for (const match of text.matchAll(pattern)) {
      const token = byContent.get(match[0]) as AddedToken;
      let start = match.index;
      let end = start + match[0].length;
      if (
        edges &&
        token.single_word &&
        (edges.last.test(text.slice(Math.max(0, start - 2), start)) || edges.first.test(text.slice(end, end + 2)))
      )
        continue;
      if (token.lstrip) start = Math.max(done, start - spacesBefore(text, start));
      if (token.rstrip) end += spacesAfter(text, end);
      if (start > done) found.push({ start: done, text: text.slice(done, start) });
      found.push({ id: token.id });
      done = end;
    }
    if (done < text.length) found.push({ start: done, text: text.slice(done) });
    return found;
  };
}
