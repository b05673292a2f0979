/**
 * @file Damaged files to every loader: each case ends well or with a typed error, in time, without much memory.
 * `npm run fuzz` tries 100,000 cases; `npm run fuzz -- 5000 7` 5,000 with seed 7.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { isMainThread, Worker, workerData } from "node:worker_threads";
import { ppoConfig } from "../src/algorithms/options/config.ts";
import { PPO_DEFAULTS } from "../src/algorithms/options/ppo-options.ts";
import { sftConfig } from "../src/algorithms/options/sft-options.ts";
import { ValueheadError } from "../src/base/errors.ts";
import { RNG } from "../src/base/rng.ts";
import { openSafetensors, writeSafetensors } from "../src/checkpoint/safetensors.ts";
import { openWeights } from "../src/checkpoint/weights.ts";
import { readCorpus } from "../src/data/corpus.ts";
import { encodePrompts } from "../src/data/encode.ts";
import { readPrompts } from "../src/data/prompts.ts";
import { gpt2, makeConfig, parseConfig } from "../src/families/gpt2.ts";
import { GPT2HeadWithValueModel } from "../src/families/index.ts";
import { readJson } from "../src/platform/files.ts";
import { readRunConfig } from "../src/run/spec.ts";
import { loadTokenizer } from "../src/tokenizer/load.ts";
import { damageBytes, damageJson, jsonText } from "./damage.ts";
import { memorySource } from "./memory-source.ts";

/** A case may not take longer, in milliseconds, nor allocate more, in bytes. The files have less than 100 kB. */
const SLOW = 3000;
const LARGE = 64e6;

export interface Failure {
  target: string;
  case: number;
  what: string;
}

export interface FuzzReport {
  cases: number;
  /** By target: cases that were accepted, and refused with a typed error. */
  targets: Record<string, { accepted: number; refused: number }>;
  failures: Failure[];
  slowest: { target: string; milliseconds: number };
}

type Target = (rng: RNG) => Promise<unknown>;

async function safetensors(entries: Parameters<typeof writeSafetensors>[1]): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  await writeSafetensors({ write: async (bytes) => void parts.push(bytes.slice()) }, entries, { note: "x" });
  return new Uint8Array(Buffer.concat(parts));
}

