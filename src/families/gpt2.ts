/** @file GPT-2 (Radford et al. 2019), as transformers' GPT2LMHeadModel computes it. */
import { add, layerNorm, split } from "../graph/ops/index.ts";
import type { Tensor } from "../graph/tensor.ts";
import { configNotes, configToJson, type GPT2Config, parseConfig } from "../model/config.ts";
import type { Family, ParameterRow } from "../model/family.ts";
import { activations } from "../nn/activations.ts";

type Init = "normal" | "residual";
const weight = (name: string, axes: string, init: Init = "normal"): ParameterRow => ({ name, axes, init, decay: true });
/** Stored [in, out]: transformers' Conv1D. */
const matrix = (name: string, axes: string, init?: Init): ParameterRow => ({
  ...weight(name, axes, init),
  matrix: "in,out",
});
const gain = (name: string): ParameterRow => ({ name, axes: "C", init: "ones", decay: false });
const bias = (name: string, axes = "C"): ParameterRow => ({ name, axes, init: "zeros", decay: false });

/** Axes: C width, I feed-forward, V vocabulary, P positions. */
const EMBEDDINGS = [weight("transformer.wte.weight", "V,C"), weight("transformer.wpe.weight", "P,C")];
const BLOCK = [
  gain("transformer.h.{layer}.ln_1.weight"),
  bias("transformer.h.{layer}.ln_1.bias"),
  matrix("transformer.h.{layer}.attn.c_attn.weight", "C,3C"),
  bias("transformer.h.{layer}.attn.c_attn.bias", "3C"),
  matrix("transformer.h.{layer}.attn.c_proj.weight", "C,C", "residual"),
  bias("transformer.h.{layer}.attn.c_proj.bias"),
  gain("transformer.h.{layer}.ln_2.weight"),
  bias("transformer.h.{layer}.ln_2.bias"),
  matrix("transformer.h.{layer}.mlp.c_fc.weight", "C,I"),
  bias("transformer.h.{layer}.mlp.c_fc.bias", "I"),
  matrix("transformer.h.{layer}.mlp.c_proj.weight", "I,C", "residual"),
  bias("transformer.h.{layer}.mlp.c_proj.bias"),
];
const NORM = [gain("transformer.ln_f.weight"), bias("transformer.ln_f.bias")];
/** Unless it is the token embedding. */
const LM_HEAD = [weight("lm_head.weight", "V,C")];

const norm = ({ layerNormEpsilon }: GPT2Config, x: Tensor, p: Readonly<Record<string, Tensor>>, name: string): Tensor =>
  layerNorm(x, p[`${name}.weight`], p[`${name}.bias`], layerNormEpsilon);

export const gpt2: Family<GPT2Config> = {
  modelTypes: ["gpt2"],
  readConfig: parseConfig,
  writeConfig: configToJson,
  notes: configNotes,
  prefix: "transformer.",
  tokenTypes: true,
  table: ({ tieWordEmbeddings }) => [...EMBEDDINGS, ...BLOCK, ...NORM, ...(tieWordEmbeddings ? [] : LM_HEAD)],
  axes: ({ nEmbd: C, nInner: I, vocabSize: V, nPositions: P }) => ({ C, "3C": 3 * C, I, V, P }),
  embeddings: () => [
    { name: "transformer.wte.weight", by: "token" },
    { name: "transformer.wpe.weight", by: "position" },
  ],
  sizes: ({ vocabSize, nPositions, nEmbd, nLayer, nHead, nInner }) => ({
    vocabSize,
    context: nPositions,
    contextName: "n_positions",
    width: nEmbd,
    layers: nLayer,
    heads: nHead,
    kvHeads: nHead,
    headSize: nEmbd / nHead,
    inner: nInner,
    innerMatrices: 1,
  }),
  attentionScale({ nEmbd, nHead, scaleAttnWeights, scaleAttnByInverseLayerIdx }, layer) {
    const perHead = scaleAttnWeights ? 1 / Math.sqrt(nEmbd / nHead) : 1;
    return scaleAttnByInverseLayerIdx ? perHead / (layer + 1) : perHead;
  },
  block(config, x, p, attend, product) {
    const { nEmbd: C, activationFunction } = config;
    const qkv = product(norm(config, x, p, "ln_1"), "attn.c_attn.weight", "attn.c_attn.bias"); // [..., 3C]
    const [q, k, v] = split(qkv, x.rank - 1, [C, C, C]);
    const middle = add(x, product(attend(q, k, v), "attn.c_proj.weight", "attn.c_proj.bias"));
    const wide = product(norm(config, middle, p, "ln_2"), "mlp.c_fc.weight", "mlp.c_fc.bias"); // [..., I]
    const active = activations[activationFunction](wide);
    return add(middle, product(active, "mlp.c_proj.weight", "mlp.c_proj.bias"));
  },
  normed: (config, x, p) => norm(config, x, p, "transformer.ln_f"),
};
