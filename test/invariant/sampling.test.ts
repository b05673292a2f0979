/** @file x ~ p: decoding is the full forward, a batch is its rows, and what is recorded is what is scored. */
import { afterAll, describe, expect, test, vi } from "vitest";
import { Rng } from "../../src/base/rng.ts";
import { GPT2HeadWithValueModel } from "../../src/gpt2/model.ts";
import { Decoder } from "../../src/sample/decoder.ts";
import { TokenSampler } from "../../src/sample/distribution.ts";
import { type GenerateOptions, generate, type Rollout, replay, respondToBatch } from "../../src/sample/generate.ts";
import { maxDifference, tinyDir } from "../support/golden.ts";

const model = await GPT2HeadWithValueModel.fromPretrained(tinyDir, { threads: 2 });
const { vocabSize: V, nPositions } = model.config;
const EOS = 100;

afterAll(() => model.dispose());

/** Prompts of these lengths, random ids. */
function prompts(lengths: number[], seed = 1): Int32Array[] {
  const rng = new Rng(seed);
  return lengths.map((length) => Int32Array.from({ length }, () => rng.int(V - 1)));
}
const ragged = prompts([4, 1, 9, 6]);

/** The token drawn most often after these prompts: as eos it ends many responses, some early. */
async function commonToken(queries: Int32Array[]): Promise<number> {
  const { responses } = await generate(model, queries, { maxNewTokens: 20, eosTokenId: null, seed: 99 });
  const counts = new Array(V).fill(0);
  for (const { tokens } of responses) for (const id of tokens) counts[id]++;
  return counts.indexOf(Math.max(...counts));
}

/** Logits [B, V] and values [B] after each sequence, without a cache: one full forward pass. */
async function fullForward(of: GPT2HeadWithValueModel, sequences: number[][]) {
  const B = sequences.length;
  const C = of.config.nEmbd;
  const T = Math.max(...sequences.map((s) => s.length));
  const ids = new Int32Array(B * T);
  sequences.forEach((s, b) => {
    ids.set(s, b * T);
  });
  const hidden = await of.transformer.hidden(of.parameters, { ids, B, T });
  const last = new Float32Array(B * C);
  sequences.forEach((s, b) => {
    const n = b * T + s.length - 1;
    last.set(hidden.subarray(n * C, (n + 1) * C), b * C);
  });
  of.pool.release(hidden);
  const logits = new Float32Array(B * V);
  const values = new Float32Array(B);
  await of.head.logits(of.parameters, last, B, logits, values);
  return { logits, values };
}

/** log p and values of every response token, one row after another, from model.score. */
async function scoreRollout(rollout: Rollout, withKept = true) {
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
      adjustments: whole.map(({ part, t }) => part.adjustments?.[t]),
      kept: withKept ? whole.map(({ part, t }) => part.kept?.[t]) : undefined,
    },
  });
}

const flat = (rollout: Rollout, name: "logprobs" | "values") => rollout.responses.flatMap((r) => Array.from(r[name]));

