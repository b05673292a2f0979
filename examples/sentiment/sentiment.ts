/** @file TRL's sentiment experiment with everything made here: a judge, three algorithms with three seeds each, a yardstick, a second judge. */
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { loadTokenizer, resolveModel } from "valuehead";
import { isTrained, type JudgeFacts, trainJudge } from "./judge.ts";
import { writePage } from "./page.ts";
import { readReviews } from "./reviews.ts";
import { ALGORITHMS, type Algorithm, type BestOf, bestOfN, type RunResult, runOne } from "./runs.ts";

const { values } = parseArgs({
  options: {
    imdb: { type: "string" },
    out: { type: "string", default: "runs/sentiment" },
    steps: { type: "string", default: "16" },
    seeds: { type: "string", default: "3" },
    /** Runs at a time, one thread each. */
    jobs: { type: "string", default: "2" },
    /** Options of the runs as JSON, in place of those in runs.ts. */
    config: { type: "string", default: "{}" },
    /** One run, as a child of the command: ppo-0, or best-of-n. */
    run: { type: "string" },
    /** Write the page anew from the results that there are. */
    page: { type: "boolean", default: false },
  },
});
const { out, imdb } = values;
const [steps, seeds, jobs] = [values.steps, values.seeds, values.jobs].map(Number);
const judge = join(out, "judge");
const fileOf = (name: string) => join(out, "results", `${name}.json`);
const names = [
  ...Array.from({ length: seeds }, (_, seed) => ALGORITHMS.map((name) => `${name}-${seed}`)).flat(),
  "best-of-n",
];

if (!values.page) {
  if (imdb === undefined) throw new Error("--imdb DIR: the directory of the data set, see README.md");
  mkdirSync(join(out, "results"), { recursive: true });
  const openings = join(out, "openings.json"); // so that not every run reads all reviews again
  if (values.run !== undefined) await one(values.run, JSON.parse(readFileSync(openings, "utf8")));
  else {
    const reviews = await readReviews(imdb, await loadTokenizer(await resolveModel("tiny")));
    writeFileSync(openings, JSON.stringify(reviews.openings));
    if (!isTrained(judge)) console.log(await trainJudge(judge, reviews, jobs));
    await all();
  }
}
if (values.run === undefined) {
  const read = <T>(path: string) => JSON.parse(readFileSync(path, "utf8")) as T;
  const runs = names
    .filter((name) => name !== "best-of-n" && existsSync(fileOf(name)))
    .map((name) => read<RunResult>(fileOf(name)));
  const yardstick = existsSync(fileOf("best-of-n")) ? read<BestOf[]>(fileOf("best-of-n")) : [];
  const facts = read<JudgeFacts>(join(judge, "facts.json"));
  console.log(`${writePage(out, { facts, runs, yardstick, steps })} compares them`);
}

/** What was asked for as one run, written where the others find it. */
async function one(name: string, openings: { train: string[]; heldOut: string[] }): Promise<void> {
  const settings = { judge, openings, steps, threads: 1, config: JSON.parse(values.config) };
  const [algorithm, seed] = name.split("-");
  const result =
    name === "best-of-n" ? await bestOfN(settings) : await runOne(algorithm as Algorithm, Number(seed), settings);
  writeFileSync(fileOf(name), `${JSON.stringify(result)}\n`);
}

/** Every run that has no result yet, some at a time, each in a process of its own. */
async function all(): Promise<void> {
  const left = names.filter((name) => !existsSync(fileOf(name)));
  const next = async (): Promise<void> => {
    const name = left.shift();
    if (name === undefined) return;
    const child = spawn(process.execPath, [process.argv[1], ...process.argv.slice(2), "--run", name], {
      stdio: "inherit",
    });
    const code = await new Promise((resolve) => child.on("close", resolve));
    if (code !== 0) throw new Error(`${name} ended with exit code ${code}; run the command again to go on`);
    await next();
  };
  await Promise.all(Array.from({ length: jobs }, next));
}
