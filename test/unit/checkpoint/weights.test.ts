import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type TensorToWrite, writeSafetensors } from "../../../src/checkpoint/safetensors.ts";
import { loadParameters, openWeights, saveParameters, type WantedTensor } from "../../../src/checkpoint/weights.ts";
import { GPT2HeadWithValueModel, readModel } from "../../../src/families/index.ts";
import { writeAtomic } from "../../../src/platform/files.ts";

let dir: string;
const at = (name: string) => join(dir, name);
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "valuehead-weights-"));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const f32 = (name: string, shape: number[], ...data: number[]): TensorToWrite => ({
  name,
  dtype: "F32",
  shape,
  data: Float32Array.from(data),
});
const save = (file: string, ...tensors: TensorToWrite[]) =>
  writeAtomic(at(file), (sink) => writeSafetensors(sink, tensors));
const want = (name: string, shape: number[], optional?: boolean): WantedTensor => ({
  name,
  shape,
  target: new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(-9),
  optional,
});

async function load(...wanted: WantedTensor[]) {
  const weights = await openWeights(dir);
  try {
    return await loadParameters(weights, wanted, { prefix: "transformer.", embedding: "transformer.wte.weight" });
  } finally {
    await weights.close();
  }
}

const values = (tensor: WantedTensor) => [...tensor.target];

describe("one file", () => {
  test("names with and without the prefix, masks and a tied head ignored, absence reported", async () => {
    await save(
      "model.safetensors",
      f32("wte.weight", [2, 1], 1, 2),
      f32("transformer.h.0.attn.c_attn.bias", [3], 3, 4, 5),
      f32("h.0.attn.bias", [1, 1, 2, 2], 1, 0, 1, 1),
      f32("transformer.h.10.attn.masked_bias", [], -1e4),
      f32("lm_head.weight", [2, 1], 7, 7),
      f32("h.0.attn.bias.extra", [1], 0),
      f32("score.weight", [1], 0),
      { name: "ln_f.weight", dtype: "F16", shape: [1], data: Float32Array.of(0.5) },
    );
    const wanted = [
      want("transformer.wte.weight", [2, 1]),
      want("transformer.h.0.attn.c_attn.bias", [3]),
      want("transformer.ln_f.weight", [1]),
      want("v_head.summary.weight", [1, 1], true),
    ];
    const report = await load(...wanted);
    expect(wanted.map(values)).toEqual([[1, 2], [3, 4, 5], [0.5], [-9]]);
    expect(report.missing).toEqual(["v_head.summary.weight"]);
    expect(report.ignored.sort()).toEqual(["h.0.attn.bias.extra", "score.weight"]);
    const head = want("lm_head.weight", [2, 1]);
    await load(head);
    expect(values(head)).toEqual([7, 7]);
  });

  test("a wrong shape or type is an error before anything is read", async () => {
    await save("model.safetensors", f32("wte.weight", [2, 3], 1, 2, 3, 4, 5, 6), {
      name: "wpe.weight",
      dtype: "I32",
      shape: [1],
      data: Int32Array.of(1),
    });
    const fine = want("transformer.wte.weight", [2, 3]);
    await expect(load(fine, want("transformer.wpe.weight", [2]))).rejects.toThrow(
      `${at("model.safetensors")}, tensor transformer.wpe.weight: found shape [1], expected shape [2]. ` +
        "Fix: use the config.json and the weights of one and the same model",
    );
    expect(values(fine)).toEqual(Array(6).fill(-9));
    await expect(load(want("transformer.wpe.weight", [1]))).rejects.toThrow(
      "tensor transformer.wpe.weight: found dtype I32, expected F32, F16, BF16 or F64",
    );
    // As many elements, in another shape.
    await expect(load(want("transformer.wte.weight", [3, 2]))).rejects.toThrow(
      "found shape [2, 3], expected shape [3, 2]",
    );
  });

  test("missing tensors: the first five and how many more", async () => {
    await save("model.safetensors", f32("wte.weight", [1], 1));
    const seven = Array.from({ length: 7 }, (_, i) => want(`transformer.h.${i}.ln_1.weight`, [1]));
    const first = seven.slice(0, 5).map(({ name }) => name);
    await expect(load(...seven)).rejects.toThrow(
      `${at("model.safetensors")}: found 1 tensors without ${first.join(", ")} and 2 more, expected every tensor of a model`,
    );
    await expect(load(...seven.slice(0, 1))).rejects.toThrow(`without ${first[0]}, expected`);
  });

  test("only a value head, as TRL saves it beside an adapter", async () => {
    await save("model.safetensors", f32("v_head.summary.weight", [1, 1], 1), f32("v_head.summary.bias", [1], 1));
    await expect(load(want("transformer.wte.weight", [1]))).rejects.toThrow(
      `${at("model.safetensors")}: found only a value head (v_head.*), as TRL saves it beside a PEFT adapter, ` +
        "expected the language model's tensors too. " +
        "Fix: put it beside its adapter: adapter_config.json and adapter_model.safetensors in the same directory, no config.json",
    );
  });

  test("a file cut off", async () => {
    await save("model.safetensors", f32("wte.weight", [4], 1, 2, 3, 4));
    writeFileSync(at("model.safetensors"), readFileSync(at("model.safetensors")).subarray(0, -3));
    await expect(openWeights(dir)).rejects.toThrow(
      `${at("model.safetensors")}: found 13 bytes of tensor data (3 bytes are missing), expected 16 bytes`,
    );
  });
});