describe("cached decoding equals the full forward", () => {
  async function compare(of: GPT2HeadWithValueModel, queries: Int32Array[], steps: number, topK: number) {
    const sequences = queries.map((q) => Array.from(q));
    const decoder = new Decoder(of, queries.length, Math.max(...queries.map((q) => q.length)) + steps);
    const sampler = new TokenSampler(V, { temperature: 1, topK, topP: 1 });
    const rng = new Rng(4);
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
    ["of one token each", prompts([1, 1, 1])],
    ["a batch of one", prompts([5])],
  ])("prompts %s, greedy and sampled", async (_, queries) => {
    await compare(model, queries, 14, 1);
    await compare(model, queries, 14, 0);
  });

  test("up to the last position", () => compare(model, prompts([40, 3]), nPositions - 40, 0));

  test("with a context that is no multiple of the cache's unit, up to the last position", async () => {
    const odd = GPT2HeadWithValueModel.fromConfig(
      { ...model.config, nPositions: 21 },
      { engine: model.engine, seed: 3 },
    );
    await compare(odd, prompts([6, 17]), 4, 0);
    const { responses } = await generate(odd, prompts([6, 17]), { maxNewTokens: 4, eosTokenId: null });
    expect(responses.map((r) => r.tokens.length)).toEqual([4, 4]);
  });

  test("values of generate are those of the state before each token", async () => {
    const rollout = await generate(model, ragged, { maxNewTokens: 10, eosTokenId: null, seed: 2 });
    const { values } = await scoreRollout(rollout);
    expect(maxDifference(flat(rollout, "values"), values)).toBeLessThan(1e-4);
  });

  test("whatever the buffers held before", async () => {
    const options = { maxNewTokens: 12, seed: 5, eosTokenId: await commonToken(ragged) };
    const clean = await generate(model, ragged, options);
    const take = model.pool.take.bind(model.pool);
    const spy = vi.spyOn(model.pool, "take").mockImplementation((length) => take(length).fill(Number.NaN));
    const dirty = await generate(model, ragged, options);
    spy.mockRestore();
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
    const eosTokenId = await commonToken(ragged);
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
    [0, 5, 50].flatMap((topK) => [1, 0.9, 0.5].map((topP) => ({ temperature, topK, topP }))),
  );
  test.each(grid)("temperature $temperature, top-k $topK, top-p $topP", async (sampling) => {
    const eosTokenId = await commonToken(ragged);
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

describe("the end of a response", () => {
  const many = prompts(
    Array.from({ length: 32 }, (_, b) => 1 + (b % 9)),
    12,
  );

  test("is the first eos, counted as a token; without one the maximum length", async () => {
    const eosTokenId = await commonToken(many);
    const { responses } = await generate(model, many, { maxNewTokens: 20, eosTokenId, seed: 3 });
    for (const { tokens, logprobs, values, kept, finished } of responses) {
      const first = tokens.indexOf(eosTokenId);
      expect(finished).toBe(first >= 0);
      expect(tokens.length).toBe(first >= 0 ? first + 1 : 20);
      expect([logprobs.length, values.length, kept.length]).toEqual([tokens.length, tokens.length, tokens.length]);
      expect([...logprobs, ...values].every(Number.isFinite)).toBe(true);
    }
    const lengths = responses.map((r) => r.tokens.length);
    expect(Math.min(...lengths)).toBeLessThan(8);
    expect(responses.some((r) => !r.finished)).toBe(true);

    // Up to there, eos or not makes no difference to the tokens.
    const onwards = await generate(model, many, { maxNewTokens: 20, eosTokenId: null, seed: 3 });
    responses.forEach((r, b) => {
      expect(r.tokens).toEqual(onwards.responses[b].tokens.slice(0, r.tokens.length));
    });
    expect(onwards.responses.every((r) => r.tokens.length === 20 && !r.finished)).toBe(true);
  });

  test("comes no earlier than minNewTokens says", async () => {
    const eosTokenId = await commonToken(many);
    for (const minNewTokens of [1, 8, 20, 25]) {
      const options = { maxNewTokens: 20, minNewTokens, eosTokenId, seed: 3 };
      const { responses } = await generate(model, many, options);
      const ends = responses.map((r) => r.tokens.indexOf(eosTokenId)).filter((t) => t >= 0);
      expect(ends.every((t) => t >= minNewTokens)).toBe(true);
      if (minNewTokens <= 8) expect(ends.length).toBeGreaterThan(0);
      if (minNewTokens >= 20) expect(responses.every((r) => r.tokens.length === 20 && !r.finished)).toBe(true);
    }
  });

  test("is the model's own eos when nothing else is said", async () => {
    const options = { maxNewTokens: 30, seed: 1 };
    expect(model.config.eosTokenId).toBe(EOS);
    const implied = await generate(model, many, options);
    expect(implied).toEqual(await generate(model, many, { ...options, eosTokenId: EOS }));
    expect(implied.responses.some((r) => r.finished)).toBe(true);
  });

  test("eos as the last token that fits is an end too", async () => {
    const [query] = ragged;
    const options = { maxNewTokens: 3, temperature: 3 };
    const { tokens } = (await generate(model, [query], { ...options, eosTokenId: null })).responses[0];
    const eosTokenId = tokens[2];
    expect(tokens.indexOf(eosTokenId)).toBe(2);
    const { responses } = await generate(model, [query], { ...options, eosTokenId });
    expect(responses[0].finished).toBe(true);
    expect(responses[0].tokens).toEqual(tokens);
  });

  test("onToken hears every token of a row in order", async () => {
    const heard = many.map((): number[] => []);
    const { responses } = await generate(model, many, {
      maxNewTokens: 10,
      eosTokenId: await commonToken(many),
      onToken: (row, id) => heard[row].push(id),
    });
    expect(heard).toEqual(responses.map((r) => Array.from(r.tokens)));
  });

  test("respondToBatch gives exactly txtLen tokens", async () => {
    const { data, shape, rollout } = await respondToBatch(model, many, { seed: 5, topK: 60, temperature: 1.5 });
    expect(shape).toEqual([32, 20]);
    expect(data.length).toBe(640);
    const rows = many.map((_, b) => data.slice(b * 20, (b + 1) * 20));
    expect(rows).toEqual(rollout.responses.map((r) => r.tokens));
    expect(rows.some((r) => r.slice(0, -1).includes(EOS))).toBe(true); // eos or not
    expect(rollout.responses.every((r) => !r.finished)).toBe(true);
    const short = await respondToBatch(model, ragged, { txtLen: 1 });
    expect([short.shape, short.data.length]).toEqual([[4, 1], 4]);
    const same = await generate(model, ragged, { maxNewTokens: 1, eosTokenId: null });
    expect(short.rollout).toEqual(same);
  });

  test("no queries, no responses", async () => {
    expect(await generate(model, [], { maxNewTokens: 5 })).toMatchObject({ queries: [], responses: [] });
    expect((await respondToBatch(model, [])).shape).toEqual([0, 20]);
  });
});

describe("errors", () => {
  const three = Int32Array.of(1, 2, 3);
  const wide = new Int32Array(45);
  test.each<[string, Int32Array[], Partial<GenerateOptions>, string]>([
    [
      "input",
      [three, new Int32Array(0)],
      {},
      "query 1: found no tokens, expected at least one. Fix: start an empty prompt with the end-of-text token",
    ],
    [
      "input",
      [three, wide],
      {},
      "query 1: found 45 tokens and 4 to come, expected at most 48 together (n_positions). Fix: shorten the prompt or lower maxNewTokens",
    ],
    [
      "input",
      [Int32Array.of(1, 101)],
      {},
      "query 0, position 1: found id 101, expected 0 to 100. Fix: use the tokenizer of this model",
    ],
    [
      "input",
      [Int32Array.of(-1)],
      {},
      "query 0, position 0: found id -1, expected 0 to 100. Fix: use the tokenizer of this model",
    ],
    ["usage", [three], { temperature: 0 }, "temperature: found 0, expected a number above 0. Fix: correct temperature"],
    ["usage", [three], { topK: -3 }, "topK: found -3, expected a whole number, 0 for all tokens. Fix: correct topK"],
    ["usage", [three], { topP: 2 }, "topP: found 2, expected a number above 0 and at most 1. Fix: correct topP"],
    [
      "usage",
      [three],
      { maxNewTokens: 0 },
      "maxNewTokens: found 0, expected a whole number from 1. Fix: correct maxNewTokens",
    ],
    [
      "usage",
      [three],
      { maxNewTokens: 1.5 },
      "maxNewTokens: found 1.5, expected a whole number from 1. Fix: correct maxNewTokens",
    ],
    [
      "usage",
      [three],
      { minNewTokens: -1 },
      "minNewTokens: found -1, expected a whole number from 0. Fix: correct minNewTokens",
    ],
    [
      "usage",
      [three],
      { minNewTokens: Number.NaN },
      "minNewTokens: found NaN, expected a whole number from 0. Fix: correct minNewTokens",
    ],
  ])("%s %#: %s", async (kind, queries, options, message) => {
    const wrong = generate(model, queries, { maxNewTokens: 4, ...options });
    await expect(wrong).rejects.toThrow(expect.objectContaining({ kind, message }));
  });

  test("respondToBatch names its own option", async () => {
    const message = "txtLen: found 0, expected a whole number from 1. Fix: correct txtLen";
    await expect(respondToBatch(model, [three], { txtLen: 0 })).rejects.toThrow(message);
  });

  test("one token less fits", async () => {
    const { responses } = await generate(model, [wide.slice(1)], { maxNewTokens: 4, eosTokenId: null });
    expect(responses[0].tokens.length).toBe(4);
  });
});
