/** @file A run directory as the page sees it: all that is there, then what is added. Files that are missing or broken are no errors. */
import { absolutePath, baseName, joinPath, readJson } from "../../platform/files.ts";
import { type Line, Tail } from "../../platform/live/tail.ts";
import { isLocked } from "../../platform/lock.ts";
import { pairedDifference } from "../../rl/kl.ts";
import { commandOf } from "./again.ts";
import {
  type Evaluations,
  type LoggedEvent,
  type Num,
  type PageEvaluation,
  type RunChange,
  type RunData,
  type RunState,
  type SampleDetail,
  type SampleRow,
  SHOWN_TEXT,
} from "./data.ts";

type Json = Readonly<Record<string, unknown>>;

const number = (x: unknown): Num => (typeof x === "number" && Number.isFinite(x) ? x : null);
const text = (x: unknown): string => (typeof x === "string" ? x : "");

/** Lines that are objects; a line that is cut off or broken is left out. */
function parsed(lines: readonly Line[]): { line: Line; json: Json }[] {
  return lines.flatMap((line) => {
    try {
      const json = JSON.parse(line.text);
      return typeof json === "object" && json !== null && !Array.isArray(json) ? [{ line, json }] : [];
    } catch {
      return [];
    }
  });
}

/** Reads one run directory, and what is added to it. */
export class RunReader {
  readonly data: RunData;
  readonly #id: number;
  readonly #path: string;
  readonly #metrics: Tail;
  readonly #samples: Tail;
  readonly #events: Tail;
  /** Where the line of each sample is. */
  readonly #places: { at: number; bytes: number }[] = [];
  readonly #prompts = new Map<string, number>();
  #small = "";
  #reading: Promise<RunChange | undefined> | undefined;

