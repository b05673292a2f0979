/** @file Every public door for token ids: whatever comes in is read, or refused with an error that says where and what to do. */
import { afterAll, describe, expect, test } from "vitest";
import { ValueheadError } from "../../src/base/errors.ts";
import { builtInRewards } from "../../src/experience/reward-functions.ts";
import {
  GPT2HeadWithValueModel,
  generate,
  makeConfig,
  PPOTrainer,
  replay,
  respondToBatch,
  type SampledResponse,
  scoreTokens,
} from "../../src/index.ts";
import { tokenizer } from "../support/ppo.ts";

const V = 8192;
const LONGEST = 16;
const shape = { vocabSize: V, nEmbd: 8, nLayer: 1, nHead: 1, nPositions: LONGEST, eosTokenId: 8191 };
const newModel = () =>
  GPT2HeadWithValueModel.fromConfig(makeConfig({ ...shape, initializerRange: 0.2 }), { seed: 1, threads: 1 });
const model = newModel();
const reference = newModel();
afterAll(() => {
  model.dispose();
  reference.dispose();
});
const options = { batchSize: 1, miniBatchSize: 1, maxNewTokens: 4, ppoEpochs: 1, learningRate: 1e-9 };
const newTrainer = (config = {}) =>
  new PPOTrainer({ model, tokenizer, reward: builtInRewards.length, config: { ...options, ...config } });

type Ids = Int32Array;
const asked = (ids: Ids) => {
  const T = ids?.length;
  return { tokens: { ids, B: 1, T }, rows: [0], ids: [5], distribution: { temperature: 1 } };
};
/** A door, and whether it is one for texts of the tokenizer's vocabulary rather than the model's. */
const doors: Record<string, (ids: Ids) => unknown> = {
  generate: (ids) => generate(model, [ids], { maxNewTokens: 1 }),
  respondToBatch: (ids) => respondToBatch(model, [ids], { txtLen: 1 }),
  scoreTokens: (ids) => scoreTokens(model, ids),
  "forward, inputIds": (ids) => model.forward({ inputIds: [ids] }),
  "forward, flat": (ids) => model.forward({ inputIds: { data: ids, shape: [1, ids?.length] } }),
  "forward, tokenTypeIds": (ids) =>
    model.forward({ inputIds: [new Int32Array(ids?.length ?? 3).fill(1)], tokenTypeIds: [ids] }),
  forwardTuple: (ids) => model.forwardTuple({ inputIds: [ids] }),
  "score, tokens": (ids) => model.score(asked(ids)),
  "score, ids": (ids) => model.score({ ...asked(Int32Array.of(1, 2, 3)), rows: [0, 1, 2], ids }),
  exactKl: (ids) => model.exactKl(asked(ids), reference),
  "step, query": (ids) => newTrainer().step([ids], [[1]], [1]),
  "step, response": (ids) => newTrainer().step([[1]], [ids], [1]),
  decode: (ids) => tokenizer.decode(ids),
  decodeEach: (ids) => tokenizer.decodeEach(ids),
  decodeAfter: (ids) => tokenizer.decodeAfter([1], ids),
  "decodeAfter, before": (ids) => tokenizer.decodeAfter(ids, [1]),
  createStream: (ids) => tokenizer.createStream({ before: ids }),
};
const DECODING = ["decode", "decodeEach", "decodeAfter", "decodeAfter, before", "createStream"];

const good: [string, unknown][] = [
  ["an Int32Array", Int32Array.of(1, 2, 3)],
  ["a plain array", [1, 2, 3]],
  ["a Uint16Array", Uint16Array.of(1, 2, 3)],
  ["a Uint32Array", Uint32Array.of(1, 2, 3)],
  ["a Float32Array of whole numbers", Float32Array.of(1, 2, 3)],
];
const bad: [string, unknown][] = [
  ["no ids", []],
  ["an empty Int32Array", new Int32Array(0)],
  ["too many", new Array(LONGEST + 1).fill(1)],
  ["an id too large", [1, V, 3]],
  ["a huge id", [1, 2 ** 40, 3]],
  ["a negative id", [1, 2, -1]],
  ["NaN", [1, Number.NaN, 3]],
  ["infinity", [1, Number.POSITIVE_INFINITY, 3]],
  ["a fraction", [1, 1.5, 3]],
  ["a BigInt", [1, 2n, 3]],
  ["BigInts, as tensors of other libraries hold them", BigInt64Array.of(1n, 2n, 3n)],
  ["a boxed number", [1, Object(2), 3]],
  ["a number as text", [1, "2", 3]],
  ["null inside", [1, null, 3]],
  ["a hole", new Array(3)],
  ["rows for a row", [[1, 2, 3]]],
  ["null", null],
  ["undefined", undefined],
  ["one id", 7],
  ["a text", "abc"],
  ["an object", {}],
  ["array-like", { length: 3, 0: 1, 1: 2, 2: 3 }],
  ["a tensor of another library", { data: [1, 2, 3], dims: [1, 3] }],
  ["a Set", new Set([1, 2, 3])],
  ["a DataView", new DataView(new ArrayBuffer(12))],
];

