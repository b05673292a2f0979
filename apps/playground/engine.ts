/** @file The page's side of the training worker. */
import { messageOf, ValueheadError } from "../../src/base/errors.ts";
import { plainError, reviveError } from "../../src/base/thrown.ts";
import type { RewardSample } from "../../src/experience/sample.ts";
import type { RunData } from "../../src/run/page/data.ts";
import { setDetails } from "../dashboard/source.ts";
import { apply, getState, setState } from "../dashboard/store.ts";
import type { FromEngine, GapName, Packed, Settings, ToEngine } from "./messages.ts";
import { codeOf, RewardProblem, tryOut, typedScores, YOURS } from "./rewards.ts";
import { DEFAULTS, getPlay, type Problem, setPlay } from "./state.ts";

let worker: Worker;
const post = (message: ToEngine) => worker.postMessage(message);

let asked = 0;
type Answer = Extract<FromEngine, { type: "answer" }>;
const waiting = new Map<number, (answer: Answer) => void>();

function question<T>(ask: (id: number) => ToEngine): Promise<T | undefined> {
  const id = ++asked;
  return new Promise((resolve, reject) => {
    waiting.set(id, ({ value, error }) => (error ? reject(reviveError(error)) : resolve(value as T | undefined)));
    post(ask(id));
  });
}

/** The code that the run in progress asks about. */
let code = "";

async function score(id: number, batch: RewardSample[]): Promise<void> {
  try {
    post({ type: "scores", id, scores: await typedScores(code, batch) });
  } catch (error) {
    lastProblem = error instanceof RewardProblem ? error : undefined;
    post({ type: "failed", id, error: plainError(error) });
  }
}

/** What the reward threw: on its way through the worker its line is lost. */
let lastProblem: RewardProblem | undefined;

const upper = (text: string) => text.replace(/^./, (c) => c.toUpperCase());

/** An error in words, and whose it is. */
function problemOf(error: unknown): Problem {
  const thrown = lastProblem ?? error;
  lastProblem = undefined;
  if (thrown instanceof RewardProblem) {
    const at = thrown.line === undefined ? "" : `Line ${thrown.line}: `;
    const text = `${at}${thrown.name === "Error" ? "" : `${thrown.name}: `}${thrown.message}`;
    return { about: "reward", title: "Your reward threw an error", text, line: thrown.line };
  }
  if (!(thrown instanceof ValueheadError))
    return { about: "run", title: "It ended with an error", text: messageOf(thrown) };
  const { where, found, expected, fix } = thrown.problem;
  const reward = thrown.kind === "reward";
  const told = `${reward && where === YOURS ? "" : `${where}: `}found ${found}, expected ${expected}.`;
  const text = `${upper(told)} ${upper(fix)}.`;
  return {
    about: reward ? "reward" : "run",
    title: reward ? "Your reward did not answer as it should" : "It ended with an error",
    text,
  };
}

/** That the steps before an error are safe. */
function saved(problem: Problem): Problem {
  const run = getState().data?.runs[0];
  const steps = run?.steps.length ?? 0;
  if (getPlay().view !== "train" || steps === 0) return problem;
  const last = run?.steps[steps - 1];
  const safe = `The run stopped. Everything up to step ${last} is saved${problem.about === "reward" ? ": mend the reward, and press Go on" : ", and Go on continues from there"}.`;
  return { ...problem, text: `${problem.text} ${safe}` };
}

function hear(message: FromEngine): void {
  switch (message.type) {
    case "data": {
      const { data, lasting, threads } = message;
      const before = getState().data?.runs[0]?.directory;
      const same = data.runs[0]?.directory === before;
      setState({
        data,
        revision: getState().revision + 1,
        ...(same ? {} : { focus: 0, lens: null, range: null, cursor: null }),
      });
      setPlay({ lasting, threads, ready: true });
      return;
    }
    case "change":
      return void apply(message.change);
    case "score":
      return void score(message.id, message.batch);
    case "ended": {
      const { error } = message;
      if (getPlay().working === "gap" && getPlay().view === "train") lookAtRun(); // whoever opened the gap has left
      setPlay({ working: null, stopping: false, ...(error ? { problem: saved(problemOf(reviveError(error))) } : {}) });
      return;
    }
    case "answer":
      waiting.get(message.id)?.(message);
      waiting.delete(message.id);
  }
}

/** Start the worker, and see what an earlier visit left. */
export function startEngine(): void {
  worker = new Worker(new URL("engine.js", import.meta.url), { type: "module", name: "training" });
  worker.onmessage = ({ data }: MessageEvent<FromEngine>) => hear(data);
  worker.onerror = (event) => {
    event.preventDefault();
    setPlay({
      working: null,
      broken: `The training worker ended: ${event.message ?? "it could not be loaded"}. Open the page anew.`,
    });
  };
  setDetails((run, index) => question((id) => ({ type: "sample", id, run, index })));
  setState({ connection: "open" });
  post({ type: "look" });
}

/** What was chosen for a run, which its config.json says; undefined: it is no run of the playground. */
export const settingsOf = (run: RunData | undefined): Settings | undefined => {
  const known = run?.config?.playground;
  return known ? { ...DEFAULTS, ...(known as Settings) } : undefined;
};

const linesOf = async (path: string): Promise<string> => (await (await fetch(path)).text()).trim();

/** The prompts that come with the model. */
export const defaultPrompts = (): Promise<string> => linesOf("models/tiny/prompts.txt");

/** Prompts never trained on that are answered before and after. */
const HELD_OUT = 32;

/** Train, from the first step or from where the run is. The reward is tried first. */
export async function train(resume: boolean): Promise<void> {
  const earlier = resume ? settingsOf(getState().data?.runs[0]) : undefined;
  const { settings } = getPlay();
  // What a run began with cannot be changed any more.
  const { prompts, batchSize, seed } = earlier ?? settings;
  const chosen = { ...settings, prompts, batchSize, seed };
  setPlay({ working: "train", stopping: false, problem: undefined, view: "train", settings: chosen });
  try {
    code = codeOf(chosen) ?? "";
    if (code) await tryOut(code);
    if (getPlay().stopping) return setPlay({ working: null, stopping: false });
    const heldOut = (await linesOf("models/tiny/prompts-heldout.txt")).split("\n");
    const every = Math.max(1, Math.floor(heldOut.length / HELD_OUT));
    const some = heldOut.filter((_, i) => i % every === 0).slice(0, HELD_OUT);
    post({
      type: "train",
      settings: { ...chosen, prompts: prompts || (await defaultPrompts()) },
      heldOut: some,
      resume,
    });
  } catch (error) {
    setPlay({ working: null, problem: problemOf(error) });
  }
}

/** Open a gap, and watch it being exploited. */
export function openGap(name: GapName, steps: number): void {
  setPlay({ working: "gap", stopping: false, problem: undefined, view: "gaps", gap: name });
  post({ type: "gap", name, steps, seed: 0 });
}

export function stop(): void {
  setPlay({ stopping: true });
  post({ type: "stop" });
}

/** Show the run of the training view again. */
export const lookAtRun = (): void => post({ type: "look" });

/** Save the newest checkpoint as a file. */
export async function download(): Promise<void> {
  try {
    const packed = await question<Packed>((id) => ({ type: "pack", id }));
    if (!packed) return;
    const link = document.createElement("a");
    link.href = URL.createObjectURL(packed.blob);
    link.download = packed.name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  } catch (error) {
    setPlay({ problem: { about: "run", title: "Nothing was downloaded", text: messageOf(error) } });
  }
}
