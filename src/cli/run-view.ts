/** @file The terminal as a sink of a run: a bar and a table for people, or its events as JSON. */
import type { Command } from "commander";
import type { BestCheckpoint, Metrics } from "../algorithms/events.ts";
import { memoryParts } from "../model/memory.ts";
import type { MetricName } from "../rl/metrics.ts";
import type { RunEvent } from "../run/events.ts";
import type { Sink } from "../run/sinks/sink.ts";
import { type Curve, type CurveOf, Curves } from "./curves.ts";
import { inFlags } from "./errors.ts";
import {
  type Column,
  duration,
  fittingColumns,
  fixed,
  megabytes,
  note,
  print,
  printJson,
  style,
  terminalWidth,
  thousands,
  withError,
} from "./output.ts";
import { Progress } from "./progress.ts";

export type Evaluation = Extract<RunEvent, { type: "evaluation" }>;

export interface RunOutcome {
  step: number;
  interrupted: boolean;
  /** Empty: nothing had been trained yet, and nothing was saved. */
  directory: string;
  /** Steps that were taken before, by a run that was resumed. */
  resumedAt: number;
  before?: Evaluation;
  after?: Evaluation;
  best?: BestCheckpoint;
  /** Of the last step. */
  metrics: Metrics;
  /** Numbers over the steps of this run, for pictures of them. */
  curves?: readonly Curve[];
}

/** Which numbers of an algorithm people see. */
export interface Display {
  readonly columns: readonly (Column & {
    text: (m: Metrics) => string;
    /** The column is left out in runs without this number. */
    of?: MetricName;
  })[];
  readonly stepWidth: number;
  /** Steps between rows of the table. */
  readonly rowEvery: number;
  /** Numbers that are shown as their mean over so many steps. */
  readonly averaged: readonly MetricName[];
  /** What is drawn at the end. */
  readonly curves: readonly CurveOf[];
  /** What stands behind the bar, beside the step and the time left. */
  facts(m: Metrics, secondsPerStep: number): string[];
  /** A line below some steps. */
  line?(step: number, m: Metrics): string | undefined;
}

export const ppoDisplay = (batchSize: number): Display => ({
  columns: [
    { title: "reward", width: 9, text: (m) => fixed(m["env/reward_mean"], 3) },
    { title: "KL", width: 9, of: "objective/kl", text: (m) => fixed(m["objective/kl"], 3) },
    { title: "KL coef", width: 9, keep: 5, text: (m) => fixed(m["objective/kl_coef"], 4) },
    { title: "entropy", width: 9, keep: 3, text: (m) => fixed(m["ppo/policy/entropy"], 3) },
    { title: "clipfrac", width: 10, keep: 2, text: (m) => fixed(m["ppo/policy/clipfrac"], 3) },
    { title: "value loss", width: 12, keep: 1, text: (m) => fixed(m["ppo/loss/value"], 4) },
    { title: "seconds", width: 9, keep: 4, text: (m) => fixed(m["time/total"], 1) },
  ],
  stepWidth: 6,
  rowEvery: 1,
  averaged: [],
  curves: [
    { title: "mean reward by step", metric: "env/reward_mean" },
    { title: "KL to the reference, nats", metric: "objective/kl", fromZero: true },
  ],
  facts: (m, perStep) => [
    `reward ${fixed(m["env/reward_mean"], 3)}`,
    ...(m["objective/kl"] === undefined ? [] : [`KL ${fixed(m["objective/kl"], 2)}`]),
    `${(batchSize / perStep).toFixed(1)} episodes/s`,
  ],
});

