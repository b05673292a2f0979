/** @file How long a new process takes until it says something, and until its steps are quick, with files in the disk cache. */
import { spawn } from "node:child_process";
import { startSide, stopSide } from "./measure.ts";
import type { Checkpoint } from "./models.ts";
import { judged, type Row, showSeconds, type Timing, timing } from "./report.ts";

const PROMPT = "The film was";

export interface StartupResult {
  help: Timing;
  firstToken: Timing;
  /** Node alone, with nothing to do. */
  node: Timing;
  firstStep: FirstStep[];
}

/** PPO steps of a new process. */
export interface FirstStep {
  model: string;
  first: Timing;
  /** Of each process the median of its later steps. */
  later: Timing;
}

const STEP = { batch: 32, tokens: 24, epochs: 1, miniBatch: 32, sampleBatch: 32, steps: 4 };
const EMBEDDED: Checkpoint = { directory: "models/tiny", name: "embedded", vocabSize: 8192 };

/** @param rounds processes of each kind; of those that take PPO steps half as many */
export async function measureStartup(rounds: number, threads: number, main: Checkpoint): Promise<StartupResult> {
  const command = ["bin/valuehead.js"];
  const generate = [...command, "generate", "--prompt", PROMPT, "--max-new-tokens", "4", "--seed", "0"];
  const work = {
    help: () => run([...command, "--help"]),
    firstToken: () => run(generate, PROMPT.length),
    node: () => run(["-e", "0"]),
  };
  const times: Record<string, { seconds: number; rss: number }[]> = { help: [], firstToken: [], node: [] };
  for (
    let round = -1;
    round < rounds;
    round++ // round -1 warms the disk
  )
    for (const [name, measure] of Object.entries(work)) {
      const seconds = await measure();
      if (round >= 0) times[name].push({ seconds, rss: 0 });
    }
  const firstStep: FirstStep[] = [];
  for (const model of [EMBEDDED, main]) firstStep.push(await measureFirstStep(model, Math.ceil(rounds / 2), threads));
  return { help: timing(times.help), firstToken: timing(times.firstToken), node: timing(times.node), firstStep };
}

async function measureFirstStep({ directory, name }: Checkpoint, rounds: number, threads: number): Promise<FirstStep> {
  const runs: number[][] = [];
  for (let round = 0; round < rounds; round++) {
    const side = await startSide("valuehead", threads, ["--model", directory]);
    try {
      await side.ask({ run: "prompts", count: STEP.batch, length: 8 });
      runs.push((await side.ask({ run: "ppo", ...STEP })).stepSeconds as number[]);
    } finally {
      await stopSide(side);
    }
  }
  const of = (seconds: (steps: readonly number[]) => number) =>
    timing(runs.map((steps) => ({ seconds: seconds(steps), rss: 0 })));
  const median = (steps: readonly number[]) => timing(steps.map((seconds) => ({ seconds, rss: 0 }))).median;
  return { model: name, first: of(([first]) => first), later: of(([, ...later]) => median(later)) };
}

/** Seconds until it ends, or until more than `characters` came from it. */
function run(args: readonly string[], characters?: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const start = performance.now();
    const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"] });
    let seen = 0;
    let seconds = 0;
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      seen += text.length;
      if (characters !== undefined && seen > characters && seconds === 0) seconds = (performance.now() - start) / 1000;
    });
    child.stderr.resume();
    child.once("error", reject);
    child.once("close", (code) => {
      if (code !== 0) reject(new Error(`node ${args.join(" ")} ended with code ${code}`));
      resolve(characters === undefined ? (performance.now() - start) / 1000 : seconds);
    });
  });
}

export function startupRows({ help, firstToken, node, firstStep }: StartupResult): Row[] {
  const row = (work: string, t: Timing, atMost: number): Row => {
    const { target, met } = judged(t.median, { atMost, unit: "s" });
    const [ours, theirs] = [showSeconds(t), showSeconds(node)];
    return { work, model: "embedded", ours, against: "Node alone", theirs, target, met };
  };
  const stepRow = ({ model, first, later }: FirstStep): Row => {
    const { target, met } = judged(first.median - later.median, { atMost: 1, unit: "s" });
    const work = `first PPO step, ${STEP.batch} x (8 + ${STEP.tokens})`;
    const [ours, theirs] = [showSeconds(first), showSeconds(later)];
    return { work, model, ours, against: "later steps", theirs, target: `${target} more`, met };
  };
  return [
    row("valuehead --help", help, 0.1),
    row("first token of valuehead generate", firstToken, 0.3),
    ...firstStep.map(stepRow),
  ];
}