describe("shards", () => {
  const index = (map: unknown) =>
    writeFileSync(at("model.safetensors.index.json"), JSON.stringify({ weight_map: map }));

  test("tensors from several files", async () => {
    await save("model-00001-of-00002.safetensors", f32("transformer.wte.weight", [1], 1), f32("unlisted", [1], 0));
    await save("model-00002-of-00002.safetensors", f32("transformer.wpe.weight", [1], 2));
    index({
      "transformer.wte.weight": "model-00001-of-00002.safetensors",
      "transformer.wpe.weight": "model-00002-of-00002.safetensors",
    });
    const wanted = [want("transformer.wte.weight", [1]), want("transformer.wpe.weight", [1])];
    expect(await load(...wanted)).toEqual({ missing: [], ignored: ["unlisted"] });
    expect(wanted.map(values)).toEqual([[1], [2]]);
    rmSync(at("model-00002-of-00002.safetensors"));
    await expect(openWeights(dir)).rejects.toThrow(
      `${at("model.safetensors.index.json")}: found no file model-00002-of-00002.safetensors, which it names for transformer.wpe.weight`,
    );
  });

  test("an index that lies", async () => {
    await save("a.safetensors", f32("x", [1], 1));
    index({ y: "a.safetensors" });
    await expect(openWeights(dir)).rejects.toThrow(`${at("a.safetensors")}: found no such tensor, expected tensor y`);
    index({ x: "../a.safetensors" });
    await expect(openWeights(dir)).rejects.toThrow('found shard "../a.safetensors"');
    index({ x: 3 });
    await expect(openWeights(dir)).rejects.toThrow("found shard 3");
    index({});
    await expect(openWeights(dir)).rejects.toThrow("found no weight_map with tensors in it");
    writeFileSync(at("model.safetensors.index.json"), "null");
    await expect(openWeights(dir)).rejects.toThrow("found no weight_map with tensors in it");
  });
});

describe("no weights", () => {
  test("each says what is there and what to do", async () => {
    await expect(openWeights(at("no"))).rejects.toThrow(
      `${at("no")}: found no such directory, expected a model directory`,
    );
    await expect(openWeights(dir)).rejects.toThrow(
      `${dir}: found an empty directory, expected model.safetensors or model.safetensors.index.json`,
    );
    writeFileSync(at("config.json"), "{}");
    await expect(openWeights(dir)).rejects.toThrow(`${dir}: found only config.json, expected`);
    writeFileSync(at("adapter_model.safetensors"), "");
    await expect(openWeights(dir)).rejects.toThrow(
      `${dir}: found an adapter's weights without adapter_config.json, expected both. ` +
        "Fix: copy the adapter_config.json that belongs to these weights into the directory",
    );
    rmSync(at("adapter_model.safetensors"));
    writeFileSync(at("pytorch_model-00001-of-00002.bin"), "");
    await expect(openWeights(dir)).rejects.toThrow(
      /is not read.* sorted\(glob\.glob\(glob\.escape\(d\) \+ '\/pytorch_model\*\.bin'\)\)/,
    );
    writeFileSync(at("pytorch_model.bin"), "");
    await expect(openWeights(dir)).rejects.toThrow(
      `${dir}: found only PyTorch's pytorch_model*.bin, which is not read, ` +
        "expected model.safetensors or model.safetensors.index.json. Fix: convert it once: python -c " +
        '"import glob, torch, sys; from safetensors.torch import save_file; d = sys.argv[1]; s = {}; ' +
        "[s.update(torch.load(f, map_location='cpu', weights_only=True)) for f in [d + '/pytorch_model.bin']]; " +
        "save_file({k: v.clone().contiguous() for k, v in s.items()}, d + '/model.safetensors', metadata={'format': 'pt'})\" " +
        dir,
    );
  });
});

test("an adapter's weights, and a model's, without their config are told before config.json is missed", async () => {
  writeFileSync(at("adapter_model.safetensors"), "");
  const error = `${dir}: found an adapter's weights without adapter_config.json, expected both`;
  await expect(readModel(dir)).rejects.toThrow(error);
  await expect(GPT2HeadWithValueModel.fromPretrained(dir)).rejects.toThrow(error);
  rmSync(at("adapter_model.safetensors"));
  await expect(readModel(dir)).rejects.toThrow(
    `${at("config.json")}: found nothing at this path, expected the config.json of a GPT-2 checkpoint. Fix: give a directory that a GPT-2 was saved to`,
  );
  writeFileSync(at("model.safetensors"), "");
  await expect(readModel(dir)).rejects.toThrow("Fix: copy the config.json that belongs to these weights");
});

test("saveParameters writes what openWeights reads", async () => {
  mkdirSync(at("out"));
  const data = Float32Array.of(0.1, -0, 3);
  await saveParameters(at("out"), [
    { name: "transformer.wte.weight", shape: [3, 1], data },
    { name: "v_head.summary.bias", shape: [1], data: data.subarray(2) },
  ]);
  expect(readdirSync(at("out"))).toEqual(["model.safetensors"]);
  const weights = await openWeights(at("out"));
  const wte = want("transformer.wte.weight", [3, 1]);
  const bias = want("v_head.summary.bias", [1]);
  await loadParameters(weights, [wte, bias], { prefix: "transformer.", embedding: "transformer.wte.weight" });
  await weights.close();
  expect([wte.target, bias.target]).toEqual([data, Float32Array.of(3)]);
});