/** Of GRPO and RLOO. */
export const groupDisplay = (batchSize: number): Display => ({
  ...ppoDisplay(batchSize),
  columns: [
    { title: "reward", width: 9, text: (m) => fixed(m["env/reward_mean"], 3) },
    { title: "KL", width: 9, of: "objective/kl", text: (m) => fixed(m["objective/kl"], 3) },
    { title: "in group", width: 10, keep: 4, text: (m) => fixed(m["group/std_scores"], 3) },
    { title: "entropy", width: 9, keep: 3, text: (m) => fixed(m["policy/entropy"], 3) },
    { title: "clipfrac", width: 10, keep: 2, text: (m) => fixed(m["policy/clipfrac"], 3) },
    { title: "grad norm", width: 11, keep: 1, text: (m) => fixed(m["update/grad_norm"], 3) },
    { title: "seconds", width: 9, keep: 5, text: (m) => fixed(m["time/total"], 1) },
  ],
});

export const sftDisplay: Display = {
  columns: [
    { title: "loss", width: 10, text: (m) => fixed(m["sft/loss"], 4) },
    { title: "grad norm", width: 11, keep: 1, text: (m) => fixed(m["sft/grad_norm"], 3) },
    { title: "learning rate", width: 15, keep: 2, text: (m) => (m["sft/learning_rate"] ?? 0).toExponential(2) },
    { title: "epoch", width: 9, keep: 4, text: (m) => fixed(m["sft/epoch"], 2) },
    { title: "tokens/s", width: 10, keep: 3, text: (m) => fixed(m["time/tokens_per_second"], 0) },
  ],
  stepWidth: 7,
  rowEvery: 50,
  averaged: ["sft/loss"],
  curves: [
    { title: "loss by step", metric: "sft/loss" },
    { title: "held-out loss", metric: "eval/loss" },
  ],
  facts: (m) => [`${fixed(m["time/tokens_per_second"], 0)} tokens/s`, `loss ${fixed(m["sft/loss"], 3)}`],
  line: (step, { "eval/loss": loss, "eval/bits_per_byte": bits }) =>
    loss === undefined
      ? undefined
      : `held-out loss after step ${step}: ${fixed(loss, 4)} nats per token, ${fixed(bits, 4)} bits per byte`,
};

export const dpoDisplay: Display = {
  columns: [
    { title: "loss", width: 10, text: (m) => fixed(m["dpo/loss"], 4) },
    { title: "accuracy", width: 10, text: (m) => fixed(m["dpo/accuracy"], 3) },
    { title: "margin", width: 9, keep: 4, text: (m) => fixed(m["dpo/margin"], 3) },
    { title: "grad norm", width: 11, keep: 1, text: (m) => fixed(m["dpo/grad_norm"], 3) },
    { title: "epoch", width: 8, keep: 2, text: (m) => fixed(m["dpo/epoch"], 2) },
    { title: "seconds", width: 9, keep: 3, text: (m) => fixed(m["time/total"], 1) },
  ],
  stepWidth: 6,
  rowEvery: 1,
  averaged: [],
  curves: [
    { title: "loss by step", metric: "dpo/loss" },
    { title: "accuracy", metric: "dpo/accuracy" },
  ],
  facts: (m) => [`loss ${fixed(m["dpo/loss"], 3)}`, `accuracy ${fixed(m["dpo/accuracy"], 2)}`],
  line: (step, { "eval/loss": loss, "eval/accuracy": accuracy }) =>
    loss === undefined
      ? undefined
      : `held-out pairs after step ${step}: loss ${fixed(loss, 4)}, accuracy ${fixed(accuracy, 3)}`,
};

