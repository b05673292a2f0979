/** @file What weight files call their tensors: two names for one matrix, wrappers' names, value heads of several kinds. */
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { type TensorToWrite, writeSafetensors } from "../../src/checkpoint/safetensors.ts";
import { GPT2HeadWithValueModel } from "../../src/families/index.ts";
import { writeAtomic } from "../../src/platform/files.ts";
import { goldenPath, maxDifference, readTensors } from "../support/golden.ts";

const { inputIds, cases } = JSON.parse(readFileSync(goldenPath("heads/golden.json"), "utf8")) as {
  inputIds: number[][];
  cases: { name: string; tied: boolean; logits: number[] }[];
};
const out = mkdtempSync(join(tmpdir(), "valuehead-heads-"));
afterAll(() => rmSync(out, { recursive: true, force: true }));

const load = (directory: string) => GPT2HeadWithValueModel.fromPretrained(directory, { threads: 1, seed: 1 });
const forward = (model: GPT2HeadWithValueModel) => model.forward({ inputIds });
const NEW = "has no v_head.summary.weight, v_head.summary.bias: a new value head";

describe.each(cases)("$name", ({ name, tied, logits }) => {
  test("logits as transformers computes them, again after a save, and what was odd is said", async () => {
    const directory = goldenPath(`heads/${name}`);
    const model = await load(directory);
    expect(maxDifference((await forward(model)).logits.data, logits)).toBeLessThan(1e-5);
    expect(model.config.tieWordEmbeddings).toBe(tied);
    expect(model.notes.filter((note) => !note.includes(NEW))).toEqual(
      tied
        ? []
        : [
            `${join(directory, `model.safetensors${name === "unlisted-in-index" ? ".index.json" : ""}`)}: lm_head.weight differs ` +
              `from the token embedding, so the two are not tied, whatever ${join(directory, "config.json")} says`,
          ],
    );
    const saved = mkdtempSync(join(out, "saved-"));
    await model.savePretrained(saved);
    expect(JSON.parse(readFileSync(join(saved, "config.json"), "utf8")).tie_word_embeddings).toBe(tied);
    const again = await load(saved);
    expect(again.notes).toEqual([]);
    expect(again.parameters.data).toEqual(model.parameters.data);
    model.dispose();
    again.dispose();
  });
});

/** A checkpoint with the tensors of "head-only", some renamed, dropped (undefined) or added. */
async function directoryOf(
  rename: (name: string) => string | undefined,
  more: Record<string, [shape: number[], data: number[]]> = {},
) {
  const directory = mkdtempSync(join(out, "made-"));
  copyFileSync(goldenPath("heads/equal/config.json"), join(directory, "config.json"));
  const tensors: TensorToWrite[] = [];
  for (const [name, { shape, data }] of readTensors(goldenPath("heads/equal/model.safetensors"))) {
    const renamed = rename(name);
    if (renamed !== undefined) tensors.push({ name: renamed, shape, dtype: "F32", data: data as Float32Array });
  }
  for (const [name, [shape, data]] of Object.entries(more))
    tensors.push({ name, shape, dtype: "F32", data: Float32Array.from(data) });
  await writeAtomic(join(directory, "model.safetensors"), (sink) => writeSafetensors(sink, tensors));
  return directory;
}

const plain = cases.find((c) => c.name === "equal")!.logits;
const same = (name: string) => name;
const weight = Array.from({ length: 8 }, (_, c) => (c - 3) / 7);

test.each(["module.", "_orig_mod.", "module._orig_mod.", "model.", "pretrained_model.", "base_model."])(
  "names with %s in front, the value head's too",
  async (prefix) => {
    const head = {
      [`${prefix}v_head.summary.weight`]: [[1, 8], weight],
      [`${prefix}v_head.summary.bias`]: [[1], [0.5]],
    };
    const model = await load(await directoryOf((name) => prefix + name, head as never));
    expect(maxDifference((await forward(model)).logits.data, plain)).toBeLessThan(1e-5);
    expect(model.notes).toEqual([]);
    expect(Array.from(model.parameters.view("v_head.summary.weight"))).toEqual(Array.from(Float32Array.from(weight)));
    expect(model.parameters.view("v_head.summary.bias")[0]).toBe(0.5);
    const bare = await load(await directoryOf((name) => prefix + name.replace("transformer.", "")));
    expect(bare.parameters.view("transformer.wte.weight")).toEqual(model.parameters.view("transformer.wte.weight"));
    model.dispose();
    bare.dispose();
  },
);