/** The file with its header taken apart, damaged as JSON and put together again, or damaged as bytes. */
function damagedSafetensors(rng: RNG, file: Uint8Array): Uint8Array {
  if (rng.int(2) === 0) return damageBytes(rng, file);
  const length = new DataView(file.buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(file.subarray(8, 8 + length)));
  const json = new TextEncoder().encode(jsonText(rng, damageJson(rng, header)));
  const bytes = new Uint8Array(8 + json.length + file.length - 8 - length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
  bytes.set(json, 8);
  bytes.set(file.subarray(8 + length), 8 + json.length);
  return bytes;
}

/** Every loader with a good file to start from. `directory` is for files. */
async function makeTargets(directory: string): Promise<Record<string, Target>> {
  const at = (...names: string[]) => join(directory, ...names);
  for (const name of ["model", "index", "tokenizer", "run", "chat"]) mkdirSync(at(name), { recursive: true });
  const shape = { vocabSize: 5, nEmbd: 4, nLayer: 1, nHead: 2, nPositions: 6, bosTokenId: 4, eosTokenId: 4 };
  const config = makeConfig(shape);
  const model = GPT2HeadWithValueModel.fromConfig(config, { threads: 1 });
  const json = gpt2.writeConfig(config);
  const data = new Float32Array(6);
  const mixed = await safetensors([
    { name: "a", shape: [2, 3], dtype: "F32", data },
    { name: "b", shape: [6], dtype: "F16", data },
    { name: "c", shape: [1, 6, 1], dtype: "I32", data: new Int32Array(6) },
    { name: "d", shape: [], dtype: "F64", data: new Float64Array(1) },
    { name: "e", shape: [0, 4], dtype: "F32", data: new Float32Array(0) },
  ]);
  const { table } = model.parameters;
  const weights = await safetensors(
    table.map(({ name, shape }) => ({ name, shape, dtype: "F32" as const, data: model.parameters.view(name) })),
  );
  model.dispose();
  const shard = Object.fromEntries(table.map(({ name }) => [name, "a.safetensors"]));
  writeFileSync(at("index", "a.safetensors"), weights);
  const run = { version: "0.1.0", model: "tiny", reward: "length", prompts: 3, options: PPO_DEFAULTS };
  const vocab = { T: 0, h: 1, i: 2, Th: 3, "\u0120": 4 };
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: true };
  const tokenizer = {
    added_tokens: [
      {
        id: 5,
        content: "<|endoftext|>",
        special: true,
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
      },
    ],
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: null,
    decoder: byteLevel,
    model: { type: "BPE", vocab, merges: [["T", "h"]] },
  };
  const tokenizerConfig = { eos_token: "<|endoftext|>", pad_token: { content: "<|endoftext|>" }, model_max_length: 6 };
  const lines = ['{"prompt": "This movie"}', '"A string"', '{"text": "Two", "n": [1, {"a": null}]}', ""].join("\n");

  const template =
    "{{- bos_token }}{%- set ns = namespace(n=0) %}{% for m in messages %}\n" +
    "{%- if m['role'] == 'system' and not loop.first %}{{ raise_exception('late') }}{% endif -%}\n" +
    "<|{{ m.role | upper }}|>{{ m.content | trim }}{{ eos_token }}{% set ns.n = ns.n + 1 %}{% endfor %}{{ range(2) | join }}" +
    "{% if add_generation_prompt %}<|A|>{{ messages[-1].content.split(' ')[0] }}{% endif %}";
  const chats = [
    '{"messages": [{"role": "system", "content": "Hi"}, {"role": "user", "content": "Th i"}]}',
    '{"prompt": [{"role": "user", "content": [{"type": "text", "text": "T"}], "name": null}, {"role": "assistant", "content": "i"}]}',
  ];
  writeFileSync(at("chat", "tokenizer.json"), JSON.stringify(tokenizer));

  const corpusLines = '{"text": "Some words", "n": [1, {"a": null}]}';

  return {
    safetensors: async (rng) => {
      const file = await openSafetensors(memorySource("f.safetensors", damagedSafetensors(rng, mixed)));
      for (const [name, { shape }] of file.tensors) {
        await file.readFloat64(name).catch(typed);
        await file.readInt32(name).catch(typed);
        await file.readFloat32Into(name, new Float32Array(shape.reduce((a, b) => a * b, 1))).catch(typed);
      }
    },
    model: async (rng) => {
      const which = rng.int(3);
      writeFileSync(
        at("model", "config.json"),
        which === 0 ? JSON.stringify(json) : jsonText(rng, damageJson(rng, json)),
      );
      writeFileSync(at("model", "model.safetensors"), which === 1 ? weights : damagedSafetensors(rng, weights));
      (await GPT2HeadWithValueModel.fromPretrained(at("model"), { threads: 1 })).dispose();
    },
    config: async (rng) => {
      writeFileSync(at("config.json"), jsonText(rng, damageJson(rng, json)));
      parseConfig(await readJson(at("config.json")), "config.json");
    },
    index: async (rng) => {
      const text = jsonText(rng, damageJson(rng, { metadata: { total_size: 1 }, weight_map: shard }));
      writeFileSync(at("index", "model.safetensors.index.json"), text);
      await (await openWeights(at("index"))).close();
    },
    "run config": async (rng) => {
      writeFileSync(at("run", "config.json"), jsonText(rng, damageJson(rng, run)));
      ppoConfig((await readRunConfig(at("run")))?.options);
    },
    options: async (rng) => {
      writeFileSync(
        at("options.json"),
        jsonText(rng, damageJson(rng, rng.int(2) ? PPO_DEFAULTS : { steps: 3, seed: 1 })),
      );
      const options = (await readJson(at("options.json"))) as Record<string, unknown>;
      const object = typeof options === "object" && options !== null && !Array.isArray(options);
      if (object) (rng.int(2) ? ppoConfig : sftConfig)(options);
    },
    prompts: async (rng) => {
      const objects = lines.split("\n").slice(0, 3);
      const which = rng.int(3);
      objects[which] = jsonText(rng, damageJson(rng, JSON.parse(objects[which])));
      const bytes = rng.int(2)
        ? new TextEncoder().encode(objects.join("\n"))
        : damageBytes(rng, new TextEncoder().encode(lines));
      writeFileSync(at("prompts.jsonl"), bytes);
      await readPrompts(at("prompts.jsonl"), { column: rng.int(4) ? undefined : "n" });
    },
    chat: async (rng) => {
      const which = rng.int(3);
      const bytes = new TextEncoder().encode(template);
      const said = which === 0 ? jsonText(rng, damageJson(rng, template)) : JSON.stringify(template);
      const [file, text] = rng.int(2)
        ? ["tokenizer_config.json", `{"chat_template": ${said}}`]
        : ["chat_template.jinja", which === 0 ? damageBytes(rng, bytes) : bytes];
      rmSync(at("chat", "chat_template.jinja"), { force: true });
      writeFileSync(at("chat", file), text);
      const damaged = chats.map((line) => (which === 1 ? jsonText(rng, damageJson(rng, JSON.parse(line))) : line));
      writeFileSync(at("chat.jsonl"), damaged.join("\n"));
      const prompts = await readPrompts(at("chat.jsonl"));
      encodePrompts(prompts, await loadTokenizer(at("chat")), { context: 400 }, { maxNewTokens: 4, chat: true });
    },
    corpus: async (rng) => {
      const bytes = new TextEncoder().encode(corpusLines);
      writeFileSync(
        at("corpus.jsonl"),
        rng.int(2) ? damageBytes(rng, bytes) : jsonText(rng, damageJson(rng, JSON.parse(corpusLines))),
      );
      for await (const _ of readCorpus([at("corpus.jsonl")], { column: rng.int(4) ? undefined : "constructor" }));
    },
    tokenizer: async (rng) => {
      const which = rng.int(3);
      writeFileSync(
        at("tokenizer", "tokenizer.json"),
        which === 0 ? JSON.stringify(tokenizer) : jsonText(rng, damageJson(rng, tokenizer)),
      );
      writeFileSync(
        at("tokenizer", "tokenizer_config.json"),
        which === 1 ? JSON.stringify(tokenizerConfig) : jsonText(rng, damageJson(rng, tokenizerConfig)),
      );
      const loaded = await loadTokenizer(at("tokenizer"));
      loaded.decode(loaded.encode("Thi <|endoftext|>T"));
    },
  };
}

