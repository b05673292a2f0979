/**
 * @file Every random stream of the library, in one table: what is drawn from it and what its other numbers are. Two purposes
 * never share a stream, so no choice depends on another that was made with the same seed.
 */
import { RNG } from "./rng.ts";

/** The first number of a stream's name, after the seed. Changing one changes every seeded result: say so in CHANGELOG.md. */
export const STREAMS = {
  /** New weights; then the parameter's place in the model's table. */
  parameter: 1,
  /** A new value head, when a run's options say how to initialize it. */
  valueHead: 2,
  /** Masks of the value head's dropout. */
  dropout: 3,
  /** Order of the prompts; then the pass over them. */
  promptOrder: 4,
  /** How many tokens of a prompt are kept; then its place in the list. */
  promptLength: 5,
  /** Which documents of a corpus are held out. */
  heldOutDocuments: 6,
  /** Offset and order of a corpus's windows; then the pass over it. */
  corpusWindows: 7,
  /** Order of the rows in the minibatches of a step; then the step. */
  minibatches: 8,
  /** Tokens of a response; then how many numbers its name has, those numbers, and which copy of its query it is. */
  response: 9,
  /** First of the two numbers that name the response to an evaluation prompt; the other is the prompt's place. */
  evaluation: 10,
  /** Which prompts are held out. */
  heldOutPrompts: 11,
  /** Which preference pairs are held out. */
  heldOutPairs: 12,
  /** Which judgements (pairs, scores, labels) a reward model never learns from. */
  heldOutJudgements: 13,
  /** Which responses of workers are scored again; the seed is none of a run's but chance. */
  spotCheck: 14,
  /** Which gradients of workers are computed again; the seed is chance, too. */
  gradientCheck: 15,
} as const;

/** The random numbers of one purpose: a stream that no other purpose and no other `numbers` have. */
export function stream(seed: number, purpose: keyof typeof STREAMS, ...numbers: number[]): RNG {
  return new RNG(seed, STREAMS[purpose], ...numbers);
}
