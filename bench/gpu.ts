/**
 * @file `npm run bench:gpu`: forward pass, training step, sampling and a PPO step on this machine's GPU through WebGPU, on its CPU, and in
 * PyTorch on the same GPU; see README.md.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { parseArgs } from "node:util";
import { Engine } from "../src/backend/engine.ts";
import { loadModel } from "../src/families/index.ts";
import { type Case, LENGTH, NEW_TOKENS, PPO, PROMPT, ROWS, randomIds, type SideName, sameNumbers } from "./cases.ts";
import { type CaseResult, killSides, measure } from "./measure.ts";
import { type Checkpoint, openBenchModel } from "./models.ts";
import { machine, phaseTable, type Row, table } from "./report.ts";
import { faster } from "./rows.ts";

const CACHE = ".cache/bench/models";
const { values: flags } = parseArgs({
  options: {
    rounds: { type: "string", default: "3" },
    threads: { type: "string", default: String(machine().cores) },
    only: { type: "string" },
    out: { type: "string" },
    quick: { type: "boolean", default: false },
  },
});
const [rounds, threads] = [flags.quick ? 1 : Number(flags.rounds), Number(flags.threads)];
const isWhole = !flags.quick && flags.only === undefined;
const date = new Date().toISOString();
const path = `${flags.out ?? (isWhole ? "bench/results/gpu" : ".cache/bench/results/gpu-try")}-${date.slice(0, 10)}`;

const SAMPLED = 16;
/** For a GPU in software. */
const SMALL = { nEmbd: 32, nHead: 2, vocabSize: 300 };
const step = flags.quick ? { ...PPO, batch: 8, tokens: 4, epochs: 1, miniBatch: 4, sampleBatch: 8 } : PPO;
const [rows, length, tokens] = flags.quick ? [2, 16, 4] : [ROWS, LENGTH, NEW_TOKENS];

const [OURS, CPU, TORCH] = ["WebGPU", "CPU", "PyTorch"];
const sides: readonly [string, SideName][] = [
  [OURS, "valuehead on the GPU"],
  [CPU, "valuehead"],
  [TORCH, "torch on the GPU"],
];

function casesOf(model: Checkpoint): Case[] {
  const ids = randomIds(model.vocabSize, rows, length + 1);
  const everybody = (command: { run: string }) => sides.map(([label, side]) => ({ label, side, command }));
  const against = (work: string, peer: string) => (results: CaseResult["results"]) => [
    faster(work, model, results, OURS, [peer]),
    faster(work, model, results, OURS, [CPU]),
  ];
  const made = (name: string, command: { run: string }, same = true): Case => ({
    name,
    model,
    entrants: everybody(command),
    seconds: 0, // on which GPU?
    agreement: same ? sameNumbers(CPU, OURS) : undefined,
    rows: against(name, TORCH),
  });
  const ppo = `PPO step, ${step.batch} x (${PROMPT} + ${step.tokens}), ${step.epochs} epochs`;
  const queries: number[][] = [];
  return [
    made(`forward ${rows} x ${length}`, { run: "forward", ids, keep: length / 2 } as { run: string }),
    made(`train ${rows} x ${length}`, { run: "train", ids, optimizer: "fused" } as { run: string }),
    made(
      `sample ${SAMPLED} x (${PROMPT} + ${tokens})`,
      { run: "sample", ids: randomIds(model.vocabSize, SAMPLED, PROMPT), tokens } as { run: string },
      false,
    ),
    {
      name: ppo,
      model,
      entrants: [
        { label: OURS, side: "valuehead on the GPU", command: { run: "ppo", ...step } },
        { label: CPU, side: "valuehead", command: { run: "ppo", ...step } },
        { label: "TRL 0.11.4", side: "trl on the GPU", command: { run: "ppo", ...step, queries } },
      ],
      seconds: 0,
      long: true,
      warmUp: { batch: step.miniBatch, epochs: 1 },
      async prepare(ask) {
        const command = { run: "prompts", count: step.batch, length: PROMPT };
        for (const side of ["valuehead on the GPU", "valuehead"] as const)
          queries.splice(0, queries.length, ...((await ask(side, command)).queries as number[][]));
      },
      rows: against(ppo, "TRL 0.11.4"),
    },
  ];
}

async function main(): Promise<number> {
  new Engine({ device: "webgpu" }); // says what is missing where there is no GPU
  const models: Checkpoint[] = [
    flags.quick
      ? await openBenchModel(1, undefined, CACHE, SMALL)
      : await openBenchModel(12, process.env.VALUEHEAD_GPT2, CACHE),
  ];
  const real = process.env.VALUEHEAD_SMOLLM2;
  if (real && !flags.quick) {
    const { sizes } = await loadModel(real, { threads: 1 });
    models.push({ directory: real, name: "SmolLM2-135M", vocabSize: sizes.vocabSize });
  }
  const wanted = flags.only?.split(",");
  const isWanted = ({ name, model }: Case) =>
    !wanted || wanted.some((text) => `${name} ${model?.name}`.toLowerCase().includes(text.toLowerCase()));
  const cases = models.flatMap(casesOf).filter(isWanted);
  const versions: Record<string, unknown> = {};
  const [host, gpus] = [machine(), namesOfGPUs()];
  const results: CaseResult[] = [];
  const tables = () => {
    const lines: Row[] = results.flatMap((r, i) => cases[i].rows(r.results));
    return [table(lines), ...results.map((r) => phaseTable(`${r.name}, ${r.model}`, r.results))]
      .filter(Boolean)
      .join("\n\n");
  };
  const save = () => {
    const result = { date, machine: host, gpus, versions, settings: { threads, rounds }, cases: results };
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(`${path}.json`, `${JSON.stringify(result, null, 2)}\n`);
    const about = `${gpus.join(", ")}; ${host.cpu}, ${threads} threads, ${rounds} rounds; ${date.slice(0, 10)}`;
    writeFileSync(`${path}.md`, `${about}\n\n${tables()}\n`);
  };
  console.log(`${gpus.join(", ")}; ${host.cpu}, ${host.cores} cores`);
  for (const c of cases) {
    console.error(`${c.name} ${c.model?.name ?? ""} ...`);
    const result = await measure(c, { threads, rounds, longRounds: 2 }, versions);
    results.push(result);
    for (const [label, r] of Object.entries(result.results))
      if (typeof r === "string") console.error(`  ${label}: ${r}`);
    if (result.problem) console.error(`  ${result.problem}`);
    save();
  }
  console.log(`\n${tables()}\n\n${path}.json, ${path}.md`);
  return results.some(({ problem }) => problem) ? 1 : 0;
}

/** As their drivers call them: WebGPU takes the quickest. */
function namesOfGPUs(): string[] {
  const { stdout } = spawnSync("vulkaninfo", ["--summary"], { encoding: "utf8" });
  const names = Array.from((stdout ?? "").matchAll(/deviceName\s*=\s*(.+)/g), ([, name]) => name.trim());
  return names.length > 0
    ? names
    : [process.platform === "darwin" ? "Apple's GPU" : "a GPU (vulkaninfo, which would name it, is not there)"];
}

for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, killSides);
process.exitCode = await main();
