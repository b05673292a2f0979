/** @file What ends a response: the tokens that config.json and generation_config.json name, as in transformers. */
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { GPT2HeadWithValueModel } from "../../src/families/index.ts";
import { generate } from "../../src/sample/generate.ts";
import { goldenPath, tinyDir } from "../support/golden.ts";

interface Case {
  name: string;
  config: object;
  generation: object | null;
  minNewTokens: number;
  responses: number[][];
  /** eos_token_id of the config.json and the generation_config.json that transformers saves. */
  saved: unknown[];
}
const { queries, maxNewTokens, cases } = JSON.parse(readFileSync(goldenPath("ends.json"), "utf8")) as {
  queries: number[][];
  maxNewTokens: number;
  cases: Case[];
};
const scratch = mkdtempSync(join(tmpdir(), "ends-"));
afterAll(() => rmSync(scratch, { recursive: true }));

const readJson = (...path: string[]) => JSON.parse(readFileSync(join(...path), "utf8"));

/** The golden model with other metadata. */
function directoryOf({ config, generation }: Pick<Case, "config" | "generation">): string {
  const dir = mkdtempSync(join(scratch, "model-"));
  copyFileSync(join(tinyDir, "model.safetensors"), join(dir, "model.safetensors"));
  writeFileSync(join(dir, "config.json"), JSON.stringify({ ...readJson(tinyDir, "config.json"), ...config }));
  if (generation) writeFileSync(join(dir, "generation_config.json"), JSON.stringify(generation));
  return dir;
}

const greedy = { topK: 1, repetitionPenalty: 1.3, maxNewTokens };

describe.each(cases)("$name, at least $minNewTokens tokens", (c) => {
  test("responses end where transformers ends them", async () => {
    const model = await GPT2HeadWithValueModel.fromPretrained(directoryOf(c));
    const { responses } = await generate(
      model,
      queries.map((q) => Int32Array.from(q)),
      { ...greedy, minNewTokens: c.minNewTokens },
    );
    expect(responses.map((r) => Array.from(r.tokens))).toEqual(c.responses);
    expect(responses.map((r) => r.finished)).toEqual(
      c.responses.map((r) => model.eosTokenIds.includes(r.at(-1) as number)),
    );
  });

  test("both files are saved as they were read", async () => {
    const model = await GPT2HeadWithValueModel.fromPretrained(directoryOf(c));
    const out = mkdtempSync(join(scratch, "saved-"));
    await model.savePretrained(out);
    expect(readJson(out, "config.json").eos_token_id).toEqual(c.saved[0]);
    if (c.generation) expect(readJson(out, "generation_config.json")).toEqual(c.generation);
    const again = await GPT2HeadWithValueModel.fromPretrained(out);
    expect(again.eosTokenIds).toEqual(model.eosTokenIds);
    expect(again.frozenCopy().eosTokenIds).toEqual(model.eosTokenIds);
  });
});

test("a generation_config.json that names no end leaves it to config.json", async () => {
  for (const generation of [{}, { eos_token_id: null }, { temperature: 0.5 }]) {
    const model = await GPT2HeadWithValueModel.fromPretrained(directoryOf({ config: { eos_token_id: 7 }, generation }));
    expect(model.eosTokenIds).toEqual([7]);
  }
});

test("sampling settings in it are saved and not applied", async () => {
  const generation = { temperature: 0.1, top_k: 1, do_sample: true, eos_token_id: 7 };
  const plain = await GPT2HeadWithValueModel.fromPretrained(
    directoryOf({ config: { eos_token_id: 7 }, generation: null }),
  );
  const model = await GPT2HeadWithValueModel.fromPretrained(directoryOf({ config: {}, generation }));
  const asked = queries.map((q) => Int32Array.from(q));
  const [a, b] = [await generate(plain, asked, { maxNewTokens }), await generate(model, asked, { maxNewTokens })];
  expect(b.responses).toEqual(a.responses);
});

test.each([
  ["[]", "[]", "a JSON object"],
  ['"x"', '"x"', "a JSON object"],
  ['{"eos_token_id": "7"}', 'eos_token_id = "7"', "a token id (a whole number from 0), a list of them, or null"],
  [
    '{"eos_token_id": [7, 1.5]}',
    "eos_token_id = [7,1.5]",
    "a token id (a whole number from 0), a list of them, or null",
  ],
])("generation_config.json %s", async (text, found, expected) => {
  const dir = directoryOf({ config: {}, generation: null });
  writeFileSync(join(dir, "generation_config.json"), text);
  await expect(GPT2HeadWithValueModel.fromPretrained(dir)).rejects.toThrow(
    `${join(dir, "generation_config.json")}: found ${found}, expected ${expected}. ` +
      "Fix: correct the file, or remove it: config.json then says what ends a text",
  );
});
