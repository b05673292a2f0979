/** @file What a PPO run looks like while it goes on: a bar and a table for people, or its events as JSON. */
import type { BestCheckpoint, Metrics } from "../train/events.ts";
import { memoryParts } from "../train/memory.ts";
import type { RunEvent } from "../train/run.ts";
import { duration, fixed, megabytes, note, print, printJson, thousands } from "./output.ts";
import { Progress } from "./progress.ts";

export type Evaluation = Extract<RunEvent, { type: "evaluation" }>;

export interface RunOutcome {
  step: number;
  interrupted: boolean;
  directory: string;
  before?: Evaluation;
  after?: Evaluation;
  best?: BestCheckpoint;
  /** Of the last step. */
  metrics: Metrics;
}

const COLUMNS: readonly [title: string, text: (m: Metrics) => string][] = [
  ["reward", (m) => fixed(m["env/reward_mean"], 3)],
  ["KL", (m) => fixed(m["objective/kl"], 3)],
  ["KL coef", (m) => fixed(m["objective/kl_coef"], 4)],
  ["entropy", (m) => fixed(m["ppo/policy/entropy"], 3)],
  ["clipfrac", (m) => fixed(m["ppo/policy/clipfrac"], 3)],
  ["value loss", (m) => fixed(m["ppo/loss/value"], 4)],
  ["seconds", (m) => fixed(m["time/total"], 1)],
];
const PHASES = { respond: "sampling", score: "scoring", update: "updating" };
const row = (step: string, texts: readonly string[]) =>
  `${step.padStart(6)}${texts.map((text, i) => text.padStart(Math.max(COLUMNS[i][0].length, 7) + 2)).join("")}`;

/** Follows the events of one run and shows them. */
export class RunView {
  readonly progress: Progress;
  readonly #json: boolean;
  readonly #quiet: boolean;
  readonly #batchSize: number;
  readonly #out: string;
  #steps: number;
  #taken = 0;
  #seconds: number[] = [];
  #metrics: Metrics = {};
  #header = false;

  constructor(options: { json?: boolean; quiet?: boolean; out: string; steps: number; batchSize: number }) {
    this.#json = options.json ?? false;
    this.#quiet = options.quiet ?? false;
    this.#steps = options.steps;
    this.#batchSize = options.batchSize;
    this.#out = options.out;
    this.progress = new Progress(!this.#json && !this.#quiet);
  }

  /** Show every event; the outcome is what a summary needs. */
  async follow(events: AsyncIterable<RunEvent>): Promise<RunOutcome> {
    const outcome: RunOutcome = { step: 0, interrupted: false, directory: "", metrics: {} };
    try {
      for await (const event of events) {
        if (event.type === "evaluation") outcome[event.when] = event;
        if (event.type === "checkpoint") outcome.best = event.best ?? outcome.best;
        if (event.type === "done") {
          const { step, interrupted, directory = "" } = event;
          Object.assign(outcome, { step, interrupted, directory });
        }
        if (this.#json) printJson(event);
        else this.#show(event);
      }
    } finally {
      this.progress.clear();
    }
    return { ...outcome, metrics: this.#metrics };
  }

  #show(event: RunEvent): void {
    if (event.type === "progress") {
      this.#bar(`${PHASES[event.phase]} ${event.done}/${event.total}`);
      return;
    }
    this.progress.clear();
    if (event.type === "loaded") this.#loaded(event);
    else if (event.type === "step") this.#step(event);
    else if (event.type === "note") note(`note: ${event.message}`);
    else if (event.type === "warning") note(`warning: step ${event.step}: ${event.message}`);
    this.#bar("");
  }

  #loaded({ parameters, memory, notes, resumedAt }: Extract<RunEvent, { type: "loaded" }>): void {
    this.#taken = resumedAt;
    for (const text of notes) note(`note: ${text}`);
    if (this.#quiet) return;
    const resuming = resumedAt > 0 ? `, resuming after step ${resumedAt}` : "";
    note(`${thousands(parameters)} parameters loaded, run directory ${this.#out}${resuming}`);
    note(`memory: about ${megabytes(memory.total)} at most (${memoryParts(memory)})`);
  }

  #step({ step, steps, metrics }: Extract<RunEvent, { type: "step" }>): void {
    this.#taken = step;
    this.#steps = steps;
    this.#metrics = metrics;
    this.#seconds.push(metrics["time/total"] ?? 0);
    if (this.#quiet) return;
    if (!this.#header)
      print(
        row(
          "step",
          COLUMNS.map(([title]) => title),
        ),
      );
    this.#header = true;
    print(
      row(
        String(step),
        COLUMNS.map(([, text]) => text(metrics)),
      ),
    );
  }

  /** Steps overall; episodes per second and time left from the last steps. */
  #bar(phase: string): void {
    const recent = this.#seconds.slice(-5);
    const perStep = recent.reduce((a, b) => a + b, 0) / recent.length;
    const facts = [`step ${Math.min(this.#taken + 1, this.#steps)}/${this.#steps}`];
    if (recent.length > 0) {
      facts.push(
        `${duration(perStep * (this.#steps - this.#taken))} left`,
        `${(this.#batchSize / perStep).toFixed(1)} episodes/s`,
        `reward ${fixed(this.#metrics["env/reward_mean"], 3)}`,
        `KL ${fixed(this.#metrics["objective/kl"], 2)}`,
      );
    }
    if (phase) facts.push(phase);
    this.progress.show(this.#taken, this.#steps, facts.join(", "));
  }
}
