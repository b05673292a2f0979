/** @file The cases: what each side is asked, and which lines of the table follow. Targets are the project's own. */
import { RNG } from "../src/base/rng.ts";
import * as count from "./arithmetic.ts";
import type { BenchModel, Checkpoint } from "./models.ts";
import type { Limits, Row, Target } from "./report.ts";
import { byteShare, faster, flopShare, OURS, type Results, smaller } from "./rows.ts";
import type { Answer, Command } from "./side.ts";

/** Who is asked; "on the GPU" the same on a graphics processor. */
export type SideName =
  | "valuehead"
  | "torch"
  | "trl"
  | "grpo"
  | "jax"
  | "transformers.js"
  | "llama"
  | `${"valuehead" | "torch" | "trl"} on the GPU`;
export type Ask = (side: SideName, command: Command) => Promise<Answer>;

/** Who is asked what, under the name the table has for it. */
export interface Entrant {
  label: string;
  side: SideName;
  command: Command;
}

export interface Case {
  name: string;
  model?: Checkpoint;
  entrants: Entrant[];
  /** About how many seconds all entrants take for a round, on two cores of a Sapphire Rapids. */
  seconds: number;
  /** A round of it takes minutes: there are fewer. */
  long?: true;
  /** Instead of the entrants' own commands in the warm-up. */
  warmUp?: Record<string, unknown>;
  /** Before the warm-up: what commands need that only a side can tell. */
  prepare?(ask: Ask): Promise<void>;
  /** Numbers of two sides that must be equal, from fresh weights. `warm` has every entrant's answer to the warm-up. */
  agreement?(ask: Ask, warm: ReadonlyMap<string, Answer>): Promise<{ found: number[]; expected: number[] } | undefined>;
  rows(results: Results, limits?: Limits): Row[];
}

export const ROWS = 8;
export const LENGTH = 128;
export const PROMPT = 8;
export const NEW_TOKENS = 48;
export const PPO = { batch: 128, prompt: PROMPT, tokens: 24, epochs: 4, miniBatch: 32, sampleBatch: 64 };
/** What is said about the memory of an adapter is said of such a step. */
const INSTRUCT = { batch: 32, prompt: 64, tokens: 48, epochs: 1, miniBatch: 8, sampleBatch: 32 };
/** Groups of eight responses; one optimizer step on all of them, as is TRL's default. */
const GRPO = { prompts: 8, generations: 8, prompt: 64, tokens: 48, microBatch: 16 };
const MATMUL = { M: 1024, K: 768, N: 3072 };

const x = (atLeast: number): Target => ({ atLeast, unit: "x" });
const percent = (atLeast: number): Target => ({ atLeast, unit: "%" });

/** What the work with a model takes of the seconds that 12 layers take. */
const portion = (model: Checkpoint) => {
  if (model.vocabSize < 1000) return 0.02; // a trial
  return "config" in model ? ((model as BenchModel).config.nLayer + 4) / 16 : 1;
};

