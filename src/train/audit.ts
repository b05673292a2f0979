/** @file What must hold at every step, whatever the options. A breach means text was not scored as it was sampled. */
import { fail } from "../base/errors.ts";
import type { KlEstimates } from "../rl/kl.ts";
import type { PpoConfig } from "./config.ts";
import type { UpdateRecord } from "./update.ts";

/** Rounding between the decoding pass and the training pass, in float32, stays well below this. */
const RATIO_TOLERANCE = 1e-3;

/**
 * - The ratio of the first minibatch is 1: sampling and scoring agree on every token's probability.
 * - The mean KL is not below zero by more than 4 standard errors: x ~ p.
 *
 * @returns a message to warn with, or undefined when all is well
 * @throws audit - a breach, unless config.audit is "warn" or "off"
 */
export function auditStep(kl: KlEstimates, update: UpdateRecord, config: PpoConfig, step: number): string | undefined {
  if (config.audit === "off") return undefined;
  const problem = breach(kl, update, config);
  if (!problem) return undefined;
  if (config.audit === "stop") fail("audit", { where: `PPO step ${step}`, ...problem });
  return `found ${problem.found}, expected ${problem.expected}. ${problem.fix}`;
}

function breach(kl: KlEstimates, update: UpdateRecord, { maskReplay }: PpoConfig) {
  const { mean, standardError } = kl.k1;
  if (update.firstRatioDeviation > RATIO_TOLERANCE)
    return {
      found: `a policy ratio ${update.firstRatioDeviation.toExponential(2)} away from 1 before any weight had moved`,
      expected: `1 within ${RATIO_TOLERANCE}`,
      fix: maskReplay
        ? "tokens are scored under another distribution than they were drawn from: look for a temperature or kept set on one side only, a transform that does not repeat itself, or weights that changed in between"
        : "maskReplay is off, so kept sets are left out when tokens are scored: set maskReplay to true, or sample without truncation",
    };
  if (Number.isFinite(standardError) && mean < -4 * standardError - RATIO_TOLERANCE)
    return {
      found: `a mean KL of ${mean.toFixed(4)} with a standard error of ${standardError.toFixed(4)}`,
      expected: "a mean KL that is not below zero",
      fix: "responses are not samples of the policy they are scored under: look for padding after the end of text that is scored, or a ban that is not replayed",
    };
  return undefined;
}
