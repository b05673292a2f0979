/** @file NaN and infinity: found where they first appear, and named. */
import { fail } from "../base/errors.ts";
import type { RowScores } from "../model/head.ts";
import type { ParameterBuffer } from "../model/parameters.ts";
import type { Experience } from "./batch.ts";

const isBad = (x: number) => !Number.isFinite(x);

/**
 * Every number of a batch is finite.
 * @param arrays per-token arrays [B, W] by what errors call them, in the order they were computed
 * @throws numbers - the first that is not, with its response
 */
export function checkFinite(
  step: number,
  { batch, queries, responses }: Experience,
  prompts: readonly string[],
  arrays: Readonly<Record<string, Float32Array>>,
): void {
  for (const [name, array] of Object.entries(arrays)) {
    const i = array.findIndex((x, j) => batch.mask[j] === 1 && isBad(x));
    if (i < 0) continue;
    const [b, t] = [Math.floor(i / batch.width), i % batch.width];
    fail("numbers", {
      where: `PPO step ${step}, response ${b} of ${queries.length}, to ${JSON.stringify(prompts[b].slice(0, 60))}`,
      found: `${array[i]} in ${name}, token ${t} of ${responses[b].length}`,
      expected: "finite numbers",
      fix: FIX,
    });
  }
}

/**
 * Every weight of a model is finite before it is trained, or measured against.
 * @param what the model's part in the run: "policy", "reference"
 * @throws numbers - the first parameter with a number that is not
 */
export function checkWeights(what: string, weights: ParameterBuffer): void {
  const bad = firstBadParameter(weights);
  if (bad === undefined) return;
  const i = weights.view(bad).findIndex(isBad);
  fail("numbers", {
    where: `the ${what}, parameter ${bad}, element ${i}`,
    found: String(weights.view(bad)[i]),
    expected: "finite weights to begin with",
    fix: "load another checkpoint: this one was spoiled before it was saved, or damaged since",
  });
}

/** What is not finite in the forward pass of a minibatch, in words; undefined when all is well. */
export function badScores(scores: RowScores & { loss: number }, weights: ParameterBuffer): string | undefined {
  if (!isBad(scores.loss)) return undefined;
  const weight = firstBadParameter(weights);
  if (weight !== undefined) return `the weight ${weight}`;
  for (const [name, array] of [
    ["log-probs", scores.logprobs],
    ["values", scores.values],
    ["entropies", scores.entropies],
  ] as const) {
    const bad = array.find(isBad);
    if (bad !== undefined) return `the ${name} of the minibatch (${bad}), so in the loss (${scores.loss})`;
  }
  return `the loss (${scores.loss})`;
}

/**
 * What is wrong with a gradient, in words; undefined when all is well.
 * @param norm  its norm
 * @param scale what clipping multiplies it with
 */
export function badGradient(grads: ParameterBuffer, norm: number, scale: number): string | undefined {
  if (isBad(norm)) return `the gradient of ${firstBadParameter(grads) ?? "the parameters, whose norm overflows"}`;
  // Adam's second moment holds its square: infinite, it would keep the weight from ever moving again.
  if (isBad(Math.fround((norm * scale) ** 2))) return `the square of the gradient (norm ${norm * scale})`;
  return undefined;
}

/** What an optimizer step has spoiled, in words; undefined when all is well. `change` is the norm of what it changed. */
export function badWeights(weights: ParameterBuffer, change: number): string | undefined {
  if (!isBad(change)) return undefined;
  const weight = firstBadParameter(weights);
  return weight === undefined
    ? "the change of the weights, which the optimizer step made too large to be added up"
    : `the weight ${weight} after the optimizer step`;
}

function firstBadParameter(buffer: ParameterBuffer): string | undefined {
  return buffer.table.find((p) => buffer.view(p.name).some(isBad))?.name;
}

/** @throws numbers - a minibatch cannot be learned from */
export function failMinibatch(step: number, epoch: number, start: number, bad: string, skipped: number): never {
  const before = skipped > 0 ? `, after ${skipped} optimizer steps of the run were skipped for the same reason` : "";
  return fail("numbers", {
    where: `PPO step ${step}, epoch ${epoch + 1}, minibatch from response ${start}`,
    found: `a number that is not finite in ${bad}${before}`,
    expected: "finite numbers",
    fix: FIX,
  });
}

const FIX = "resume from the last checkpoint (--resume) with a lower learningRate or a smaller maxGradNorm";
