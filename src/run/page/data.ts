/** @file What the page knows of a run: plain JSON, read from the run directory. The page's own code imports these types. */

/** What became of a run: known from its event log and its lock. `cut off`: its process ended without a word. */
export type RunState = "waiting" | "running" | "finished" | "stopped" | "failed" | "cut off" | "unknown";

/** A number of a metric; null for what JSON has no word for. */
export type Num = number | null;

/** One line of events.jsonl. */
export interface LoggedEvent {
  readonly time: string;
  readonly type: "loaded" | "evaluation" | "checkpoint" | "warning" | "note" | "workers" | "done" | "error";
  readonly step?: number;
  readonly message?: string;
  readonly [more: string]: unknown;
}

/** A sample as the table shows it. */
export interface SampleRow {
  readonly step: number;
  /** Index in {@link RunData.prompts}. */
  readonly prompt: number;
  /** At most {@link SHOWN_TEXT} characters. */
  readonly response: string;
  readonly score: Num;
  readonly kl: Num;
  /** Mean over its tokens; null in runs of versions that did not record it. */
  readonly advantage: Num;
  /** Tokens. */
  readonly length: number;
  readonly picked?: "best" | "worst";
}

/** Characters of a response in the table; the lens has all. */
export const SHOWN_TEXT = 280;

/** A sample with its numbers for every token, as in samples.jsonl. Old runs have no pieces, log-probs and what follows. */
export interface SampleDetail {
  readonly step: number;
  readonly prompt: string;
  readonly response: string;
  readonly responseWithSpecialTokens?: string;
  readonly score: Num;
  readonly kl: Num;
  readonly tokens?: readonly number[];
  readonly values?: readonly Num[];
  readonly promptPieces?: readonly string[];
  readonly pieces?: readonly string[];
  readonly logprobs?: readonly Num[];
  readonly refLogprobs?: readonly Num[];
  readonly rewards?: readonly Num[];
  readonly advantages?: readonly Num[];
  readonly ratios?: readonly Num[];
  readonly picked?: "best" | "worst";
}

/** Answers to held-out prompts. */
export interface PageEvaluation {
  readonly mean: number;
  readonly standardError: Num;
  readonly samples: readonly { readonly prompt: string; readonly response: string; readonly score: number }[];
}

/** Before and after, and the mean of the differences by prompt with its standard error. */
export interface Evaluations {
  readonly before?: PageEvaluation;
  readonly after?: PageEvaluation;
  readonly difference?: { readonly mean: number; readonly standardError: Num };
}

/** All of a run but the numbers of each token. */
export interface RunData {
  readonly name: string;
  readonly directory: string;
  state: RunState;
  /** config.json; null where there is none. */
  config: Readonly<Record<string, unknown>> | null;
  /** The command that makes this run again; undefined where config.json does not say enough. */
  command?: string;
  steps: number[];
  /** metrics.jsonl by metric, each as long as `steps`; null where a step does not have it. */
  columns: Record<string, Num[]>;
  prompts: string[];
  samples: SampleRow[];
  events: LoggedEvent[];
  evaluations: Evaluations;
  /** In a report that had to be small: every so manyth step. */
  thinned?: number;
}

/** What is new: lines that were written since. */
export interface RunChange {
  readonly run: number;
  /** What was read before is no more: ask for everything again. */
  readonly restarted?: boolean;
  readonly steps?: readonly { readonly step: number; readonly metrics: Readonly<Record<string, Num>> }[];
  readonly prompts?: readonly string[];
  readonly samples?: readonly SampleRow[];
  readonly events?: readonly LoggedEvent[];
  readonly evaluations?: Evaluations;
  readonly state?: RunState;
  readonly config?: Readonly<Record<string, unknown>> | null;
  readonly command?: string;
  readonly progress?: { readonly step: number; readonly phase: string; readonly done: number; readonly total: number };
}

/** What the page begins with. */
export interface PageData {
  readonly version: string;
  readonly runs: readonly RunData[];
  /** Of a report: the samples it carries with all their numbers, by run and index in {@link RunData.samples}. */
  readonly details?: readonly Readonly<Record<number, SampleDetail>>[];
  /** When a report was written. */
  readonly written?: string;
  /** Whether stop and save can be asked for, with the token. */
  readonly controls: boolean;
}
