/** @file What the playground shows beside the run, which the dashboard's store has: settings, work in progress, problems. */
import { useEffect, useState } from "preact/hooks";
import { DEVICES } from "../../src/backend/devices.ts";
import type { GapName, Settings } from "./messages.ts";

/** What went wrong, for people. */
export interface Problem {
  /** Whether the typed reward is to blame. */
  readonly about: "reward" | "run";
  readonly title: string;
  readonly text: string;
  /** Of the typed code. */
  readonly line?: number;
}

export interface Play {
  /** Bytes fetched so far; null: everything is here. */
  loading: { readonly done: number; readonly total: number } | null;
  ready: boolean;
  /** Why nothing can work. */
  broken?: string;
  /** Whether the next visit needs no network. */
  offline: boolean;
  /** Whether a run outlasts the tab. */
  lasting: boolean;
  threads: number;
  /** Why there is no WebGPU; undefined: there is. */
  noGPU?: string;
  working: "train" | "gap" | null;
  stopping: boolean;
  view: "train" | "gaps";
  gap: GapName;
  settings: Settings;
  problem?: Problem;
  /** Which of the longer parts are open. */
  open: Readonly<Record<string, boolean>>;
}

/** Its lines are as long as a telephone's screen is wide. */
const CODE = `// Takes a batch of responses, gives
// a number for each: more is better.
const marks = (text) =>
  text.split("!").length - 1;

export default (batch) =>
  batch.map(({ response }) =>
    Math.min(marks(response), 5) / 5);
`;

export const DEFAULTS: Settings = {
  reward: "positive",
  pattern: "\\b(I|me|my)\\b",
  code: CODE,
  steps: 20,
  learningRate: 1e-4,
  klCoef: 0.07,
  batchSize: 32,
  seed: 0,
  device: "wasm",
  prompts: "",
};

const KEY = "valuehead.playground";

/** What was typed at the last visit. */
function remembered(): Settings {
  try {
    return { ...DEFAULTS, ...JSON.parse(localStorage.getItem(KEY) ?? "{}") };
  } catch {
    return DEFAULTS;
  }
}

let play: Play = {
  loading: { done: 0, total: 0 },
  ready: false,
  offline: false,
  lasting: true,
  threads: 1,
  working: null,
  stopping: false,
  view: location.hash === "#exploits" ? "gaps" : "train",
  gap: "padding",
  settings: remembered(),
  open: {},
};
const listeners = new Set<() => void>();

export const getPlay = (): Play => play;

export function setPlay(change: Partial<Play>): void {
  play = { ...play, ...change };
  if (change.settings)
    try {
      localStorage.setItem(KEY, JSON.stringify(play.settings));
    } catch {}
  for (const listener of [...listeners]) listener();
}

export const setSettings = (change: Partial<Settings>): void => setPlay({ settings: { ...play.settings, ...change } });

export function usePlay<T>(select: (play: Play) => T): T {
  const [value, setValue] = useState(() => select(play));
  useEffect(() => {
    const look = () => setValue(() => select(play));
    look();
    listeners.add(look);
    return () => void listeners.delete(look);
  }, []);
  return value;
}

/** Why training on the GPU cannot be chosen; undefined: it can. */
export async function whyNoGPU(): Promise<string | undefined> {
  if (!(DEVICES as readonly string[]).includes("webgpu")) return "this version has none";
  const gpu = (navigator as { gpu?: { requestAdapter(): Promise<unknown> } }).gpu;
  if (!gpu) return "this browser has none";
  const adapter = await gpu.requestAdapter().catch(() => null);
  return adapter ? undefined : "this browser finds no graphics card that it can use";
}
