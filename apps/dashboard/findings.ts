/** @file What happened in a run, in words: rules that read its numbers and say what they compared. No opinion without a number. */
import type { Num, RunData } from "../../src/run/page/data.ts";
import { duration, number, plural, signed, withError } from "./format.ts";

export interface Finding {
  readonly kind: "bad" | "warn" | "good" | "info";
  readonly title: string;
  readonly text: string;
  /** The step to look at. */
  readonly step?: number;
}

type Column = readonly Num[];

export const column = (run: RunData, name: string): Column => run.columns[name] ?? [];
const isNumber = (x: Num | undefined): x is number => typeof x === "number";

/** Mean of the numbers among some. */
export function mean(values: Column): number | undefined {
  const numbers = values.filter(isNumber);
  return numbers.length > 0 ? numbers.reduce((a, b) => a + b, 0) / numbers.length : undefined;
}

/** The first of some metrics that a run has: algorithms call the same thing by names of their own. */
const anyColumn = (run: RunData, ...names: string[]): Column =>
  run.columns[names.find((name) => run.columns[name] !== undefined) ?? ""] ?? [];

export const lastOf = (values: Column): number | undefined => values.findLast(isNumber);

/** How many steps count as the beginning and as the end of a run. */
export const edge = (steps: number): number => Math.max(1, Math.min(20, Math.floor(steps / 5)));

/** Where the audit's bound was crossed, and since when the evidence grew: the step after the last low of log M before it. */
export function breach(run: RunData): { step: number; since: number; log: number; bound: number } | undefined {
  const logs = column(run, "audit/log_martingale");
  const bounds = column(run, "audit/log_bound");
  const at = logs.findIndex((log, i) => isNumber(log) && isNumber(bounds[i]) && log >= bounds[i]);
  if (at < 0) return undefined;
  let low = 0;
  for (let i = 1; i <= at; i++) if ((logs[i] ?? 0) <= (logs[low] ?? 0)) low = i;
  // Before the first step log M is 0: where it never fell below, the gap was open from the start.
  const open = (logs[low] ?? 0) >= 0 ? 0 : low + 1;
  return {
    step: run.steps[at],
    since: run.steps[Math.min(open, at)],
    log: logs[at] as number,
    bound: bounds[at] as number,
  };
}

/** What the audit said, first and word for word. */
export function auditWords(run: RunData): { step?: number; found: string; expected: string; fix: string } | undefined {
  for (const event of run.events) {
    if (event.type === "error" && event.kind === "audit") {
      const step = Number(/\d+/.exec(String(event.where))?.[0]);
      return { step, found: String(event.found), expected: String(event.expected), fix: String(event.fix) };
    }
    const match =
      event.type === "warning" && /^found ([\s\S]*), expected ([\s\S]*?)\. ([\s\S]*)$/.exec(event.message ?? "");
    if (match && /draws from|kept set|end of text|policy ratio|set it was drawn/.test(match[1]))
      return { step: event.step, found: match[1], expected: match[2], fix: match[3] };
  }
  return undefined;
}

/** The first step from which on a condition holds for good, or to the last step but a few. */
function since(run: RunData, holds: (i: number) => boolean): number | undefined {
  let first: number | undefined;
  for (let i = run.steps.length - 1; i >= 0 && holds(i); i--) first = i;
  return first === undefined ? undefined : run.steps[first];
}

function auditFindings(run: RunData): Finding[] {
  const crossed = breach(run);
  const said = auditWords(run);
  const findings: Finding[] = [];
  if (crossed) {
    findings.push({
      kind: "bad",
      step: crossed.since,
      title: `From step ${crossed.since} on, text is not scored as it was sampled`,
      text:
        `The audit's evidence grew from step ${crossed.since} and reached its bound at step ${crossed.step} ` +
        `(log M = ${number(crossed.log, 3)}, bound ${number(crossed.bound, 3)}). In an honest run chance alone does that once in a million runs. ` +
        `What the model learned since then is not to be trusted: it may be paid for the gap, and not for better answers. ${said ? `Likely cause: ${said.fix.replace(/\.?$/, ".")}` : ""}`,
    });
  } else if (said) {
    findings.push({
      kind: "bad",
      step: said.step,
      title: `The audit found a breach at step ${said.step}`,
      text: `Found ${said.found}, expected ${said.expected}. ${said.fix}`,
    });
  }
  const negative = belowZero(run);
  if (negative) {
    const [known, from, to] = scoreChange(run, negative.step);
    const paid = mean(column(run, "ppo/mean_non_score_reward").slice(-edge(run.steps.length)));
    const score = known ? ` The score went from ${number(from, 3)} before to ${number(to, 3)} at the end.` : "";
    const pays = paid !== undefined && paid > 0 ? ` At the end it paid ${number(paid, 3)} per token.` : "";
    findings.push({
      kind: crossed || said ? "bad" : "warn",
      step: negative.step,
      title: `The KL is below zero from step ${negative.step} on`,
      text:
        `Its mean was ${number(negative.kl, 3)} nats there, more than 3 standard errors below 0. A true mean KL is never negative, so the KL term, ` +
        `meant as a charge for leaving the starting model, now pays.${pays}${score}`,
    });
  }
  if (findings.length === 0 && column(run, "audit/log_martingale").length > 0)
    findings.push({
      kind: "good",
      title: "The audit found nothing",
      text: `Every token was scored under the distribution it was drawn from, as far as ${plural(run.steps.length, "step")} can tell: log M is ${number(lastOf(column(run, "audit/log_martingale")), 3)}, its bound 13.8.`,
    });
  return findings;
}