describe("a value head", () => {
  const valuesOf = async (more: Record<string, [number[], number[]]>) => {
    const directory = await directoryOf(same, more);
    const model = await load(directory);
    const { values } = await forward(model);
    const facts = {
      isNew: model.valueHeadIsNew,
      notes: model.notes.map((n) => n.replace(`${directory}/`, "")),
      values,
    };
    model.dispose();
    return facts;
  };
  const head = (bias: number) =>
    valuesOf({ "v_head.summary.weight": [[1, 8], weight], "v_head.summary.bias": [[1], [bias]] });

  test("without a bias is a loaded one with bias 0", async () => {
    const { isNew, notes, values } = await valuesOf({ "v_head.summary.weight": [[1, 8], weight] });
    expect(values).toEqual((await head(0)).values);
    expect(isNew).toBe(false);
    expect(notes).toEqual(["model.safetensors has no v_head.summary.bias: taken as 0"]);
  });

  test("without a weight is a new one, bias 0", async () => {
    const alone = await valuesOf({ "v_head.summary.bias": [[1], [9]] });
    expect(alone.values).toEqual((await valuesOf({})).values);
    expect(alone.isNew).toBe(true);
    expect(alone.notes).toEqual([
      "model.safetensors has no v_head.summary.weight: a new value head, N(0, 0.02), was made",
    ]);
  });

  test.each(["v_head", "value_head", "value_head.summary"])("called %s, with and without a bias", async (name) => {
    const read = `model.safetensors: ${name}.weight was read as the value head`;
    const both = await valuesOf({ [`${name}.weight`]: [[1, 8], weight], [`${name}.bias`]: [[1], [0.25]] });
    expect(both).toEqual({ isNew: false, notes: [read], values: (await head(0.25)).values });
    const one = await valuesOf({ [`${name}.weight`]: [[1, 8], weight] });
    expect(one.values).toEqual((await head(0)).values);
    expect(one.notes).toEqual([read, "model.safetensors has no v_head.summary.bias: taken as 0"]);
  });

  test("of another form, such as trlX's two layers, is not taken for none", async () => {
    const trlx = {
      "v_head.0.weight": [[16, 8], new Array(128).fill(0)],
      "v_head.2.weight": [[1, 16], new Array(16).fill(0)],
    };
    const { isNew, notes } = await valuesOf(trlx as never);
    expect(isNew).toBe(true);
    expect(notes[0]).toBe(
      "model.safetensors has no v_head.summary.weight, v_head.summary.bias (v_head.0.weight, v_head.2.weight: a value head of " +
        "another form, not read): a new value head, N(0, 0.02), was made",
    );
  });
});

test("a config that says untied, and weights without a head of their own", async () => {
  const directory = await directoryOf((name) => (name === "lm_head.weight" ? undefined : name));
  const config = JSON.parse(readFileSync(join(directory, "config.json"), "utf8"));
  await writeAtomic(join(directory, "config.json"), (sink) =>
    sink.write(new TextEncoder().encode(JSON.stringify({ ...config, tie_word_embeddings: false }))),
  );
  await expect(load(directory)).rejects.toThrow(
    `${join(directory, "model.safetensors")}: found no lm_head.weight, and tie_word_embeddings = false in config.json, expected a language-model head. ` +
      "Fix: if the head is the token embedding, set tie_word_embeddings to true; otherwise save the model again",
  );
});

test("the tensors of a LoRA adapter are not a model", async () => {
  const lora = (name: string) => name.replace("c_attn.weight", "c_attn.base_layer.weight");
  const directory = await directoryOf(lora, { "transformer.h.0.attn.c_attn.lora_A.default.weight": [[1, 8], weight] });
  await expect(load(directory)).rejects.toThrow(/found the tensors of a PEFT adapter \(lora_\*\)/);
});