describe.each(Object.entries(doors))("%s", (name, door) => {
  test.each(good)("takes %s", async (_, ids) => {
    await door(ids as Ids);
  });

  // Text may be empty, and of any length; a stream may begin after nothing.
  const refused = bad.filter(([what]) => !DECODING.includes(name) || !/^(no ids|an empty|too many)/.test(what));
  const optional = name === "createStream" ? refused.filter(([what]) => what !== "undefined") : refused;
  test.each(optional)("refuses %s", async (what, ids) => {
    let error: unknown;
    try {
      await door(ids as Ids);
    } catch (thrown) {
      error = thrown;
    }
    expect(error, what).toBeInstanceOf(ValueheadError);
    const { kind, problem } = error as ValueheadError;
    expect(kind).toMatch(/^(input|usage)$/);
    for (const part of [problem.where, problem.found, problem.expected, problem.fix]) {
      expect(part).toMatch(/\S/);
      expect(part).not.toMatch(/\[object|NaN numbers/);
    }
  });
});

test("advice for what is often passed instead", async () => {
  const message = async (call: Promise<unknown>) =>
    (await call.then(String, (error: Error) => error.message)) as string;
  const wrong = (ids: unknown) => ids as Int32Array;
  expect(await message(generate(model, wrong([1, 2]) as never, { maxNewTokens: 1 }))).toMatch(
    "queries: found the ids of one sequence, expected a list of sequences, each a list of token ids. Fix: put it in an array: [ids]",
  );
  expect(await message(scoreTokens(model, wrong("abc")))).toMatch("Fix: encode the text: tokenizer.encode(text)");
  expect(await message(scoreTokens(model, wrong([1n])))).toMatch(
    "token ids, position 0: found id the BigInt 1n, expected 0 to 8191. Fix: convert the ids: Int32Array.from(ids, Number)",
  );
  expect(await message(scoreTokens(model, wrong({ tokens: [1] })))).toMatch("Fix: pass the tokens of the response");
});

describe("step", () => {
  const sample = async (trainer: PPOTrainer, queries = [Int32Array.of(1, 2), Int32Array.of(700, 3, 4)]) => {
    const { responses } = await generate(model, queries, { ...trainer.sampling(), seed: 3 });
    return { queries, responses };
  };
  const refusal = (call: Promise<unknown>) =>
    call.then(
      () => "accepted",
      (error) => (error instanceof ValueheadError ? error.message : `raw: ${error}`),
    );

  test("takes plain arrays, typed scores and booleans", async () => {
    const trainer = newTrainer();
    const { queries, responses } = await sample(trainer);
    const plain = responses.map((r) => Array.from(r.tokens));
    for (const scores of [[1, 2], Float32Array.of(1, 2), [true, false]])
      await trainer.step(
        queries.map((query) => Array.from(query)),
        plain,
        scores,
      );
    await trainer.step(queries, responses, [1, 2]);
    expect(trainer.stepsTaken).toBe(4);
  });

  test.each<[string, (r: SampledResponse[]) => unknown[], RegExp]>([
    ["kinds mixed", ([a, b]) => [a, b.tokens], /response 1: found token ids alone after a response of generate/],
    [
      "kinds mixed, the other way",
      ([a, b]) => [a.tokens, b],
      /response 1: found a response of generate after token ids/,
    ],
    [
      "too few log-probs",
      ([a, b]) => [a, { ...b, logprobs: b.logprobs.slice(1) }],
      /response 1, logprobs: found \d numbers/,
    ],
    ["log-probs as an array", ([a, b]) => [a, { ...b, logprobs: Array.from(b.logprobs) }], /logprobs: found an Array/],
    ["no log-probs", ([a, b]) => [a, { ...b, logprobs: undefined }], /logprobs: found undefined/],
    [
      "NaN log-probs",
      ([a, b]) => [a, { ...b, logprobs: b.logprobs.map(() => Number.NaN) }],
      /logprobs, token 0: found NaN/,
    ],
    [
      "a log-prob above 0",
      ([a, b]) => [a, { ...b, logprobs: b.logprobs.map(() => 0.5) }],
      /token 0: found 0.5, expected a log-prob/,
    ],
    ["NaN values", ([a, b]) => [a, { ...b, values: b.values.map(() => Number.NaN) }], /values, token 0: found NaN/],
    ["too many values", ([a, b]) => [a, { ...b, values: new Float32Array(9) }], /values: found 9 numbers/],
    ["kept sets of fewer tokens", ([a, b]) => [a, { ...b, kept: [] }], /kept: found 0 sets/],
    [
      "kept sets that are none",
      ([a, b]) => [a, { ...b, kept: b.kept.map(() => new Set()) }],
      /kept, token 0: found a Set/,
    ],
    ["a kept mass of 0", ([a, b]) => [a, { ...b, keptMass: b.keptMass.map(() => 0) }], /keptMass, token 0: found 0/],
    [
      "tokens cut off",
      ([a, b]) => [a, { ...b, tokens: b.tokens.slice(1) }],
      /response 1, logprobs: found 4 numbers, expected 3/,
    ],
    [
      "other tokens",
      ([a, b]) => [a, { ...b, tokens: b.tokens.map((id) => (id + 1) % 100) }],
      /response 1, token 0.*after another query/,
    ],
    [
      "other log-probs",
      ([a, b]) => [a, { ...b, logprobs: b.logprobs.map((x) => x - 0.1) }],
      /recorded log-prob of .*response 1, token 0/,
    ],
    [
      "other values",
      ([a, b]) => [a, { ...b, values: b.values.map((x) => x + 0.1) }],
      /recorded value of .*response 1, token 0/,
    ],
    ["responses of each other's queries", ([a, b]) => [b, a], /response 0, token 0.*after another query/],
  ])("refuses %s", async (_, tamper, message) => {
    const trainer = newTrainer({ batchSize: 2 });
    const { queries, responses } = await sample(trainer);
    const call = trainer.step(queries, tamper([...responses]) as SampledResponse[], [1, 2]);
    expect(await refusal(call)).toMatch(message);
    expect(trainer.stepsTaken).toBe(0);
  });

  test.each([
    ["another temperature", { temperature: 0.5 }, { temperature: 1 }],
    ["top-k that was not recorded, for its sets were left out", { topK: 3 }, {}],
  ])("refuses a response of %s", async (_, sampled, config) => {
    const { queries, responses } = await sample(newTrainer(sampled));
    const forgotten = responses.map((r) => ({ ...r, kept: r.kept.map(() => undefined) }));
    expect(await refusal(newTrainer(config).step(queries, forgotten, [1, 2]))).toMatch(/with other options/);
  });

  test("refuses what does not fit the context, and says which", async () => {
    const query = new Array(10).fill(1);
    expect(await refusal(newTrainer().step([[1], query], [[1], new Array(7).fill(2)], [1, 1]))).toMatch(
      "step, response 1: found 7 tokens after 10 of its query, expected at most 16 together (n_positions)",
    );
  });

  test.each<[string, unknown, RegExp]>([
    ["NaN", [Number.NaN], /score 0: found NaN, expected a finite number/],
    ["more than float32 holds", [1e39], /score 0: found 1e\+39, expected a number that float32 can hold/],
    ["a text", ["1"], /score 0: found the string "1"/],
    ["a BigInt", [1n], /score 0: found the BigInt 1n/],
    ["a number alone", 1, /step, scores: found 1, expected a list/],
    ["nothing", undefined, /step, scores: found undefined/],
  ])("refuses scores: %s", async (_, scores, message) => {
    expect(await refusal(newTrainer().step([[1]], [[2]], scores as number[]))).toMatch(message);
  });
});

test("replay names a response there is", async () => {
  const rollout = await generate(model, [[1]], { maxNewTokens: 2 });
  expect(replay(rollout, 0).temperature).toBe(1);
  expect(() => replay(rollout, 1)).toThrow("replay, response: found 1, expected 0 to 0");
});

test.each<[string, object, RegExp]>([
  ["rows of another place", { rows: [3] }, /asked rows, position 0: found id 3, expected 0 to 2/],
  ["more ids than rows", { ids: [1, 2] }, /asked ids: found 2 for 1 rows/],
  ["no distribution", { distribution: undefined }, /temperature: found undefined/],
  ["a temperature of 0", { distribution: { temperature: 0 } }, /temperature: found 0/],
  ["kept sets of other rows", { distribution: { temperature: 1, kept: [] } }, /kept: found 0 for 1 rows/],
  ["B and T that are not those of the ids", { tokens: { ids: [1, 2, 3], B: 2, T: 3 } }, /found 3 ids, expected 2 x 3/],
  ["no T", { tokens: { ids: [1, 2, 3], B: 1 } }, /token ids, T: found undefined/],
])("score refuses %s", async (_, change, message) => {
  await expect(model.score({ ...asked(Int32Array.of(1, 2, 3)), ...change })).rejects.toThrow(message);
});

test.each<[string, object, RegExp]>([
  [
    "embeddings that are a plain array",
    { inputsEmbeds: { data: [1], shape: [1, 1, 8] } },
    /inputsEmbeds: found an Array/,
  ],
  ["embeddings in float64", { inputsEmbeds: { data: new Float64Array(8), shape: [1, 1, 8] } }, /found a Float64Array/],
  [
    "a mask with a fraction",
    { inputIds: [[1, 2]], attentionMask: [[1, 0.5]] },
    /attentionMask, row 0, position 1: found 0.5/,
  ],
  ["a row that is none", { inputIds: [[1], null] }, /inputIds, row 1: found null/],
  ["a past of nothing", { inputIds: [[1]], pastKeyValues: [{}] }, /pastKeyValues, layer 0, keys: found undefined/],
])("forward refuses %s", async (_, given, message) => {
  await expect(model.forward(given)).rejects.toThrow(message);
});
