/**
 * @file What must hold at every step, whatever the options. A breach means text was not scored as it was sampled.
 *
 * Two kinds of checks: identities, which hold of every token or not at all, and a test martingale, which bounds the share of honest
 * runs that chance alone may stop (rl/martingale.ts; docs/honest-sampling.md has the theorem).
 */
import { fail } from "../base/errors.ts";
import { keptAt } from "../model/kept-set.ts";
import { logitScale } from "../model/logit-scale.ts";
import type { CausalLMWithValueHead } from "../model/model.ts";
import { type Family, familyOf, mixtureFactors, saysFewer, WEIGHTS } from "../rl/alternatives.ts";
import type { Draws } from "../rl/draws.ts";
import type { ImportanceWeights } from "../rl/importance.ts";
import type { KLEstimates } from "../rl/kl.ts";
import {
  advance,
  FALSE_STOPS,
  LOG_BOUND,
  type LogFactors,
  logShares,
  logSum,
  type MartingaleState,
} from "../rl/martingale.ts";
import type { Metrics } from "../rl/metrics.ts";
import type { SamplingConfig } from "../sample/options.ts";
import type { Experience } from "./experience.ts";
import type { HonestyConfig } from "./options.ts";

interface Breach {
  found: string;
  expected: string;
  /** The likely cause, in words. */
  fix: string;
}

/** A step's tokens, all that the audit looks at. */
export interface Audited {
  /** With the log-probs of the old policy. */
  data: Experience;
  /** Log-probs of the policy that drew the tokens, over the same kept sets: another one than the old policy in int8. [B * W] */
  drawnLogprobs: Float32Array;
  /** What the reference says, which one part of the test bets on; undefined: there is none. */
  refLogprobs?: Float32Array | undefined;
  kl?: KLEstimates | undefined;
  /** What ends a response; none: nothing does. */
  endTokens: readonly number[];
  /** Of tokens that another policy drew. */
  importance?: ImportanceWeights;
  /** Of tokens that came without a record of how they were drawn. */
  draws?: Draws;
}

/** Where the test stands after a step: nothing when the audit is off, which forgets what there was. */
export interface AuditResult {
  state?: MartingaleState;
  metrics: Metrics;
  warnings: string[];
}

/**
 * Before a batch is learned from:
 * - every token is in its kept set, which held some probability, and not more than all of it;
 * - nothing was counted after the first end of text;
 * - the test martingale, of this and all earlier steps, is below its bound.
 *
 * @param before    where the test stood after the last step
 * @param algorithm as errors call it
 * @throws audit - a breach, unless config.audit is "warn" or "off"
 */
export function auditStep(
  before: MartingaleState,
  seen: Audited,
  config: HonestyConfig,
  step: number,
  algorithm = "PPO",
): AuditResult {
  if (config.audit === "off") return { metrics: {}, warnings: [] };
  const factors = logFactors(seen);
  const state = advance(before, factors, WEIGHTS, countTokens(seen.data));
  const shares = logShares(state, WEIGHTS);
  const log = logSum(Object.values(shares));
  const breaches = [
    afterEnd(seen) ?? badKeptSet(seen.data),
    log >= LOG_BOUND ? notDraws(seen, state, shares) : undefined,
  ];
  const warnings = breaches.flatMap((breach) => report(breach, config, `${algorithm} step ${step}`) ?? []);
  return { state, metrics: { ...auditMetrics(shares, factors), "audit/log_martingale": log }, warnings };
}

/**
 * In the first minibatch, before any weight has moved: the ratio is 1, so the log-probs of its sequences, replayed by the
 * training pass, are those recorded when they were sampled.
 *
 * @param deviation largest |ratio - 1|
 * @returns a message to warn with, or undefined when all is well
 * @throws audit - a breach, unless config.audit is "warn" or "off"
 */
export function auditRatio(
  deviation: number,
  model: CausalLMWithValueHead,
  config: HonestyConfig & Sharpness,
  step: number,
  algorithm = "PPO",
): string | undefined {
  if (config.audit === "off" || deviation <= RATIO_TOLERANCE) return undefined;
  const tolerance = ratioTolerance(model, config);
  if (deviation <= tolerance) return undefined;
  return report(badRatio(deviation, tolerance, config.maskReplay), config, `${algorithm} step ${step}`);
}

type Sharpness = Pick<SamplingConfig, "temperature" | "repetitionPenalty">;

/** Rounding between the decoding pass and the training pass, in float32, stays well below this in most models. */
const RATIO_TOLERANCE = 1e-3;

/** Rounding of logits on their way through a model, relative to how large they can be: 16 times float32's. */
const LOGIT_ROUNDING = 2 ** -20;

/**
 * How far rounding can move a ratio from 1. A log-prob is a difference of logits over the temperature, so their rounding counts
 * 1 / temperature times, and a repetition penalty multiplies it too.
 */
export function ratioTolerance(model: CausalLMWithValueHead, { temperature, repetitionPenalty: p }: Sharpness): number {
  const sharpness = Math.max(p, 1 / p) / temperature;
  return RATIO_TOLERANCE * Math.max(1, sharpness) + LOGIT_ROUNDING * logitScale(model.parameters, model) * sharpness;
}

function report(
  breach: Breach | undefined,
  { audit }: Pick<HonestyConfig, "audit">,
  where: string,
): string | undefined {
  if (!breach) return undefined;
  if (audit === "stop") fail("audit", { where, ...breach });
  return `found ${breach.found}, expected ${breach.expected}. ${breach.fix}`;
}

const countTokens = ({ responses }: Experience) => responses.reduce((n, { length }) => n + length, 0);

