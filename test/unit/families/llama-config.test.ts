/** @file config.json of Llama, Qwen2 and Qwen3 against transformers: what it fills in, what must be refused, what is saved. */
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { ValueheadError } from "../../../src/base/errors.ts";
import { fieldsToJson } from "../../../src/checkpoint/config-json.ts";
import { type LlamaConfig, llama, makeLlamaConfig } from "../../../src/families/llama.ts";

type Json = Record<string, unknown>;
const golden = <T>(name: string): T =>
  JSON.parse(readFileSync(new URL(`../../golden/llama/${name}.json`, import.meta.url), "utf8"));
const loads = golden<{ name: string; config: Json; resolved: Json }[]>("configs");
const refused = golden<{ name: string; config: Json; why: string }[]>("refused");
const read = (json: Json) => llama.readConfig(json, "c");

/** Shapes of what is outside the blocks and of the first block, as the table says them. */
function shapes(config: LlamaConfig): Record<string, number[]> {
  const axes = llama.axes(config);
  return Object.fromEntries(
    llama.table(config).map((row) => [row.name.replace("{layer}", "0"), row.axes.split(",").map((axis) => axes[axis])]),
  );
}

describe.each(loads)("$name", ({ config: json, resolved }) => {
  const { rope_parameters, inverseFrequencies, parameters, ...fields } = resolved;
  const config = read(json);

  test("is read as transformers reads it", () => {
    const { ropeParameters, raw, ...rest } = config;
    expect(fieldsToJson(rest)).toMatchObject(fields);
    const { type: _, ...rope } = rope_parameters as Json;
    expect(fieldsToJson(ropeParameters)).toEqual(rope);
    expect(raw).toEqual(json);
  });

  test("has transformers' frequencies", () => {
    const got = llama.rotary?.(config) as Float32Array;
    const want = inverseFrequencies as number[];
    expect(got.length).toBe(want.length);
    want.forEach((w, i) => {
      expect(Math.abs(got[i] - w)).toBeLessThanOrEqual(2 ** -22 * w);
    });
  });

  test("has transformers' parameters", () => {
    expect(shapes(config)).toEqual(parameters);
  });

  test("reads the same after being saved", () => {
    const saved = JSON.parse(JSON.stringify(llama.writeConfig(config)));
    expect({ ...read(saved), raw: 0 }).toEqual({ ...config, raw: 0 });
    const { rope_parameters: _new, ...old } = saved; // what transformers before 5 goes by
    expect({ ...read(old), raw: 0 }).toEqual({ ...config, raw: 0 });
    const { rope_theta: _theta, rope_scaling: _scaling, ...modern } = saved;
    expect({ ...read(modern), raw: 0 }).toEqual({ ...config, raw: 0 });
    expect(makeLlamaConfig(config)).toEqual(config);
  });
});

test.each(refused)("refused: $name ($why)", ({ config }) => {
  try {
    read(config);
    expect.unreachable();
  } catch (error) {
    expect(error).toBeInstanceOf(ValueheadError);
    expect((error as ValueheadError).kind).toBe("config");
  }
});

