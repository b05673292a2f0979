/** @file Documents into windows of a fixed length: whole ones side by side, none of which sees another, or one text cut wherever a window ends. */
import { fail } from "../base/errors.ts";
import type { RNG } from "../base/rng.ts";
import { stream } from "../base/streams.ts";
import { bestFit } from "./best-fit.ts";
import type { Corpus } from "./corpus.ts";
import { CorpusSampler, type CorpusSamplerState, checkSameCorpus, consecutiveWindows } from "./sampler.ts";

/** How documents share windows: each in one and by itself, or cut where a window ends and read after those before it. */
export type Packing = "whole" | "wrapped";

/** What becomes of prompts with responses that are longer than a window. */
export type LongExamples = "error" | "drop" | "truncate";

export interface PackingOptions {
  readonly packing: Packing;
  /** T: tokens that a window reads; it predicts as many. */
  readonly sequenceLength: number;
  readonly longExamples: LongExamples;
}

/** B windows of T tokens as a model is asked about them. */
export interface Windows {
  readonly B: number;
  readonly T: number;
  /** Token ids [B, T]. */
  readonly ids: Int32Array;
  /** What each is followed by, [B, T]. */
  readonly next: Int32Array;
  /** 1 where what follows is learned, else 0. [B, T] */
  readonly counted: Uint8Array;
  /** Where each token stands in its own document, [B, T]; undefined: a window is one text. */
  readonly positions?: Int32Array;
  /** Tokens that are read, without what fills up a row. */
  readonly read: number;
}

/** Batches of windows without end, each window once in an epoch. */
export interface WindowSampler {
  /** Epochs seen, with the part of the current one. */
  readonly epoch: number;
  next(): Windows;
  getState(): CorpusSamplerState;
  /** @throws data - the state of another corpus, sequence length or seed */
  setState(state: CorpusSamplerState): void;
}

/**
 * @throws data - a text shorter than a window where documents are cut; an example longer than one where they are whole, unless
 *   such are dropped or truncated; nothing to predict
 */
export function windowSampler(
  corpus: Corpus,
  options: PackingOptions & { batchSize: number; seed: number },
): WindowSampler {
  return options.packing === "wrapped" ? new WrappedSampler(corpus, options) : new WholeSampler(corpus, options);
}

/** The same windows in order, once, for a held-out loss: batches of up to `batchSize`. */
export function* windowsInOrder(
  corpus: Corpus,
  options: PackingOptions & { batchSize: number },
): Generator<Windows, void, undefined> {
  const { sequenceLength: T, batchSize } = options;
  if (options.packing === "wrapped")
    for (const { ids, starts } of consecutiveWindows(corpus.ids, options))
      yield wrapped(ids, starts, T, corpus.learned);
  else {
    const plan = packed(corpus, options);
    for (let at = 0; at < plan.length; at += batchSize) yield whole(corpus, plan.slice(at, at + batchSize), T);
  }
}

/** How many of these windows there are. */
export const windowCount = (corpus: Corpus, options: PackingOptions): number =>
  options.packing === "wrapped"
    ? Math.floor((corpus.ids.length - 1) / options.sequenceLength)
    : packed(corpus, options).length;

/** Windows [B, T + 1] of one text, as {@link CorpusSampler} gives them. @param starts where they begin in the text */
export function wrapped(batch: Int32Array, starts: Int32Array, T: number, learned?: Uint8Array): Windows {
  const B = starts.length;
  const [ids, next] = [new Int32Array(B * T), new Int32Array(B * T)];
  const counted = new Uint8Array(B * T).fill(1);
  for (const [b, start] of starts.entries()) {
    ids.set(batch.subarray(b * (T + 1), b * (T + 1) + T), b * T);
    next.set(batch.subarray(b * (T + 1) + 1, (b + 1) * (T + 1)), b * T);
    if (learned) counted.set(learned.subarray(start + 1, start + 1 + T), b * T);
  }
  return { B, T, ids, next, counted, read: B * T };
}

class WrappedSampler implements WindowSampler {
  readonly #sampler: CorpusSampler;
  readonly #learned?: Uint8Array;

  constructor({ ids, learned }: Corpus, options: { sequenceLength: number; batchSize: number; seed: number }) {
    this.#sampler = new CorpusSampler(ids, options);
    this.#learned = learned;
  }

  get epoch(): number {
    return this.#sampler.epoch;
  }

  next(): Windows {
    const batch = this.#sampler.next();
    return wrapped(batch, this.#sampler.starts, this.#sampler.sequenceLength, this.#learned);
  }

  getState(): CorpusSamplerState {
    return this.#sampler.getState();
  }

  setState(state: CorpusSamplerState): void {
    this.#sampler.setState(state);
  }
}

/** A document, or a part of one, in the corpus: from `start` on `slots` tokens are read, and those after each of them predicted. */
interface Piece {
  readonly start: number;
  readonly slots: number;
}

/** Which windows hold which documents is drawn anew for each epoch. */
class WholeSampler implements WindowSampler {
  readonly #corpus: Corpus;
  readonly #options: PackingOptions & { batchSize: number; seed: number };
  readonly #pieces: readonly Piece[];
  #epoch = 0;
  #position = 0;
  #plan: readonly (readonly Piece[])[] = [];

  constructor(corpus: Corpus, options: PackingOptions & { batchSize: number; seed: number }) {
    this.#corpus = corpus;
    this.#options = options;
    this.#pieces = pieces(corpus, options).kept;
    this.#startEpoch();
  }

  get epoch(): number {
    return this.#epoch + this.#position / this.#plan.length;
  }

