/** @file The charts of docs/healthy.md: which numbers of which runs. */
import type { Chart, Line } from "./chart.ts";
import type { Drawn, KeptRun } from "./runs.ts";

type Runs = Readonly<Record<string, KeptRun>>;

const line = (runs: Runs, run: string, metric: Drawn, name: string, kind: Line["kind"]): Line => ({
  ...{ name, kind },
  values: runs[run].curves[metric] ?? [],
});
/** The healthy run's curve under another's. */
const both = (runs: Runs, run: string, metric: Drawn, name: string): Line[] => [
  line(runs, "healthy", metric, "healthy", "good"),
  line(runs, run, metric, name, "bad"),
];

/** Name of the picture -> its chart. */
export const HEALTH: Readonly<Record<string, (runs: Runs) => Chart>> = {
  "reward-healthy": (runs) => ({
    title: "Mean reward",
    lines: [line(runs, "healthy", "env/reward_mean", "healthy", "good")],
  }),
  "kl-healthy": (runs) => ({
    title: "KL to the reference, nats per response",
    lines: [line(runs, "healthy", "objective/kl", "healthy", "good")],
    levels: [{ value: 6, name: "klTarget" }],
  }),
  "reward-fast": (runs) => ({
    title: "Mean reward",
    lines: both(runs, "too-fast", "env/reward_mean", "learning rate × 20"),
  }),
  "kl-fast": (runs) => ({
    title: "KL to the reference, nats per response",
    lines: both(runs, "too-fast", "objective/kl", "learning rate × 20"),
  }),
  "clipfrac-fast": (runs) => ({
    title: "Share of tokens that are clipped",
    lines: both(runs, "too-fast", "ppo/policy/clipfrac", "learning rate × 20"),
  }),
  "entropy-fast": (runs) => ({
    title: "Entropy, nats per token",
    lines: both(runs, "too-fast", "ppo/policy/entropy", "learning rate × 20"),
  }),
  "explained-scores": (runs) => ({
    title: "Explained variance of the value head",
    lines: both(runs, "large-scores", "ppo/val/var_explained", "scores × 50"),
    low: -5,
    high: 1,
  }),
  "value-scores": (runs) => ({
    title: "Value loss",
    lines: [line(runs, "large-scores", "ppo/loss/value", "scores × 50", "bad")],
  }),
  "reward-hacked": (runs) => ({
    title: "Mean reward",
    lines: [line(runs, "hacked", "env/reward_mean", "paid for “I”, no penalty", "bad")],
  }),
  "kl-hacked": (runs) => ({
    title: "KL to the reference, nats per response",
    lines: both(runs, "hacked", "objective/kl", "paid for “I”, no penalty"),
  }),
  "entropy-hacked": (runs) => ({
    title: "Entropy, nats per token",
    lines: both(runs, "hacked", "ppo/policy/entropy", "paid for “I”, no penalty"),
  }),
  "kl-exploit": (runs) => ({
    title: "KL by k1, nats per response",
    lines: [
      line(runs, "padding-closed", "objective/kl_k1", "padding left out", "good"),
      line(runs, "padding-open", "objective/kl_k1", "padding scored", "bad"),
    ],
  }),
  "audit-exploit": (runs) => ({
    title: "The audit's evidence, log M",
    lines: [
      line(runs, "padding-closed", "audit/log_martingale", "padding left out", "good"),
      line(runs, "padding-open", "audit/log_martingale", "padding scored", "bad"),
    ],
    levels: [{ value: 13.8, name: "bound" }],
  }),
};
