/** @file What is wrong with an adapter is said by name: its config, its tensors, its base. */
import { cpSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { loadTokenizer, locate } from "../../../src/checkpoint/model-files.ts";
import { checkModel, loadModel } from "../../../src/families/index.ts";
import { goldenPath } from "../../support/golden.ts";

const base = goldenPath("gpt2-tiny");
let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "valuehead-peft-"));
  cpSync(goldenPath("lora/gpt2-all-linear"), dir, { recursive: true });
  edit({ base_model_name_or_path: base });
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const path = () => join(dir, "adapter_config.json");
function edit(changes: Record<string, unknown>) {
  const json = JSON.parse(readFileSync(path(), "utf8"));
  writeFileSync(path(), JSON.stringify({ ...json, ...changes }));
}
const check = () => checkModel(dir);

test("the copy is right before it is spoiled", async () => {
  expect((await check()).adapter?.rank).toBe(4);
});

describe("adapter_config.json", () => {
  test.each([
    ["r", 0, "a rank: a whole number from 1"],
    ["r", -4, "a rank: a whole number from 1"],
    ["r", 2.5, "a rank: a whole number from 1"],
    ["lora_alpha", 0, "a number above 0"],
    ["peft_type", "IA3", '"LORA": no other kind of adapter is supported'],
    ["task_type", "SEQ_CLS", "CAUSAL_LM: an adapter of a language model"],
    ["use_dora", true, "none: DoRA: not supported"],
    ["use_qalora", true, "none: QA-LoRA: not supported"],
    ["lora_bias", true, "none: a bias beside B: not supported"],
    ["bias", "all", "none: trained biases: not supported"],
    ["bias", "lora_only", "none: trained biases: not supported"],
    ["modules_to_save", ["lm_head"], "none: whole modules trained beside the adapter: not supported"],
    ["trainable_token_indices", [1], "none: trained token embeddings: not supported"],
    ["target_parameters", ["experts"], "none: adapted parameters that are no modules: not supported"],
    ["layer_replication", [[0, 1]], "none: replicated layers: not supported"],
    ["init_lora_weights", "pissa", "none: an adapter of a base that was changed before training: not supported"],
    ["init_lora_weights", "olora", "none: an adapter of a base that was changed before training: not supported"],
    ["target_modules", 3, "a list of module names, a regular expression, or null"],
    ["target_modules", "(?i)C_ATTN", "a regular expression that JavaScript knows"],
  ])("%s = %j", async (field, value, expected) => {
    edit({ [field]: value });
    await expect(check()).rejects.toThrow(`${path()}: found ${field} = ${JSON.stringify(value)}, expected ${expected}`);
  });

  test("what says nothing is nothing", async () => {
    edit({
      modules_to_save: [],
      init_lora_weights: "gaussian",
      loftq_config: {},
      exclude_modules: null,
      use_rslora: null,
    });
    expect((await check()).adapter).toMatchObject({ rank: 4, rankStabilized: false });
  });

  test("dropout and what is unknown are told", async () => {
    edit({ lora_dropout: 0.05, from_the_future: true });
    expect((await locate(dir)).notes).toEqual([
      `${path()}: lora_dropout = 0.05 is not applied: only the value head has dropout`,
      `${path()}: from_the_future = true is not known here and changes nothing`,
    ]);
  });

  test("targets that match nothing: what there is", async () => {
    edit({ target_modules: ["q_proj"] });
    await expect(check()).rejects.toThrow(
      /target_modules: found "q_proj".*attn\.c_attn, attn\.c_proj, mlp\.c_fc, mlp\.c_proj/,
    );
    edit({ target_modules: ["c_attn", "lm_head", "wte"] });
    await expect(check()).rejects.toThrow("transformer.wte, which is no matrix of a block");
    edit({ target_modules: ["c_attn"], layers_to_transform: [7] });
    await expect(check()).rejects.toThrow(/layers_to_transform: found block 7, expected 0 to 1/);
  });
});

describe("its tensors", () => {
  test("of another rank", async () => {
    edit({ r: 8 });
    await expect(check()).rejects.toThrow(/found shape \[4, 32\], expected shape \[8, 32\].*they differ in rank/);
  });

  test("more, and fewer, than its config says", async () => {
    edit({ target_modules: ["c_attn"] });
    await expect(check()).rejects.toThrow(
      /attn\.c_proj.*expected A and B of what adapter_config\.json names, and no more/,
    );
    rmSync(dir, { recursive: true });
    cpSync(goldenPath("lora/gpt2-one-layer"), dir, { recursive: true });
    edit({ base_model_name_or_path: base, layers_to_transform: null });
    await expect(check()).rejects.toThrow("found no transformer.h.0.attn.c_attn.lora_A.weight");
  });

  test("as a pickle, or none", async () => {
    renameSync(join(dir, "adapter_model.safetensors"), join(dir, "adapter_model.bin"));
    await expect(check()).rejects.toThrow(
      /only PyTorch's adapter_model\.bin, which is not read.*convert it once: python -c/,
    );
    rmSync(join(dir, "adapter_model.bin"));
    await expect(check()).rejects.toThrow("found adapter_config.json without adapter_model.safetensors");
  });
});

describe("its base", () => {
  test("is not where it says, and how to give it", async () => {
    edit({ base_model_name_or_path: "/not/here" });
    await expect(check()).rejects.toThrow(
      `found base_model_name_or_path = "/not/here", and no such directory here, expected the base model's directory or hub id. ` +
        `Fix: give it: --model BASE --adapter ${dir}`,
    );
    const model = await loadModel(base, { adapter: dir, threads: 1 });
    expect(model.adapter?.rank).toBe(4);
    expect(model.notes).toEqual([`${path()} names the base model /not/here; the adapter is used on ${base}`]);
    model.dispose();
    edit({ base_model_name_or_path: null });
    await expect(check()).rejects.toThrow("found no base_model_name_or_path");
  });

  test("is of another family, or of another size", async () => {
    edit({ base_model_name_or_path: goldenPath("llama/llama-tiny") });
    await expect(check()).rejects.toThrow("give the base model that the adapter was trained on");
    edit({
      base_model_name_or_path: "tiny",
      target_modules: ["c_attn", "c_proj", "c_fc"],
      layers_to_transform: [0, 1],
    });
    await expect(check()).rejects.toThrow(/shape \[4, 32\].*give the base model that the adapter was trained on/);
  });

  test("is an adapter itself", async () => {
    edit({ base_model_name_or_path: goldenPath("lora/gpt2-all-linear") });
    await expect(check()).rejects.toThrow("found an adapter as the base model");
  });

  test("gives the tokenizer where the adapter has none", async () => {
    edit({ base_model_name_or_path: "tiny" });
    expect((await loadTokenizer(dir)).vocabSize).toBe(8192);
  });

  test("an adapter that is none", async () => {
    await expect(loadModel(base, { adapter: base })).rejects.toThrow(`adapter ${base}: found no adapter_config.json`);
  });
});

test("a directory with a model's own weights is that model, and an adapter is not saved into it", async () => {
  const model = await loadModel(dir, { threads: 1 });
  for (const name of ["config.json", "model.safetensors"]) cpSync(join(base, name), join(dir, name));
  await expect(model.savePretrained(dir)).rejects.toThrow("found a model's own weights");
  model.dispose();
  const files = await locate(dir);
  expect(files.adapter).toBeUndefined();
  expect(files.notes).toEqual([`${dir}: the model's own weights are used, and not the adapter beside them`]);
});
