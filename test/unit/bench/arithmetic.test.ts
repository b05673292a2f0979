/** @file What the benchmark's shares are shares of: FLOPs as PyTorch counts them, bytes from GPT-2's published size. */
import { expect, test } from "vitest";
import {
  adamwBytes,
  cacheBytes,
  forwardFlops,
  sampleFlops,
  trainAdapterFlops,
  trainFlops,
  weightBytes,
} from "../../../bench/arithmetic.ts";
import { makeConfig } from "../../../src/families/gpt2.ts";
import { makeLlamaConfig } from "../../../src/families/llama.ts";

// torch 2.15.0, torch.utils.flop_counter, GPT2LMHeadModel with eager attention, 2 x 16 tokens.
const config = makeConfig({ nLayer: 2, nEmbd: 64, nHead: 4, vocabSize: 300 });
const [B, T] = [2, 16];
const TORCH = { forward: 7_782_400, forwardHalf: 7_168_000, train: 23_347_200, lora: 16_596_992 };
// The same of LlamaForCausalLM; and with peft 0.21.2, rank 4 on every matrix of the blocks.
const sizes = { hiddenSize: 64, intermediateSize: 96, numHiddenLayers: 2, numAttentionHeads: 4, numKeyValueHeads: 2 };
const llama = makeLlamaConfig({
  ...sizes,
  headDim: 16,
  vocabSize: 300,
  tieWordEmbeddings: true,
  maxPositionEmbeddings: 64,
});
const TORCH_LLAMA = { forward: 5_423_104, train: 16_269_312, lora: 11_960_320 };
// PyTorch multiplies all T x T scores; of them a token may look at T (T + 1) / 2. Scores and weighted sum, 2 C each.
const masked = 2 * B * 2 * 2 * 64 * ((T * (T - 1)) / 2);

test("FLOPs are PyTorch's without the masked scores", () => {
  expect(forwardFlops(config, B, T, B * T)).toBe(TORCH.forward - masked);
  expect(forwardFlops(config, B, T, (B * T) / 2)).toBe(TORCH.forwardHalf - masked);
  expect(trainFlops(config, B, T, B * T)).toBe(TORCH.train - 3 * masked);
});

test("FLOPs of a Llama", () => {
  expect(forwardFlops(llama, B, T, B * T)).toBe(TORCH_LLAMA.forward - masked);
  expect(trainFlops(llama, B, T, B * T)).toBe(TORCH_LLAMA.train - 3 * masked);
});

// Nothing asks for the gradient of what the first block's first matrices read: [B T, 64] from `out` numbers, and from A of rank 4.
const unasked = (out: number, matrices: number) => 2 * B * T * 64 * (out + 4 * matrices);

test("FLOPs of a training step of an adapter, but for the first gradient that nothing needs", () => {
  expect(trainAdapterFlops(config, 4, B, T, B * T)).toBe(TORCH.lora - 3 * masked + unasked(3 * 64, 1));
  expect(trainAdapterFlops(llama, 4, B, T, B * T)).toBe(TORCH_LLAMA.lora - 3 * masked + unasked(64 + 32 + 32, 3));
});

test("sampling feeds every token but the last, and asks logits once for each it draws", () => {
  expect(sampleFlops(config, B, T / 2 + 1, T / 2)).toBe(TORCH.forwardHalf - masked);
});

test("bytes of GPT-2 124M, of a cache, of an adapter", () => {
  const gpt2 = makeConfig({});
  const parameters = 124_439_808 + 769; // and the value head's 768 weights and a bias
  expect(weightBytes(gpt2)).toBe(4 * (parameters - 1024 * 768));
  expect(adamwBytes(gpt2)).toBe(28 * parameters);
  expect(cacheBytes(llama, 2, 10)).toBe(4 * 2 * 10 * 2 * 2 * 32); // two heads of keys and values
  expect(cacheBytes(gpt2, 2, 10)).toBe(4 * 2 * 10 * 12 * 2 * 768);
  expect(adamwBytes(config, 4)).toBe(28 * (8192 + 65)); // peft's number of trained parameters, and the value head
});