  next(): Windows {
    const rows: (readonly Piece[])[] = [];
    while (rows.length < this.#options.batchSize) {
      if (this.#position >= this.#plan.length) {
        this.#epoch++;
        this.#position = 0;
        this.#startEpoch();
      }
      rows.push(this.#plan[this.#position++]);
    }
    return whole(this.#corpus, rows, this.#options.sequenceLength);
  }

  getState(): CorpusSamplerState {
    const { seed, sequenceLength } = this.#options;
    const tokens = this.#corpus.ids.length;
    return { seed, tokens, sequenceLength, epoch: this.#epoch, position: this.#position };
  }

  setState(state: CorpusSamplerState): void {
    checkSameCorpus(this.getState(), state);
    this.#epoch = state.epoch;
    this.#position = state.position;
    this.#startEpoch();
  }

  /** The plan depends on seed and epoch alone, so the state need not hold it. */
  #startEpoch(): void {
    const rng = stream(this.#options.seed, "corpusWindows", this.#epoch);
    this.#plan = plan(this.#pieces, this.#options.sequenceLength, rng);
  }
}

/** Every document in order of its length, unshuffled. */
const packed = (corpus: Corpus, options: PackingOptions) => plan(pieces(corpus, options).kept, options.sequenceLength);

/** Pieces in windows: shuffled, then best fit; the windows are shuffled, too. */
function plan(all: readonly Piece[], T: number, rng?: RNG): Piece[][] {
  const shuffled = rng ? Array.from(rng.permutation(all.length), (i) => all[i]) : all;
  const bins = bestFit(
    shuffled.map(({ slots }) => slots),
    T,
  ).map((bin) => bin.map((i) => shuffled[i]));
  return rng ? Array.from(rng.permutation(bins.length), (i) => bins[i]) : bins;
}

/** What of a corpus goes into windows of T tokens. A text that is longer becomes several pieces, in which no token is predicted twice. */
function pieces({ ids, documentEnds, learned }: Corpus, { sequenceLength: T, longExamples }: PackingOptions) {
  const kept: Piece[] = [];
  const long = { count: 0, dropped: 0, longest: 0, example: 0 };
  let start = 0;
  for (const [document, end] of documentEnds.entries()) {
    const slots = end - start - 1;
    if (slots <= T) {
      if (slots > 0) kept.push({ start, slots });
    } else if (!learned)
      for (let at = start; at < end - 1; at += T) kept.push({ start: at, slots: Math.min(T, end - 1 - at) });
    else {
      long.count++;
      if (slots > long.longest) Object.assign(long, { longest: slots, example: document + 1 });
      // Of a prompt that fills the window alone nothing would be learned.
      if (longExamples === "truncate" && learned.subarray(start + 1, start + 1 + T).includes(1))
        kept.push({ start, slots: T });
      else long.dropped++;
    }
    start = end;
  }
  if (long.count > 0 && longExamples === "error")
    fail("data", {
      where: `example ${long.example}`,
      found: `${long.longest + 1} tokens${long.count > 1 ? `, the longest of ${long.count} such examples` : ""}`,
      expected: `at most ${T + 1}, a window of sequenceLength ${T} and the token after it`,
      fix: `set sequenceLength to ${long.longest} if the model's context allows it, or longExamples to truncate or drop`,
    });
  if (kept.length === 0)
    fail("data", {
      where: "corpus",
      found:
        long.count > 0
          ? "no example that fits into a window"
          : `${ids.length} ${ids.length === 1 ? "token" : "tokens"}, none to predict`,
      expected: "at least one document of two tokens",
      fix: long.count > 0 ? "raise sequenceLength, or give shorter examples" : "add text",
    });
  return { kept, long };
}

/** What people should know of the windows: how many, how full, and what was cut or left out. */
export function packingNotes(corpus: Corpus, options: PackingOptions): string[] {
  if (options.packing === "wrapped") return [];
  const { sequenceLength: T, longExamples } = options;
  const { kept, long } = pieces(corpus, options);
  const count = plan(kept, T).length;
  const used = kept.reduce((sum, { slots }) => sum + slots, 0);
  const documents = corpus.documentEnds.length;
  const done =
    longExamples === "drop"
      ? "left out"
      : long.dropped > 0
        ? `cut, ${long.dropped} of them left out: their prompts alone are too long`
        : "cut";
  return [
    `${documents} ${documents === 1 ? "document" : "documents"} in ${count} ${count === 1 ? "window" : "windows"} of ${T} tokens, ${Math.floor((100 * used) / (count * T))} % full`,
    ...(long.count > 0 ? [`${long.count} of ${documents} examples ${done} (longer than ${T + 1} tokens)`] : []),
  ];
}

/** Rows of pieces side by side, each with positions of its own; what is left of a row is not counted. */
function whole({ ids: all, learned }: Corpus, rows: readonly (readonly Piece[])[], T: number): Windows {
  const B = rows.length;
  const [ids, next, positions] = [new Int32Array(B * T), new Int32Array(B * T), new Int32Array(B * T)];
  const counted = new Uint8Array(B * T);
  let read = 0;
  for (const [b, row] of rows.entries()) {
    let at = b * T;
    for (const { start, slots } of row) {
      ids.set(all.subarray(start, start + slots), at);
      next.set(all.subarray(start + 1, start + 1 + slots), at);
      for (let i = 0; i < slots; i++) positions[at + i] = i;
      if (learned) counted.set(learned.subarray(start + 1, start + 1 + slots), at);
      else counted.fill(1, at, at + slots);
      at += slots;
      read += slots;
    }
  }
  return { B, T, ids, next, counted, positions, read };
}

/** Windows of a held-out text that are scored together. */
export const HELD_OUT_BATCH = 16;
/** The last windows are fewer: as many as they can be. */
export const HELD_OUT_SCORED: readonly number[] = [HELD_OUT_BATCH, HELD_OUT_BATCH - 1];
