/** @file Which curves there are, and which belong together. What nobody put anywhere gets a chart of its own. */
import { dpoMetrics, groupMetrics, metrics, rewardMetrics, sftMetrics } from "../../src/rl/metrics.ts";
import type { RunData } from "../../src/run/page/data.ts";
import { bytes, duration, number } from "./format.ts";

export interface Series {
  readonly metric: string;
  readonly label: string;
}

export interface ChartSpec {
  readonly title: string;
  readonly unit?: string;
  /** It is of runs that have this metric. */
  readonly when?: string;
  /** Whether a curve that is alone has its name beside it; default: where there may be others. */
  readonly labelled?: boolean;
  readonly series: readonly Series[];
  /** The series that stands for all where several runs are shown; default: the first. */
  readonly lead?: string;
  /** Shaded between two metrics, or so many times a metric around the first series. */
  readonly band?:
    | { readonly low: string; readonly high: string; readonly label: string }
    | { readonly error: string; readonly times: number; readonly label: string };
  /** Lines that do not move, or a metric as a line. */
  readonly lines?: readonly (
    | { readonly label: string; readonly at: number }
    | { readonly label: string; readonly option: string }
    | Series
  )[];
  readonly format?: (x: number | null | undefined) => string;
}

export interface ChartGroup {
  readonly title: string;
  readonly charts: readonly ChartSpec[];
}

const s = (metric: string, label: string): Series => ({ metric, label });
const one = (title: string, metric: string, unit?: string): ChartSpec => ({
  title,
  unit,
  series: [s(metric, "value")],
});

export const REWARD: ChartSpec = {
  title: "Score",
  series: [s("env/reward_mean", "mean")],
  band: { low: "env/reward_p10", high: "env/reward_p90", label: "10–90 % of responses" },
};
export const KL: ChartSpec = {
  title: "KL from the starting model",
  unit: "nats per response",
  series: [s("objective/kl", "mean")],
  band: { error: "objective/kl_stderr", times: 2, label: "± 2 standard errors" },
  lines: [
    { label: "target", option: "klTarget" },
    { label: "0: less is impossible", at: 0 },
  ],
};
export const AUDIT: ChartSpec = {
  title: "Audit: evidence of a gap, log M",
  unit: "nats",
  series: [s("audit/log_martingale", "log M")],
  lines: [s("audit/log_bound", "bound")],
};
export const ENTROPY: ChartSpec = {
  title: "Entropy",
  unit: "nats per token",
  series: [s("ppo/policy/entropy", "policy"), s("policy/entropy", "policy")],
};

