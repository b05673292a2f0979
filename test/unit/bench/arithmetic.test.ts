/** @file What the benchmark's shares are shares of: FLOPs as PyTorch counts them, bytes from GPT-2's published size. */
import { expect, test } from "vitest";
import { adamwBytes, forwardFlops, sampleFlops, trainFlops, weightBytes } from "../../../bench/arithmetic.ts";
import { makeConfig } from "../../../src/families/gpt2.ts";

// torch 2.15.0, torch.utils.flop_counter, GPT2LMHeadModel with eager attention, 2 x 16 tokens.
const config = makeConfig({ nLayer: 2, nEmbd: 64, nHead: 4, vocabSize: 300 });
const [B, T] = [2, 16];
const TORCH = { forward: 7_782_400, forwardHalf: 7_168_000, train: 23_347_200 };
// PyTorch multiplies all T x T scores; of them a token may look at T (T + 1) / 2. Scores and weighted sum, 2 C each.
const masked = 2 * B * 2 * 2 * 64 * ((T * (T - 1)) / 2);

test("FLOPs are PyTorch's without the masked scores", () => {
  expect(forwardFlops(config, B, T, B * T)).toBe(TORCH.forward - masked);
  expect(forwardFlops(config, B, T, (B * T) / 2)).toBe(TORCH.forwardHalf - masked);
  expect(trainFlops(config, B, T, B * T)).toBe(TORCH.train - 3 * masked);
});

test("sampling feeds every token but the last, and asks logits once for each it draws", () => {
  expect(sampleFlops(config, B, T / 2 + 1, T / 2)).toBe(TORCH.forwardHalf - masked);
});

test("bytes of GPT-2 124M", () => {
  const gpt2 = makeConfig({});
  const parameters = 124_439_808 + 769; // and the value head's 768 weights and a bias
  expect(weightBytes(gpt2)).toBe(4 * (parameters - 1024 * 768));
  expect(adamwBytes(gpt2)).toBe(28 * parameters);
});