/** What every alternative that has something to say about these tokens gained. */
function logFactors({ data, drawnLogprobs, refLogprobs, importance, draws }: Audited): LogFactors {
  const { mask } = data.batch;
  const over = (q: Float32Array) => Array.from(q, (x, i) => x - drawnLogprobs[i]).filter((_, i) => mask[i] === 1);
  return {
    ...(refLogprobs && mixtureFactors("reference", over(refLogprobs))),
    ...(importance && mixtureFactors("importance", over(data.logprobs))),
    ...draws?.factors,
  };
}

const LOG_METRICS = {
  reference: "audit/log_reference",
  importance: "audit/log_importance",
  surprise: "audit/log_surprise",
  ends: "audit/log_ends",
} as const satisfies Record<Family, keyof Metrics>;

/** Of each family that bet in this step its own mixture, as if it were the only one. */
function auditMetrics(shares: Readonly<Record<string, number>>, factors: LogFactors): Metrics {
  const metrics: Metrics = { "audit/log_bound": LOG_BOUND };
  for (const family of new Set(Object.keys(factors).map(familyOf))) {
    const names = Object.keys(WEIGHTS).filter((name) => familyOf(name) === family);
    const weight = names.reduce((sum, name) => sum + WEIGHTS[name], 0);
    metrics[LOG_METRICS[family]] = logSum(names.map((name) => shares[name])) - Math.log(weight);
  }
  return metrics;
}

/** The martingale has reached its bound. The alternative that gained most says what is likely wrong. */
function notDraws(seen: Audited, { steps }: MartingaleState, shares: Readonly<Record<string, number>>): Breach {
  const most = Object.keys(shares).reduce((a, b) => (shares[b] > shares[a] ? b : a));
  const [inThisStep, cause] = words(most, seen);
  const log = logSum(Object.values(shares));
  return {
    found: `tokens that are not draws from the policy they are scored under (log M = ${log.toFixed(1)} after ${steps} ${steps === 1 ? "step" : "steps"}; in this one ${inThisStep})`,
    expected: `log M below ${LOG_BOUND.toFixed(1)}: chance alone takes it there in at most one run of ${1 / FALSE_STOPS}`,
    fix: `${cause}. Once that is mended, begin a new test: trainer.resetAudit(), or a step with audit off, which forgets`,
  };
}

/** What an alternative saw in this step, and the likely cause. */
function words(name: string, { kl, importance, draws }: Audited): [inThisStep: string, cause: string] {
  const fewer = saysFewer(name);
  switch (familyOf(name)) {
    case "reference":
      return [
        kl ? `a mean KL of ${kl.k1.mean.toFixed(3)} nats` : "no reference to measure against any more",
        "the reference finds them too likely: look for padding after the end of text that is scored, for a ban that is not replayed, or for the same random numbers in every step",
      ];
    case "importance":
      return [
        `a mean importance weight of ${importance?.mean.toFixed(4)}`,
        "the recorded log-probs are not those of the policy that drew the tokens, or the old policy scores them under other kept sets",
      ];
    case "surprise": {
      const excess = draws ? draws.excessSurprise / draws.tokens : Number.NaN;
      return [
        `their mean surprise is ${Math.abs(excess).toFixed(3)} nats ${excess < 0 ? "below" : "above"} the entropy`,
        fewer
          ? "they are likelier than chance would have them: look for top-k, top-p, a lower temperature or greedy choice when sampling; pass what generate returned, with its kept sets"
          : "they are less likely than chance would have them: look for a higher temperature, a penalty or another model when sampling, or padding in the responses",
      ];
    }
    case "ends":
      return [
        `${draws?.ends} ends of text where about ${draws?.expectedEnds.toFixed(1)} were due`,
        fewer
          ? "the end of text was banned when sampling and is not when scoring, as by a minimum length: pass what generate returned, with its kept sets"
          : "the end of text stands where nobody drew it, as padding does: cut responses after their first end-of-text token",
      ];
  }
}

function badKeptSet({ batch, responses, kept, keptMass }: Experience): Breach | undefined {
  const { width } = batch;
  for (const [b, response] of responses.entries())
    for (let t = 0; t < response.length; t++) {
      const i = b * width + t;
      const place = `(response ${b}, token ${t})`;
      const mass = keptMass[i];
      // A sum of rounded probabilities may exceed 1 by a little.
      if (!(mass > 0 && mass <= 1 + 1e-9))
        return {
          found: `a kept set with probability ${mass} ${place}`,
          expected: "above 0 and at most 1",
          fix: "a transform leaves tokens that cannot be drawn, or counts some twice",
        };
      if (!(keptAt(kept, i)?.has(response[t]) ?? true))
        return {
          found: `token ${response[t]} outside the set it was drawn from ${place}`,
          expected: "a token of its kept set",
          fix: "pass responses as generate returned them: tokens and kept sets of different responses, or of different lengths, were put together",
        };
    }
  return undefined;
}

function afterEnd({ data: { responses }, endTokens }: Audited): Breach | undefined {
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

function badRatio(deviation: number, tolerance: number, maskReplay: boolean): Breach {
  return {
    found: `a policy ratio ${deviation.toExponential(2)} away from 1 before any weight had moved`,
    expected: `1 within ${Number(tolerance.toPrecision(2))}`,
    fix: maskReplay
      ? "tokens are scored under another distribution than they were drawn from: look for a temperature or kept set on one side only, a transform that does not repeat itself, dropout, or weights that changed in between"
      : "maskReplay is off, so kept sets are left out when tokens are scored: set maskReplay to true, or sample without truncation",
  };
}
