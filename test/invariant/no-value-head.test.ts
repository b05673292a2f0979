/** @file A model without a value head: what needs no values works without one, and none is made or saved. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { builtInRewards } from "../../src/experience/reward-functions.ts";
import { loadModel } from "../../src/families/index.ts";
import type { CausalLMWithValueHead } from "../../src/model/model.ts";
import { run } from "../../src/run/run.ts";
import type { DataSpec, RewardedSpec } from "../../src/run/spec.ts";
import { generate } from "../../src/sample/generate.ts";
import { smallModel, wholeFamilyNames } from "../support/families.ts";
import { readTensors } from "../support/golden.ts";
import { tokenizer } from "../support/ppo.ts";

const directory = mkdtempSync(join(tmpdir(), "valuehead-no-head-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
const at = (...names: string[]) => join(directory, ...names);
const withHead = (family: string) =>
  smallModel(family, { vocabSize: 8192, context: 48, eosTokenId: 8191 }, { threads: 2, seed: 5 });
const headOf = (file: string) => [...readTensors(file).keys()].filter((name) => name.includes("v_head"));

beforeAll(async () => {
  for (const family of wholeFamilyNames) {
    await withHead(family).savePretrained(at(`${family}-head`));
    await tokenizer.save(at(`${family}-head`));
    // Without the two rows of the value head nothing else is different.
    const model = await loadModel(at(`${family}-head`), { threads: 2 });
    const bare = Object.assign(Object.create(Object.getPrototypeOf(model)), model, {
      parameters: {
        table: model.parameters.table.filter(({ name }) => !name.startsWith("v_head.")),
        numbers: (name: string) => model.parameters.numbers(name),
        refresh: () => model.parameters.refresh(),
      },
    }) as CausalLMWithValueHead;
    await bare.savePretrained(at(family));
    await tokenizer.save(at(family));
    expect(headOf(at(family, "model.safetensors"))).toEqual([]);
  }
});

describe.each(wholeFamilyNames)("%s", (family) => {
  test("scores, samples and computes as with a value head, but values are 0", async () => {
    const bare = await loadModel(at(family), { threads: 2, makeValueHead: false });
    const made = await loadModel(at(family), { threads: 2 });
    expect(bare.parameters.has("v_head.summary.weight")).toBe(false);
    expect(bare.notes.join()).not.toContain("value head");
    expect(made.notes.join()).toContain("a new value head");
    const queries = [tokenizer.encode("This movie"), tokenizer.encode("I thought the acting")];
    for (const precision of ["fp32", "int8"] as const) {
      const options = { maxNewTokens: 6, seed: 3, precision };
      const [a, b] = [await generate(bare, queries, options), await generate(made, queries, options)];
      a.responses.forEach((response, i) => {
        expect(response.tokens).toEqual(b.responses[i].tokens);
        expect(Math.max(...response.logprobs.map((x, t) => Math.abs(x - b.responses[i].logprobs[t])))).toBeLessThan(
          1e-5,
        );
        expect(Array.from(response.values).every((value) => value === 0)).toBe(true);
      });
    }
    const asked = { inputIds: [[1, 2, 3, 4]] };
    const [x, y] = [await bare.forward(asked as never), await made.forward(asked as never)];
    expect(Math.max(...x.logits.data.map((z, i) => Math.abs(z - y.logits.data[i])))).toBeLessThan(1e-4);
    expect(Array.from(x.values.data)).toEqual([0, 0, 0, 0]);
    bare.dispose();
    made.dispose();
  });

  const small = { steps: 2, batchSize: 8, learningRate: 1e-3, saveEvery: 1 };
  const onPrompts = { prompts: ["This movie", "I"], rewardName: "length" };
  const pairs = [
    { prompt: "This movie was", chosen: " great.", rejected: " bad." },
    { prompt: "It is", chosen: " fine and more.", rejected: " dull." },
  ];
  const specs: [name: string, spec: object][] = [
    ["grpo", { ...onPrompts, config: { ...small, numGenerations: 4, miniBatchSize: 4, maxNewTokens: 6 } }],
    ["rloo", { ...onPrompts, config: { ...small, numGenerations: 4, miniBatchSize: 4, maxNewTokens: 6 } }],
    ["dpo", { data: pairs, config: { ...small, batchSize: 2, schedule: "constant" } }],
  ];
  test.each(specs)(
    "a run of %s makes none and saves none; one that is there stays as it is",
    async (algorithm, rest) => {
      for (const source of [family, `${family}-head`]) {
        const out = at(`${algorithm}-${source}`);
        const spec = { algorithm, model: at(source), out, threads: 1, ...rest };
        const follow = async (more: object) => {
          const given = { ...spec, ...more };
          const events =
            algorithm === "dpo"
              ? run(given as DataSpec)
              : run(given as RewardedSpec, (batch) => builtInRewards.length(batch));
          for await (const event of events) if (event.type === "warning") expect(event.message).toBe("");
        };
        await follow({});
        await follow({ resume: true, config: { steps: 3 } });
        const tensors = readTensors(join(out, "checkpoint-3", "model.safetensors"));
        const names = [...tensors.keys()].filter((name) => name.includes("v_head"));
        expect(names.length).toBe(source === family ? 0 : 2);
        const before = readTensors(at(source, "model.safetensors"));
        for (const name of names) expect(tensors.get(name)?.data).toEqual(before.get(name)?.data);
        expect(JSON.parse(readFileSync(join(out, "checkpoint-3", "config.json"), "utf8"))).toEqual(
          JSON.parse(readFileSync(at(source, "config.json"), "utf8")),
        );
      }
    },
  );
});
