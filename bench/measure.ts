/** @file Runs one case: starts its sides, checks that they agree, measures them in turn. */
import { fileURLToPath } from "node:url";
import type { Case, Entrant, SideName } from "./cases.ts";
import type { Checkpoint } from "./models.ts";
import { type Measured, timing } from "./report.ts";
import type { Results } from "./rows.ts";
import { type Answer, Side } from "./side.ts";

/** Milliseconds between two runs: threads that spin while they wait for work have gone to sleep by then. */
const PAUSE = 300;
/** Log-probabilities, losses and parameters of two sides may differ by this much, absolutely or relatively, in fp32. */
const TOLERANCE = 1e-3;

export interface MeasureOptions {
  threads: number;
  rounds: number;
  /** Of cases whose rounds take minutes. */
  longRounds: number;
}

export interface CaseResult {
  name: string;
  model?: string;
  results: Results;
  /** The largest difference between numbers that must be equal. */
  difference?: number;
  /** What went wrong: the sides disagree, our side failed. */
  problem?: string;
  /** CPU seconds of each side while another one ran. */
  idleCpuSeconds: Record<string, number>;
}

/** Sides that run now. */
const living = new Set<Side>();
let ending = false;

/** Ends every side at once, and keeps new ones from starting. */
export function killSides(): void {
  ending = true;
  for (const side of living) side.kill();
}

const environment = (threads: number): Record<string, string> => ({
  OMP_NUM_THREADS: String(threads),
  OPENBLAS_NUM_THREADS: String(threads),
  // Threads that wait for work sleep, for the other side runs meanwhile.
  OMP_WAIT_POLICY: process.env.OMP_WAIT_POLICY ?? "PASSIVE",
});

const compiled = (name: string) => fileURLToPath(new URL(name, import.meta.url));

export async function startSide(name: SideName | "numpy", threads: number, args: readonly string[]): Promise<Side> {
  const python = process.env.PYTHON || "python3";
  const commands = {
    valuehead: [process.execPath, "--expose-gc", compiled("./valuehead.js")],
    jax: [process.execPath, compiled("./peers/jax.js")],
    torch: [python, "bench/peers/torch_gpt2.py"],
    numpy: [python, "bench/peers/limits.py"],
    trl: [process.env.PYTHON_TRL || "python3", "bench/peers/trl_ppo.py"],
    grpo: [process.env.PYTHON_TRL_NEW || "python3", "bench/peers/trl_grpo.py"],
    "transformers.js": [process.execPath, compiled("./peers/transformers.js")],
    llama: [process.execPath, compiled("./peers/llama.js")],
  };
  const [who, onGPU] = name.split(" on the ") as [keyof typeof commands, "GPU"?];
  const [command, ...script] = commands[who];
  const device = onGPU ? ["--device", who === "valuehead" ? "webgpu" : "gpu"] : [];
  const all = [...script, ...args, ...device, "--threads", String(threads)];
  const side = await Side.start(command, all, environment(threads));
  living.add(side);
  if (ending) side.kill();
  return side;
}

export async function stopSide(side: Side): Promise<void> {
  await side.stop();
  living.delete(side);
}

/** Warm-up of all, agreement, then the entrants in turn, round after round, each alone. */
export async function measure(
  c: Case,
  options: MeasureOptions,
  versions: Record<string, unknown>,
): Promise<CaseResult> {
  const sides = new Map<SideName, Side>();
  const absent = new Map<string, string>(); // by side or entrant
  const idle: Record<string, number> = {};
  const ask = async (name: SideName, command: Entrant["command"]): Promise<Answer> => {
    const side = sides.get(name);
    if (!side) throw new Error(absent.get(name) ?? `${name} was not started`);
    const answer = await side.ask(command);
    idle[name] = (idle[name] ?? 0) + answer.idle;
    return answer;
  };
  const found: Omit<CaseResult, "results"> = { name: c.name, model: c.model?.name, idleCpuSeconds: idle };
  const runs = new Map<string, Answer[]>();
  try {
    for (const name of new Set(c.entrants.map((e) => e.side)))
      try {
        const side = await startSide(name, options.threads, checkpointArgs(name, c.model));
        sides.set(name, side);
        versions[name] = side.about;
      } catch (error) {
        absent.set(name, `missing: ${(error as Error).message}`);
      }
    if (sides.has("valuehead")) await c.prepare?.(ask);
    const present = () => c.entrants.filter((e) => sides.has(e.side) && !absent.has(e.label));
    const warm = new Map<string, Answer>();
    for (const entrant of present()) {
      const answer = await ask(entrant.side, { ...entrant.command, ...c.warmUp }).catch((error: Error) => {
        if (entrant.side === "valuehead") throw error;
        return `failed: ${error.message}`; // a peer that cannot do it is a row without a ratio
      });
      if (typeof answer === "string") absent.set(entrant.label, answer);
      else if (answer.skipped) absent.set(entrant.label, `skipped: ${answer.skipped}`);
      else warm.set(entrant.label, answer);
    }
    if (sides.size > 1) Object.assign(found, agree(await c.agreement?.(ask, warm)));
    for (const name of sides.keys()) idle[name] = 0;
    for (let round = 0; round < roundsOf(c, options); round++)
      for (const entrant of present()) {
        await new Promise((resolve) => setTimeout(resolve, PAUSE));
        const answer = await ask(entrant.side, entrant.command);
        runs.set(entrant.label, [...(runs.get(entrant.label) ?? []), answer]);
      }
  } catch (error) {
    found.problem = (error as Error).message;
  } finally {
    for (const side of sides.values()) await stopSide(side).catch(() => {});
  }
  const result = ({ label, side }: Entrant): Measured | string => {
    const answers = runs.get(label);
    if (!answers) return absent.get(label) ?? absent.get(side) ?? found.problem ?? "not measured";
    const { seconds: _s, rss: _r, idle: _i, numbers: _n, responses: _t, ...findings } = answers.at(-1)!;
    return { ...timing(answers), findings };
  };
  return { ...found, results: Object.fromEntries(c.entrants.map((e) => [e.label, result(e)])) };
}

/** How many there are of a case. */
export const roundsOf = (c: Case, { rounds, longRounds }: Pick<MeasureOptions, "rounds" | "longRounds">) =>
  c.long ? Math.min(rounds, longRounds) : rounds;

function checkpointArgs(side: SideName, model: Checkpoint | undefined): string[] {
  if (!model) return [];
  if (side === "transformers.js") return ["--export", model.exported ?? ""];
  if (side === "llama") return ["--gguf", model.gguf ?? ""];
  return ["--model", model.directory, ...(model.adapter ? ["--adapter", model.adapter] : [])];
}

/** The largest difference, and a problem if it is too large. */
function agree(
  numbers: { found: readonly number[]; expected: readonly number[] } | undefined,
): Pick<CaseResult, "difference" | "problem"> {
  if (!numbers) return {};
  const { found, expected } = numbers;
  if (found.length === 0 || found.length !== expected.length)
    return { problem: `the sides gave ${found.length} and ${expected.length} numbers to compare` };
  const differences = found.map((value, i) => Math.abs(value - expected[i]) / Math.max(1, Math.abs(expected[i])));
  const difference = differences.every(Number.isFinite) ? Math.max(...differences) : Number.NaN;
  if (difference <= TOLERANCE) return { difference };
  return { difference, problem: `the sides do not compute the same: they differ by ${difference.toExponential(1)}` };
}
