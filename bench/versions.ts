/**
 * @file `npm run bench:versions -- CHECKOUT`: this version against another one of valuehead, compiled in its own directory, on the
 * cases of `npm run bench` that we take part in. Both are children of one process and are asked in turn, each alone.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { allCases, type Case, type Entrant } from "./cases.ts";
import { openBenchModel } from "./models.ts";
import { machine } from "./report.ts";
import { type Answer, Side } from "./side.ts";

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    /** Processes of each version, one after another. */
    starts: { type: "string", default: "3" },
    /** In each of them. */
    rounds: { type: "string" },
    threads: { type: "string", default: "2" },
    layers: { type: "string", default: "12" },
    only: { type: "string" },
    out: { type: "string" },
  },
});
const [other] = positionals;
if (other === undefined) throw new Error("which checkout? npm run bench there once, with --list, to compile it");

const PAUSE = 300;
const SIDE = join(".cache", "bench", "bench", "valuehead.js");
const model = await openBenchModel(Number(flags.layers), process.env.VALUEHEAD_GPT2, ".cache/bench/models");
const wanted = flags.only?.split(",");
const cases = allCases([model]).filter((c) => !wanted || wanted.some((text) => c.name.includes(text)));

interface Line {
  work: string;
  /** Seconds, medians over all rounds. */
  here: number;
  there: number;
  /** Theirs over ours, median over the starts: above 1 this version is the quicker one. */
  ratio: number;
  /** The same of each start, of medians over its rounds. */
  ratios: number[];
  /** Peak resident bytes, this over the other. */
  memory: number;
}

const median = (xs: readonly number[]) => [...xs].sort((a, b) => a - b)[Math.floor(xs.length / 2)];

/** Memory lies differently in every process, and that alone makes one up to 5 % slower: both are started anew several times. */
async function compare(c: Case, { label, command }: Entrant): Promise<Line> {
  const args = ["--threads", flags.threads, ...(c.model ? ["--model", c.model.directory] : [])];
  const begin = (directory: string) =>
    Side.start(process.execPath, ["--expose-gc", join(directory, SIDE), ...args], {});
  const rounds = Number(flags.rounds ?? (c.long ? 2 : 5));
  const runs: [Answer[], Answer[]] = [[], []];
  const ratios: number[] = [];
  for (let start = 0; start < Number(flags.starts); start++) {
    const inTurn = (round: number) => ((start + round) % 2 === 0 ? [0, 1] : [1, 0]);
    const sides: Side[] = [];
    const now: [Answer[], Answer[]] = [[], []];
    try {
      for (const i of inTurn(0)) sides[i] = await begin(i === 0 ? "." : other);
      for (const i of inTurn(0)) {
        await c.prepare?.((_, command) => sides[i].ask(command));
        await sides[i].ask({ ...command, ...c.warmUp });
      }
      for (let round = 0; round < rounds; round++)
        for (const i of inTurn(round)) {
          await new Promise((resolve) => setTimeout(resolve, PAUSE));
          now[i].push(await sides[i].ask(command));
        }
    } finally {
      for (const i of [0, 1]) await sides[i]?.stop();
    }
    const [mine, theirs] = now.map((answers) => median(answers.map(({ seconds }) => seconds)));
    ratios.push(theirs / mine);
    for (const i of [0, 1]) runs[i].push(...now[i]);
  }
  const [here, there] = runs.map((answers) => median(answers.map(({ seconds }) => seconds)));
  const [mine, theirs] = runs.map((answers) => Math.max(...answers.map(({ rss }) => rss)));
  return { work: `${c.name}, ${label}`, here, there, ratio: median(ratios), ratios, memory: mine / theirs };
}

const host = machine();
console.log(`${host.cpu}, ${host.cores} cores, load average ${host.loadAverage.toFixed(2)}; ${model.name}`);
const lines: Line[] = [];
for (const c of cases)
  for (const entrant of c.entrants.filter(({ side }) => side === "valuehead")) {
    const line = await compare(c, entrant).catch((error: Error) => console.log(`${c.name}: ${error.message}`));
    if (!line) continue; // an older version may not know the case
    lines.push(line);
    console.log(
      `${line.work}: ${line.here.toFixed(3)} s here, ${line.there.toFixed(3)} s there, ${line.ratio.toFixed(3)} ` +
        `(${line.ratios.map((r) => r.toFixed(2)).join(" ")}); memory ${line.memory.toFixed(3)}`,
    );
    if (flags.out)
      writeFileSync(
        flags.out,
        `${JSON.stringify({ date: new Date().toISOString(), host, model: model.name, lines }, null, 2)}\n`,
      );
  }
