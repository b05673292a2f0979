/**
 * @file Look-alikes of public descendants of GPT-2 (tools/reference/lookalikes.py): config, tokenizer files and layout as
 * published, small random weights. Ids, texts, logits and greedy tokens are transformers'.
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, expect, test } from "vitest";
import { GPT2HeadWithValueModel, generate, loadTokenizer } from "../../src/index.ts";
import { goldenPath } from "../support/golden.ts";

interface Expected {
  name: string;
  peculiar: string;
  class: string;
  refused?: string;
  ids: Record<"eos" | "pad", number | null>;
  cases: [text: string, ids: number[], decoded: string, skipped: string][];
  decodes: [ids: number[], decoded: string, skipped: string][];
  prompts: { ids: number[]; greedy: number[]; logits: string; argmax: number[]; logsumexp: number[] }[];
}

const root = goldenPath("lookalikes");
const floats = (base64: string) => {
  const bytes = Uint8Array.from(Buffer.from(base64, "base64"));
  return new Float32Array(bytes.buffer);
};

const page = fileURLToPath(new URL("../../docs/lookalikes.md", import.meta.url));
const rows = new Map<string, string>();
afterAll(() => {
  if (process.env.UPDATE_DOCS !== "1") return;
  const text = readFileSync(page, "utf8");
  const end = text.indexOf("\n|---|");
  const head = text.slice(0, text.indexOf("\n", end + 1) + 1);
  writeFileSync(
    page,
    `${head}${readdirSync(root)
      .map((name) => rows.get(name))
      .join("")}`,
  );
});

test("there are at least 40, each in the table of docs/lookalikes.md", () => {
  const names = readdirSync(root);
  expect(names.length).toBeGreaterThanOrEqual(40);
  if (process.env.UPDATE_DOCS === "1") return;
  const text = readFileSync(page, "utf8");
  for (const name of names) {
    const { name: model, peculiar } = JSON.parse(readFileSync(join(root, name, "expected.json"), "utf8"));
    expect(text).toContain(`| ${model} | ${peculiar} | `);
  }
});

test.each(readdirSync(root))("%s", async (name) => {
  const directory = join(root, name);
  const expected: Expected = JSON.parse(readFileSync(join(directory, "expected.json"), "utf8"));
  if (expected.refused !== undefined) {
    await expect(loadTokenizer(directory)).rejects.toThrow(expected.refused);
    rows.set(name, `| ${expected.name} | ${expected.peculiar} | refused, with the command that converts it | | | |\n`);
    return;
  }
  const tokenizer = await loadTokenizer(directory);
  const wrong: unknown[] = [];
  const compare = (what: string, of: unknown, found: unknown, wanted: unknown) => {
    if (JSON.stringify(found) !== JSON.stringify(wanted)) wrong.push({ what, of, found, wanted });
  };
  for (const [text, ids, decoded, skipped] of expected.cases) {
    compare("ids", text, Array.from(tokenizer.encode(text)), ids);
    compare("text", ids, tokenizer.decode(ids), decoded);
    compare("text without special tokens", ids, tokenizer.decode(ids, { skipSpecialTokens: true }), skipped);
    const stream = tokenizer.createStream();
    compare("text as it arrives", ids, ids.map((id) => stream.push(id)).join("") + stream.end(), decoded);
  }
  for (const [ids, decoded, skipped] of expected.decodes) {
    compare("text", ids, tokenizer.decode(ids), decoded);
    compare("text without special tokens", ids, tokenizer.decode(ids, { skipSpecialTokens: true }), skipped);
  }
  compare("eos", "", tokenizer.eosTokenId, expected.ids.eos);
  compare("pad", "", tokenizer.padTokenId, expected.ids.pad);
  expect(wrong).toEqual([]);

  const model = await GPT2HeadWithValueModel.fromPretrained(directory, { threads: 1, seed: 1 });
  let largest = 0;
  for (const { ids, greedy, logits, argmax, logsumexp } of expected.prompts) {
    const found = (await model.forward({ inputIds: [ids] })).logits;
    const width = found.shape[2];
    const asked = ids.map((_, t) => found.data.subarray(t * width, (t + 1) * width));
    const last = floats(logits);
    expect(width).toBe(last.length);
    const gap = Math.max(...last.map((x, i) => Math.abs(x - asked[asked.length - 1][i])));
    expect(gap).toBeLessThan(1e-4);
    largest = Math.max(largest, gap);
    expect(asked.map((row) => row.indexOf(Math.max(...row)))).toEqual(argmax);
    asked.forEach((row, t) => {
      expect(Math.log(row.reduce((sum, x) => sum + Math.exp(x), 0))).toBeCloseTo(logsumexp[t], 3);
    });
    const { responses } = await generate(model, [Int32Array.from(ids)], { maxNewTokens: 20, topK: 1, seed: 1 });
    expect(Array.from(responses[0].tokens)).toEqual(greedy);
  }
  model.dispose();
  const texts = expected.cases.length + expected.decodes.length;
  rows.set(
    name,
    `| ${expected.name} | ${expected.peculiar} | ${expected.class} | ${texts} equal | ${largest.toExponential(0)} | equal |\n`,
  );
});
