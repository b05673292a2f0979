/**
 * @file The memory estimate against measured peaks, each in a process of its own: `npm run memory-table`, or with parts of names,
 * `npm run memory-table -- embedded LoRA`. VALUEHEAD_SMOLLM2 names a checkpoint of SmolLM2-135M, whose settings are left out otherwise.
 * Linux; the largest take about 3 GB. Rows for docs/memory.md come out; a difference above 15 % ends it with 1.
 */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { ppoConfig } from "../src/algorithms/options/config.ts";
import type { PPOConfig } from "../src/algorithms/options/ppo-options.ts";
import { type SFTConfig, sftConfig } from "../src/algorithms/options/sft-options.ts";
import { PPOTrainer } from "../src/algorithms/ppo.ts";
import { SFTTrainer } from "../src/algorithms/sft.ts";
import { tokenizeCorpus } from "../src/data/corpus.ts";
import { builtInRewards } from "../src/experience/reward-functions.ts";
import { makeConfig } from "../src/families/gpt2.ts";
import { loadModel, modelFromConfig } from "../src/families/index.ts";
import { makeLlamaConfig } from "../src/families/llama.ts";
import type { LoRAConfig } from "../src/model/adapter.ts";
import {
  bytesInWords,
  type MemoryEstimate,
  memoryParts,
  pretrainingMemory,
  samplingMemory,
} from "../src/model/memory.ts";
import type { CausalLMWithValueHead } from "../src/model/model.ts";
import { packagePath } from "../src/platform/files.ts";
import { runMemory } from "../src/run/memory.ts";
import { generate } from "../src/sample/generate.ts";
import { loadTokenizer } from "../src/tokenizer/load.ts";

const LIMIT = 0.15;
const smol = process.env.VALUEHEAD_SMOLLM2 ?? "";

const models: Readonly<Record<string, () => Promise<CausalLMWithValueHead>>> = {
  embedded: () => loadModel(packagePath("models", "tiny"), { threads: 1 }),
  "Qwen3, C 256, 8 layers": async () =>
    modelFromConfig(
      makeLlamaConfig({
        ...{ modelType: "qwen3", vocabSize: 8192, hiddenSize: 256, numHiddenLayers: 8, intermediateSize: 768 },
        ...{ numAttentionHeads: 8, numKeyValueHeads: 2, headDim: 32, maxPositionEmbeddings: 512 },
      }),
      { threads: 1 },
    ) as unknown as CausalLMWithValueHead,
  "GPT-2 124M": async () => modelFromConfig(makeConfig(), { threads: 1 }) as unknown as CausalLMWithValueHead,
  "SmolLM2-135M": () => loadModel(smol, { threads: 1 }),
};

interface Setting {
  model: keyof typeof models;
  name: string;
  lora?: Partial<LoRAConfig>;
  /** Tokens of each prompt, and the options of two PPO steps of one batch. */
  ppo?: { prompt: number; options: Partial<PPOConfig> };
  sft?: Partial<SFTConfig>;
  sample?: { rows: number; prompt: number; tokens: number; int8?: boolean };
}

/** Minibatches of B, prompts of P and responses of exactly N tokens. */
const ppo = (B: number, P: number, N: number, options: Partial<PPOConfig> = {}): Setting["ppo"] => ({
  prompt: P,
  options: { batchSize: B, miniBatchSize: B, rolloutBatchSize: B, maxNewTokens: N, minNewTokens: N, ...options },
});
const lora = { rank: 8, alpha: 16 };
const int8 = { rolloutPrecision: "int8" } as const;
const base = { basePrecision: "int8" } as const;
const recomputed = { gradientCheckpointing: true };

