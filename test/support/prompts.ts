/** @file Prompts for tests that sample. */
import { RNG } from "../../src/base/rng.ts";
import type { CausalLMWithValueHead } from "../../src/model/model.ts";
import { generate } from "../../src/sample/generate.ts";

/** Prompts of these lengths, random ids. */
export function prompts(V: number, lengths: number[], seed = 1): Int32Array[] {
  const rng = new RNG(seed);
  return lengths.map((length) => Int32Array.from({ length }, () => rng.int(V - 1)));
}

/** The token drawn most often after these prompts: as eos it ends many responses, some early. */
export async function commonToken(model: CausalLMWithValueHead, queries: Int32Array[]): Promise<number> {
  const { responses } = await generate(model, queries, { maxNewTokens: 20, eosTokenId: null, seed: 99 });
  const counts = new Array(model.sizes.vocabSize).fill(0);
  for (const { tokens } of responses) for (const id of tokens) counts[id]++;
  return counts.indexOf(Math.max(...counts));
}