const tiny: Json = { model_type: "llama", hidden_size: 32, num_attention_heads: 4, num_key_value_heads: 2 };
const window = "a sliding window is not supported. Fix: use a checkpoint whose layers attend to the whole sequence";
test.each<[Json, string]>([
  [
    { model_type: "mistral" },
    'model_type = "mistral", expected "llama", "qwen2" or "qwen3". Fix: use a checkpoint of Llama, SmolLM2, Qwen2, Qwen2.5 or Qwen3',
  ],
  [{ model_type: "__proto__" }, 'model_type = "__proto__", expected "llama", "qwen2" or "qwen3"'],
  [
    { rope_scaling: { type: "yarn", factor: 4 } },
    'rope_scaling.rope_type = "yarn", expected "default", "linear" or "llama3": other scalings are not supported',
  ],
  [{ rope_scaling: { type: "linear" } }, "rope_scaling.factor = nothing, expected a number above 0"],
  [{ rope_parameters: { rope_theta: 0 } }, "rope_parameters.rope_theta = 0, expected a number above 0"],
  [{ rope_theta: "1e4" }, 'rope_parameters.rope_theta = "1e4", expected a number above 0'],
  [{ rope_parameters: [] }, "rope_parameters = [], expected an object or null"],
  [
    { rope_parameters: { full_attention: { rope_type: "default" } } },
    'rope_parameters = {"full_attention":{"rope_type":"default"}}, expected one kind of rotary positions for all layers',
  ],
  [{ partial_rotary_factor: 0.5 }, "partial_rotary_factor = 0.5, expected 1: turning a part of each head"],
  [{ rope_parameters: { partial_rotary_factor: 0.5 } }, "partial_rotary_factor = 0.5, expected 1: turning a part"],
  [{ use_sliding_window: true, num_hidden_layers: 29 }, `use_sliding_window = true, expected false: ${window}`],
  [
    { layer_types: ["sliding_attention"] },
    `layer_types = ["sliding_attention"], expected only "full_attention": ${window}`,
  ],
  [{ pretraining_tp: 2 }, "pretraining_tp = 2, expected 1: products in slices are not supported"],
  [{ quantization_config: { bits: 4 } }, 'quantization_config = {"bits":4}, expected none: quantised weights'],
  [
    { num_attention_heads: 5 },
    "num_attention_heads = 5, expected a divisor of hidden_size = 32. Fix: correct one of the two",
  ],
  [{ num_attention_heads: 5, head_dim: 8 }, "num_attention_heads = 5, expected a divisor of hidden_size = 32"],
  [{ num_key_value_heads: 3 }, "num_key_value_heads = 3, expected a divisor of num_attention_heads = 4"],
  [{ head_dim: 7 }, "head_dim = 7, expected an even number: rotary positions turn pairs"],
  [{ vocab_size: null }, "vocab_size = null, expected a whole number from 1 to 10000000"],
  [{ summary_first_dropout: 1 }, "summary_first_dropout = 1, expected a probability"],
])("%j", (change, message) => {
  expect(() => read({ ...tiny, ...change })).toThrow(`c: found ${message}`);
});

test("layer_types say which layers have a sliding window, whatever use_sliding_window says", () => {
  const used = { ...tiny, use_sliding_window: true, max_window_layers: 0, num_hidden_layers: 1 };
  expect(() => read(used)).toThrow("use_sliding_window");
  expect(read({ ...used, layer_types: ["full_attention"] }).numHiddenLayers).toBe(1);
});

test("what is no config at all", () => {
  for (const json of [null, [], 3]) expect(() => llama.readConfig(json, "c")).toThrow("expected a JSON object");
});

test("the value head is a projection to one number, unless the config says otherwise", () => {
  const plain = {
    summaryUseProj: true,
    summaryProjToLabels: true,
    summaryActivation: null,
    summaryFirstDropout: 0.1,
    summaryLastDropout: 0,
  };
  expect(read(tiny)).toMatchObject(plain);
  const said = { summary_activation: "tanh", summary_first_dropout: 0, summary_last_dropout: 0.5 };
  expect(read({ ...tiny, ...said })).toMatchObject({
    ...plain,
    summaryActivation: "tanh",
    summaryFirstDropout: 0,
    summaryLastDropout: 0.5,
  });
  expect(llama.writeConfig(read({ ...tiny, ...said }))).toMatchObject(said);
});

test("what is saved: the fields that were read, unknown ones too, and what transformers of any version goes by", () => {
  const raw = {
    ...tiny,
    my_field: [1],
    torch_dtype: "bfloat16",
    rope_scaling: { type: "linear", factor: 2 },
    rope_theta: 500,
  };
  const json = llama.writeConfig(read(raw));
  expect(json).toMatchObject({
    my_field: [1],
    architectures: ["LlamaForCausalLM"],
    model_type: "llama",
    head_dim: 8,
    rope_parameters: { rope_type: "linear", factor: 2, rope_theta: 500 },
    rope_theta: 500,
    rope_scaling: { rope_type: "linear", factor: 2 },
    dtype: "float32",
  });
  for (const field of ["torch_dtype", "raw"]) expect(json).not.toHaveProperty(field);
  expect(llama.writeConfig(makeLlamaConfig({ modelType: "qwen3" }))).toMatchObject({
    architectures: ["Qwen3ForCausalLM"],
    model_type: "qwen3",
    rope_scaling: null,
  });
});

test("what a config.json seems to be and is not read as", () => {
  const notes = (fields: Json) => llama.notes(read({ ...tiny, ...fields }), "c");
  expect(notes({})).toEqual([]);
  expect(notes({ architectures: ["LlamaForCausalLM", "LlamaModel", "AutoModelForCausalLMWithValueHead"] })).toEqual([]);
  expect(notes({ model_type: "qwen2", architectures: ["Qwen2MoeForCausalLM"] })).toEqual([
    "c: computed as a Qwen2, though architectures is Qwen2MoeForCausalLM",
  ]);
  expect(notes({ auto_map: { AutoModel: "own.Own" } })).toEqual([
    "c: the code that auto_map names is not run: computed as a Llama",
  ]);
});
