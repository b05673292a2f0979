/** @file Experience is plain data: a copy of it, or one that was written down, is scored to the same bits, whatever the sampler. */
import { afterAll, describe, expect, test } from "vitest";
import { ask } from "../../src/experience/ask.ts";
import {
  type Experience,
  experience,
  experienceFromBytes,
  experienceToBytes,
} from "../../src/experience/experience.ts";
import { type GenerateOptions, generate, type Rollout } from "../../src/sample/generate.ts";
import type { Transform } from "../../src/sample/transforms.ts";
import { familyNames, type Model, tinyModel } from "../support/families.ts";

const queries = [5, 2, 9, 1].map((length, b) => Int32Array.from({ length }, (_, t) => (7 * b + 3 * t) % 100));

/** Every second token stays, the first candidate at least. */
const sparse: Transform = {
  kind: "truncate",
  name: "sparse",
  dependsOnTokens: false,
  keep: ({ logits, candidates = Int32Array.from(logits.keys()) }) => candidates.filter((_, i) => i % 2 === 0),
};
const latest: Transform = {
  kind: "adjust",
  name: "latest",
  dependsOnTokens: true,
  bias: ({ response }) => ({ ids: response.slice(-1), values: new Float32Array(response.slice(-1).length).fill(-2) }),
};
const samplers: Record<string, Partial<GenerateOptions>> = {
  plain: {},
  temperature: { temperature: 0.7 },
  "top-k": { topK: 3 },
  greedy: { topK: 1 },
  "top-p": { topP: 0.9 },
  "min-p": { minP: 0.1 },
  penalty: { repetitionPenalty: 1.3 },
  bias: { bias: { ids: Int32Array.of(3, 50), values: Float32Array.of(2, -1) } },
  banned: { bannedTokens: [1, 2, 64, 100] },
  forced: { forcedTokens: { 1: 17 } },
  "minimum length": { eosTokenId: 11, minNewTokens: 4 },
  transforms: { transforms: [sparse, latest], temperature: 1.2, topP: 0.95 },
  int8: { precision: "int8", topK: 40 },
};

const scores = async (model: Model, data: Experience, { adjustments }: Rollout) => {
  const rows = data.responses.map((_, b) => b);
  const { asked, index } = ask(data, rows, model.sizes.context, adjustments);
  return { ...(await model.score(asked)), index };
};

describe.each(familyNames)("%s", async (family) => {
  const model = await tinyModel(family, { threads: 1 });
  afterAll(() => model.dispose());

  test.each(Object.entries(samplers))("%s: cloned, and through bytes", async (_, sampling) => {
    const rollout = await generate(model, queries, { eosTokenId: null, ...sampling, maxNewTokens: 9 });
    const data = experience([rollout]);
    const [want, before] = [await scores(model, data, rollout), structuredClone(data)];
    for (const copy of [structuredClone(data), experienceFromBytes(experienceToBytes(data))]) {
      expect(copy).toEqual(data);
      expect(await scores(model, copy, rollout)).toEqual(want);
    }
    expect(data).toEqual(before); // asking changes nothing
    // The kept sets are those of the rollout, and count.
    const { kept } = rollout.responses[2];
    const { asked } = ask(data, [2], model.sizes.context, rollout.adjustments);
    const sets = kept.some((set) => set !== undefined) ? kept : undefined;
    expect(asked.distribution.kept?.map((set) => set?.ids())).toEqual(sets?.map((set) => set?.ids()));
    expect(asked.distribution.kept?.map((set) => set?.size)).toEqual(sets?.map((set) => set?.size));
  });
});

const model = await tinyModel("gpt2", { threads: 1 });
afterAll(() => model.dispose());

test("bytes hold nothing but numbers, and may lie anywhere in memory", async () => {
  const rollout = await generate(model, queries, { topK: 5, maxNewTokens: 4, eosTokenId: null });
  const data = experience([rollout]);
  const bytes = experienceToBytes(data);
  const shifted = new Uint8Array(bytes.length + 3);
  shifted.set(bytes, 3);
  expect(experienceFromBytes(shifted.subarray(3))).toEqual(data);
  const flat = Object.values({ ...data, ...data.kept, ...data.batch });
  const plain = (x: unknown): boolean =>
    typeof x === "number" || ArrayBuffer.isView(x) || (Array.isArray(x) && x.every(plain));
  expect(flat.filter((x) => !plain(x))).toEqual([data.batch, data.kept]); // the two whose fields are there too
});

test("bytes that are cut short, or something else", async () => {
  const bytes = experienceToBytes(experience([await generate(model, queries, { maxNewTokens: 2, eosTokenId: null })]));
  const problem = (given: Uint8Array) => {
    try {
      experienceFromBytes(given);
    } catch (error) {
      return (error as Error).message;
    }
    return undefined;
  };
  expect(problem(bytes.subarray(0, 2))).toMatch(/^experienceFromBytes: found 2 bytes, expected bytes of/);
  expect(problem(bytes.subarray(0, 40))).toMatch(/found a header of \d+ bytes in 40/);
  expect(problem(bytes.subarray(0, bytes.length - 8))).toMatch(/found \d+ bytes, of \d+ up to kept\.words|up to/);
  const other = bytes.slice();
  other[4] = 0x78;
  expect(problem(other)).toMatch(/found a header that is not JSON/);
  const array = new TextEncoder().encode("    [1]");
  array.set([3, 0, 0, 0]);
  expect(problem(array)).toMatch(/found another kind of data/);
});
