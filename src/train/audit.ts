/** @file What must hold at every step, whatever the options. A breach means text was not scored as it was sampled. */
import { fail } from "../base/errors.ts";
import type { ImportanceWeights } from "../rl/importance.ts";
import type { KlEstimates } from "../rl/kl.ts";
import { studentBound } from "../rl/student.ts";
import type { Experience } from "./batch.ts";
import type { PpoConfig } from "./config.ts";
import type { DrawStatistics } from "./given.ts";

/** Rounding between the decoding pass and the training pass, in float32, stays well below this. */
const RATIO_TOLERANCE = 1e-3;

interface Breach {
  found: string;
  expected: string;
  /** The likely cause, in words. */
  fix: string;
}

/**
 * Before a batch is learned from:
 * - every token's kept set held some probability, and not more than all of it;
 * - nothing was counted after the first end-of-text token;
 * - the mean KL is not below zero by more than 4 standard errors (more, with few responses): x ~ p. Tokens drawn by a rollout policy of its own give
 *   KL(π_rollout ‖ π_ref) - KL(π_rollout ‖ π_old), which may lie below zero by the latter;
 * - importance weights, if there are any, are 1 on average within 5 standard errors.
 *
 * @param endTokens what ends a response; none: nothing does
 * @param importance of tokens that another policy drew
 * @returns a message to warn with, or undefined when all is well
 * @throws audit - a breach, unless config.audit is "warn" or "off"
 */
export function auditExperience(
  data: Experience,
  kl: KlEstimates,
  endTokens: readonly number[],
  config: PpoConfig,
  step: number,
  importance?: ImportanceWeights,
): string | undefined {
  const find = () =>
    badMass(data) ?? afterEnd(data, endTokens) ?? badWeights(importance) ?? negativeKl(kl, importance?.kl);
  return report(find, config, step);
}

/**
 * In the first minibatch, before any weight has moved: the ratio is 1, so the log-probs of its sequences, replayed by the
 * training pass, are those recorded when they were sampled.
 *
 * @param deviation largest |ratio - 1|
 * @returns a message to warn with, or undefined when all is well
 * @throws audit - a breach, unless config.audit is "warn" or "off"
 */
export function auditRatio(deviation: number, config: PpoConfig, step: number): string | undefined {
  return report(() => badRatio(deviation, config.maskReplay), config, step);
}

/**
 * Of tokens that came without a record of how they were drawn, all that were given so far: they can be draws from the
 * policy they are scored under.
 *
 * @returns a message to warn with, or undefined when all is well
 * @throws audit - a breach, unless config.audit is "warn" or "off"
 */
export function auditDraws(draws: DrawStatistics, config: PpoConfig, step: number): string | undefined {
  return report(() => wrongEnds(draws) ?? wrongSurprise(draws), config, step);
}

/** A share of honest runs that a test may stop by chance: both are passed at every step. */
const MAX_LOG_CHANCE = Math.log(1e-7);
/** The same in standard errors, one-sided. */
const MAX_ERRORS = 5.2;

function wrongEnds({ ends, expectedEnds, tokens }: DrawStatistics): Breach | undefined {
  // Chernoff: the chance of as few, or as many, is at most exp(ends - expected) (expected / ends)^ends.
  const logChance = ends - expectedEnds + (ends > 0 ? ends * Math.log(expectedEnds / ends) : 0);
  if (!(logChance < MAX_LOG_CHANCE)) return undefined;
  return {
    found: `${ends} ends of text in ${tokens} tokens`,
    expected: `about ${expectedEnds.toFixed(1)}, the sum of their probabilities`,
    fix:
      ends < expectedEnds
        ? "the end of text was banned when sampling and is not when scoring, as by a minimum length: pass what generate returned, with its kept sets"
        : "the end of text stands where nobody drew it, as padding does: cut responses after their first end-of-text token",
  };
}