/** The first of three steps in a row whose mean KL by k1 lies more than 3 standard errors below 0. */
function belowZero(run: RunData): { step: number; kl: number } | undefined {
  const kl = column(run, "objective/kl_k1");
  const error = column(run, "objective/kl_k1_stderr");
  const low = (i: number) => isNumber(kl[i]) && isNumber(error[i]) && kl[i] + 3 * error[i] < 0;
  const at = kl.findIndex((_, i) => low(i) && (low(i + 1) || i + 1 >= kl.length) && (low(i + 2) || i + 2 >= kl.length));
  return at >= 0 ? { step: run.steps[at], kl: kl[at] as number } : undefined;
}

function scoreChange(run: RunData, step: number): [known: boolean, from: number, to: number] {
  const scores = column(run, "env/reward_mean");
  const at = run.steps.indexOf(step);
  const before = mean(scores.slice(Math.max(0, at - 5), Math.max(1, at)));
  const after = mean(scores.slice(-5));
  return [before !== undefined && after !== undefined, before ?? 0, after ?? 0];
}

function rewardFindings(run: RunData): Finding[] {
  const findings: Finding[] = [];
  const { before, after, difference } = run.evaluations;
  if (before && after && difference) {
    const clear = difference.standardError !== null && Math.abs(difference.mean) > 2 * difference.standardError;
    findings.push({
      kind: !clear ? "info" : difference.mean > 0 ? "good" : "bad",
      title: clear
        ? `Held-out prompts are answered ${difference.mean > 0 ? "better" : "worse"} by ${withError(Math.abs(difference.mean), difference.standardError)}`
        : `Held-out prompts: no clear difference (${signed(difference.mean)} ± ${number(difference.standardError, 2)})`,
      text: `Mean score ${withError(before.mean, before.standardError)} before and ${withError(after.mean, after.standardError)} after, on ${plural(before.samples.length, "prompt")} never trained on. The error of the difference is paired by prompt.`,
    });
  }
  const scores = column(run, "env/reward_mean");
  const n = edge(scores.length);
  const [from, to] = [mean(scores.slice(0, n)), mean(scores.slice(-n))];
  if (from !== undefined && to !== undefined && scores.length >= 5)
    findings.push({
      kind: "info",
      title: `The score went from ${number(from, 3)} to ${number(to, 3)}`,
      text: `Means over the first and the last ${plural(n, "step")} of what the reward function said, without the KL penalty.`,
    });
  return findings;
}

function healthFindings(run: RunData): Finding[] {
  const findings: Finding[] = [];
  const options = (run.config?.options ?? {}) as Record<string, unknown>;
  const n = edge(run.steps.length);
  const end = (name: string) => mean(column(run, name).slice(-n));
  const [kl, target] = [end("objective/kl"), options.klTarget];
  if (options.klController === "adaptive" && typeof target === "number" && kl !== undefined && kl > 2 * target)
    findings.push({
      kind: "warn",
      title: `The KL ended at ${number(kl, 3)} nats, ${number(kl / target, 2)} times its target`,
      text: `The controller aims at ${number(target, 3)}. Far from the starting model, text may score well and read badly: look at samples. A lower learning rate or a shorter klHorizon hold it closer.`,
      step: since(run, (i) => (column(run, "objective/kl")[i] ?? 0) > 2 * target),
    });
  const entropy = anyColumn(run, "ppo/policy/entropy", "policy/entropy");
  const [first, last] = [mean(entropy.slice(0, n)), mean(entropy.slice(-n))];
  if (first !== undefined && last !== undefined && run.steps.length >= 10 && last < first / 4)
    findings.push({
      kind: "warn",
      title: `The entropy fell from ${number(first, 3)} to ${number(last, 3)} nats per token`,
      text: "The policy has all but stopped to vary: it says nearly the same each time. Compare samples of early and late steps.",
      step: since(run, (i) => (entropy[i] ?? Number.POSITIVE_INFINITY) < first / 4),
    });
  const clipped = mean(anyColumn(run, "ppo/policy/clipfrac", "policy/clipfrac").slice(-n));
  if (clipped !== undefined && clipped > 0.3)
    findings.push({
      kind: "warn",
      title: `${number(100 * clipped, 2)} % of ${run.config?.algorithm === "rloo" ? "responses" : "tokens"} are clipped`,
      text: "The updates of a step go further than the clip range allows for: a lower learning rate or fewer epochs learn as much from the same samples.",
    });
  const explained = end("ppo/val/var_explained");
  if (explained !== undefined && explained < 0)
    findings.push({
      kind: "warn",
      title: `The value head is worse than a constant (explained variance ${number(explained, 2)})`,
      text: "Advantages are then noisier than they need be. It is usual in the first steps; later, raise vfCoef or the learning rate.",
    });
  const equal = end("group/equal_scores");
  if (equal !== undefined && equal > 0.5)
    findings.push({
      kind: "warn",
      title: `${number(100 * equal, 2)} % of the groups have equal scores`,
      text: "Answers to a prompt are compared with each other: where all score alike nothing is learned. Prompts that are neither always nor never answered well, a finer reward, or more generations help.",
      step: since(run, (i) => (column(run, "group/equal_scores")[i] ?? 0) > 0.5),
    });
  const skipped = lastOf(anyColumn(run, "ppo/skipped_updates", "update/skipped"));
  if (skipped)
    findings.push({
      kind: "warn",
      title: `${plural(skipped, "optimizer step")} left out`,
      text: "A loss or a gradient was not finite there.",
    });
  return findings;
}

