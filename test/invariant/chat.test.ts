/** @file A run on conversations: what ends a response, what the reward is shown, what is written down, and what a resumed run notices. */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import type { PPOConfig } from "../../src/algorithms/options/ppo-options.ts";
import { PPOTrainer } from "../../src/algorithms/ppo.ts";
import type { RewardFunction, RewardSample } from "../../src/experience/reward-functions.ts";
import { loadModel } from "../../src/families/index.ts";
import type { RunEvent } from "../../src/run/events.ts";
import { rewardProcess } from "../../src/run/reward-process.ts";
import { run } from "../../src/run/run.ts";
import type { RunSpec } from "../../src/run/spec.ts";
import type { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { differences } from "../../tools/small-run.ts";
import { ENDS, writeChatModel } from "../support/chat.ts";
import { buildCli } from "../support/cli.ts";

const directory = mkdtempSync(join(tmpdir(), "valuehead-chat-run-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
const at = (...names: string[]) => join(directory, ...names);

let tokenizer: Tokenizer;
const idOf = (token: string) => tokenizer.encode(token, { addSpecialTokens: false })[0];

beforeAll(async () => {
  await writeChatModel(at("dated"), "llama3.2");
  tokenizer = await writeChatModel(at("model"), "smollm2");
});

const QUESTION = { role: "user", content: "What is the capital of France?" };
const SAID = [{ role: "user", content: "Hi" }, { role: "assistant", content: "Hello." }, QUESTION];
const config: Partial<PPOConfig> = {
  ...{ steps: 2, batchSize: 4, miniBatchSize: 4, ppoEpochs: 1, maxNewTokens: 6, saveEvery: 1, keepCheckpoints: 5 },
  ...{ learningRate: 1e-3, seed: 3 },
};
const spec = (out: string, rest: Partial<RunSpec> = {}): RunSpec => ({
  model: at("model"),
  prompts: [{ messages: SAID, row: { answer: "Paris" } }, { messages: [QUESTION] }],
  ...{ out: at(out), rewardName: "length", threads: 1, ...rest },
  config: { ...config, ...rest.config },
});
const reward: RewardFunction = (batch) => batch.map(({ response, messages = [] }) => response.length + messages.length);
async function events(given: RunSpec, asked = reward): Promise<RunEvent[]> {
  const all: RunEvent[] = [];
  for await (const event of run(given, asked)) all.push(event);
  return all;
}
const notes = (all: RunEvent[]) => all.flatMap((event) => (event.type === "loaded" ? event.notes : []));

test("a response ends at either of two ends, which is its last token and learned from", async () => {
  const seen: RewardSample[] = [];
  const steps = { ...config, steps: 1, batchSize: 64, miniBatchSize: 64, maxNewTokens: 90, rolloutBatchSize: 64 };
  const all = await events(spec("ends", { config: { ...steps, logSamples: 64 } }), (batch) => {
    seen.push(...batch);
    return batch.map(() => 1 / (1 + batch.length));
  });
  const ends = ENDS.map(idOf);
  const last = seen.map(({ tokens }) => tokens.at(-1) as number);
  for (const id of ends) expect(last).toContain(id);
  for (const { tokens } of seen) {
    expect(tokens.slice(0, -1).some((id) => ends.includes(id))).toBe(false);
    expect(ends.includes(tokens.at(-1) as number) || tokens.length === 90).toBe(true);
  }
  expect(seen.filter(({ tokens }) => tokens.length === 90).length).toBeLessThan(64);
  const step = all.find((event) => event.type === "step");
  expect(step?.samples.map(({ tokens }) => tokens)).toEqual(seen.map(({ tokens }) => tokens));
  expect(notes(all).filter((note) => note.includes("ends an answer"))).toEqual([]);
});

test("the reward gets messages and response; both are in the logs, with the row", async () => {
  const seen: RewardSample[] = [];
  await events(spec("whole", { config: { system: "Be brief." } }), (batch) => {
    seen.push(...structuredClone(batch));
    const scores = reward(batch);
    for (const sample of batch) sample.messages?.splice(0); // its own affair
    return scores;
  });
  const system = { role: "system", content: "Be brief." };
  const first = seen.find(({ row }) => row.answer === "Paris") as RewardSample;
  expect(first.messages).toEqual([system, ...SAID]);
  expect(first.prompt).toBe(QUESTION.content);
  const { text, ids } = tokenizer.applyChatTemplate([system, ...SAID], { addGenerationPrompt: true });
  expect(first.promptTokens).toEqual(Array.from(ids));
  expect(first.textWithSpecialTokens).toBe(text + first.responseWithSpecialTokens);
  const lines = readFileSync(at("whole", "samples.jsonl"), "utf8").trim().split("\n");
  const samples = lines.map((line) => JSON.parse(line));
  for (const { messages, prompt } of samples) expect([messages[0], prompt]).toEqual([system, QUESTION.content]);
  expect(JSON.parse(readFileSync(at("whole", "config.json"), "utf8")).options.system).toBe("Be brief.");
});

test("a resumed run is the same to the bit; another system message, wrapping or variable is noticed", async () => {
  const said = { config: { system: "Be brief." } };
  const first = { ...spec("cut", said), config: { ...config, ...said.config, steps: 1 } };
  await events(first);
  const resumed = (change: Partial<PPOConfig>) =>
    events({ ...spec("cut", said), config: { ...config, ...said.config, ...change }, resume: true });
  await expect(resumed({ system: "Be long." })).rejects.toThrow("found system Be long. (was Be brief.)");
  await expect(resumed({ chat: true })).rejects.toThrow("found chat true (was false)");
  await expect(resumed({ chatArgs: { x: 1 } })).rejects.toThrow('found chatArgs {"x":1} (was none)');
  const other = { ...spec("cut", said), prompts: [{ messages: SAID }, { messages: [QUESTION] }], resume: true };
  await expect(events(other)).rejects.toThrow("found 2 prompts that are not those of the run");
  const words = { ...spec("cut", said), prompts: [{ messages: SAID, row: { answer: "Paris" } }, QUESTION.content] };
  await expect(events({ ...words, resume: true })).rejects.toThrow("found 2 prompts that are not those of the run");
  await resumed({});
  expect(differences(at("whole"), at("cut"))).toEqual([]);
});

test("GRPO answers conversations too, and the evaluation's are written down", async () => {
  const evaluation = { prompts: [{ messages: SAID, row: { id: 7 } }, "Plain?"] };
  const { ppoEpochs: _, ...shared } = config;
  const options = { ...shared, numGenerations: 2, steps: 1, system: "Be brief." };
  const given = { ...spec("group"), algorithm: "grpo", config: options, evaluation } as unknown as RunSpec;
  const seen: RewardSample[] = [];
  await events(given, (batch) => {
    seen.push(...batch);
    return reward(batch);
  });
  const system = { role: "system", content: "Be brief." };
  for (const { messages } of seen) expect(messages?.[0]).toEqual(system);
  const { before, after } = JSON.parse(readFileSync(at("group", "evaluation.json"), "utf8"));
  for (const { samples } of [before, after])
    expect(samples.map((s: RewardSample) => [s.messages, s.prompt])).toEqual([
      [[system, ...SAID], QUESTION.content],
      [[system, { role: "user", content: "Plain?" }], "Plain?"],
    ]);
});

test("a date that the template asks for stays when the run is resumed on another day", async () => {
  vi.useFakeTimers({ toFake: ["Date"], now: new Date(2026, 2, 7, 9) });
  try {
    const day: string[] = [];
    const asked: RewardFunction = (batch) => {
      day.push(...batch.map(({ text }) => /Today Date: (.*)/.exec(text)?.[1] ?? ""));
      return reward(batch);
    };
    const given = spec("dated-run", { model: at("dated"), config: { steps: 1 } });
    const all = await events(given, asked);
    expect(notes(all)).toContain(
      "the chat template asks for the date: it is told 2026-03-07, also when the run is resumed",
    );
    vi.setSystemTime(new Date(2027, 0, 1));
    await events({ ...given, config: { ...config, steps: 2 }, resume: true }, asked);
    expect(new Set(day)).toEqual(new Set(["07 Mar 2026"]));
    expect(day).toHaveLength(8);
  } finally {
    vi.useRealTimers();
  }
});

test("an end of turn that ends no response is told", async () => {
  cpSync(at("model"), at("endless"), { recursive: true });
  writeFileSync(at("endless", "generation_config.json"), JSON.stringify({ eos_token_id: idOf("<|endoftext|>") }));
  const told = notes(await events(spec("endless-run", { model: at("endless"), config: { steps: 1 } })));
  const id = idOf("<|im_end|>");
  expect(told).toContain(
    `the chat template ends an answer with "<|im_end|>" (${id}), which ends no response here, so responses go on past it: ` +
      `add ${id} to eos_token_id in the model's generation_config.json`,
  );
});

test("a trainer takes conversations, and a reward in a process of its own gets them", async () => {
  buildCli();
  const path = at("reward.mjs");
  writeFileSync(path, "export default (batch) => batch.map(({ messages }) => messages.at(-1).content.length);");
  const judge = await rewardProcess(path);
  const model = await loadModel(at("model"), { threads: 1 });
  const trainer = new PPOTrainer({ model, tokenizer, reward: judge, config: { ...config, steps: 1, chat: true } });
  const scores: number[] = [];
  for await (const event of trainer.train(["Hi", { messages: [QUESTION] }]))
    if (event.type === "step") scores.push(...event.samples.map(({ score }) => score));
  await judge.close();
  model.dispose();
  expect(scores.toSorted((a, b) => a - b)).toEqual([2, 2, 30, 30]);
});