function wrongSurprise({ excessSurprise, variance, tokens }: DrawStatistics): Breach | undefined {
  const errors = excessSurprise / Math.sqrt(variance);
  if (!(Math.abs(errors) > MAX_ERRORS)) return undefined;
  const perToken = (excessSurprise / tokens).toFixed(3);
  return {
    found: `tokens whose mean surprise differs from the entropy by ${perToken} nats, ${errors.toFixed(1)} standard errors`,
    expected: "no difference: the tokens are draws from the policy they are scored under",
    fix:
      errors < 0
        ? "they are likelier than chance would have them: look for top-k, top-p, a lower temperature or greedy choice when sampling; pass what generate returned, with its kept sets"
        : "they are less likely than chance would have them: look for a higher temperature, a penalty or another model when sampling, or padding in the responses",
  };
}

function report(find: () => Breach | undefined, { audit }: PpoConfig, step: number): string | undefined {
  const breach = audit === "off" ? undefined : find();
  if (!breach) return undefined;
  if (audit === "stop") fail("audit", { where: `PPO step ${step}`, ...breach });
  return `found ${breach.found}, expected ${breach.expected}. ${breach.fix}`;
}

function badMass({ batch, keptMass }: Experience): Breach | undefined {
  // A sum of rounded probabilities may exceed 1 by a little.
  const i = keptMass.findIndex((mass, j) => batch.mask[j] === 1 && !(mass > 0 && mass <= 1 + 1e-9));
  if (i < 0) return undefined;
  return {
    found: `a kept set with probability ${keptMass[i]} (response ${Math.floor(i / batch.width)}, token ${i % batch.width})`,
    expected: "above 0 and at most 1",
    fix: "a transform leaves tokens that cannot be drawn, or counts some twice",
  };
}

function afterEnd({ responses }: Experience, endTokens: readonly number[]): Breach | undefined {
  for (const [b, response] of responses.entries()) {
    const end = response.findIndex((id) => endTokens.includes(id));
    if (end >= 0 && end < response.length - 1)
      return {
        found: `${response.length - 1 - end} tokens counted after the end of text (response ${b}, token ${end})`,
        expected: "nothing after the first end of text",
        fix: "padding was taken for text: cut responses after their first end-of-text token",
      };
  }
  return undefined;
}

function badWeights(importance?: ImportanceWeights): Breach | undefined {
  if (!importance) return undefined;
  const { mean, std, tokens } = importance;
  const standardError = std / Math.sqrt(tokens); // given the tokens before it, each weight is 1 on average
  if (Math.abs(mean - 1) <= 5 * standardError + RATIO_TOLERANCE) return undefined;
  return {
    found: `a mean importance weight of ${mean.toFixed(4)} with a standard error of ${standardError.toFixed(4)}`,
    expected: "1 within 5 standard errors",
    fix: "the recorded log-probs are not those of the policy that drew the tokens, or the old policy scores them under other kept sets",
  };
}

function negativeKl({ k1: { mean, standardError, perSequence } }: KlEstimates, rolloutKl = 0): Breach | undefined {
  const noise = studentBound(4, perSequence.length) * standardError;
  if (!(mean < -noise - RATIO_TOLERANCE - rolloutKl)) return undefined;
  return {
    found: `a mean KL of ${mean.toFixed(4)} with a standard error of ${standardError.toFixed(4)}`,
    expected: "a mean KL that is not below zero",
    fix: "responses are not samples of the policy they are scored under: look for padding after the end of text that is scored, or a ban that is not replayed",
  };
}

function badRatio(deviation: number, maskReplay: boolean): Breach | undefined {
  if (deviation <= RATIO_TOLERANCE) return undefined;
  return {
    found: `a policy ratio ${deviation.toExponential(2)} away from 1 before any weight had moved`,
    expected: `1 within ${RATIO_TOLERANCE}`,
    fix: maskReplay
      ? "tokens are scored under another distribution than they were drawn from: look for a temperature or kept set on one side only, a transform that does not repeat itself, dropout, or weights that changed in between"
      : "maskReplay is off, so kept sets are left out when tokens are scored: set maskReplay to true, or sample without truncation",
  };
}
