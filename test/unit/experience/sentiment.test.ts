import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { sentiment, wordsOf } from "../../../src/experience/rewards/sentiment.ts";

describe("wordsOf", () => {
  it("lower-case words with inner apostrophes and hyphens", () => {
    expect(wordsOf("It’s a WELL-made film... isn't it? 10/10 'naïve'")).toEqual(
      "it's a well-made film isn't it 10 10 naïve".split(" "),
    );
    expect(wordsOf(" ...!")).toEqual([]);
  });
});

describe("sentiment", () => {
  // Ratings in AFINN-165: good 3, great 3, bad −3, boring −3, superb 5.
  const at = (s: number, n: number) => Math.tanh(s / Math.sqrt(n + 8));

  it("sums the ratings of distinct words over √(words + 8)", () => {
    expect(sentiment("A good film", 1)).toBeCloseTo(at(3, 3), 12);
    expect(sentiment("A good film, superb cast", 1)).toBeCloseTo(at(8, 5), 12);
    expect(sentiment("good, but boring and bad", 1)).toBeCloseTo(at(-3, 5), 12);
    expect(sentiment("the film", 1)).toBe(0);
    expect(sentiment("", 1)).toBe(0);
  });

  it("counts a rated word once, and unfavourable texts by distinct words", () => {
    expect(sentiment("good good good", 1)).toBeCloseTo(at(3, 3), 12);
    expect(sentiment("bad bad bad", 1)).toBeCloseTo(at(-3, 1), 12);
    expect(sentiment("bad bad bad", -1)).toBeCloseTo(at(3, 3), 12);
  });

  it("negation turns the next three words of the clause, at half strength", () => {
    expect(sentiment("not good", 1)).toBeCloseTo(at(-1.5, 2), 12);
    expect(sentiment("It isn’t a very good film", 1)).toBeCloseTo(at(-1.5, 6), 12);
    expect(sentiment("not bad", 1)).toBeCloseTo(at(1.5, 2), 12);
    expect(sentiment("not at all a good film", 1)).toBeCloseTo(at(3, 6), 12);
    expect(sentiment("why not? good", 1)).toBeCloseTo(at(3, 3), 12);
  });

  it("leaves out negators' own ratings and the preposition like", () => {
    expect(sentiment("no film looks like this", 1)).toBe(0);
    expect(sentiment("constructor toString", 1)).toBe(0);
  });

  it("orders reviews as a reader does", () => {
    const order = [
      "An awful, boring and stupid film. I hated it.",
      "It was not a good film.",
      "The film begins in a house.",
      "It was a good film.",
      "A wonderful film with a brilliant cast. I loved it.",
    ];
    const scores = order.map((text) => sentiment(text, 1));
    expect(scores).toEqual(scores.toSorted((a, b) => a - b));
  });

  const word = fc.constantFrom(
    ..."good great superb bad awful boring not never isn't no the film was very like well-made , . !".split(" "),
  );
  it("a repeated word never raises the score, of either sign", () => {
    fc.assert(
      fc.property(
        fc.array(word, { minLength: 1, maxLength: 30 }),
        fc.nat(),
        fc.integer({ min: 1, max: 9 }),
        (text, pick, n) => {
          const once = text.join(" ");
          const words = wordsOf(once);
          fc.pre(words.length > 0);
          const repeated = `${once}${` ${words[pick % words.length]}`.repeat(n)}`;
          for (const sign of [1, -1] as const) {
            const before = sentiment(once, sign);
            const after = sentiment(repeated, sign);
            expect(after).toBeLessThanOrEqual(before);
            if (before > 0) expect(after).toBeLessThan(before);
            expect(Math.abs(before)).toBeLessThan(1);
          }
        },
      ),
      { seed: 1, numRuns: 2000 },
    );
  });
});
