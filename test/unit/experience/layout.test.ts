/** @file Where prompts and responses stand: every token sees what it would see alone, prompts are there once, and it is less work. */
import { expect, test } from "vitest";
import { RNG } from "../../../src/base/rng.ts";
import { layOut } from "../../../src/experience/layout.ts";
import { packedFeeds, sights } from "../../../src/model/attend.ts";
import { smallModel } from "../../support/families.ts";

const model = smallModel("gpt2", { vocabSize: 100, context: 64 }, { threads: 1, seed: 1 });
const tokens = (rng: RNG, length: number) => Int32Array.from({ length }, () => rng.int(100));

/** What the token at a place may look at, by what attention adds to its scores. */
function seenFrom(n: number, positions: Int32Array, T: number): number[] {
  const feeds = packedFeeds(model, positions, T);
  const row = Math.floor(n / T) * T;
  if ("bias" in feeds)
    return Array.from({ length: T }, (_, s) => row + s).filter((m) => feeds.bias[n * T + m - row] === 0);
  return Array.from({ length: n + 1 - row - feeds.first[n] }, (_, s) => row + feeds.first[n] + s);
}

test("the tokens of a response see their prompt and each other, at the positions they have alone", () => {
  const rng = new RNG(4);
  let [sideBySide, shared] = [0, 0];
  for (let i = 0; i < 60; i++) {
    const prompts = Array.from({ length: 1 + rng.int(5) }, () => tokens(rng, 1 + rng.int(9)));
    const queries = Array.from({ length: 1 + rng.int(14) }, () => prompts[rng.int(prompts.length)].slice());
    const responses = queries.map(() => tokens(rng, 1 + rng.int(12)));
    const { ids, B, T, positions, promptEnds, starts } = layOut(queries, responses, 40 + rng.int(120));
    expect(ids.length).toBe(B * T);
    if (!positions) continue;
    sideBySide++;
    if (new Set(promptEnds).size < queries.length) shared++;
    expect(sights(positions, T)).toHaveLength(B * T); // the model takes them
    const longest = Math.max(...queries.map((query, b) => query.length + responses[b].length - 1));
    expect(Math.max(...positions)).toBe(longest - 1); // so a reference with a shorter context does as well
    queries.forEach((query, b) => {
      const read = responses[b].subarray(0, responses[b].length - 1);
      const places = Array.from(read, (_, t) => starts[b] + t);
      const whole = [...query, ...read];
      const last = places.at(-1) ?? promptEnds[b];
      const seen = seenFrom(last, positions, T);
      expect(seen.map((n) => ids[n])).toEqual(whole);
      expect(seen.map((n) => positions[n])).toEqual(whole.map((_, t) => t));
      expect(seen[query.length - 1]).toBe(promptEnds[b]);
      expect(seen.slice(query.length)).toEqual(places);
    });
  }
  expect(sideBySide).toBeGreaterThan(20);
  expect(shared).toBeGreaterThan(10);
});

test("eight responses to each prompt: a prompt of 64 tokens is read once, not eight times", () => {
  const rng = new RNG(5);
  const queries = Array.from({ length: 4 }, () => tokens(rng, 64)).flatMap((prompt) =>
    new Array<Int32Array>(8).fill(prompt),
  );
  const { B, T, promptEnds } = layOut(
    queries,
    queries.map(() => tokens(rng, 49)),
    1024,
  );
  expect(new Set(promptEnds).size).toBe(4);
  expect([B, T]).toEqual([4, 448]); // 64 + 8 x 48 tokens; alone they are 32 rows of 112
});

test("pairs: chosen and rejected behind their prompt", () => {
  const rng = new RNG(8);
  const queries = Array.from({ length: 8 }, () => tokens(rng, 100)).flatMap((prompt) => [prompt, prompt]);
  const { B, T } = layOut(
    queries,
    queries.map(() => tokens(rng, 51)),
    1024,
  );
  expect([B, T]).toEqual([8, 200]); // alone 16 rows of 152
});

test("one sequence a row, padded, where the longest is no longer than the others or the context has no room", () => {
  const rng = new RNG(6);
  const queries = Array.from({ length: 6 }, () => tokens(rng, 8));
  const alike = layOut(
    queries,
    queries.map(() => tokens(rng, 25)),
    1024,
  );
  expect([alike.B, alike.T, alike.positions]).toEqual([6, 32, undefined]);
  expect([...alike.starts]).toEqual([8, 40, 72, 104, 136, 168]);
  const same = new Array<Int32Array>(6).fill(queries[0]);
  const short = layOut(
    same,
    same.map(() => tokens(rng, 25)),
    60,
  );
  expect([short.B, short.T, short.positions]).toEqual([6, 32, undefined]);
});

test("the padding of shorter sequences is not computed", () => {
  const rng = new RNG(7);
  const queries = Array.from({ length: 16 }, () => tokens(rng, 8));
  const responses = queries.map((_, b) => tokens(rng, b === 0 ? 97 : 9)); // one of 104 tokens, fifteen of 16
  const { B, T } = layOut(queries, responses, 1024);
  expect(B * T).toBeLessThan(2 * (104 + 15 * 16));
});