export const rewardDisplay: Display = {
  columns: [
    { title: "loss", width: 10, text: (m) => fixed(m["reward/loss"], 4) },
    { title: "accuracy", width: 10, text: (m) => fixed(m["reward/accuracy"], 3) },
    { title: "margin", width: 9, keep: 4, text: (m) => fixed(m["reward/margin"], 3) },
    { title: "grad norm", width: 11, keep: 1, text: (m) => fixed(m["reward/grad_norm"], 3) },
    { title: "epoch", width: 8, keep: 2, text: (m) => fixed(m["reward/epoch"], 2) },
    { title: "seconds", width: 9, keep: 3, text: (m) => fixed(m["time/total"], 1) },
  ],
  stepWidth: 6,
  rowEvery: 10,
  averaged: ["reward/loss", "reward/accuracy", "reward/margin"],
  curves: [
    { title: "loss by step", metric: "reward/loss" },
    { title: "accuracy", metric: "reward/accuracy" },
  ],
  facts: (m) => [
    `loss ${fixed(m["reward/loss"], 3)}`,
    ...(m["reward/accuracy"] === undefined ? [] : [`accuracy ${fixed(m["reward/accuracy"], 2)}`]),
  ],
  line: (step, m) => {
    if (m["eval/loss"] === undefined) return undefined;
    const accuracy = m["eval/accuracy"] === undefined ? "" : `, accuracy ${fixed(m["eval/accuracy"], 3)}`;
    const correlation = m["eval/correlation"] === undefined ? "" : `, correlation ${fixed(m["eval/correlation"], 3)}`;
    return `held out, after step ${step}: loss ${fixed(m["eval/loss"], 4)}${accuracy}${correlation}`;
  },
};

const PHASES = {
  respond: "sampling",
  score: "scoring",
  update: "updating",
  evaluate: "measuring the held-out loss",
  reference: "asking the reference",
};

/** Shows the events of one run, and gathers what a summary needs of them. */
export class RunView implements Sink {
  readonly progress: Progress;
  readonly outcome: RunOutcome = { step: 0, interrupted: false, directory: "", resumedAt: 0, metrics: {} };
  readonly #display: Display;
  readonly #json: boolean;
  readonly #quiet: boolean;
  readonly #out: string;
  /** Whose flags messages speak of. */
  readonly #command?: Command;
  #steps: number;
  #taken = 0;
  /** Of the last steps. */
  #recent: Metrics[] = [];
  readonly #curves: Curves;
  #header = false;

  constructor(options: {
    display: Display;
    json?: boolean;
    quiet?: boolean;
    out: string;
    steps: number;
    command?: Command;
  }) {
    this.#display = options.display;
    this.#curves = new Curves(options.display.curves);
    this.outcome.curves = this.#curves.curves;
    this.#command = options.command;
    this.#json = options.json ?? false;
    this.#quiet = options.quiet ?? false;
    this.#steps = options.steps;
    this.#out = options.out;
    this.progress = new Progress(!this.#json && !this.#quiet);
  }

  async event(event: RunEvent): Promise<void> {
    const { outcome } = this;
    if (event.type === "loaded") outcome.resumedAt = event.resumedAt;
    if (event.type === "evaluation") outcome[event.when] = event;
    if (event.type === "step") {
      outcome.metrics = event.metrics;
      this.#curves.add(event.step, event.metrics);
    }
    if (event.type === "checkpoint") outcome.best = event.best ?? outcome.best;
    if (event.type === "done") {
      const { step, interrupted, directory = "" } = event;
      Object.assign(outcome, { step, interrupted, directory });
    }
    if (this.#json) printJson(event);
    else this.#show(event);
  }

  async close(): Promise<void> {
    this.progress.clear();
  }

  #show(event: RunEvent): void {
    if (event.type === "reading") {
      const { documents, tokens, bytes } = event;
      const facts = [`tokenizing: ${thousands(documents)} documents`, `${thousands(tokens)} tokens`, megabytes(bytes)];
      this.progress.show(0, 1, ...facts);
      return;
    }
    if (event.type === "progress") {
      this.#bar(`${PHASES[event.phase]} ${event.done}/${event.total}`);
      return;
    }
    const { rowEvery } = this.#display;
    const silent = event.type === "step" && !this.#hasRow(event.step, event.metrics, rowEvery);
    if (!silent) this.progress.clear();
    if (event.type === "loaded") this.#loaded(event);
    else if (event.type === "step") this.#step(event);
    else if (event.type === "evaluation") this.#evaluation(event);
    else if (event.type === "note") note(`note: ${inFlags(event.message, this.#command)}`);
    else if (event.type === "warning") note(`warning: step ${event.step}: ${inFlags(event.message, this.#command)}`);
    this.#bar("");
  }

  #loaded(event: Extract<RunEvent, { type: "loaded" }>): void {
    const { parameters, memory, notes, resumedAt, tokens, heldOutTokens = 0 } = event;
    this.#taken = resumedAt;
    for (const text of notes) note(`note: ${inFlags(text, this.#command)}`);
    if (this.#quiet) return;
    const resuming = resumedAt > 0 ? `, resuming after step ${resumedAt}` : "";
    note(`${thousands(parameters)} parameters loaded, run directory ${this.#out}${resuming}`);
    const { pairs, heldOutPairs = 0 } = event;
    if (pairs !== undefined) note(`${thousands(pairs)} pairs, ${thousands(heldOutPairs)} held out`);
    const { judgements, heldOutJudgements = 0, kind } = event;
    if (judgements !== undefined)
      note(`${thousands(judgements)} ${kind ?? "judgements"}, ${thousands(heldOutJudgements)} held out`);
    if (tokens !== undefined) note(`${thousands(tokens)} tokens of text, ${thousands(heldOutTokens)} held out`);
    note(`memory: about ${megabytes(memory.total)} at most (${memoryParts(memory)})`);
  }

  #evaluation(event: Evaluation): void {
    if (this.#quiet || event.when === "after") return; // the summary has both
    note(`held-out mean reward before training: ${withError(event)} (${event.samples.length} prompts)`);
  }

  #hasRow(step: number, metrics: Metrics, rowEvery: number): boolean {
    return step % rowEvery === 0 || step === this.#steps || this.#display.line?.(step, metrics) !== undefined;
  }

