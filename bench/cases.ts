/** @file The cases: what each side is asked, and which lines of the table follow. Targets are the project's own. */
import { RNG } from "../src/base/rng.ts";
import * as count from "./arithmetic.ts";
import type { BenchModel, Checkpoint } from "./models.ts";
import { judged, type Limits, type Measured, type Row, showBytes, showSeconds, type Target } from "./report.ts";
import type { Answer, Command } from "./side.ts";

export type SideName = "valuehead" | "torch" | "trl" | "jax";
export type Ask = (side: SideName, command: Command) => Promise<Answer>;

/** Who is asked what, under the name the table has for it. */
export interface Entrant {
  label: string;
  side: SideName;
  command: Command;
}

/** By label; of those that are missing, why. */
export type Results = Readonly<Record<string, Measured | string>>;

export interface Case {
  name: string;
  model?: Checkpoint;
  entrants: Entrant[];
  /** At most this many rounds. */
  rounds?: number;
  /** Instead of the entrants' own commands in the warm-up. */
  warmUp?: Record<string, unknown>;
  /** Before the warm-up: what commands need that only a side can tell. */
  prepare?(ask: Ask): Promise<void>;
  /** Numbers of two sides that must be equal, from fresh weights. `warm` has every entrant's answer to the warm-up. */
  agreement?(ask: Ask, warm: ReadonlyMap<string, Answer>): Promise<{ found: number[]; expected: number[] } | undefined>;
  rows(results: Results, limits?: Limits): Row[];
}

const ROWS = 8;
const LENGTH = 128;
const PROMPT = 8;
const NEW_TOKENS = 48;
const OURS = "valuehead";
const PPO = { batch: 128, prompt: PROMPT, tokens: 24, epochs: 4, miniBatch: 32, sampleBatch: 64 };
/** What is said about the memory of an adapter is said of such a step. */
const INSTRUCT = { batch: 32, prompt: 64, tokens: 48, epochs: 1, miniBatch: 8, sampleBatch: 32 };
const MATMUL = { M: 1024, K: 768, N: 3072 };

const x = (atLeast: number): Target => ({ atLeast, unit: "x" });
const percent = (atLeast: number): Target => ({ atLeast, unit: "%" });

/** In an order in which the short ones come first: a run that is cut short has most of them. */
export function allCases(
  models: readonly BenchModel[],
  adapted: readonly Checkpoint[] = [],
  instruct: readonly Checkpoint[] = [],
): Case[] {
  const main = models.slice(0, 1); // the targets are about the first
  return [
    ...models.flatMap((m) => [forward(m), train(m), adamw(m), ...[1, 16, 64].map((batch) => sample(m, batch))]),
    ...adapted.map(trainAdapter),
    matmul(),
    ...main.map((m) => ppo(m, count.ppoFlops(m.config, PPO.batch, PROMPT, PPO.tokens, PPO.epochs))),
    ...adapted.map((m) => ppo(m)),
    ...instruct.map((m) => ({ ...ppo(m, undefined, INSTRUCT), name: "ppo lora memory" })),
    ...models.slice(1).map((m) => ppo(m, count.ppoFlops(m.config, PPO.batch, PROMPT, PPO.tokens, PPO.epochs))),
  ];
}

function forward(model: BenchModel): Case {
  const { config } = model;
  const command = { run: "forward", ids: randomIds(config.vocabSize, ROWS, LENGTH + 1), keep: LENGTH / 2 };
  const work = `forward ${ROWS} x ${LENGTH}, logits for half`;
  const flops = count.forwardFlops(config, ROWS, LENGTH, (ROWS * LENGTH) / 2);
  return {
    name: `forward ${ROWS} x ${LENGTH}`,
    model,
    entrants: [
      { label: OURS, side: "valuehead", command },
      { label: "PyTorch", side: "torch", command },
      { label: "PyTorch, all logits", side: "torch", command: { ...command, full: true } },
    ],
    agreement: sameNumbers("PyTorch"),
    rows: (results, limits) => [
      faster(work, model, results, OURS, ["PyTorch"], x(1.5)),
      faster(work, model, results, OURS, ["PyTorch, all logits"]),
      ...flopShare(work, model, results, flops, limits),
    ],
  };
}

function train(model: BenchModel): Case {
  const { config } = model;
  const command = { run: "train", ids: randomIds(config.vocabSize, ROWS, LENGTH + 1) };
  const work = `forward + backward + AdamW ${ROWS} x ${LENGTH}`;
  const flops = count.trainFlops(config, ROWS, LENGTH, ROWS * LENGTH);
  return {
    name: `train ${ROWS} x ${LENGTH}`,
    model,
    entrants: [{ label: OURS, side: "valuehead", command }, ...bothAdamW(command)],
    agreement: sameNumbers("PyTorch, fused"),
    rows: (results, limits) => [
      faster(work, model, results, OURS, ADAMW_LABELS, x(1.2)),
      ...flopShare(work, model, results, flops, limits, percent(0.6)),
    ],
  };
}

