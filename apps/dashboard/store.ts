/** @file What the page shows: one state, changed in one place, listened to by components. */
import { useEffect, useState } from "preact/hooks";
import type { PageData, RunChange, RunData } from "../../src/run/page/data.ts";

export const TABS = ["overview", "charts", "samples", "audit", "run"] as const;
export type Tab = (typeof TABS)[number];

export interface State {
  data: PageData | null;
  /** Why there is no data. */
  problem?: string;
  tab: Tab;
  /** The run that samples, audit and configuration are of. */
  focus: number;
  /** Runs whose curves are not shown. */
  hidden: readonly number[];
  /** Steps in view; null: all. */
  range: readonly [number, number] | null;
  /** The step that every chart points at; null: none. */
  cursor: number | null;
  /** Weight of the past in smoothed curves, from 0 (none) to below 1. */
  smooth: number;
  theme: "auto" | "light" | "dark";
  /** Whether changes arrive. */
  connection: "none" | "open" | "lost";
  progress?: RunChange["progress"];
  /** The sample under the lens. */
  lens: { run: number; index: number } | null;
  /** What was asked of the run, in words. */
  asked?: string;
  /** Grows with every change of the data, whose arrays are changed in place. */
  revision: number;
}

const remembered = (name: string, fallback: string) => {
  try {
    return localStorage.getItem(`valuehead.${name}`) ?? fallback;
  } catch {
    return fallback; // pages from disk may have no storage
  }
};

let state: State = {
  data: null,
  tab: "overview",
  focus: 0,
  hidden: [],
  range: null,
  cursor: null,
  smooth: Number(remembered("smooth", "0.6")),
  theme: remembered("theme", "auto") as State["theme"],
  connection: "none",
  lens: null,
  revision: 0,
};
const listeners = new Set<() => void>();

export const getState = (): State => state;

export function setState(change: Partial<State>): void {
  state = { ...state, ...change };
  for (const name of ["smooth", "theme"] as const)
    if (name in change)
      try {
        localStorage.setItem(`valuehead.${name}`, String(state[name]));
      } catch {}
  for (const listener of [...listeners]) listener();
}

export function subscribe(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** A part of the state; the component is drawn again when it is another. */
export function useStore<T>(select: (state: State) => T): T {
  const [value, setValue] = useState(() => select(state));
  useEffect(() => {
    const look = () => setValue(() => select(state));
    look();
    return subscribe(look);
  }, []);
  return value;
}

/** Add what is new to the data. @returns false: everything must be asked for again */
export function apply(change: RunChange): boolean {
  if (change.progress) setState({ progress: change.progress });
  const run = state.data?.runs[change.run];
  if (!run) return false;
  if (change.restarted) return false;
  for (const { step, metrics } of change.steps ?? []) addStep(run, step, metrics);
  for (const prompt of change.prompts ?? []) run.prompts.push(prompt);
  for (const sample of change.samples ?? []) run.samples.push(sample);
  for (const event of change.events ?? []) run.events.push(event);
  if (change.evaluations) run.evaluations = change.evaluations;
  if (change.config !== undefined) run.config = change.config;
  if (change.command !== undefined) run.command = change.command;
  if (change.state) run.state = change.state;
  if (Object.keys(change).some((name) => name !== "progress" && name !== "run")) changed();
  return true;
}

function addStep(run: RunData, step: number, metrics: Readonly<Record<string, number | null>>): void {
  const { steps, columns } = run;
  if (steps.length > 0 && step <= steps[steps.length - 1]) return; // it was in the data already
  steps.push(step);
  for (const name of Object.keys(metrics)) columns[name] ??= new Array(steps.length - 1).fill(null);
  for (const [name, column] of Object.entries(columns)) column.push(metrics[name] ?? null);
}

let due = false;
/** Once for all changes of a moment. */
function changed(): void {
  if (due) return;
  due = true;
  setTimeout(() => {
    due = false;
    setState({ revision: state.revision + 1 });
  }, 100);
}