/** In an order in which the short ones come first: a run that is cut short has most of them. */
export function allCases(
  models: readonly BenchModel[],
  adapted: readonly Checkpoint[] = [],
  instruct: readonly Checkpoint[] = [],
): Case[] {
  const main = models.slice(0, 1); // the targets are about the first
  return [
    ...models.flatMap((m) => [forward(m), train(m), adamw(m), ...[1, 16, 64].map((batch) => sample(m, batch))]),
    ...models.flatMap((m) => (m.exported !== undefined ? [1, 16].map((batch) => sampleAlone(m, batch)) : [])),
    ...adapted.map(trainAdapter),
    matmul(),
    ...main.map(grpo),
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
    seconds: 3 * portion(model),
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
    seconds: 12 * portion(model),
    agreement: sameNumbers("PyTorch, fused"),
    rows: (results, limits) => [
      faster(work, model, results, OURS, ADAMW_LABELS, x(1.15)),
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
    seconds: 9 * portion(model),
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
    seconds: portion(model),
    agreement: sameNumbers("PyTorch, fused"),
    rows: (results, limits) => [
      faster(work, model, results, OURS, ADAMW_LABELS, x(0.6)),
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
    seconds: (batch === 1 ? 3 : batch === 16 ? 9 : 19) * portion(model),
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
            ...byteShare(work, model, results, bytes, "read", limits, percent(0.85)),
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

/** Against what is there for sampling alone in JavaScript, on the same weights. */
function sampleAlone(model: BenchModel, batch: number): Case {
  const command = { run: "sample", ids: randomIds(model.config.vocabSize, batch, PROMPT), tokens: NEW_TOKENS };
  const work = `sample alone ${batch} x (${PROMPT} + ${NEW_TOKENS})`;
  const int8 = `${OURS}, int8`;
  const [js, jsInt8] = ["transformers.js, fp32", "transformers.js, q8"];
  const [llama, llamaInt8] = ["node-llama-cpp, F32", "node-llama-cpp, Q8_0"];
  const rows = Math.min(batch, 4);
  return {
    name: work,
    model,
    seconds: (batch === 1 ? 9 : 25) * portion(model),
    entrants: [
      { label: OURS, side: "valuehead", command },
      { label: js, side: "transformers.js", command: { ...command, dtype: "fp32" } },
      { label: llama, side: "llama", command: { ...command, type: "F32" } },
      { label: int8, side: "valuehead", command: { ...command, precision: "int8" } },
      { label: jsInt8, side: "transformers.js", command: { ...command, dtype: "q8" } },
      { label: llamaInt8, side: "llama", command: { ...command, type: "Q8_0" } },
    ],
    /** Ours of what we drew against transformers.js', llama.cpp's of what it drew against ours. */
    async agreement(ask, warm) {
      const [found, expected]: number[][] = [[], []];
      if (warm.has(js)) {
        const { sequences, logprobs } = await ask("valuehead", { ...command, check: rows });
        const theirs = { run: "forward", ids: sequences, keep: NEW_TOKENS, dtype: "fp32" };
        found.push(...(logprobs as number[]));
        expected.push(...(await ask("transformers.js", theirs)).numbers);
      }
      if (warm.has(llama)) {
        const { sequences, logprobs } = await ask("llama", { ...command, type: "F32", check: rows });
        const ours = { run: "forward", ids: sequences, keep: NEW_TOKENS };
        found.push(...(await ask("valuehead", ours)).numbers);
        expected.push(...(logprobs as number[]));
      }
      return found.length > 0 ? { found, expected } : undefined;
    },
    rows: (results) => [
      ...[js, llama].map((peer) => faster(work, model, results, OURS, [peer])),
      ...[jsInt8, llamaInt8].map((peer) => faster(`${work}, int8`, model, results, int8, [peer])),
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
    long: true,
    seconds: (sizes === INSTRUCT ? 63 : model.adapter ? 120 : 155) * portion(model),
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
      faster(work, model, results, OURS, [peer], x(model.adapter ? 2.2 : 1.7)),
      smaller(work, model, results, peer, model.adapter ? undefined : { atMost: 0.7, unit: "x" }),
      ...(flops === undefined ? [] : flopShare(work, model, results, flops, limits)),
    ],
  };
}

function grpo(model: BenchModel): Case {
  const { prompts, generations, prompt, tokens } = GRPO;
  const queries: number[][] = [];
  const peer = "TRL 1.16.0";
  const work = `GRPO step, ${prompts} x ${generations} x (${prompt} + ${tokens})`;
  return {
    name: "grpo",
    model,
    entrants: [
      { label: OURS, side: "valuehead", command: { run: "grpo", ...GRPO } },
      { label: peer, side: "grpo", command: { run: "grpo", ...GRPO, queries } },
    ],
    long: true,
    seconds: 130 * portion(model),
    async prepare(ask) {
      const asked = { run: "prompts", count: prompts, length: prompt };
      queries.push(...((await ask("valuehead", asked)).queries as number[][]));
    },
    /** TRL's first step against ours on TRL's responses, from the first weights. */
    async agreement(ask, warm) {
      const other = warm.get(peer);
      if (!other) return undefined;
      const { responses, numbers: expected } = other;
      const ours = await ask("valuehead", { run: "grpoNumbers", ...GRPO, queries, responses });
      return { found: ours.numbers, expected };
    },
    rows: (results) => [faster(work, model, results, OURS, [peer], x(2)), smaller(work, model, results, peer)],
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
    seconds: 1,
    agreement: sameNumbers("jax-js, wasm"),
    rows: (results, limits) => [
      faster(`matrix product ${M} x ${K} x ${N}`, undefined, results, OURS, ["jax-js, wasm"]),
      ...flopShare(`matrix product ${M} x ${K} x ${N}`, undefined, results, 2 * M * K * N, limits),
    ],
  };
}

/** The warm-up's numbers of ours and of a peer: log-probabilities, a loss, parameters after a step. */
export function sameNumbers(peer: string, own = OURS): Case["agreement"] {
  return async (_, warm) => {
    const [ours, theirs] = [warm.get(own), warm.get(peer)];
    return ours && theirs && { found: ours.numbers, expected: theirs.numbers };
  };
}

export function randomIds(vocabSize: number, rows: number, length: number): number[][] {
  const rng = new RNG(rows, length);
  return Array.from({ length: rows }, () => Array.from({ length }, () => Math.floor(rng.uniform() * vocabSize)));
}