function trainAdapter(model: Checkpoint): Case {
  const command = { run: "train", ids: randomIds(model.vocabSize, ROWS, LENGTH + 1) };
  const work = `LoRA: forward + backward + AdamW ${ROWS} x ${LENGTH}`;
  const labels = ADAMW_LABELS.map((label) => label.replace("PyTorch", "PyTorch + PEFT"));
  return {
    name: `train lora ${ROWS} x ${LENGTH}`,
    model,
    entrants: [
      { label: OURS, side: "valuehead", command },
      ...bothAdamW(command).map((entrant, i) => ({ ...entrant, label: labels[i] })),
    ],
    agreement: sameNumbers(labels[0]),
    rows: (results) => [faster(work, model, results, OURS, labels), smaller(work, model, results, labels[0])],
  };
}

function adamw(model: BenchModel): Case {
  const bytes = count.adamwBytes(model.config);
  const work = `AdamW, ${(count.parameterCount(model.config) / 1e6).toFixed(0)}M parameters`;
  return {
    name: "adamw",
    model,
    entrants: [{ label: OURS, side: "valuehead", command: { run: "adamw" } }, ...bothAdamW({ run: "adamw" })],
    agreement: sameNumbers("PyTorch, fused"),
    rows: (results, limits) => [
      faster(work, model, results, OURS, ADAMW_LABELS, x(1)),
      ...byteShare(work, model, results, bytes, "copy", limits),
    ],
  };
}

const ADAMW_LABELS = ["PyTorch, fused", "PyTorch, foreach"];
const bothAdamW = (command: Command): Entrant[] =>
  ["fused", "foreach"].map((optimizer, i) => ({
    label: ADAMW_LABELS[i],
    side: "torch",
    command: { ...command, optimizer },
  }));

function sample(model: BenchModel, batch: number): Case {
  const { config } = model;
  const prompts = randomIds(config.vocabSize, batch, PROMPT);
  const command = { run: "sample", ids: prompts, tokens: NEW_TOKENS };
  const work = `sample ${batch} x (${PROMPT} + ${NEW_TOKENS})`;
  const int8 = `${OURS}, int8`;
  // The prompt's pass draws the first token, then a pass for each token but the last.
  const passes = NEW_TOKENS;
  const cache = count.cacheBytes(config, batch, PROMPT + NEW_TOKENS / 2);
  const bytes = passes * (count.weightBytes(config) + cache);
  const flops = count.sampleFlops(config, batch, PROMPT, NEW_TOKENS);
  return {
    name: `sample ${batch} x (${PROMPT} + ${NEW_TOKENS})`,
    model,
    rounds: batch === 64 ? 3 : undefined, // 20 s a round
    entrants: [
      { label: OURS, side: "valuehead", command },
      ...(batch > 1 ? [{ label: int8, side: "valuehead" as const, command: { ...command, precision: "int8" } }] : []),
      { label: "transformers", side: "torch", command },
    ],
    async agreement(ask) {
      const rows = Math.min(batch, 4);
      const ours = await ask("valuehead", { ...command, check: rows });
      const theirs = await ask("torch", { run: "forward", ids: ours.sequences, keep: NEW_TOKENS });
      return { found: ours.logprobs as number[], expected: theirs.numbers };
    },
    rows: (results, limits) =>
      batch === 1
        ? [
            ...byteShare(work, model, results, bytes, "read", limits, percent(0.9)),
            ...byteShare(work, model, results, bytes, "copy", limits),
            faster(work, model, results, OURS, ["transformers"]),
          ]
        : [
            faster(work, model, results, OURS, ["transformers"], x(1.3)),
            faster(`${work}, int8`, model, results, int8, ["transformers"], x(4)),
            ...flopShare(work, model, results, flops, limits),
          ],
  };
}

/** @param flops of our step, where they are counted */
function ppo(model: Checkpoint, flops?: number, sizes = PPO): Case {
  const { batch, prompt, tokens, epochs, miniBatch } = sizes;
  const queries: number[][] = [];
  const ours = { run: "ppo", ...sizes, basePrecision: model.basePrecision };
  const theirs = { run: "ppo", ...sizes, queries };
  const step = `PPO step, ${batch} x (${prompt} + ${tokens}), ${epochs} ${epochs === 1 ? "epoch" : "epochs"} of ${batch / miniBatch}`;
  const work = model.adapter ? `LoRA: ${step}` : step;
  const peer = model.adapter ? "TRL 0.11.4 + PEFT" : "TRL 0.11.4";
  return {
    name: model.adapter ? "ppo lora" : "ppo",
    model,
    entrants: [
      { label: OURS, side: "valuehead", command: ours },
      { label: peer, side: "trl", command: theirs },
    ],
    rounds: 2,
    // One minibatch of one epoch: everything is loaded, built and allocated then.
    warmUp: { batch: miniBatch, epochs: 1 },
    async prepare(ask) {
      queries.push(
        ...((await ask("valuehead", { run: "prompts", count: batch, length: prompt })).queries as number[][]),
      );
    },
    async agreement(ask, warm) {
      const [own, other] = [warm.get(OURS), warm.get(peer)];
      if (!own || !other || model.basePrecision) return undefined; // what is rounded is another model
      const { numbers: found } = await ask("valuehead", {
        run: "ppoNumbers",
        queries: queries.slice(0, miniBatch),
        responses: other.responses,
      });
      const steps = [own, other].map((answer) => answer.optimizerSteps as number);
      return { found: [...found, steps[0]], expected: [...other.numbers, steps[1]] };
    },
    rows: (results, limits) => [
      faster(work, model, results, OURS, [peer], model.adapter ? undefined : x(2)),
      smaller(work, model, results, peer, model.adapter ? undefined : { atMost: 0.7, unit: "x" }),
      ...(flops === undefined ? [] : flopShare(work, model, results, flops, limits)),
    ],
  };
}