/** Of what learns from examples. */
function lossFindings(run: RunData): Finding[] {
  const findings: Finding[] = [];
  const losses = anyColumn(run, "sft/loss", "dpo/loss", "reward/loss");
  const n = edge(losses.length);
  const [from, to] = [mean(losses.slice(0, n)), mean(losses.slice(-n))];
  if (from !== undefined && to !== undefined && losses.length >= 5)
    findings.push({
      kind: "info",
      title: `The loss went from ${number(from, 3)} to ${number(to, 3)}`,
      text: `Means over the first and the last ${plural(n, "step")}, on what is learned.`,
    });
  const heldOut = column(run, "eval/loss").flatMap((loss, i) => (isNumber(loss) ? [{ loss, step: run.steps[i] }] : []));
  const accuracy = lastOf(column(run, "eval/accuracy"));
  const told =
    accuracy === undefined ? "" : ` ${number(100 * accuracy, 3)} % of held-out examples are judged right at the end.`;
  if (heldOut.length >= 2) {
    const [first, last] = [heldOut[0], heldOut[heldOut.length - 1]];
    const best = heldOut.reduce((a, b) => (b.loss < a.loss ? b : a));
    const rose = last.loss > best.loss + 0.02 * Math.abs(best.loss);
    findings.push({
      kind: rose ? "warn" : last.loss < first.loss ? "good" : "info",
      title: rose
        ? `The held-out loss rose from step ${best.step} on, from ${number(best.loss, 3)} to ${number(last.loss, 3)}`
        : `The held-out loss went from ${number(first.loss, 3)} to ${number(last.loss, 3)}`,
      text: rose
        ? `What is learned since then helps with the examples that are learned, and with no others: more data, fewer steps or a lower learning rate. The best checkpoint is the one nearest step ${best.step}.${told}`
        : `On examples never learned from, measured ${plural(heldOut.length, "time")}.${told}`,
      step: rose ? best.step : undefined,
    });
  }
  const chosen = mean(column(run, "dpo/rewards_chosen").slice(-n));
  if (chosen !== undefined && chosen < -0.1)
    findings.push({
      kind: "warn",
      title: `Chosen responses became less likely, too (reward ${number(chosen, 3)})`,
      text: "The policy prefers them because the rejected ones fell further, not because it says them more often. A lower learning rate, a larger beta or fewer steps hold it closer to the starting model.",
      step: since(run, (i) => (column(run, "dpo/rewards_chosen")[i] ?? 0) < -0.1),
    });
  return findings;
}

function endFindings(run: RunData): Finding[] {
  const error = run.events.findLast(({ type }) => type === "error");
  if (run.state === "failed" && error)
    return [
      {
        kind: "bad",
        title: `The run ended with an error${error.where ? `: ${error.where}` : ""}`,
        text: error.found
          ? `Found ${error.found}, expected ${error.expected}. ${error.fix}`
          : String(error.message ?? ""),
      },
    ];
  if (run.state === "cut off")
    return [
      {
        kind: "warn",
        title: "The run was cut off",
        text: "Its process ended without a word. It goes on from its newest checkpoint with --resume.",
      },
    ];
  const seconds = column(run, "time/total").reduce<number>((sum, x) => sum + (x ?? 0), 0);
  if (run.state === "stopped")
    return [
      {
        kind: "info",
        title: `Stopped after step ${lastOf(run.steps)}`,
        text: `Everything was saved, after ${duration(seconds)} of training.`,
      },
    ];
  return [];
}

/** All findings, what is bad first. */
export function findings(run: RunData): Finding[] {
  if (run.steps.length === 0) return endFindings(run);
  const all = [
    ...auditFindings(run),
    ...endFindings(run),
    ...rewardFindings(run),
    ...lossFindings(run),
    ...healthFindings(run),
  ];
  const order = ["bad", "warn", "good", "info"];
  return all.sort((a, b) => order.indexOf(a.kind) - order.indexOf(b.kind));
}

/** The steps that problems begin at. */
export const badSteps = (run: RunData): number[] => {
  const steps = auditFindings(run).flatMap(({ kind, step }) => (kind === "bad" && step !== undefined ? [step] : []));
  return [...new Set(steps)];
};
