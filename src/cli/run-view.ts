/** @file The terminal as a sink of a PPO run: a bar and a table for people, or its events as JSON. */
import type { Command } from "commander";
import type { BestCheckpoint, Metrics } from "../algorithms/events.ts";
import { memoryParts } from "../model/memory.ts";
import type { RunEvent } from "../run/events.ts";
import type { Sink } from "../run/sinks/sink.ts";
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
  directory: string;
  /** Steps that were taken before, by a run that was resumed. */
  resumedAt: number;
  before?: Evaluation;
  after?: Evaluation;
  best?: BestCheckpoint;
  /** Of the last step. */
  metrics: Metrics;
}

const COLUMNS: readonly (Column & { text: (m: Metrics) => string })[] = [
  { title: "reward", width: 9, text: (m) => fixed(m["env/reward_mean"], 3) },
  { title: "KL", width: 9, text: (m) => fixed(m["objective/kl"], 3) },
  { title: "KL coef", width: 9, keep: 5, text: (m) => fixed(m["objective/kl_coef"], 4) },
  { title: "entropy", width: 9, keep: 3, text: (m) => fixed(m["ppo/policy/entropy"], 3) },
  { title: "clipfrac", width: 10, keep: 2, text: (m) => fixed(m["ppo/policy/clipfrac"], 3) },
  { title: "value loss", width: 12, keep: 1, text: (m) => fixed(m["ppo/loss/value"], 4) },
  { title: "seconds", width: 9, keep: 4, text: (m) => fixed(m["time/total"], 1) },
];
const STEP_WIDTH = 6;
const PHASES = { respond: "sampling", score: "scoring", update: "updating" };

/** Shows the events of one run, and gathers what a summary needs of them. */
export class RunView implements Sink {
  readonly progress: Progress;
  readonly outcome: RunOutcome = { step: 0, interrupted: false, directory: "", resumedAt: 0, metrics: {} };
  readonly #json: boolean;
  readonly #quiet: boolean;
  readonly #batchSize: number;
  readonly #out: string;
  /** Whose flags messages speak of. */
  readonly #command?: Command;
  #steps: number;
  #taken = 0;
  #seconds: number[] = [];
  #header = false;

  constructor(options: {
    json?: boolean;
    quiet?: boolean;
    out: string;
    steps: number;
    batchSize: number;
    command?: Command;
  }) {
    this.#command = options.command;
    this.#json = options.json ?? false;
    this.#quiet = options.quiet ?? false;
    this.#steps = options.steps;
    this.#batchSize = options.batchSize;
    this.#out = options.out;
    this.progress = new Progress(!this.#json && !this.#quiet);
  }

  async event(event: RunEvent): Promise<void> {
    const { outcome } = this;
    if (event.type === "loaded") outcome.resumedAt = event.resumedAt;
    if (event.type === "evaluation") outcome[event.when] = event;
    if (event.type === "step") outcome.metrics = event.metrics;
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
    if (event.type === "progress") {
      this.#bar(`${PHASES[event.phase]} ${event.done}/${event.total}`);
      return;
    }
    this.progress.clear();
    if (event.type === "loaded") this.#loaded(event);
    else if (event.type === "step") this.#step(event);
    else if (event.type === "evaluation") this.#evaluation(event);
    else if (event.type === "note") note(`note: ${inFlags(event.message, this.#command)}`);
    else if (event.type === "warning") note(`warning: step ${event.step}: ${inFlags(event.message, this.#command)}`);
    this.#bar("");
  }

  #loaded({ parameters, memory, notes, resumedAt }: Extract<RunEvent, { type: "loaded" }>): void {
    this.#taken = resumedAt;
    for (const text of notes) note(`note: ${inFlags(text, this.#command)}`);
    if (this.#quiet) return;
    const resuming = resumedAt > 0 ? `, resuming after step ${resumedAt}` : "";
    note(`${thousands(parameters)} parameters loaded, run directory ${this.#out}${resuming}`);
    note(`memory: about ${megabytes(memory.total)} at most (${memoryParts(memory)})`);
  }

  #evaluation(event: Evaluation): void {
    if (this.#quiet || event.when === "after") return; // the summary has both
    note(`held-out mean reward before training: ${withError(event)} (${event.samples.length} prompts)`);
  }

  #step({ step, steps, metrics }: Extract<RunEvent, { type: "step" }>): void {
    this.#taken = step;
    this.#steps = steps;
    this.#seconds.push(metrics["time/total"] ?? 0);
    if (this.#quiet) return;
    const columns = fittingColumns(COLUMNS, terminalWidth() - STEP_WIDTH);
    const line = (first: string, texts: readonly string[]) =>
      first.padStart(STEP_WIDTH) + texts.map((text, c) => text.padStart(columns[c].width)).join("");
    const titles = columns.map(({ title }) => title);
    if (!this.#header) print(style.bold(line("step", titles)));
    this.#header = true;
    print(
      line(
        String(step),
        columns.map(({ text }) => text(metrics)),
      ),
    );
  }

  /** Steps overall; episodes per second and time left from the last steps. */
  #bar(phase: string): void {
    const recent = this.#seconds.slice(-5);
    const perStep = recent.reduce((a, b) => a + b, 0) / recent.length;
    const facts = [`step ${Math.min(this.#taken + 1, this.#steps)}/${this.#steps}`];
    if (phase) facts.push(phase);
    if (recent.length > 0)
      facts.push(
        `${duration(perStep * (this.#steps - this.#taken))} left`,
        `reward ${fixed(this.outcome.metrics["env/reward_mean"], 3)}`,
        `KL ${fixed(this.outcome.metrics["objective/kl"], 2)}`,
        `${(this.#batchSize / perStep).toFixed(1)} episodes/s`,
      );
    this.progress.show(this.#taken, this.#steps, ...facts);
  }
}
