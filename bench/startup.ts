/** @file How long the command line takes until it says something, as a process of its own with files in the disk cache. */
import { spawn } from "node:child_process";
import { judged, type Row, showSeconds, type Timing, timing } from "./report.ts";

const PROMPT = "The film was";

export interface StartupResult {
  help: Timing;
  firstToken: Timing;
  /** Node alone, with nothing to do. */
  node: Timing;
}

export async function measureStartup(rounds: number): Promise<StartupResult> {
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
  return { help: timing(times.help), firstToken: timing(times.firstToken), node: timing(times.node) };
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

export function startupRows({ help, firstToken, node }: StartupResult): Row[] {
  const row = (work: string, t: Timing, atMost: number): Row => {
    const { target, met } = judged(t.median, { atMost, unit: "s" });
    const [ours, theirs] = [showSeconds(t), showSeconds(node)];
    return { work, model: "embedded", ours, against: "Node alone", theirs, target, met };
  };
  return [row("valuehead --help", help, 0.15), row("first token of valuehead generate", firstToken, 1)];
}
