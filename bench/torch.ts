/** @file GPT-2 124M against PyTorch: forward, training step, sampling. Side by side in one run; see README.md. */
import { mkdirSync, writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { Rng } from "../src/base/rng.ts";
import { makeConfig } from "../src/gpt2/config.ts";
import { type AskedTokens, GPT2HeadWithValueModel } from "../src/gpt2/model.ts";
import { ParameterBuffer } from "../src/gpt2/parameters.ts";
import { AdamW, globalNorm } from "../src/nn/adamw.ts";
import { languageModelLoss } from "../src/rl/losses.ts";
import { generate } from "../src/sample/generate.ts";
import { Peer } from "./peer.ts";
import { type Comparison, cpuSeconds, engineVersions, machine, peakBytes, resetPeak, table, timing } from "./report.ts";

const ROWS = 8;
const LENGTH = 128;
const PROMPT = 8;
const NEW_TOKENS = 48;
/** Milliseconds between two runs: threads that spin while they wait for work have gone to sleep by then. */
const PAUSE = 300;
/** Log-probabilities and losses of the two sides may differ by this much, in fp32. */
const TOLERANCE = 1e-3;

const { values: flags } = parseArgs({
  options: {
    model: { type: "string" },
    rounds: { type: "string", default: "5" },
    threads: { type: "string", default: "2" },
    layers: { type: "string" },
    only: { type: "string", default: "" },
  },
});
const directory = flags.layers ? undefined : (flags.model ?? (process.env.VALUEHEAD_GPT2 || undefined));
const rounds = Number(flags.rounds);
const threads = Number(flags.threads);
const layers = Number(flags.layers ?? 12);
if (!(rounds >= 1 && threads >= 1 && layers >= 1))
  throw new Error("--rounds, --threads, --layers: whole numbers from 1");
const waitPolicy = process.env.OMP_WAIT_POLICY ?? "PASSIVE";

interface Case {
  name: string;
  command: { run: string; ids: number[][]; tokens?: number };
  prepare?: () => void;
  /** Does the work and gives what the two sides must agree on. */
  run: () => Promise<ArrayLike<number>>;
}

const model = directory
  ? await GPT2HeadWithValueModel.fromPretrained(directory, { threads })
  : GPT2HeadWithValueModel.fromConfig(makeConfig({ nLayer: layers }), { threads });
const peer = await Peer.start(
  process.env.PYTHON || "python3",
  [
    "bench/peers/torch_gpt2.py",
    ...["--threads", String(threads)],
    ...(directory ? ["--model", directory] : ["--layers", String(layers)]),
  ],
  { OMP_NUM_THREADS: String(threads), OMP_WAIT_POLICY: waitPolicy },
);
try {
  await compareAll();
} finally {
  await peer.stop();
}

async function compareAll(): Promise<void> {
  const host = machine();
  const versions = { ...engineVersions(), ...peer.about };
  console.log(
    `${host.cpu}, ${host.cores} cores, ${(host.memoryBytes / 1e9).toFixed(0)} GB; ${JSON.stringify(versions)}`,
  );
  if (host.loadAverage > 0.3)
    console.log(
      `The load average is ${host.loadAverage.toFixed(2)}: something else may be running. Times will be off.`,
    );
  const idle = { valuehead: 0, torch: 0 };
  const cases: Comparison[] = [];
  for (const c of allCases()) {
    if (!c.name.includes(flags.only)) continue;
    console.error(`${c.name} ...`);
    cases.push(await compare(c, idle));
    model.dispose(); // sessions and buffers: the next case's memory is its own
    globalThis.gc?.();
  }
  console.log(table(cases));
  console.log(`CPU seconds while the other side ran: ${idle.valuehead.toFixed(2)}, ${idle.torch.toFixed(2)} (PyTorch)`);
  if (flags.layers || flags.only) return; // a try, not a result
  const date = new Date().toISOString();
  const path = `bench/results/torch-${date.slice(0, 10)}.json`;
  const settings = {
    model: directory ? "checkpoint" : "random",
    layers: model.config.nLayer,
    threads,
    rounds,
    waitPolicy,
  };
  mkdirSync("bench/results", { recursive: true });
  const result = { date, machine: host, versions, settings, cases, idleCpuSeconds: idle };
  writeFileSync(path, `${JSON.stringify(result, null, 2)}\n`);
  console.log(path);
}

/** Warm-up of both, then valuehead, PyTorch, valuehead, PyTorch, ... with the other side asleep. */
async function compare(c: Case, idle: { valuehead: number; torch: number }): Promise<Comparison> {
  c.prepare?.();
  const expected = (await peer.ask(c.command)).numbers;
  const found = await c.run();
  if (directory) checkAgreement(c.name, found, expected); // else each side has random weights of its own
  const ours: { seconds: number; rss: number }[] = [];
  const theirs: typeof ours = [];
  for (let round = 0; round < rounds; round++) {
    await sleep(PAUSE);
    resetPeak();
    const start = performance.now();
    await c.run();
    ours.push({ seconds: (performance.now() - start) / 1000, rss: peakBytes() });
    await sleep(PAUSE);
    const cpu = cpuSeconds();
    const answer = await peer.ask(c.command);
    idle.valuehead += cpuSeconds() - cpu;
    idle.torch += answer.idle;
    theirs.push(answer);
  }
  const [valuehead, torch] = [timing(ours), timing(theirs)];
  return { name: c.name, valuehead, torch, ratio: valuehead.median / torch.median };
}

/** In order of memory: the optimizer's moments, once made, stay. */
function allCases(): Case[] {
  const rng = new Rng(0);
  const { vocabSize } = model.config;
  const randomIds = (rows: number, length: number) =>
    Array.from({ length: rows }, () => Array.from({ length }, () => Math.floor(rng.uniform() * vocabSize)));

  const text = randomIds(ROWS, LENGTH + 1);
  const asked = nextTokens(text);
  const forward: Case = {
    name: `forward ${ROWS} x ${LENGTH}`,
    command: { run: "forward", ids: text },
    run: async () => (await model.score(asked)).logprobs,
  };

  const samplings = [1, 16, 64].map((batch): Case => {
    const prompts = randomIds(batch, PROMPT);
    const queries = prompts.map((row) => Int32Array.from(row));
    return {
      name: `sample ${batch} x (${PROMPT} + ${NEW_TOKENS})`,
      command: { run: "sample", ids: prompts, tokens: NEW_TOKENS },
      run: async () => {
        await generate(model, queries, { maxNewTokens: NEW_TOKENS, eosTokenId: null });
        return [];
      },
    };
  });

  const weight = new Float32Array(ROWS * LENGTH).fill(1 / (ROWS * LENGTH));
  let grads: ParameterBuffer;
  let optimizer: AdamW;
  const train: Case = {
    name: `train ${ROWS} x ${LENGTH}`,
    command: { run: "train", ids: text },
    prepare: () => {
      grads = new ParameterBuffer(model.parameters.table);
      optimizer = new AdamW(model.parameters.table, { learningRate: 1e-5, weightDecay: 0.01 });
    },
    run: async () => {
      const { loss } = await model.lossAndGradients(asked, languageModelLoss, { weight }, grads);
      globalNorm(grads.data);
      optimizer.update(model.parameters.data, grads.data);
      return [loss];
    },
  };
  return [forward, ...samplings, train];
}

/** Every position of T predicts the next of T + 1 tokens. */
function nextTokens(text: readonly number[][]): AskedTokens {
  const B = text.length;
  const T = text[0].length - 1;
  const ids = Int32Array.from(text.flatMap((row) => row.slice(0, T)));
  const next = Int32Array.from(text.flatMap((row) => row.slice(1)));
  const rows = Int32Array.from({ length: B * T }, (_, n) => n);
  return { tokens: { ids, B, T }, rows, ids: next, distribution: { temperature: 1 } };
}

function checkAgreement(name: string, found: ArrayLike<number>, expected: readonly number[]): void {
  if (expected.length === 0) return; // samples are random
  const difference = expected.reduce((most, x, i) => Math.max(most, Math.abs(x - found[i])), 0);
  console.log(`${name}: the two sides differ by at most ${difference.toExponential(1)}`);
  if (!(difference <= TOLERANCE)) throw new Error(`${name}: the two sides do not compute the same`);
}

function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
