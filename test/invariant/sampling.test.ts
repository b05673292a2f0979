/** @file x ~ p: decoding is the full forward, a batch is its rows, and what is recorded is what is scored. */
import { afterAll, describe, expect, test, vi } from "vitest";
import { RNG } from "../../src/base/rng.ts";
import { Decoder } from "../../src/sample/decoder.ts";
import { type GenerateOptions, generate, type Rollout, replay } from "../../src/sample/generate.ts";
import { TokenSampler } from "../../src/sample/token-sampler.ts";
import { Adjustments } from "../../src/sample/transforms.ts";
import { contents, seen } from "../support/backends.ts";
import { familyNames, type Model, smallModel, tinyModel } from "../support/families.ts";
import { maxDifference } from "../support/golden.ts";
import { commonToken, prompts } from "../support/prompts.ts";

describe.each(familyNames)("%s", async (family) => {
  const model = await tinyModel(family, { threads: 2 });
  const { vocabSize: V, context } = model.sizes;

  afterAll(() => model.dispose());

  const ragged = prompts(V, [4, 1, 9, 6]);

  /** Logits [B, V] and values [B] after each sequence, without a cache: one full forward pass. */
  async function fullForward(of: Model, sequences: number[][]) {
    const B = sequences.length;
    const C = of.sizes.width;
    const T = Math.max(...sequences.map((s) => s.length));
    const ids = new Int32Array(B * T);
    sequences.forEach((s, b) => {
      ids.set(s, b * T);
    });
    const hidden = await of.body.hidden(of.parameters, { ids, B, T });
    const states = await contents(of, hidden);
    const last = new Float32Array(B * C);
    sequences.forEach((s, b) => {
      const n = b * T + s.length - 1;
      last.set(states.subarray(n * C, (n + 1) * C), b * C);
    });
    of.pool.release(hidden);
    const logits = new Float32Array(B * V);
    const values = new Float32Array(B);
    await of.head.logits(of.parameters, last, B, logits, values);
    return { logits, values };
  }

  /** log p and values of every response token, one row after another, from model.score. */
  async function scoreRollout(rollout: Rollout, withKept = true, withAdjustments = true) {
    const { queries, responses } = rollout;
    const sequences = queries.map((q, b) => [...q, ...responses[b].tokens]);
    const T = Math.max(...sequences.map((s) => s.length));
    const ids = new Int32Array(sequences.length * T).fill(7); // padding may be any id
    sequences.forEach((s, b) => {
      ids.set(s, b * T);
    });
    const places = responses.flatMap((r, b) =>
      Array.from(r.tokens, (id, t) => ({ row: b * T + queries[b].length - 1 + t, id })),
    );
    const parts = responses.map((_, b) => replay(rollout, b));
    const whole = responses.flatMap((r, b) => Array.from(r.tokens, (_, t) => ({ part: parts[b], t })));
    return model.score({
      tokens: { ids, B: sequences.length, T },
      rows: Int32Array.from(places, (p) => p.row),
      ids: Int32Array.from(places, (p) => p.id),
      distribution: {
        ...parts[0],
        adjustments: withAdjustments ? whole.map(({ part, t }) => part.adjustments?.[t]) : undefined,
        kept: withKept ? whole.map(({ part, t }) => part.kept?.[t]) : undefined,
      },
    });
  }

  const flat = (rollout: Rollout, name: "logprobs" | "rawLogprobs" | "values") =>
    rollout.responses.flatMap((r) => Array.from(r[name]));

  describe("cached decoding equals the full forward", () => {
    async function compare(of: Model, queries: Int32Array[], steps: number, topK: number) {
      const sequences = queries.map((q) => Array.from(q));
      const decoder = new Decoder(of, queries.length, Math.max(...queries.map((q) => q.length)) + steps);
      const sampler = new TokenSampler(V, { temperature: 1, topK, topP: 1 });
      const rng = new RNG(4);
      await decoder.prefill(queries);
      for (let t = 0; t < steps; t++) {
        const full = await fullForward(of, sequences);
        expect(maxDifference(decoder.logits, full.logits)).toBeLessThan(1e-4);
        expect(maxDifference(decoder.values, full.values)).toBeLessThan(1e-4);
        const next = sequences.map((_, b) => sampler.draw(decoder.logits.subarray(b * V, (b + 1) * V), rng).id);
        sequences.forEach((s, b) => {
          s.push(next[b]);
        });
        if (t + 1 < steps) await decoder.step(Int32Array.from(next));
      }
      expect(Array.from(decoder.lengths)).toEqual(queries.map((q) => q.length + steps - 1));
      decoder.release();
    }

    test.each([
      ["ragged", ragged],
      ["of one token each", prompts(V, [1, 1, 1])],
      ["a batch of one", prompts(V, [5])],
      ["of which some are equal", [ragged[2], ragged[0], ragged[2], ragged[3], ragged[0], ragged[2]]],
    ])("prompts %s, greedy and sampled", async (_, queries) => {
      await compare(model, queries, 14, 1);
      await compare(model, queries, 14, 0);
    });

    test("of equal prompts one is computed", async () => {
      const embed = vi.spyOn(model.body, "embed");
      await generate(model, ragged, { maxNewTokens: 2, numReturnSequences: 3, eosTokenId: null });
      expect(embed.mock.calls.map(([, { B, T }]) => [B, T])).toEqual([
        [4, 9],
        [12, 1],
      ]);
      embed.mockRestore();
    });

    test("up to the last position", () => compare(model, prompts(V, [40, 3]), context - 40, 0));

    test("with a context that is no multiple of the cache's unit, up to the last position", async () => {
      const odd = smallModel(family, { vocabSize: V, context: 21 }, { engine: model.engine, seed: 3 });
      await compare(odd, prompts(V, [6, 17]), 4, 0);
      const { responses } = await generate(odd, prompts(V, [6, 17]), { maxNewTokens: 4, eosTokenId: null });
      expect(responses.map((r) => r.tokens.length)).toEqual([4, 4]);
    });

    test("values of generate are those of the state before each token", async () => {
      const rollout = await generate(model, ragged, { maxNewTokens: 10, eosTokenId: null, seed: 2 });
      const { values } = await scoreRollout(rollout);
      expect(maxDifference(flat(rollout, "values"), values)).toBeLessThan(1e-4);
    });

    test("whatever the buffers held before", async () => {
      const options = { maxNewTokens: 12, seed: 5, eosTokenId: await commonToken(model, ragged) };
      const clean = await generate(model, ragged, options);
      const take = model.pool.take.bind(model.pool);
      const array = model.pool.array.bind(model.pool);
      const spies = [
        vi.spyOn(model.pool, "take").mockImplementation((length) => {
          const buffer = take(length);
          seen(model, buffer).fill(Number.NaN);
          return buffer;
        }),
        vi.spyOn(model.pool, "array").mockImplementation((length) => array(length).fill(Number.NaN)),
      ];
      const dirty = await generate(model, ragged, options);
      for (const spy of spies) spy.mockRestore();
      expect(dirty).toEqual(clean);
    });
  });

  describe("a row of a batch", () => {
    const settings: Partial<GenerateOptions>[] = [
      {},
      { topK: 1 },
      { temperature: 1.2, topK: 40, topP: 0.9, minNewTokens: 3 },
    ];
    test.each(settings)("is that row alone with the same stream: %o", async (setting) => {
      const eosTokenId = await commonToken(model, ragged);
      const options = { maxNewTokens: 16, seed: 8, eosTokenId, ...setting };
      const together = await generate(model, ragged, options);
      for (const [b, query] of ragged.entries()) {
        const alone = (await generate(model, [query], { ...options, streams: [b] })).responses[0];
        const row = together.responses[b];
        expect(row.tokens).toEqual(alone.tokens);
        expect(row.finished).toBe(alone.finished);
        expect(row.kept).toEqual(alone.kept);
        expect(maxDifference(row.logprobs, alone.logprobs)).toBeLessThan(1e-5);
        expect(maxDifference(row.values, alone.values)).toBeLessThan(1e-5);
      }
    });

    test("keeps its text when rows change places and when more could follow", async () => {
      const options = { maxNewTokens: 10, seed: 8, eosTokenId: null };
      const texts = (r: Rollout) => r.responses.map((x) => Array.from(x.tokens));
      const straight = texts(await generate(model, ragged, options));
      const reversed = await generate(model, ragged.toReversed(), { ...options, streams: [3, 2, 1, 0] });
      expect(texts(reversed).reverse()).toEqual(straight);
      const longer = texts(await generate(model, ragged, { ...options, maxNewTokens: 30 }));
      expect(longer.map((t) => t.slice(0, 10))).toEqual(straight);
    });

    test("of numReturnSequences, the first is the only one there was, the others do not depend on their number", async () => {
      const options = { maxNewTokens: 10, seed: 8, eosTokenId: null };
      const texts = (r: Rollout) => r.responses.map((x) => x.tokens.join());
      const one = texts(await generate(model, ragged, options));
      const rollout = await generate(model, ragged, { ...options, numReturnSequences: 3 });
      expect(rollout.queries).toEqual(ragged.flatMap((q) => [q, q, q]));
      const three = texts(rollout);
      expect(three.filter((_, row) => row % 3 === 0)).toEqual(one);
      expect(new Set(three).size).toBe(12);
      const two = texts(await generate(model, [ragged[2]], { ...options, numReturnSequences: 2, streams: [2] }));
      expect(two).toEqual(three.slice(6, 8));
      const named = texts(
        await generate(model, [ragged[2], ragged[1]], {
          ...options,
          streams: [
            [2, 2],
            [1, 1],
          ],
        }),
      );
      for (const text of named) expect(three).not.toContain(text); // copy 2 of query 2 is not the query named [2, 2]
    });

    test("same seed, same text; other seed or stream, other text", async () => {
      const same = [ragged[0], ragged[0], ragged[0]];
      const run = async (seed: number) => {
        const { responses } = await generate(model, same, { maxNewTokens: 12, eosTokenId: null, seed });
        return responses.map((r) => r.tokens.join());
      };
      const [first, again, other] = [await run(1), await run(1), await run(2)];
      expect(again).toEqual(first);
      expect(new Set([...first, ...other]).size).toBe(6);
    });
  });

  describe("what is recorded is what is scored", () => {
    const grid = [0.7, 1, 1.3].flatMap((temperature) =>
      [0, 5, 50].flatMap((topK) =>
        [1, 0.9, 0.5].flatMap((topP) =>
          [1, 1.2].map((repetitionPenalty) => ({ temperature, topK, topP, repetitionPenalty })),
        ),
      ),
    );
    const name = "temperature $temperature, top-k $topK, top-p $topP, repetition penalty $repetitionPenalty";
    test.each(grid)(name, async (sampling) => {
      const eosTokenId = await commonToken(model, ragged);
      for (const minNewTokens of [0, 8]) {
        const rollout = await generate(model, ragged, {
          ...sampling,
          minNewTokens,
          maxNewTokens: 12,
          eosTokenId,
          seed: 6,
        });
        expect(rollout.adjustments.temperature).toBe(sampling.temperature);
        const { logprobs, values } = await scoreRollout(rollout);
        expect(maxDifference(flat(rollout, "logprobs"), logprobs)).toBeLessThan(1e-4);
        expect(maxDifference(flat(rollout, "values"), values)).toBeLessThan(1e-4);
        for (const { keptMass } of rollout.responses)
          expect(keptMass.every((mass) => mass > 0 && mass <= 1)).toBe(true);
        if (sampling.repetitionPenalty !== 1) {
          const without = await scoreRollout(rollout, true, false); // and a penalty that is left out
          expect(maxDifference(flat(rollout, "logprobs"), without.logprobs)).toBeGreaterThan(0.001);
        }
        const truncated = sampling.topK > 0 || sampling.topP < 1;
        if (truncated) {
          const without = await scoreRollout(rollout, false); // the test sees a kept set that is left out
          expect(maxDifference(flat(rollout, "logprobs"), without.logprobs)).toBeGreaterThan(0.01);
        }
        for (const { tokens, kept } of rollout.responses)
          tokens.forEach((id, t) => {
            const banned = t < minNewTokens;
            expect(kept[t] !== undefined).toBe(truncated || banned);
            if (kept[t]) expect(kept[t].has(id)).toBe(true);
            if (banned) expect(kept[t]?.has(eosTokenId)).toBe(false);
          });
      }
    });
  });

  test("raw log-probs are the model's own, whatever the sampling; kept masses are of the whole distribution", async () => {
    for (const sampling of [
      {},
      { topP: 0.7 },
      { temperature: 0.7, repetitionPenalty: 1.3, topK: 9, minNewTokens: 3 },
    ]) {
      const options = { ...sampling, maxNewTokens: 8, seed: 4 };
      const rollout = await generate(model, ragged, options);
      const plain = { ...rollout, adjustments: new Adjustments({ temperature: 1, repetitionPenalty: 1 }, V) };
      const raw = (await scoreRollout(plain, false)).logprobs;
      expect(maxDifference(flat(rollout, "rawLogprobs"), raw)).toBeLessThan(1e-4);
      // log p over the kept set = log p over all - log mass
      const whole = (await scoreRollout(rollout, false)).logprobs;
      const masses = rollout.responses.flatMap((r) => Array.from(r.keptMass));
      const got = flat(rollout, "logprobs").map((x, i) => x + Math.log(masses[i]));
      expect(maxDifference(got, whole)).toBeLessThan(1e-4);
      const { responses } = await generate(model, ragged, { ...options, rawLogprobs: false });
      expect(responses.every((r) => r.rawLogprobs.every(Number.isNaN))).toBe(true);
      expect(responses.map((r) => r.tokens)).toEqual(rollout.responses.map((r) => r.tokens));
    }
  });
});