export const GROUPS: readonly ChartGroup[] = [
  {
    title: "What is learned",
    charts: [
      REWARD,
      {
        title: "Distribution of scores",
        lead: "env/reward_median",
        series: [
          s("env/reward_max", "best"),
          s("env/reward_p75", "upper quartile"),
          s("env/reward_median", "median"),
          s("env/reward_p25", "lower quartile"),
          s("env/reward_min", "worst"),
        ],
      },
      KL,
      { title: "β, price of the KL", series: [s("objective/kl_coef", "β")] },
      {
        title: "KL part of the reward",
        unit: "per token",
        series: [s("ppo/mean_non_score_reward", "mean")],
        lines: [{ label: "0", at: 0 }],
      },
      ENTROPY,
      {
        title: "Length of responses",
        unit: "tokens",
        series: [s("tokens/responses_len_mean", "mean")],
        band: { error: "tokens/responses_len_std", times: 1, label: "± 1 standard deviation" },
      },
      { title: "Spread of scores within a group", series: [s("group/std_scores", "standard deviation")] },
      {
        title: "Groups with equal scores",
        unit: "share: they teach nothing",
        series: [s("group/equal_scores", "share")],
      },
      {
        title: "Loss",
        unit: "nats per token",
        when: "sft/loss",
        series: [s("sft/loss", "training"), s("eval/loss", "held out")],
      },
      ...["dpo", "reward"].flatMap((name): ChartSpec[] => [
        { title: "Loss", when: `${name}/loss`, series: [s(`${name}/loss`, "training"), s("eval/loss", "held out")] },
        {
          title: "Accuracy",
          unit: name === "dpo" ? "share of pairs told apart" : "share judged right",
          when: `${name}/accuracy`,
          series: [s(`${name}/accuracy`, "training"), s("eval/accuracy", "held out")],
          lines: name === "dpo" ? [{ label: "0.5: chance", at: 0.5 }] : [],
        },
        {
          title: "Margin: chosen less rejected",
          when: `${name}/margin`,
          series: [s(`${name}/margin`, "training"), s("eval/margin", "held out")],
          lines: [{ label: "0", at: 0 }],
        },
      ]),
      {
        title: "Rewards β (log π − log π ref)",
        series: [s("dpo/rewards_chosen", "chosen"), s("dpo/rewards_rejected", "rejected")],
        lines: [{ label: "0: as likely as before", at: 0 }],
      },
      {
        title: "Log-probs of responses",
        unit: "nats per response",
        series: [s("dpo/logps_chosen", "chosen"), s("dpo/logps_rejected", "rejected")],
      },
      { title: "Output of the model", series: [s("reward/mean", "mean")] },
      { title: "Correlation with held-out scores", series: [s("eval/correlation", "Pearson's")] },
    ],
  },
  {
    title: "How it is learned",
    charts: [
      { title: "Policy loss", series: [s("ppo/loss/policy", "policy"), s("policy/loss", "policy")] },
      { title: "Value loss", series: [s("ppo/loss/value", "value")] },
      {
        title: "Clip fraction",
        series: [s("ppo/policy/clipfrac", "policy"), s("ppo/val/clipfrac", "value"), s("policy/clipfrac", "policy")],
      },
      {
        title: "Ratio π / π old",
        series: [
          s("ppo/policy/ratio_mean", "mean"),
          s("ppo/policy/ratio_max", "largest"),
          s("ppo/policy/ratio_min", "smallest"),
          s("policy/ratio_mean", "mean"),
          s("policy/ratio_max", "largest"),
          s("policy/ratio_min", "smallest"),
        ],
        lines: [{ label: "1", at: 1 }],
      },
      {
        title: "KL of an update",
        unit: "nats per token",
        series: [
          s("ppo/policy/approxkl", "k2"),
          s("ppo/policy/policykl", "k1"),
          s("policy/approxkl", "k2"),
          s("policy/policykl", "k1"),
        ],
      },
      {
        title: "Importance weights of what another policy drew",
        series: [
          s("rollout/importance_weight_mean", "mean"),
          s("rollout/importance_weight_max", "largest"),
          s("rollout/importance_weight_min", "smallest"),
        ],
        lines: [{ label: "1", at: 1 }],
      },
      { title: "Age of the weights that drew", unit: "steps", series: [s("async/staleness", "age")] },
      {
        title: "Explained variance of the value head",
        series: [s("ppo/val/var_explained", "explained")],
        lines: [{ label: "0: a constant", at: 0 }],
      },
      { title: "Spread of advantages", series: [s("group/advantages_std", "standard deviation")] },
      { title: "Values and returns", series: [s("ppo/returns/mean", "returns"), s("ppo/val/mean", "values")] },
      {
        title: "Gradient norm",
        series: [
          s("ppo/grad_norm", "norm"),
          s("sft/grad_norm", "norm"),
          s("update/grad_norm", "norm"),
          s("dpo/grad_norm", "norm"),
          s("reward/grad_norm", "norm"),
        ],
      },
      {
        title: "Size of an update",
        series: [
          s("ppo/update_norm", "norm"),
          s("sft/update_norm", "norm"),
          s("update/norm", "norm"),
          s("dpo/update_norm", "norm"),
          s("reward/update_norm", "norm"),
        ],
      },
      {
        title: "Learning rate",
        series: [
          s("ppo/learning_rate", "rate"),
          s("sft/learning_rate", "rate"),
          s("update/learning_rate", "rate"),
          s("dpo/learning_rate", "rate"),
          s("reward/learning_rate", "rate"),
        ],
      },
    ],
  },
  {
    title: "Audit",
    charts: [
      AUDIT,
      {
        title: "What the evidence rests on",
        unit: "log of each part",
        series: [
          s("audit/log_reference", "the reference"),
          s("audit/log_surprise", "surprise"),
          s("audit/log_ends", "ends of text"),
          s("audit/log_importance", "importance weights"),
        ],
      },
      {
        title: "Ratio before any update, minus 1",
        series: [s("ppo/policy/first_ratio_deviation", "largest"), s("policy/first_ratio_deviation", "largest")],
      },
      {
        title: "Probability of what could be drawn",
        series: [s("tokens/kept_mass_mean", "mean"), s("tokens/kept_mass_min", "smallest")],
      },
    ],
  },
  {
    title: "Time and memory",
    charts: [
      {
        title: "Time per phase",
        lead: "time/total",
        unit: "seconds",
        format: (x) => (typeof x === "number" ? duration(x) : "–"),
        series: [
          s("time/get_response", "sampling"),
          s("time/get_scores", "scoring"),
          s("time/ppo/forward_pass", "log-probs"),
          s("time/ppo/optimize_step", "updates"),
          s("time/forward_pass", "log-probs"),
          s("time/updates", "updates"),
          s("time/total", "whole step"),
        ],
      },
      { title: "Resident memory", series: [s("memory/resident_bytes", "memory")], format: (x) => bytes(x ?? null) },
    ],
  },
];

