/** @file How a value head begins that the checkpoint did not have. */
import { stream } from "../base/streams.ts";
import type { CausalLMWithValueHead } from "../model/model.ts";
import type { TrainedConfig } from "./options.ts";

/**
 * - `normal`: N(0, valueHeadStd), bias 0; with valueHeadStd 0 the head stays as it was made, N(0, initializer_range).
 *   TRL's v_head_init_strategy "normal" takes 0.2 (huggingface/trl@v0.11.4:trl/models/modeling_value_head.py).
 * - `zero`: openai/lm-human-preferences:lm_human_preferences/language/model.py, scale 0 for the head named value.
 * - `uniform`: weight and bias U(-1 / sqrt(C), 1 / sqrt(C)), torch.nn.Linear's own and TRL's default.
 *
 * Changes the model in place. A value head that was loaded is left alone.
 * @returns what to tell the user; undefined: nothing
 */
export function initializeValueHead(
  { parameters, sizes, valueHeadIsNew }: CausalLMWithValueHead,
  { valueHeadInit, valueHeadStd, seed }: TrainedConfig & { seed: number },
): string | undefined {
  if (valueHeadInit === "normal" && valueHeadStd === 0) return undefined;
  if (!valueHeadIsNew || !parameters.has("v_head.summary.weight"))
    return `valueHeadInit ${valueHeadInit} is not applied: the model comes with a value head`;
  const rng = stream(seed, "valueHead");
  const bound = 1 / Math.sqrt(sizes.width);
  const draw = {
    normal: (isBias: boolean) => (isBias ? 0 : valueHeadStd * rng.normal()),
    zero: () => 0,
    uniform: () => (2 * rng.uniform() - 1) * bound,
  }[valueHeadInit];
  for (const name of ["weight", "bias"]) {
    const view = parameters.view(`v_head.summary.${name}`);
    for (let i = 0; i < view.length; i++) view[i] = draw(name === "bias");
  }
  return `the new value head begins ${{ normal: `N(0, ${valueHeadStd})`, zero: "at zero", uniform: `U(-${bound.toPrecision(3)}, ${bound.toPrecision(3)})` }[valueHeadInit]} (valueHeadInit)`;
}
