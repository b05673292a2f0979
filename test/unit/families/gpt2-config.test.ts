import { describe, expect, test } from "vitest";
import { ValueheadError } from "../../../src/base/errors.ts";
import { endTokens } from "../../../src/checkpoint/config-json.ts";
import { type GPT2Config, gpt2, makeConfig, parseConfig } from "../../../src/families/gpt2.ts";

/** openai-community/gpt2's config.json as the hub has it. */
const published = {
  activation_function: "gelu_new",
  architectures: ["GPT2LMHeadModel"],
  attn_pdrop: 0.1,
  bos_token_id: 50256,
  embd_pdrop: 0.1,
  eos_token_id: 50256,
  initializer_range: 0.02,
  layer_norm_epsilon: 1e-5,
  model_type: "gpt2",
  n_ctx: 1024,
  n_embd: 768,
  n_head: 12,
  n_layer: 12,
  n_positions: 1024,
  resid_pdrop: 0.1,
  summary_activation: null,
  summary_first_dropout: 0.1,
  summary_proj_to_labels: true,
  summary_type: "cls_index",
  summary_use_proj: true,
  task_specific_params: { "text-generation": { do_sample: true, max_length: 50 } },
  vocab_size: 50257,
};

/** transformers 5.23.0: GPT2Config().to_dict(), and getattr defaults of its summary head. */
const defaults: Omit<GPT2Config, "raw"> = {
  vocabSize: 50257,
  nPositions: 1024,
  nEmbd: 768,
  nLayer: 12,
  nHead: 12,
  nInner: 3072,
  activationFunction: "gelu_new",
  layerNormEpsilon: 1e-5,
  initializerRange: 0.02,
  scaleAttnWeights: true,
  scaleAttnByInverseLayerIdx: false,
  reorderAndUpcastAttn: false,
  tieWordEmbeddings: true,
  summaryType: "cls_index",
  summaryUseProj: true,
  summaryActivation: null,
  summaryProjToLabels: true,
  summaryFirstDropout: 0.1,
  summaryLastDropout: 0,
  numLabels: 1,
  modelType: "gpt2",
  embdPdrop: 0.1,
  attnPdrop: 0.1,
  residPdrop: 0.1,
  bosTokenId: 50256,
  eosTokenId: 50256,
  padTokenId: null,
};

