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
    rounds: { type: "string", default: "7" },
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
  /** Seconds, medians over the rounds, and their quotient: above 1 this version is the quicker one. */
  here: number;
  there: number;
  ratio: number;
  /** The same quotient in each round. */
  ratios: number[];
  /** Peak resident bytes, this over the other. */
  memory: number;
}

const median = (xs: readonly number[]) => [...xs].sort((a, b) => a - b)[Math.floor(xs.length / 2)];

async function compare(c: Case, { label, command }: Entrant): Promise<Line> {
  const args = ["--threads", flags.threads, ...(c.model ? ["--model", c.model.directory] : [])];
  const start = (directory: string) =>
    Side.start(process.execPath, ["--expose-gc", join(directory, SIDE), ...args], {});
  const sides = [await start("."), await start(other)];
  const runs: [Answer[], Answer[]] = [[], []];
  try {
    for (const side of sides) await side.ask({ ...command, ...c.warmUp });
    for (let round = 0; round < Math.min(Number(flags.rounds), c.rounds ?? Number.POSITIVE_INFINITY); round++)
      for (const i of round % 2 === 0 ? [0, 1] : [1, 0]) {
        await new Promise((resolve) => setTimeout(resolve, PAUSE));
        runs[i].push(await sides[i].ask(command));
      }
  } finally {
    for (const side of sides) await side.stop();
  }
  const [here, there] = runs.map((answers) => median(answers.map(({ seconds }) => seconds)));
  const [mine, theirs] = runs.map((answers) => Math.max(...answers.map(({ rss }) => rss)));
  const ratios = runs[0].map(({ seconds }, i) => runs[1][i].seconds / seconds);
  return { work: `${c.name}, ${label}`, here, there, ratio: median(ratios), ratios, memory: mine / theirs };
}

const host = machine();
console.log(`${host.cpu}, ${host.cores} cores, load average ${host.loadAverage.toFixed(2)}; ${model.name}`);
const lines: Line[] = [];
for (const c of cases)
  for (const entrant of c.entrants.filter(({ side }) => side === "valuehead")) {
    const line = await compare(c, entrant);
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
