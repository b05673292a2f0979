/** @file The parameter table against the published sizes of GPT-2. */
import { expect, test } from "vitest";
import { countParameters } from "../../../src/model/memory.ts";
import { parameterTable } from "../../../src/model/parameters.ts";
import { gpt2Of } from "../../support/gpt2.ts";

/**
 * Sizes from the config.json files on the hub; counts as transformers' num_parameters() gives them for GPT2LMHeadModel, the
 * tied head counted once.
 */
const published = {
  gpt2: { nLayer: 12, nEmbd: 768, nHead: 12, count: 124_439_808 },
  "gpt2-medium": { nLayer: 24, nEmbd: 1024, nHead: 16, count: 354_823_168 },
  "gpt2-large": { nLayer: 36, nEmbd: 1280, nHead: 20, count: 774_030_080 },
  "gpt2-xl": { nLayer: 48, nEmbd: 1600, nHead: 25, count: 1_557_611_200 },
  distilgpt2: { nLayer: 6, nEmbd: 768, nHead: 12, count: 81_912_576 },
};

test.each(Object.entries(published))("%s", (_, { count, ...sizes }) => {
  const { nEmbd: C } = sizes;
  const table = parameterTable(gpt2Of(sizes));
  expect(table.at(-1)?.end).toBe(count + C + 1); // and the value head
  expect(countParameters(gpt2Of({ ...sizes, summaryUseProj: false })).total).toBe(count);
  expect(countParameters(gpt2Of({ ...sizes, summaryProjToLabels: false })).total).toBe(count + C * C + C);
  expect(countParameters(gpt2Of({ ...sizes, tieWordEmbeddings: false })).total).toBe(count + C + 1 + 50257 * C);
  expect(new Set(table.map((p) => p.name)).size).toBe(table.length);
  table.forEach((p, i) => {
    expect(p.start).toBe(i === 0 ? 0 : table[i - 1].end);
    expect(p.end - p.start).toBe(p.shape.reduce((n, s) => n * s, 1));
  });
});