function matmul(): Case {
  const { M, K, N } = MATMUL;
  const command = { run: "matmul", ...MATMUL };
  return {
    name: "matmul",
    entrants: [
      { label: OURS, side: "valuehead", command },
      { label: "jax-js, wasm", side: "jax", command },
    ],
    agreement: sameNumbers("jax-js, wasm"),
    rows: (results, limits) => [
      faster(`matrix product ${M} x ${K} x ${N}`, undefined, results, OURS, ["jax-js, wasm"]),
      ...flopShare(`matrix product ${M} x ${K} x ${N}`, undefined, results, 2 * M * K * N, limits),
    ],
  };
}

/** The warm-up's numbers of ours and of a peer: log-probabilities, a loss, parameters after a step. */
function sameNumbers(peer: string): Case["agreement"] {
  return async (_, warm) => {
    const [ours, theirs] = [warm.get(OURS), warm.get(peer)];
    return ours && theirs && { found: ours.numbers, expected: theirs.numbers };
  };
}

/** Seconds of `label` against the quickest of the peers. */
function faster(
  work: string,
  model: Checkpoint | undefined,
  results: Results,
  label: string,
  peers: readonly string[],
  target?: Target,
): Row {
  const there = peers.filter((p) => typeof results[p] === "object");
  const best = there.reduce<string | undefined>(
    (a, b) => (a && median(results, a) <= median(results, b) ? a : b),
    undefined,
  );
  return compare(work, model, results, label, best ?? peers[0], showSeconds, (a, b) => b.median / a.median, target);
}

const median = (results: Results, label: string) => (results[label] as Measured).median;

/** Peak memory against a peer's. */
function smaller(work: string, model: Checkpoint, results: Results, peer: string, target?: Target): Row {
  const ratio = (a: Measured, b: Measured) => a.peakBytes / b.peakBytes;
  return compare(`peak memory of the ${work}`, model, results, OURS, peer, showBytes, ratio, target);
}

function compare(
  work: string,
  model: Checkpoint | undefined,
  results: Results,
  label: string,
  peer: string,
  show: (m: Measured) => string,
  ratio: (ours: Measured, theirs: Measured) => number,
  target?: Target,
): Row {
  const [ours, theirs] = [results[label], results[peer]];
  const row = {
    work,
    model: model?.name ?? "",
    ours: typeof ours === "object" ? show(ours) : "",
    against: peer,
    theirs: typeof theirs === "object" ? show(theirs) : "",
  };
  if (typeof ours === "object" && typeof theirs === "object") return { ...row, ...judged(ratio(ours, theirs), target) };
  const { target: text } = judged(0, target);
  const missing = [ours, theirs].find((r) => typeof r !== "object") as string | undefined;
  return { ...row, target: text, missing: missing ?? "not measured" };
}

/** FLOPs of the work over our time, against the sgemm peak. */
function flopShare(
  work: string,
  model: Checkpoint | undefined,
  results: Results,
  flops: number,
  limits?: Limits,
  target?: Target,
): Row[] {
  return share(work, model, results, flops, "sgemm", "GFLOP/s", limits, target);
}

/** Bytes the work must move over our time, against a bandwidth. */
function byteShare(
  work: string,
  model: BenchModel,
  results: Results,
  bytes: number,
  limit: "copy" | "read",
  limits?: Limits,
  target?: Target,
): Row[] {
  return share(work, model, results, bytes, limit, "GB/s", limits, target);
}

function share(
  work: string,
  model: Checkpoint | undefined,
  results: Results,
  amount: number,
  limit: keyof Limits,
  unit: string,
  limits?: Limits,
  target?: Target,
): Row[] {
  const ours = results[OURS];
  if (!limits || typeof ours !== "object") return [];
  const rate = amount / ours.median;
  const show = (perSecond: number) => `${(perSecond / 1e9).toFixed(1)} ${unit}`;
  const against = { sgemm: "sgemm peak", copy: "copy bandwidth", read: "read bandwidth" }[limit];
  const row = { work, model: model?.name ?? "", ours: show(rate), against, theirs: show(limits[limit]) };
  return [{ ...row, ...judged(rate / limits[limit], target) }];
}

export function randomIds(vocabSize: number, rows: number, length: number): number[][] {
  const rng = new RNG(rows, length);
  return Array.from({ length: rows }, () => Array.from({ length }, () => Math.floor(rng.uniform() * vocabSize)));
}