describe("parseConfig", () => {
  test("GPT-2's own config, and transformers' defaults", () => {
    expect(parseConfig(published, "c")).toEqual({ ...defaults, raw: published });
    const { raw, ...bare } = parseConfig({ model_type: "gpt2" }, "c");
    expect(bare).toEqual(defaults);
    expect(raw).toEqual({ model_type: "gpt2" });
    const { model_type: _, ...old } = published;
    expect(parseConfig(old, "c").nEmbd).toBe(768);
  });

  test("values other than the defaults arrive", () => {
    const config = parseConfig(
      {
        ...published,
        n_inner: 100,
        eos_token_id: [7, 8],
        pad_token_id: 3,
        bos_token_id: null,
        activation_function: "relu",
      },
      "c",
    );
    expect(config).toMatchObject({
      nInner: 100,
      eosTokenId: [7, 8],
      padTokenId: 3,
      bosTokenId: null,
      activationFunction: "relu",
    });
  });

  const gpt2 = (field: string, value: unknown) => ({ ...published, [field]: value });
  const size = (max: number) => `a whole number from 1 to ${max}`;
  test.each([
    ["n_embd", 0, "n_embd = 0", size(100000)],
    ["n_embd", -768, "n_embd = -768", size(100000)],
    ["n_embd", 1.5, "n_embd = 1.5", size(100000)],
    ["n_embd", "768", 'n_embd = "768"', size(100000)],
    ["vocab_size", 1e300, "vocab_size = 1e+300", size(10000000)],
    ["vocab_size", null, "vocab_size = null", size(10000000)],
    ["n_positions", 2 ** 40, "n_positions = 1099511627776", size(1000000)],
    ["n_layer", 0, "n_layer = 0", size(1000)],
    ["n_head", [], "n_head = []", size(10000)],
    ["n_inner", 0, "n_inner = 0", `${size(1000000)} or null`],
    ["layer_norm_epsilon", 0, "layer_norm_epsilon = 0", "a number above 0 and below 1"],
    ["initializer_range", -1, "initializer_range = -1", "a number above 0 and below 1"],
    ["resid_pdrop", 1, "resid_pdrop = 1", "a probability from 0 up to but not including 1"],
    ["scale_attn_weights", "yes", 'scale_attn_weights = "yes"', "true or false"],
    ["eos_token_id", -1, "eos_token_id = -1", "a token id (a whole number from 0), a list of them, or null"],
    ["eos_token_id", [], "eos_token_id = []", "a token id (a whole number from 0), a list of them, or null"],
    ["bos_token_id", [7], "bos_token_id = [7]", "a token id (a whole number) or null"],
    ["summary_activation", 3, "summary_activation = 3", '"tanh", another name, or null'],
    ["summary_type", "attn", 'summary_type = "attn"', 'one of "cls_index", "last", "first", "mean"'],
    ["add_cross_attention", true, "add_cross_attention = true", "false: cross-attention is not supported"],
    [
      "activation_function",
      "mish",
      'activation_function = "mish"',
      'one of "gelu_new", "gelu", "gelu_fast", "gelu_accurate", "gelu_python", "gelu_python_tanh", "gelu_pytorch_tanh", ' +
        '"quick_gelu", "relu", "tanh", "silu", "swish", "sigmoid"',
    ],
  ])("%s = %j", (field, value, found, expected) => {
    const message = `dir/config.json: found ${found}, expected ${expected}. Fix: correct ${field}; leave it out for the default`;
    expect(() => parseConfig(gpt2(field, value), "dir/config.json")).toThrow(message);
  });

  test.each([
    [
      "pruned_heads",
      { 0: [1] },
      'pruned_heads = {"0":[1]}, expected none: pruned attention heads are not supported',
      "use the checkpoint as it was before its heads were pruned",
    ],
    [
      "quantization_config",
      { bits: 4 },
      'quantization_config = {"bits":4}, expected none: quantised weights are not supported',
      "use the checkpoint that was quantised, in F32, F16 or BF16",
    ],
  ])("%s is refused, and what it says when there is none is not", (field, value, found, fix) => {
    expect(() => parseConfig(gpt2(field, value), "c")).toThrow(`c: found ${found}. Fix: ${fix}`);
    expect(parseConfig(gpt2(field, null), "c").nHead).toBe(12);
  });

  test("heads that do not divide the width", () => {
    expect(() => parseConfig(gpt2("n_head", 5), "c")).toThrow(
      "c: found n_head = 5, expected a divisor of n_embd = 768, so that every head has the same whole size. " +
        "Fix: correct n_head or n_embd",
    );
  });

  test("another architecture, or no config at all", () => {
    expect(() => parseConfig({ model_type: "llama", hidden_size: 8 }, "c")).toThrow(
      'c: found model_type = "llama", expected "gpt2". ' +
        "Fix: use a GPT-2 checkpoint, such as openai-community/gpt2; loadModel opens other families",
    );
    expect(() => parseConfig({}, "c")).toThrow(/found model_type = nothing/);
    // GPT-1 has n_embd and, in its oldest files, no model_type; this is how openai-community/openai-gpt began.
    const gpt1 = { afn: "gelu", n_embd: 768, n_head: 12, n_layer: 12, n_positions: 512, vocab_size: 40478 };
    expect(() => parseConfig(gpt1, "c")).toThrow(/found model_type = nothing/);
    expect(() => parseConfig({ n_embd: 1280, dff: 8192, architectures: ["CTRLLMHeadModel"] }, "c")).toThrow(
      /model_type/,
    );
    for (const json of [null, [], 3, "x"]) {
      try {
        parseConfig(json, "c");
        expect.unreachable();
      } catch (error) {
        expect(error).toBeInstanceOf(ValueheadError);
        expect((error as ValueheadError).problem.expected).toBe("a JSON object");
      }
    }
  });
});

