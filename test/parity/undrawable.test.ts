/** @file Ids that no text can be made of: never drawn and never scored as drawable, with the numbers transformers and torch give. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { ask } from "../../src/experience/ask.ts";
import { experience } from "../../src/experience/experience.ts";
import { GPT2HeadWithValueModel } from "../../src/families/index.ts";
import { drawableIds } from "../../src/model/drawable.ts";
import { generate, replay } from "../../src/sample/generate.ts";
import { scoreTokens } from "../../src/sample/score.ts";
import { goldenPath, maxDifference, tinyDir } from "../support/golden.ts";

interface Row {
  logprobs: number[];
  refLogprobs: number[];
  entropies: number[];
  kl: number[];
  rawLogprobs: number[];
  greedy: number[];
}
const golden = JSON.parse(readFileSync(goldenPath("undrawable.json"), "utf8")) as {
  undrawable: number[];
  temperature: number;
  queries: number[][];
  responses: number[][];
  rows: Row[];
};
const undrawable = new Set(golden.undrawable);
const tokenizer = { has: (id: number) => !undrawable.has(id) };
const queries = golden.queries.map((q) => Int32Array.from(q));
const model = await GPT2HeadWithValueModel.fromPretrained(tinyDir, { tokenizer, threads: 1 });
const options = { maxNewTokens: 12, eosTokenId: null };

test("the model knows them from its tokenizer, and so do its copies", () => {
  const ids = Array.from(model.drawable?.ids() ?? []);
  expect(ids).toEqual(Array.from({ length: 101 }, (_, id) => id).filter((id) => !undrawable.has(id)));
  expect(model.frozenCopy().drawable).toBe(model.drawable);
  expect(model.notes).toEqual([
    `${undrawable.size} of the 101 ids of the model have no text in the tokenizer: they are never drawn, and do not count when tokens are scored`,
  ]);
  expect(drawableIds({ has: () => true }, 101)).toBeUndefined();
});

test("greedy responses are those of transformers with suppress_tokens", async () => {
  for (const precision of ["fp32", "int8"] as const) {
    const { responses } = await generate(model, queries, { ...options, topK: 1, precision });
    const tokens = responses.map((r) => Array.from(r.tokens));
    if (precision === "fp32") expect(tokens).toEqual(golden.responses);
    expect(tokens.flat().filter((id) => undrawable.has(id))).toEqual([]);
  }
});

test("log-probs, entropies and exact KL of their tokens", async () => {
  const reference = await GPT2HeadWithValueModel.fromPretrained(tinyDir, { engine: model.engine });
  expect(reference.drawable).toBeUndefined(); // it is asked about the policy's distribution, which says all
  reference.parameters.view("transformer.wpe.weight").fill(0);
  const { adjustments } = await generate(model, queries, { ...options, temperature: golden.temperature });
  const responses = golden.responses.map((ids) => ({
    tokens: Int32Array.from(ids),
    logprobs: new Float32Array(ids.length),
    rawLogprobs: new Float32Array(ids.length),
    values: new Float32Array(ids.length),
    kept: ids.map(() => undefined),
    keptMass: new Float64Array(ids.length).fill(1),
    finished: false,
  }));
  const { asked } = ask(experience([{ queries, responses }]), [0, 1, 2], model.config.nPositions, adjustments);
  const want = (name: keyof Row) => golden.rows.flatMap((row) => row[name]);
  const scores = await model.score(asked);
  expect(maxDifference(scores.logprobs, want("logprobs"))).toBeLessThan(1e-4);
  expect(maxDifference(scores.entropies, want("entropies"))).toBeLessThan(1e-4);
  const exact = await model.exactKl(asked, reference);
  expect(maxDifference(exact.logprobs, want("logprobs"))).toBeLessThan(1e-4);
  expect(maxDifference(exact.refLogprobs, want("refLogprobs"))).toBeLessThan(1e-4);
  expect(maxDifference(exact.kl, want("kl"))).toBeLessThan(1e-4);
  expect(maxDifference((await reference.score(asked)).logprobs, want("refLogprobs"))).toBeLessThan(1e-4);
});

test("a text's own log-probs, and what would have been written instead", async () => {
  for (const [b, row] of golden.rows.entries()) {
    const query = golden.queries[b];
    const { logprobs, greedy } = await scoreTokens(model, Int32Array.from([...query, ...golden.responses[b]]));
    expect(maxDifference(logprobs.subarray(query.length), row.rawLogprobs)).toBeLessThan(1e-4);
    expect(Array.from(greedy.subarray(query.length - 1, -1))).toEqual(row.greedy);
  }
  const { logprobs } = await scoreTokens(model, Int32Array.of(3, golden.undrawable[0]));
  expect(logprobs[1]).toBe(Number.NEGATIVE_INFINITY);
});

const many = Array.from({ length: 24 }, (_, i) => Int32Array.of(i, 2 * i, 3));

test.each([
  { name: "plain" },
  { name: "temperature", temperature: 2 },
  { name: "top-k, top-p, min-p", topK: 60, topP: 0.9, minP: 0.001 },
  { name: "a ban and a penalty", bannedTokens: [1, 2, 20], repetitionPenalty: 1.5 },
  { name: "a bias towards them", bias: { ids: Int32Array.of(golden.undrawable[0]), values: Float32Array.of(50) } },
  { name: "a minimum length", eosTokenId: [5, 6], minNewTokens: 6 },
  {
    name: "a transform",
    transforms: [{ kind: "truncate", name: "even", dependsOnTokens: false, keep: evens }] as const,
  },
])("what is drawn is scored as it was drawn: $name", async ({ name: _, ...sampling }) => {
  const rollout = await generate(model, many, { ...options, ...sampling, seed: 3 });
  for (const [b, { tokens, logprobs, rawLogprobs, keptMass }] of rollout.responses.entries()) {
    expect(Array.from(tokens).filter((id) => undrawable.has(id))).toEqual([]);
    const ids = Int32Array.from([...many[b], ...tokens]);
    const rows = Int32Array.from(tokens, (_, t) => many[b].length - 1 + t);
    const distribution = replay(rollout, b);
    const again = await model.score({ tokens: { ids, B: 1, T: ids.length }, rows, ids: tokens, distribution });
    expect(maxDifference(logprobs, again.logprobs)).toBeLessThan(1e-4);
    const { logprobs: raw } = await scoreTokens(model, ids);
    expect(maxDifference(rawLogprobs, raw.subarray(many[b].length))).toBeLessThan(1e-4);
    if (Object.keys(sampling).length === 0) expect(keptMass.every((mass) => mass === 1)).toBe(true);
  }
});

function evens({ candidates }: { candidates: Int32Array | undefined }) {
  expect(candidates?.some((id) => undrawable.has(id))).toBe(false);
  return candidates?.filter((id) => id % 2 === 0);
}

test("one that is forced is refused", async () => {
  const forced = generate(model, queries, { ...options, forcedTokens: { 2: golden.undrawable[1] } });
  await expect(forced).rejects.toThrow(
    `forcedTokens: found token ${golden.undrawable[1]}, for which the tokenizer has no text, expected ids of the tokenizer's vocabulary`,
  );
});
