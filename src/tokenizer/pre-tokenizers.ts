/** @file The pre-tokenizers of a `tokenizer.json`: where a text is cut before the model sees it. */
import type { TokenizerPartJSON } from "./parts.ts";
import { compilePattern, gpt2Words, type PatternJSON, PUNCTUATION, WHITE_SPACE, WORD } from "./patterns.ts";
import { spellBytes } from "./spelling.ts";

/** A part of the text; `first` if the text begins with it. */
export interface Piece {
  text: string;
  first: boolean;
}

export interface PreTokenizer {
  split(pieces: Piece[]): Piece[];
  /** Whether the model sees each piece of what `split` gives as the characters of its bytes. */
  readonly spelled: boolean;
}

type Behavior = "Isolated" | "Removed" | "Contiguous" | "MergedWithPrevious" | "MergedWithNext";
/** [start, end, whether the pattern matched] */
type Range = [start: number, end: number, matched: boolean];
type Step = (pieces: Piece[]) => Piece[];

/** @throws Error - a type that is not known */
export function createPreTokenizer(json: TokenizerPartJSON | null | undefined): PreTokenizer {
  const parts = flatten(json);
  const spelled = parts.at(-1)?.type === "ByteLevel";
  const steps = parts.map((part, i) => step(part, spelled && i === parts.length - 1));
  return { split: (pieces) => steps.reduce((p, one) => one(p), pieces), spelled };
}

function flatten(json: TokenizerPartJSON | null | undefined): TokenizerPartJSON[] {
  if (json === null || json === undefined) return [];
  return json.type === "Sequence" ? ((json.pretokenizers ?? []) as TokenizerPartJSON[]).flatMap(flatten) : [json];
}

function step(json: TokenizerPartJSON, last: boolean): Step {
  switch (json.type) {
    case "ByteLevel":
      return byteLevel(json, last);
    case "Metaspace":
      return metaspace(json);
    case "Split":
      return cut(compilePattern(json.pattern as PatternJSON), json.behavior, json.invert === true);
    case "Digits":
      return cut(/\p{N}/gu, json.individual_digits === true ? "Isolated" : "Contiguous");
    case "Punctuation":
      return cut(new RegExp(`[${PUNCTUATION}]`, "gu"), json.behavior ?? "Isolated");
    case "Whitespace":
      return cut(new RegExp(`[${WORD}]+|[^${WORD}${WHITE_SPACE}]+`, "gu"), "Removed", true);
    case "WhitespaceSplit":
      return cut(new RegExp(WHITE_SPACE, "gu"), "Removed");
    case "CharDelimiterSplit":
      return cut(compilePattern(String(json.delimiter)), "Removed");
    case "BertPreTokenizer": {
      const words = cut(new RegExp(WHITE_SPACE, "gu"), "Removed");
      const marks = cut(new RegExp(`[${PUNCTUATION}]`, "gu"), "Isolated");
      return (pieces) => marks(words(pieces));
    }
    case "FixedLength":
      return cut(new RegExp(`[^]{1,${Number(json.length ?? 5)}}`, "gu"), "Isolated");
    default:
      throw new Error(`Unknown PreTokenizer type: ${json.type}`);
  }
}

function byteLevel(json: TokenizerPartJSON, last: boolean): Step {
  const words = json.use_regex === false ? (pieces: Piece[]) => pieces : cut(gpt2Words(), "Isolated");
  const prefix = json.add_prefix_space !== false; // tokenizers' default is true
  return (pieces) => {
    const spaced = prefix ? pieces.map((p) => (p.text.startsWith(" ") ? p : { ...p, text: ` ${p.text}` })) : pieces;
    const cutUp = words(spaced);
    return last ? cutUp : cutUp.map((p) => ({ ...p, text: spellBytes(p.text) }));
  };
}

function metaspace(json: TokenizerPartJSON): Step {
  const mark = String(json.replacement ?? "\u2581");
  // Before prepend_scheme there was add_prefix_space.
  const scheme = json.add_prefix_space === false ? "never" : String(json.prepend_scheme ?? "always").toLowerCase();
  const split = json.split === false ? (pieces: Piece[]) => pieces : cut(compilePattern(mark), "MergedWithNext");
  return (pieces) =>
    split(
      pieces.map((piece) => {
        const text = piece.text.replaceAll(" ", mark);
        const prepend = (scheme === "always" || (scheme === "first" && piece.first)) && !text.startsWith(mark);
        return { ...piece, text: prepend ? mark + text : text };
      }),
    );
}

/** Cuts every piece where the pattern matches. `behavior` decides what becomes of the matches. */
function cut(pattern: RegExp, behavior: unknown, invert = false): Step {
  const merge = merges[canonical(behavior)];
  return (pieces) => {
    const out: Piece[] = [];
    for (const piece of pieces) {
      for (const [start, end] of merge(ranges(piece.text, pattern, invert))) {
        if (end > start) out.push({ text: piece.text.slice(start, end), first: piece.first && start === 0 });
      }
    }
    return out;
  };
}

function canonical(behavior: unknown): Behavior {
  const plain = String(behavior).toLowerCase().replaceAll("_", "");
  const found = (Object.keys(merges) as Behavior[]).find((name) => name.toLowerCase() === plain);
  if (found === undefined) throw new Error(`Unknown behavior: ${String(behavior)}`);
  return found;
}

/** The whole text as ranges that match and ranges between them. */
function ranges(text: string, pattern: RegExp, invert: boolean): Range[] {
  const out: Range[] = [];
  let end = 0;
  for (const match of text.matchAll(pattern)) {
    if (match.index > end) out.push([end, match.index, invert]);
    end = match.index + match[0].length;
    out.push([match.index, end, !invert]);
  }
  if (end < text.length) out.push([end, text.length, invert]);
  return out;
}

const merges: Record<Behavior, (ranges: Range[]) => Range[]> = {
  Isolated: (all) => all,
  Removed: (all) => all.filter(([, , matched]) => !matched),
  Contiguous: (all) => {
    const out: Range[] = [];
    for (const range of all) {
      const previous = out.at(-1);
      if (previous !== undefined && previous[2] === range[2]) previous[1] = range[1];
      else out.push([...range]);
    }
    return out;
  },
  MergedWithPrevious: (all) => {
    const out: Range[] = [];
    let matchedBefore = false;
    for (const range of all) {
      const previous = out.at(-1);
      if (range[2] && !matchedBefore && previous !== undefined) previous[1] = range[1];
      else out.push([...range]);
      matchedBefore = range[2];
    }
    return out;
  },
  MergedWithNext: (all) => {
    const out: Range[] = []; // backwards
    let matchedAfter = false;
    for (const range of all.toReversed()) {
      const next = out.at(-1);
      if (range[2] && !matchedAfter && next !== undefined) next[0] = range[0];
      else out.push([...range]);
      matchedAfter = range[2];
    }
    return out.reverse();
  },
};