describe("aliases", () => {
  const aliases = { hidden_size: 32, num_attention_heads: 4, num_hidden_layers: 3, max_position_embeddings: 64 };
  const file = { model_type: "gpt2", vocab_size: 100, ...aliases };
  const read = { nEmbd: 32, nHead: 4, nLayer: 3, nPositions: 64, nInner: 128 };

  test("are read, and saved under the names transformers saves", () => {
    const config = parseConfig(file, "c");
    expect(config).toMatchObject(read);
    const json = gpt2.writeConfig(config);
    expect(json).toMatchObject({ n_embd: 32, n_head: 4, n_layer: 3, n_positions: 64 });
    for (const alias of Object.keys(aliases)) expect(json).not.toHaveProperty(alias);
    expect(gpt2.notes(config, "c")).toEqual([]);
    expect(makeConfig({ ...config, nHead: 8 }).nHead).toBe(8); // the alias in raw does not come back
    expect(gpt2.writeConfig(makeConfig({ ...config, nHead: 8 })).n_head).toBe(8);
  });

  test("win over the name, and that is said", () => {
    const config = parseConfig({ ...file, n_head: 2, n_layer: 3 }, "dir/config.json");
    expect(config).toMatchObject(read);
    expect(gpt2.notes(config, "dir/config.json")).toEqual([
      "dir/config.json: num_attention_heads = 4 counts, not n_head = 2",
    ]);
  });

  test.each([
    [{ num_attention_heads: null }, "num_attention_heads = null, expected a whole number from 1 to 10000"],
    [{ hidden_size: "32" }, 'hidden_size = "32", expected a whole number from 1 to 100000'],
    [{ hidden_size: 30 }, "num_attention_heads = 4, expected a divisor of hidden_size = 30"],
  ])("errors call them what the file calls them: %j", (change, message) => {
    expect(() => parseConfig({ ...file, ...change }, "c")).toThrow(`c: found ${message}`);
  });
});

test("what a config.json seems to be and is not read as", () => {
  const notes = (fields: object) => gpt2.notes(parseConfig({ ...published, ...fields }, "c"), "c");
  expect(notes({})).toEqual([]);
  expect(notes({ architectures: ["GPT2DoubleHeadsModel", "TFGPT2LMHeadModel", "GPT2HeadWithValueModel"] })).toEqual([]);
  expect(notes({ architectures: null })).toEqual([]);
  expect(notes({ architectures: ["GPTNeoForCausalLM"] })).toEqual([
    "c: computed as a GPT-2, though architectures is GPTNeoForCausalLM",
  ]);
  expect(notes({ auto_map: { AutoModelForCausalLM: "modeling.Own" } })).toEqual([
    "c: the code that auto_map names is not run: computed as a GPT-2",
  ]);
});

test("the end tokens of a config, each once", () => {
  expect(endTokens(null)).toEqual([]);
  expect(endTokens(7)).toEqual([7]);
  expect(endTokens([7, 8, 7])).toEqual([7, 8]);
});

describe("makeConfig and what is saved", () => {
  test("a new config", () => {
    const config = makeConfig({ vocabSize: 100, nEmbd: 32, nHead: 2, bosTokenId: null });
    expect(config).toEqual({
      ...defaults,
      vocabSize: 100,
      nEmbd: 32,
      nHead: 2,
      nInner: 128,
      bosTokenId: null,
      raw: {},
    });
    expect(makeConfig()).toEqual({ ...defaults, raw: {} });
    expect(() => makeConfig({ nEmbd: 33 })).toThrow(
      /^makeConfig: found n_head = 12, expected a divisor of n_embd = 33/,
    );
  });

  test("what is saved is what was read, unknown fields too, in fp32", () => {
    const file = {
      ...published,
      eos_token_id: [50256, 7],
      pad_token_id: -1,
      torch_dtype: "float16",
      dtype: "float16",
      my_field: [1],
      n_inner: 3072,
    };
    const json = gpt2.writeConfig(parseConfig(file, "c"));
    const { dtype: _, ...kept } = file;
    expect(json).toMatchObject({ ...kept, n_inner: null, torch_dtype: "float32" });
    expect(json).not.toHaveProperty("dtype");
    expect(json).not.toHaveProperty("raw");
    expect(json).not.toHaveProperty("num_labels");
    const again = parseConfig(JSON.parse(JSON.stringify(json)), "c");
    expect({ ...again, raw: 0 }).toEqual({ ...parseConfig(file, "c"), raw: 0 });
    expect(gpt2.writeConfig(makeConfig({ nInner: 7 })).n_inner).toBe(7);
    expect(gpt2.writeConfig(makeConfig())).toMatchObject({ architectures: ["GPT2LMHeadModel"], model_type: "gpt2" });
  });
});