const settings: readonly Setting[] = [
  { model: "embedded", name: "minibatch 32, T 32", ppo: ppo(32, 8, 24) },
  { model: "embedded", name: "LoRA 8, minibatch 32, T 32", lora, ppo: ppo(32, 8, 24) },
  {
    model: "embedded",
    name: "LoRA 8, minibatch 32, T 32, gradient checkpointing",
    lora,
    ppo: ppo(32, 8, 24, recomputed),
  },
  { model: "embedded", name: "LoRA 8, minibatch 32, T 32, int8 rollouts", lora, ppo: ppo(32, 8, 24, int8) },
  { model: "embedded", name: "generate, 16 x (8 + 24)", sample: { rows: 16, prompt: 8, tokens: 24 } },
  { model: "embedded", name: "sft, LoRA 8, 8 x 128", lora, sft: { batchSize: 8, sequenceLength: 128 } },
  { model: "Qwen3, C 256, 8 layers", name: "minibatch 16, T 128", ppo: ppo(16, 64, 64) },
  {
    model: "Qwen3, C 256, 8 layers",
    name: "LoRA 16, minibatch 16, T 128",
    lora: { rank: 16, alpha: 32 },
    ppo: ppo(16, 64, 64),
  },
  {
    model: "Qwen3, C 256, 8 layers",
    name: "LoRA 16, minibatch 16, T 128, gradient checkpointing",
    lora: { rank: 16, alpha: 32 },
    ppo: ppo(16, 64, 64, recomputed),
  },
  { model: "GPT-2 124M", name: "minibatch 4, T 32", ppo: ppo(4, 8, 24) },
  { model: "GPT-2 124M", name: "LoRA 8, minibatch 4, T 32", lora, ppo: ppo(4, 8, 24) },
  { model: "GPT-2 124M", name: "LoRA 8, minibatch 16, T 64", lora, ppo: ppo(16, 24, 40) },
  { model: "GPT-2 124M", name: "LoRA 8, minibatch 16, T 64, int8 rollouts", lora, ppo: ppo(16, 24, 40, int8) },
  { model: "GPT-2 124M", name: "LoRA 8, minibatch 16, T 64, base in int8", lora, ppo: ppo(16, 24, 40, base) },
  { model: "SmolLM2-135M", name: "minibatch 4, T 64", ppo: ppo(4, 32, 32) },
  { model: "SmolLM2-135M", name: "LoRA 8, minibatch 4, T 64", lora, ppo: ppo(4, 32, 32) },
  { model: "SmolLM2-135M", name: "LoRA 8, minibatch 8, T 128", lora, ppo: ppo(8, 64, 64) },
  {
    model: "SmolLM2-135M",
    name: "LoRA 8, minibatch 8, T 128, gradient checkpointing",
    lora,
    ppo: ppo(8, 64, 64, recomputed),
  },
  { model: "SmolLM2-135M", name: "LoRA 8, minibatch 8, T 128, int8 rollouts", lora, ppo: ppo(8, 64, 64, int8) },
  { model: "SmolLM2-135M", name: "sft, LoRA 8, 4 x 128", lora, sft: { batchSize: 4, sequenceLength: 128 } },
  { model: "SmolLM2-135M", name: "generate, 16 x (32 + 32)", sample: { rows: 16, prompt: 32, tokens: 32 } },
  {
    model: "SmolLM2-135M",
    name: "generate, 16 x (32 + 32), int8",
    sample: { rows: 16, prompt: 32, tokens: 32, int8: true },
  },
];

/** Two steps of a setting in this process; the estimate of it, and the peak. */
async function measure({ model: name, lora: adapter, ppo, sft, sample }: Setting) {
  const model = await models[name]();
  if (adapter) model.addAdapter(adapter);
  const tokenizer = await loadTokenizer(name === "SmolLM2-135M" ? smol : packagePath("models", "tiny"));
  const text = readFileSync(packagePath("models", "tiny", "prompts.txt"), "utf8");
  const ids = tokenizer.encode(text.slice(0, 20_000));
  let estimate: MemoryEstimate;
  if (ppo) {
    const config = ppoConfig({ steps: 2, ppoEpochs: 1, audit: "off", ...ppo.options });
    const queries = Array.from({ length: config.batchSize }, (_, i) => ids.slice(i * ppo.prompt, (i + 1) * ppo.prompt));
    const trainer = new PPOTrainer({ model, tokenizer, reward: builtInRewards.length, config });
    estimate = runMemory(model, trainer.config, ppo.prompt);
    const prompts = {
      prompts: queries.map((q) => ({ prompt: tokenizer.decode(q), row: {} })),
      ids: queries,
      notes: [],
    };
    for await (const _ of trainer.train(prompts));
  } else if (sft) {
    const config = sftConfig({ steps: 2, ...sft });
    estimate = pretrainingMemory(model, { ...config, scored: [] });
    const trainer = new SFTTrainer({ model, tokenizer, config });
    for await (const _ of trainer.train({ train: await tokenizeCorpus([text.slice(0, 20_000)], tokenizer) }));
  } else {
    const { rows, prompt, tokens, int8 = false } = sample as Required<Setting>["sample"];
    estimate = samplingMemory(model, { rows, promptTokens: prompt, length: prompt + tokens, int8 });
    const queries = Array.from({ length: rows }, (_, i) => ids.slice(i * prompt, (i + 1) * prompt));
    await generate(model, queries, { maxNewTokens: tokens, eosTokenId: null, precision: int8 ? "int8" : "fp32" });
  }
  const peak = 1024 * Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1]);
  return { estimate, peak };
}

const wanted = process.argv.slice(2);
if (wanted[0] === "--one") console.log(JSON.stringify(await measure(settings[Number(wanted[1])])));
else {
  console.log("| | predicted | measured |\n|---|---|---|");
  settings.forEach((setting, i) => {
    const name = `${setting.model}, ${setting.name}`;
    if (!wanted.every((part) => name.includes(part)) || (setting.model === "SmolLM2-135M" && smol === "")) return;
    const { stdout, stderr } = spawnSync(process.execPath, [fileURLToPath(import.meta.url), "--one", String(i)], {
      encoding: "utf8",
    });
    if (!stdout) throw new Error(`${name}: ${stderr}`);
    const { estimate, peak } = JSON.parse(stdout) as Awaited<ReturnType<typeof measure>>;
    const off = estimate.total / peak - 1;
    console.log(`| ${name} | ${bytesInWords(estimate.total)} | ${bytesInWords(peak)} |`);
    console.error(`  ${(100 * off).toFixed(1)} %: ${memoryParts(estimate)}`);
    if (Math.abs(off) > LIMIT) process.exitCode = 1;
  });
}