  #step({ step, steps, metrics }: Extract<RunEvent, { type: "step" }>): void {
    const { columns: all, stepWidth, rowEvery } = this.#display;
    this.#taken = step;
    this.#steps = steps;
    this.#recent = [...this.#recent, metrics].slice(-Math.max(RECENT, rowEvery));
    if (this.#quiet) return;
    if (step % rowEvery === 0 || step === steps) {
      const there = all.filter(({ of }) => of === undefined || metrics[of] !== undefined);
      const columns = fittingColumns(there, terminalWidth() - stepWidth);
      const line = (first: string, texts: readonly string[]) =>
        first.padStart(stepWidth) + texts.map((text, c) => text.padStart(columns[c].width)).join("");
      const titles = columns.map(({ title }) => title);
      if (!this.#header) print(style.bold(line("step", titles)));
      this.#header = true;
      const shown = this.#averaged();
      const texts = columns.map(({ text }) => text(shown));
      print(line(String(step), texts));
    }
    const below = this.#display.line?.(step, metrics);
    if (below !== undefined) print(below);
  }

  /** The numbers of the last step, some of them as their mean. */
  #averaged(): Metrics {
    const { averaged, rowEvery } = this.#display;
    const shown: Metrics = { ...this.outcome.metrics };
    const over = this.#recent.slice(-rowEvery);
    for (const name of averaged)
      if (shown[name] !== undefined) shown[name] = over.reduce((sum, m) => sum + (m[name] ?? 0), 0) / over.length;
    return shown;
  }

  /** Steps overall; time left and speed from the last steps. */
  #bar(phase: string): void {
    const facts = [`step ${Math.min(this.#taken + 1, this.#steps)}/${this.#steps}`];
    if (phase) facts.push(phase);
    const recent = this.#recent.slice(-RECENT);
    if (recent.length > 0) {
      const perStep = recent.reduce((sum, m) => sum + (m["time/total"] ?? 0), 0) / recent.length;
      facts.push(`${duration(perStep * (this.#steps - this.#taken))} left`);
      facts.push(...this.#display.facts(this.#averaged(), perStep));
    }
    this.progress.show(this.#taken, this.#steps, ...facts);
  }
}

/** Steps that speed and time left are taken from. */
const RECENT = 5;