  /** @param id how changes name the run */
  constructor(directory: string, id = 0) {
    this.#id = id;
    this.#path = directory;
    const [metrics, samples, events] = ["metrics", "samples", "events"].map(
      (name) => new Tail(joinPath(directory, `${name}.jsonl`)),
    );
    [this.#metrics, this.#samples, this.#events] = [metrics, samples, events];
    this.data = {
      name: baseName(absolutePath(directory)),
      directory,
      state: "waiting",
      config: null,
      steps: [],
      columns: {},
      prompts: [],
      samples: [],
      events: [],
      evaluations: {},
    };
  }

  /** Read on. @returns what is new; undefined: nothing */
  async read(): Promise<RunChange | undefined> {
    this.#reading = (this.#reading ?? Promise.resolve(undefined)).catch(() => undefined).then(() => this.#read());
    return this.#reading;
  }

  /** A sample with the numbers of its tokens. */
  async sample(index: number): Promise<SampleDetail | undefined> {
    const place = this.#places[index];
    const line = place && (await this.#samples.lineAt(place.at, place.bytes));
    return line === undefined
      ? undefined
      : (parsed([{ text: line, ...place }])[0]?.json as unknown as SampleDetail | undefined);
  }

  async #read(): Promise<RunChange | undefined> {
    const { data } = this;
    const change: { -readonly [name in keyof RunChange]: RunChange[name] } = { run: this.#id };
    const prompts = data.prompts.length;
    const steps: { step: number; metrics: Record<string, Num> }[] = [];
    const samples: SampleRow[] = [];
    const events: LoggedEvent[] = [];
    for await (const { restarted, lines } of this.#metrics.next()) {
      if (restarted) {
        change.restarted = true;
        data.steps = [];
        data.columns = {};
      }
      for (const { json } of parsed(lines)) steps.push(this.#addStep(json));
    }
    for await (const { restarted, lines } of this.#samples.next()) {
      if (restarted) {
        change.restarted = true;
        data.samples = [];
        this.#places.length = 0;
      }
      for (const { line, json } of parsed(lines)) {
        samples.push(this.#addSample(json));
        this.#places.push({ at: line.at, bytes: line.bytes });
      }
    }
    for await (const { restarted, lines } of this.#events.next()) {
      if (restarted) {
        change.restarted = true;
        data.events = [];
      }
      for (const { json } of parsed(lines)) events.push(json as unknown as LoggedEvent);
    }
    data.samples.push(...(samples.length < 10_000 ? samples : []));
    if (samples.length >= 10_000) for (const sample of samples) data.samples.push(sample);
    data.events.push(...events);
    const small = await this.#readSmall();
    if (steps.length > 0) change.steps = steps;
    if (samples.length > 0) change.samples = samples;
    if (events.length > 0) change.events = events;
    if (data.prompts.length > prompts) change.prompts = data.prompts.slice(prompts);
    if (small) Object.assign(change, { config: data.config, command: data.command, evaluations: data.evaluations });
    const state = await this.#state();
    if (state !== data.state) change.state = state;
    data.state = state;
    return Object.keys(change).length > 1 ? change : undefined;
  }

  #addStep({ step, ...metrics }: Json): { step: number; metrics: Record<string, Num> } {
    const { steps, columns } = this.data;
    const numbers = Object.fromEntries(Object.entries(metrics).map(([name, x]) => [name, number(x)]));
    steps.push(Number(step));
    for (const name of Object.keys(numbers)) columns[name] ??= new Array(steps.length - 1).fill(null);
    for (const [name, column] of Object.entries(columns)) column.push(numbers[name] ?? null);
    return { step: Number(step), metrics: numbers };
  }

  #addSample(json: Json): SampleRow {
    const prompt = text(json.prompt);
    let index = this.#prompts.get(prompt);
    if (index === undefined) {
      index = this.data.prompts.push(prompt) - 1;
      this.#prompts.set(prompt, index);
    }
    const response = text(json.response);
    const advantages = Array.isArray(json.advantages) ? json.advantages.map(Number).filter(Number.isFinite) : [];
    const { picked } = json;
    return {
      step: Number(json.step),
      prompt: index,
      response: response.length > SHOWN_TEXT ? `${response.slice(0, SHOWN_TEXT)}…` : response,
      score: number(json.score),
      kl: number(json.kl),
      advantage: advantages.length > 0 ? advantages.reduce((a, b) => a + b, 0) / advantages.length : null,
      length: Array.isArray(json.tokens) ? json.tokens.length : 0,
      ...(picked === "best" || picked === "worst" ? { picked } : {}),
    };
  }

  /** config.json and evaluation.json. @returns whether they have changed */
  async #readSmall(): Promise<boolean> {
    const read = (name: string) => readJson(joinPath(this.#path, name)).catch(() => null) as Promise<Json | null>;
    const [config, evaluation] = [await read("config.json"), await read("evaluation.json")];
    const small = JSON.stringify([config, evaluation]);
    if (small === this.#small) return false;
    this.#small = small;
    this.data.config = config;
    this.data.command = config ? commandOf(this.#path, config) : undefined;
    this.data.evaluations = evaluationsOf(evaluation);
    return true;
  }

  async #state(): Promise<RunState> {
    const { data } = this;
    const last = data.events.findLast(({ type }) => ["loaded", "done", "error"].includes(type));
    if (last?.type === "error") return "failed";
    if (last?.type === "done") return last.interrupted === true ? "stopped" : "finished";
    if (await isLocked(this.#path)) return "running";
    if (last) return "cut off";
    return data.steps.length > 0 ? "unknown" : "waiting";
  }
}

function evaluationsOf(json: Json | null): Evaluations {
  const { before, after } = (json ?? {}) as { before?: PageEvaluation; after?: PageEvaluation };
  const scores = (one?: PageEvaluation) => one?.samples?.map(({ score }) => score) ?? [];
  const slim = (one?: PageEvaluation): PageEvaluation | undefined =>
    one && {
      mean: one.mean,
      standardError: number(one.standardError),
      samples: one.samples.map(({ prompt, response, score }) => ({ prompt, response, score })),
    };
  const paired = before && after && scores(before).length === scores(after).length && scores(before).length > 0;
  const difference = paired ? pairedDifference(scores(before), scores(after)) : undefined;
  return {
    ...(before ? { before: slim(before) } : {}),
    ...(after ? { after: slim(after) } : {}),
    ...(difference ? { difference: { mean: difference.mean, standardError: number(difference.standardError) } } : {}),
  };
}
