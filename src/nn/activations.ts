/** @file The activation functions GPT-2 checkpoints name, as transformers spells them. */
import { gelu, geluTanh, mul, relu, scale, sigmoid, tanh } from "../graph/ops/index.ts";
import type { Tensor } from "../graph/tensor.ts";

export const activations: Readonly<Record<string, (x: Tensor) => Tensor>> = {
  gelu_new: geluTanh,
  gelu_fast: geluTanh,
  gelu_accurate: geluTanh,
  gelu_python_tanh: geluTanh,
  gelu_pytorch_tanh: geluTanh,
  gelu,
  gelu_python: gelu,
  quick_gelu: (x) => mul(x, sigmoid(scale(x, 1.702))),
  relu,
  tanh,
  sigmoid,
  silu: (x) => mul(x, sigmoid(x)),
  swish: (x) => mul(x, sigmoid(x)),
};
