/** @file How large a model's logits can be, from its weights: what the rounding of logits is measured against. */
import type { GPT2Config } from "./config.ts";
import type { ParameterBuffer } from "./parameters.ts";

/**
 * A bound of |logit|. The final layer norm gives rows of length √C or less, times its gain, plus its bias; a logit is the product of
 * such a row with a row of the language-model head, so at most the product of their lengths (Cauchy and Schwarz).
 */
export function logitScale(parameters: ParameterBuffer, { nEmbd: C, tieWordEmbeddings }: GPT2Config): number {
  const gain = parameters.view("transformer.ln_f.weight").reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  const bias = Math.hypot(...parameters.view("transformer.ln_f.bias"));
  const head = parameters.view(tieWordEmbeddings ? "transformer.wte.weight" : "lm_head.weight"); // [V, C]
  let longest = 0;
  for (let start = 0; start < head.length; start += C) {
    let squares = 0;
    for (let c = start; c < start + C; c++) squares += head[c] * head[c];
    longest = Math.max(longest, squares);
  }
  return (gain * Math.sqrt(C) + bias) * Math.sqrt(longest);
}
