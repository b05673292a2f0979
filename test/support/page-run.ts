/** @file Run directories for the page: what a run would have written, with numbers that are known. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Repeatable numbers in [0, 1). */
export function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

export interface PageRun {
  steps: number;
  samplesPerStep: number;
  /** The step from which on log M grows by 2 nats a step and the KL is negative; undefined: an honest run. */
  openFrom?: number;
  tokens?: number;
  seed?: number;
  /** Two workers took part; the second was refused at the last step but one. */
  workers?: boolean;
}

/** One line of metrics.jsonl. */
export function metricsAt(
  step: number,
  { openFrom = Number.POSITIVE_INFINITY, seed = 1 }: PageRun,
): Record<string, number> {
  const next = numbers(seed * 100_000 + step);
  const open = Math.max(0, step - openFrom + 1);
  const kl = open > 0 ? -0.5 * open : 1 + 0.01 * step + 0.1 * next();
  return {
    step,
    "objective/kl": kl,
    "objective/kl_stderr": 0.05,
    "objective/kl_k1": kl,
    "objective/kl_k1_stderr": 0.05,
    "objective/kl_coef": 0.2,
    "env/reward_mean": 0.1 + 0.001 * step + 0.1 * next() - 0.05 * open,
    "env/reward_p10": -0.5,
    "env/reward_p90": 0.9,
    "ppo/policy/entropy": 3 - 0.0001 * step,
    "ppo/loss/policy": next() - 0.5,
    "ppo/loss/value": next(),
    "ppo/policy/clipfrac": 0.1 * next(),
    "ppo/policy/ratio_mean": 1,
    "ppo/policy/ratio_min": 0.5,
    "ppo/policy/ratio_max": 2,
    "ppo/val/var_explained": 0.5,
    "tokens/responses_len_mean": 20,
    "audit/log_martingale": open > 0 ? -2 + 2 * open : -0.01 * Math.min(step, 199),
    "audit/log_bound": 13.815510557964274,
    "time/total": 1 + next(),
    "memory/resident_bytes": 1e9,
  };
}

/** A sample with the numbers of its tokens. */
export function sampleAt(step: number, n: number, { tokens = 24, seed = 1 }: PageRun): object {
  const next = numbers(seed * 7_000_000 + step * 100 + n);
  const words = Array.from({ length: tokens }, () => ` word${Math.floor(1000 * next())}`);
  const list = (scale: number, shift = 0) => words.map(() => Number((scale * next() + shift).toPrecision(5)));
  return {
    step,
    prompt: `Opening ${Math.floor(50 * next())}:`,
    response: words.join(""),
    score: Number((2 * next() - 1).toPrecision(5)),
    kl: Number((3 * next()).toPrecision(5)),
    tokens: words.map(() => Math.floor(8000 * next())),
    values: list(1, -0.5),
    promptPieces: ["Opening", " ", ":"],
    pieces: words,
    logprobs: list(-5),
    refLogprobs: list(-5),
    rewards: list(0.2, -0.1),
    advantages: list(2, -1),
    ratios: list(0.4, 0.8),
    ...(n === 0 ? { picked: "best" } : {}),
  };
}

const lines = (all: readonly object[]) => all.map((line) => `${JSON.stringify(line)}\n`).join("");

/** Four tasks of eight responses each a step, in two seconds. */
function workersAt(step: number, time: string, steps = step): object {
  const facts = { tasks: 2 * step, responses: 16 * step, seconds: 3 * step, busy: step, late: 1, failed: 0 };
  const refused = step >= steps - 1 ? { state: "refused", why: "log-probs 3 nats away" } : { state: "ready" };
  const workers = [
    { name: "a-1", state: "ready", ...facts },
    { name: "b-2", ...facts, ...refused },
  ];
  return { time, type: "workers", step, here: step === 2 ? 3 : 0, workers };
}

