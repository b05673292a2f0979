/** @file Where a response ends, how many there are, and queries and options that are refused. */
import { afterAll, describe, expect, test } from "vitest";
import { GPT2HeadWithValueModel } from "../../src/families/index.ts";
import { type GenerateOptions, generate, respondToBatch } from "../../src/sample/generate.ts";
import type { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { tinyDir } from "../support/golden.ts";
import { commonToken, prompts } from "../support/prompts.ts";

const model = await GPT2HeadWithValueModel.fromPretrained(tinyDir, { threads: 2 });
const { vocabSize: V } = model.config;
const EOS = 100;
const ragged = prompts(V, [4, 1, 9, 6]);

afterAll(() => model.dispose());

describe("the end of a response", () => {
  const many = prompts(
    V,
    Array.from({ length: 32 }, (_, b) => 1 + (b % 9)),
    12,
  );

  test("is the first eos, counted as a token; without one the maximum length", async () => {
    const eosTokenId = await commonToken(model, many);
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
    const eosTokenId = await commonToken(model, many);
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

  test("is a stop string, with the token that completes it, in any row and as if nothing else had changed", async () => {
    // Token v is written as <v>, so a string may be a token, part of one, or lie across two.
    const tokenizer = { createStream: () => ({ push: (id: number) => `<${id}>` }) } as unknown as Tokenizer;
    const options = { maxNewTokens: 12, eosTokenId: null, seed: 4 };
    const free = (await generate(model, many, options)).responses;
    const pair = Array.from(free[5].tokens.slice(3, 5));
    const strings = [`<${free[3].tokens[4]}>`, `${pair[0]}><${pair[1]}`];
    const rollout = await generate(model, many, { ...options, minNewTokens: 3, stop: { strings, tokenizer } });
    let stopped = 0;
    rollout.responses.forEach((r, b) => {
      const texts = Array.from(free[b].tokens, (_, t) =>
        Array.from(free[b].tokens.slice(0, t + 1), (v) => `<${v}>`).join(""),
      );
      const first = texts.findIndex((text) => strings.some((s) => text.includes(s)));
      expect(r.tokens).toEqual(first < 0 ? free[b].tokens : free[b].tokens.slice(0, first + 1));
      expect(r.finished).toBe(first >= 0);
      expect(r.keptMass.length).toBe(r.tokens.length);
      if (first >= 0) stopped++;
    });
    expect(stopped).toBeGreaterThan(1);
    expect(stopped).toBeLessThan(many.length);
    const empty = generate(model, many, { ...options, stop: { strings: [""], tokenizer } });
    await expect(empty).rejects.toThrow("stop string 1: found an empty string");
  });

  test("onToken hears every token of a row in order", async () => {
    const heard = many.map((): number[] => []);
    const { responses } = await generate(model, many, {
      maxNewTokens: 10,
      eosTokenId: await commonToken(model, many),
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
    [
      "usage",
      [three],
      { temperature: 0 },
      "temperature: found 0, expected a number from 0.0001 to 10000. Fix: correct temperature",
    ],
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
    [
      "usage",
      [three],
      { numReturnSequences: 0 },
      "numReturnSequences: found 0, expected a whole number from 1. Fix: correct numReturnSequences",
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
