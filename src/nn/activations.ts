/** @file The activation functions GPT-2 checkpoints name, as transformers spells them. */
import { gelu, geluTanh, mul, relu, sigmoid, tanh } from "../graph/ops/index.ts";
import type { Tensor } from "../graph/tensor.ts";

export const activations: Readonly<Record<string, (x: Tensor) => Tensor>> = {
  gelu_new: geluTanh,
  gelu_pytorch_tanh: geluTanh,
  gelu,
  relu,
  tanh,
  sigmoid,
  silu: (x) => mul(x, sigmoid(x)),
  swish: (x) => mul(x, sigmoid(x)),
};