/** Metrics that a chart shows. */
const shownBy = ({ series, band, lines = [] }: ChartSpec): string[] => [
  ...series.map(({ metric }) => metric),
  ...(band ? ("error" in band ? [band.error] : [band.low, band.high]) : []),
  ...lines.flatMap((line) => ("metric" in line ? [line.metric] : [])),
];

/** Whether a curve that is alone is named. */
export const isLabelled = ({ labelled, series }: ChartSpec): boolean =>
  labelled ?? new Set(series.map(({ label }) => label)).size > 1;

/** Whether some of the runs have numbers for a chart. */
export function isShown({ when, series }: ChartSpec, runs: readonly RunData[]): boolean {
  const has = (metric: string) => runs.some(({ columns }) => columns[metric]?.some((x) => x !== null));
  return when === undefined ? series.some(({ metric }) => has(metric)) : has(when);
}

/** The groups with the charts that some run has numbers for, and one for all other numbers. */
export function groupsOf(runs: readonly RunData[]): ChartGroup[] {
  const has = (metric: string) => runs.some(({ columns }) => columns[metric]?.some((x) => x !== null));
  const groups = GROUPS.map(({ title, charts }) => ({
    title,
    charts: charts
      .filter((chart) => isShown(chart, runs))
      .map((chart) => ({
        ...chart,
        labelled: isLabelled(chart),
        series: chart.series.filter(({ metric }) => has(metric)),
      })),
  }));
  const known = new Set(groups.flatMap(({ charts }) => charts.flatMap(shownBy)));
  const names = [...new Set(runs.flatMap(({ columns }) => Object.keys(columns)))].filter(
    (name) => !known.has(name) && has(name),
  );
  const others = names.sort().map((name) => one(name, name));
  return [...groups, { title: "All other numbers", charts: others }].filter(({ charts }) => charts.length > 0);
}

const MEANINGS: Readonly<Record<string, string>> = {
  ...rewardMetrics,
  ...dpoMetrics,
  ...groupMetrics,
  ...sftMetrics,
  ...metrics,
};

/** What a metric is, in a sentence; empty for one of the user's own. */
export const meaningOf = (metric: string): string => MEANINGS[metric] ?? "";

export const formatOf = ({ format }: ChartSpec) => format ?? ((x: number | null | undefined) => number(x));