/** Write a run directory. */
export function writePageRun(directory: string, run: PageRun): void {
  mkdirSync(directory, { recursive: true });
  const steps = Array.from({ length: run.steps }, (_, i) => i + 1);
  const samples = steps.flatMap((step) => Array.from({ length: run.samplesPerStep }, (_, n) => sampleAt(step, n, run)));
  const write = (name: string, text: string) => writeFileSync(join(directory, name), text);
  write("metrics.jsonl", lines(steps.map((step) => metricsAt(step, run))));
  write("samples.jsonl", lines(samples));
  const time = "2026-01-01T00:00:00.000Z";
  const breach = run.openFrom === undefined ? undefined : run.openFrom + 7;
  write(
    "events.jsonl",
    lines([
      ...(run.workers ? [workersAt(9, time)] : []), // of an earlier start: its sums do not count
      { time, type: "loaded", parameters: 5_000_000, resumedAt: 0 },
      ...(run.workers
        ? steps.map((step) => workersAt(step, new Date(Date.parse(time) + 2000 * step).toISOString(), run.steps))
        : []),
      ...(breach && breach <= run.steps
        ? [
            {
              time,
              type: "warning",
              step: breach,
              message:
                "found tokens that are not draws from the policy they are scored under (log M = 14.0), expected log M below 13.8: chance alone takes it there in at most one run of 1000000. the reference finds them too likely: look for padding after the end of text that is scored",
            },
          ]
        : []),
      { time, type: "done", step: run.steps, interrupted: false, directory: "checkpoint" },
    ]),
  );
  const options = { steps: run.steps, batchSize: 64, klController: "adaptive", klTarget: 6, audit: "warn" };
  const environment = { node: "v20.0.0", system: "Linux", cores: 2, memory: 8e9 };
  write(
    "config.json",
    JSON.stringify({
      algorithm: "ppo",
      model: "tiny",
      reward: "positive",
      promptsPath: "/prompts.txt",
      threads: 2,
      environment,
      command: ["train", "--model", "tiny"],
      options,
    }),
  );
  const answers = (score: (i: number) => number) => ({
    mean: [0, 1, 2, 3].reduce((sum, i) => sum + score(i) / 4, 0),
    standardError: 0.1,
    samples: [0, 1, 2, 3].map((i) => ({ prompt: `Prompt ${i}`, response: ` response ${i}`, score: score(i) })),
  });
  write(
    "evaluation.json",
    JSON.stringify({ prompts: "x", before: answers((i) => 0.1 * i), after: answers((i) => 0.1 * i + 0.2 + 0.01 * i) }),
  );
}

/** Numbers of a run that learns from examples: the held-out loss is lowest at step 8 and rises from there. */
export function lossAt(algorithm: "sft" | "dpo", step: number): Record<string, number> {
  const heldOut = step <= 8 ? 2 - 0.1 * step : 1.2 + 0.05 * (step - 8);
  const measured: Record<string, number> = step % 2 === 0 ? { "eval/loss": heldOut } : {};
  const own: Record<string, number> =
    algorithm === "sft"
      ? { "sft/loss": 2.5 / step, "sft/learning_rate": 1e-3 }
      : {
          "dpo/loss": 0.7 / step,
          "dpo/accuracy": 0.5 + 0.02 * step,
          "dpo/margin": 0.25 * step,
          "dpo/rewards_chosen": -0.125 * step,
          "dpo/rewards_rejected": -0.375 * step,
          ...((step % 2 === 0 ? { "eval/accuracy": 0.75, "eval/margin": 0.2 * step } : {}) as Record<string, number>),
        };
  return { step, ...own, ...measured, "time/total": 1 };
}

/** Write the run directory of another algorithm: 16 steps; groups of 3 answers where answers compete. */
export function writeOtherRun(directory: string, algorithm: "sft" | "dpo" | "grpo"): void {
  mkdirSync(directory, { recursive: true });
  const steps = Array.from({ length: 16 }, (_, i) => i + 1);
  const write = (name: string, text: string) => writeFileSync(join(directory, name), text);
  const grouped = (step: number) => ({
    ...Object.fromEntries(
      Object.entries(metricsAt(step, { steps: 16, samplesPerStep: 3 })).filter(([n]) => !/^ppo/.test(n)),
    ),
    "policy/entropy": 3,
    "policy/clipfrac": 0.5,
    "group/std_scores": 0.25 * step,
    "group/equal_scores": 0.75,
  });
  write("metrics.jsonl", lines(steps.map((step) => (algorithm === "grpo" ? grouped(step) : lossAt(algorithm, step)))));
  const samples = steps.flatMap((step) =>
    [0.2, 0.9, 0.4].map((score, i) => ({
      ...sampleAt(step, i + 1, { steps: 16, samplesPerStep: 3 }),
      prompt: `Opening ${step}:`,
      score,
    })),
  );
  write("samples.jsonl", algorithm === "grpo" ? lines(samples) : "");
  write("events.jsonl", lines([{ time: "2026-01-01T00:00:00.000Z", type: "done", step: 16, interrupted: false }]));
  const options = { steps: 16, ...(algorithm === "grpo" ? { numGenerations: 3 } : {}) };
  write("config.json", JSON.stringify({ algorithm, model: "tiny", options }));
}
