/** @file Which precision is chosen for which times. Nothing here depends on how quick anything is. */
import { expect, test } from "vitest";
import {
  choosePrecision,
  promptsTogether,
  quickest,
  type SamplingCosts,
  samplingCosts,
} from "../../../src/sample/timing.ts";
import { smallModel } from "../../support/families.ts";
import { gpt2Of } from "../../support/gpt2.ts";

const costs = (int8: Partial<SamplingCosts["int8"]> = {}): SamplingCosts => ({
  fp32: { copy: 0.5, once: false, prompts: 1, token: 0.5 },
  int8: { copy: 2, once: false, prompts: 0.5, token: 0.125, ...int8 },
});
/** 33 responses in 3 parts. */
const work = { prompts: [], responses: 33, together: 16, tokens: 5 };

test("the seconds are those of a copy, of the prompts of all parts and of a token less than each response has", () => {
  const { seconds, precision, why } = choosePrecision(costs(), work, 1);
  expect(seconds).toEqual({ fp32: 0.5 + 3 * (1 + 4 * 0.5), int8: 2 + 3 * (0.5 + 4 * 0.125) + 1 });
  expect(precision).toBe("int8");
  expect(why).toBe(
    "int8, as measured now: 33 x 5 tokens take 9.5 s in fp32 and 6 s in int8 (2 s the copy, 1 s another pass in fp32), which must save a tenth",
  );
});

test("a second pass in fp32, or a copy that takes long, makes int8 the slower one; a copy that is made once is shared", () => {
  expect(choosePrecision(costs(), work, 4)).toMatchObject({ precision: "fp32", seconds: { fp32: 9.5, int8: 9 } });
  expect(choosePrecision(costs({ copy: 8 }), work).precision).toBe("fp32");
  const shared = choosePrecision(costs({ copy: 8, once: true }), { ...work, times: 10 });
  expect(shared).toMatchObject({ precision: "int8", seconds: { int8: 3.8 } });
  expect(shared.why).toContain("(8 s the copy, made once)");
});

test("int8 has to save a tenth, and a model it does not fit is sampled from in fp32", async () => {
  const even = { ...work, responses: 16, tokens: 1 };
  const of = (prompts: number) => choosePrecision(costs({ copy: 0, prompts }), even).precision; // fp32 takes 1.5 s
  expect([of(1.34), of(1.36)]).toEqual(["int8", "fp32"]);
  expect(choosePrecision(undefined, work)).toEqual({
    precision: "fp32",
    why: "fp32, for in int8 the heads of a model must be a multiple of 8 wide",
  });
});

test("what is measured are prompts from all over the list, each as often as it is answered", () => {
  const prompts = Array.from({ length: 10 }, (_, i) => Int32Array.of(i));
  const first = (more: object) => promptsTogether({ ...work, prompts, ...more }).map(([id]) => id);
  expect(first({ responses: 6, together: 4, copies: 2 })).toEqual([0, 0, 5, 5]);
  expect(first({ responses: 3, together: 64 })).toEqual([0, 3, 6]);
  expect(first({ responses: 16, together: 16 })).toEqual([0, 0, 1, 1, 2, 3, 3, 4, 5, 5, 6, 6, 7, 8, 8, 9]);
});

test("short work is done several times, and as often as it may be", async () => {
  let runs = 0;
  const work = async () => void runs++;
  expect(await quickest(work, 3)).toBeLessThan(1);
  expect(runs).toBe(3);
});

test("both are measured on a model, with room for one token too", async () => {
  const shape = { vocabSize: 99, context: 16 };
  const model = smallModel("gpt2", shape, { threads: 1, seed: 1 });
  const prompts = [Int32Array.of(1, 2, 3), Int32Array.of(4)];
  for (const tokens of [1, 13]) {
    const measured = (await samplingCosts(model, { ...work, prompts, tokens })) as SamplingCosts;
    for (const { copy, once, prompts: read, token } of Object.values(measured))
      expect([copy >= 0, once, read > 0, token > 0]).toEqual([true, false, true, tokens > 1]);
  }
  model.addAdapter({ rank: 2, alpha: 2 });
  expect(await samplingCosts(model, { ...work, prompts, tokens: 13 })).toMatchObject({ int8: { once: true } });
  model.dispose();
  const narrow = gpt2Of({ nEmbd: 12, nHead: 3 }) as unknown as typeof model;
  expect(await samplingCosts(narrow, { ...work, prompts, tokens: 13 })).toBeUndefined();
});
