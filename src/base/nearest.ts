/** @file "Did you mean ...?" */

/** Levenshtein distance, by rows. */
export function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++)
      next[j] = Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1));
    row = next;
  }
  return row[b.length];
}

/** Characters of a word that are compared; nothing longer is a typing error. */
const LONGEST = 64;

/** The candidate with the smallest edit distance, ignoring case; of several, one with the same letters. */
export function nearest(word: string, candidates: readonly string[]): string {
  const short = word.slice(0, LONGEST).toLowerCase();
  const letters = (text: string) => [...text].sort().join("");
  const distance = (candidate: string) =>
    editDistance(short, candidate) - (letters(short) === letters(candidate) ? 0.5 : 0);
  const distances = new Map(candidates.map((candidate) => [candidate, distance(candidate.toLowerCase())]));
  return [...candidates].sort((a, b) => (distances.get(a) as number) - (distances.get(b) as number))[0];
}