function typed(error: unknown): void {
  if (!(error instanceof ValueheadError)) throw error;
}

/** `cases` cases spread over the targets; `onCase` is told before each. Case n of a seed is always the same. */
export async function fuzz(
  cases: number,
  seed: number,
  onCase: (n: number, target: string) => void = () => {},
): Promise<FuzzReport> {
  const directory = mkdtempSync(join(tmpdir(), "valuehead-fuzz-"));
  const report: FuzzReport = { cases, targets: {}, failures: [], slowest: { target: "", milliseconds: 0 } };
  try {
    const targets = Object.entries(await makeTargets(directory));
    for (const [name] of targets) report.targets[name] = { accepted: 0, refused: 0 };
    for (let n = 0; n < cases; n++) {
      const [name, target] = targets[n % targets.length];
      onCase(n, name);
      const fails = (what: string) => report.failures.push({ target: name, case: n, what });
      const started = performance.now();
      const before = process.memoryUsage().arrayBuffers;
      try {
        await target(new RNG(seed, n));
        report.targets[name].accepted++;
      } catch (error) {
        if (error instanceof ValueheadError) report.targets[name].refused++;
        else fails(error instanceof Error ? `${error.stack}` : String(error));
      }
      const bytes = process.memoryUsage().arrayBuffers - before;
      const milliseconds = performance.now() - started;
      if (bytes > LARGE) fails(`${bytes} bytes allocated`);
      if (milliseconds > SLOW) fails(`${milliseconds.toFixed(0)} ms`);
      if (milliseconds > report.slowest.milliseconds) report.slowest = { target: name, milliseconds };
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
  return report;
}

/** In a worker, so that a hang is seen too: the main thread looks at the case number. */
if (workerData?.fuzz) {
  const { cases, seed, progress } = workerData.fuzz;
  const report = await fuzz(cases, seed, (n) => Atomics.store(progress, 0, n));
  for (const { target, case: n, what } of report.failures.slice(0, 20)) console.log(`${target}, case ${n}: ${what}`);
  console.log(JSON.stringify({ ...report, failures: report.failures.length }));
  if (report.failures.length > 0) process.exitCode = 1;
} else if (isMainThread && /fuzz\.[jt]s$/.test(process.argv[1] ?? "")) {
  const [cases = 100_000, seed = 1] = process.argv.slice(2).map(Number);
  const progress = new Int32Array(new SharedArrayBuffer(4));
  const resourceLimits = { maxOldGenerationSizeMb: 512 };
  const worker = new Worker(new URL(import.meta.url), {
    workerData: { fuzz: { cases, seed, progress } },
    resourceLimits,
  });
  let last = -1;
  const watch = setInterval(() => {
    const now = Atomics.load(progress, 0);
    if (now === last) {
      console.log(`case ${now} of seed ${seed} hangs`);
      process.exit(1);
    }
    if (Math.floor(now / 10_000) > Math.floor(last / 10_000)) console.log(`${now} cases`);
    last = now;
  }, 10_000);
  worker.on("exit", (code) => {
    clearInterval(watch);
    process.exitCode = code;
  });
}
