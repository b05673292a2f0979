/** @file Weights that no machine has the memory for: a sparse file that claims them takes no room on the disk. */
import { closeSync, copyFileSync, mkdirSync, openSync, truncateSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { gpt2, makeConfig } from "../../../src/families/gpt2.ts";
import { GPT2HeadWithValueModel } from "../../../src/families/index.ts";
import { pretrainingMemory, samplingMemory } from "../../../src/model/memory.ts";
import { parameterTable } from "../../../src/model/parameters.ts";
import { checkPretraining, checkSampling } from "../../../src/run/memory.ts";
import {
  buildCli,
  expectProblem,
  jsonLines,
  root,
  temporaryDirectory,
  valuehead,
  writePrompts,
} from "../../support/cli.ts";
import { gpt2Of } from "../../support/gpt2.ts";

const cwd = temporaryDirectory();
const at = (...names: string[]) => join(cwd, ...names);
// 2 blocks of 12 C² and the embeddings: 0.9 TB.
const huge = makeConfig({
  vocabSize: 8192,
  nPositions: 48,
  nEmbd: 96_000,
  nLayer: 2,
  nHead: 16,
  eosTokenId: 8191,
  bosTokenId: 8191,
});

beforeAll(() => {
  buildCli();
  mkdirSync(at("huge"));
  for (const name of ["tokenizer.json", "tokenizer_config.json"])
    copyFileSync(join(root, "models", "tiny", name), at("huge", name));
  writeFileSync(at("huge", "config.json"), JSON.stringify(gpt2.writeConfig(huge)));
  const header = Object.fromEntries(
    parameterTable(gpt2Of(huge)).map(({ name, shape, start, end }) => [
      name,
      { dtype: "F32", shape, data_offsets: [4 * start, 4 * end] },
    ]),
  );
  const text = JSON.stringify(header);
  const bytes = new Uint8Array(8 + text.length);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(text.length), true);
  bytes.set(new TextEncoder().encode(text), 8);
  const file = openSync(at("huge", "model.safetensors"), "w");
  writeSync(file, bytes);
  closeSync(file);
  truncateSync(at("huge", "model.safetensors"), bytes.length + 4 * (parameterTable(gpt2Of(huge)).at(-1)?.end ?? 0));
  writePrompts(at("p.txt"));
  writeFileSync(at("text.txt"), "A text about a movie.\n\n".repeat(20));
});

test.each([
  ["generate", ["--model", "huge", "--prompt", "This"], "a model that takes about "],
  ["score", ["--model", "huge", "--text", "This"], "a model that takes about "],
  ["train", ["--model", "huge", "--prompts", "p.txt", "--reward", "length", "--out", "out"], "a run that takes about "],
  [
    "pretrain",
    ["--model", "huge", "--data", "text.txt", "--out", "out", "--batch-size", "1"],
    "a run that takes about ",
  ],
])("%s says so before it reads them", (command, args, found) => {
  const { status, stderr } = valuehead(cwd, command, ...args);
  expect(status).toBe(1);
  expectProblem(stderr, "memory", found);
  expect(stderr).toMatch(/weights \d+\.\d\d GB/);
  expect(stderr).toMatch(/expected {2}at most \d+(\.\d\d)? [MG]B, what this process may use now/);
  expect(stderr).toMatch(/fix {7}.*take a smaller model or another machine, or set --ignore-memory/);
});

test("info says so, and everything else it knows without them", () => {
  const { status, stdout, stderr } = valuehead(cwd, "info", "--model", "huge");
  expect(status, stderr).toBe(0);
  expect(stderr).toMatch(
    /note: the weights were not read: a model that takes about \d+\.\d\d GB does not fit in the \d+(\.\d\d)? [MG]B/,
  );
  for (const part of ["96000", "Parameters", "too little", "model.safetensors"]) expect(stdout).toContain(part);
  const [json] = jsonLines(valuehead(cwd, "info", "--model", "huge", "--json").stdout);
  expect(json.memory.fits).toBe(false);
  expect(json.notes[0]).toMatch(/^the weights were not read/);
});

test("where memory is not asked for, there is no room, and that is said", () => {
  expect(() => GPT2HeadWithValueModel.fromConfig(huge)).toThrow(
    /^memory: found \d+ parameters, 8\d\d\.\d GB, for which there is no room/,
  );
});

test("advice: what fits is told, with the number that makes it fit", () => {
  const model = gpt2Of();
  const sizes = { rows: 16, length: 1024 };
  const within = (bytes: number) => () => checkSampling(model, sizes, { available: bytes, resident: 0 });
  const [one, all] = [samplingMemory(model, { ...sizes, rows: 1 }).total, samplingMemory(model, sizes).total];
  expect(within(all)).not.toThrow();
  expect(within(all - 1)).toThrow(/Fix: ask for one response at a time/);
  expect(within(one - 1)).toThrow(/Fix: take a smaller model/);
  const training = { batchSize: 8, sequenceLength: 256 };
  const train = (bytes: number) => () => checkPretraining(model, training, { available: bytes, resident: 0 });
  const half = pretrainingMemory(model, { ...training, microBatchSize: 4 }).total;
  expect(train(pretrainingMemory(model, training).total)).not.toThrow();
  expect(train(half)).toThrow(/Fix: set microBatchSize to 4,/);
  expect(train(half - 1)).toThrow(/Fix: set microBatchSize to [12],/);
  expect(train(1e6)).toThrow(/Fix: take a smaller model/);
});
