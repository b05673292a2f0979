/** @file How large a model's logits can be, from its weights: what the rounding of logits is measured against. */
import { type Architecture, lmHeadName } from "./family.ts";
import { type ParameterBuffer, parameterTable } from "./parameters.ts";

/**
 * A bound of |logit|. The final norm gives rows of length √C or less, times its gain, plus its bias if it has one; a logit is the
 * product of such a row with a row of the language-model head, so at most the product of their lengths (Cauchy and Schwarz).
 */
export function logitScale(parameters: ParameterBuffer, architecture: Architecture): number {
  const C = architecture.sizes.width;
  const norm = parameterTable(architecture).filter(({ layer, axes }) => layer === undefined && axes.join() === "C");
  const ofInit = (init: "ones" | "zeros") =>
    norm.filter((row) => row.init === init).flatMap(({ name }) => Array.from(parameters.view(name)));
  const gain = ofInit("ones").reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  const bias = Math.hypot(...ofInit("zeros"));
  const head = parameters.view(lmHeadName(architecture)); // [V, C]
  let longest = 0;
  for (let start = 0; start < head.length; start += C) {
    let squares = 0;
    for (let c = start; c < start + C; c++) squares += head[c] * head[c];
    longest = Math.max(longest, squares);
  }
  return (gain * Math.sqrt(C) + bias) * Math.sqrt(longest);
}
