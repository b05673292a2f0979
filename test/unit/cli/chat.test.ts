/** @file Conversations on the command line: generate, score, train, --resume, info, and what is said of those that are wrong. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import type { Tokenizer } from "../../../src/tokenizer/tokenizer.ts";
import { writeChatModel } from "../../support/chat.ts";
import {
  buildCli,
  expectProblem,
  jsonLines,
  runPrinted,
  temporaryDirectory,
  valuehead,
  writeModel,
} from "../../support/cli.ts";

const cwd = temporaryDirectory();
const at = (...parts: string[]) => join(cwd, ...parts);
let tokenizer: Tokenizer;
const QUESTION = { role: "user", content: "Where is Paris?" };
const SYSTEM = { role: "system", content: "Be brief." };
beforeAll(async () => {
  buildCli();
  tokenizer = await writeChatModel(at("m"), "smollm2");
  await writeChatModel(at("gemma"), "gemma");
  await writeModel(at("plain"));
  const rows = [{ messages: [QUESTION] }, { messages: [SYSTEM, QUESTION, { role: "assistant", content: "France." }] }];
  writeFileSync(at("chat.jsonl"), rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
  writeFileSync(at("plain.txt"), "Hello\nWhere is Paris?\n");
});
const generate = (...args: string[]) => valuehead(cwd, "generate", "--model", "m", "--max-new-tokens", "4", ...args);

test("generate answers a message, and shows it above the answer", () => {
  const { status, stdout, stderr } = generate("--chat", "--prompt", "Where is Paris?");
  expect([status, stderr]).toEqual([0, ""]);
  expect(stdout).toMatch(/^Where is Paris\?\n\n./);
  const [json] = jsonLines(generate("--system", "Be brief.", "--prompt", "Where is Paris?", "--json").stdout);
  expect(json.messages).toEqual([SYSTEM, QUESTION]);
  expect(json.prompt).toBe("Where is Paris?");
  const many = generate("--prompts", "chat.jsonl");
  expect(many.stdout).toMatch(/^--- 1 of 2\nWhere is Paris\?\n\n/);
  expect(many.stderr).toContain(
    "1 of 2 conversations end with the assistant's answer, which is left out of the prompt",
  );
});

test("score scores what the template writes", () => {
  const [json] = jsonLines(valuehead(cwd, "score", "--model", "m", "--chat", "--text", "Hi", "--json").stdout);
  const { ids } = tokenizer.applyChatTemplate([{ role: "user", content: "Hi" }], { addGenerationPrompt: true });
  expect(json.tokens.map(({ id }: { id: number }) => id)).toEqual(Array.from(ids));
});

test("train, what it suggests then, and a resumed run that keeps its system message", () => {
  const run = ["train", "--model", "m", "--prompts", "chat.jsonl", "--reward", "length", "--out", "run"];
  const small = ["--batch-size", "4", "--mini-batch-size", "4", "--max-new-tokens", "4"];
  const said = ["--system", "You're brief."];
  const { status, stdout, stderr } = valuehead(cwd, ...run, ...small, ...said, "--steps", "1");
  expect(status, stderr).toBe(0);
  expect(stderr.replace(/\s+/g, " ")).toContain(
    "1 of 2 conversations have a system message of their own, which they keep",
  );
  const printed = runPrinted(cwd, stdout);
  expect(
    printed.map(({ line }) => line.includes(`--system "You're brief."`) || line.includes("--system 'You'")),
  ).toEqual([true, true]);
  for (const { status, line } of printed) expect(status, line).toBe(0);
  expectProblem(
    valuehead(cwd, "train", "--resume", "run", "--system", "Be long.").stderr,
    "run",
    "system Be long. (was",
  );
  const resumed = valuehead(cwd, "train", "--resume", "run", "--steps", "2");
  expect(resumed.status, resumed.stderr).toBe(0);
  const samples = jsonLines(readFileSync(at("run", "samples.jsonl"), "utf8"));
  const systems = new Set(samples.map(({ messages }) => messages[0].content));
  expect(systems).toEqual(new Set(["You're brief.", "Be brief."]));
  expect(samples.at(-1).step).toBe(2);
});

test("a config file has them too, and plain prompts can be wrapped", () => {
  const options = { chat: true, chatArgs: { x: [1] }, batchSize: 4, miniBatchSize: 4, maxNewTokens: 4, steps: 1 };
  const spec = { model: "m", prompts: "plain.txt", reward: "length", out: "wrapped", ...options };
  writeFileSync(at("c.json"), JSON.stringify(spec));
  const { status, stderr } = valuehead(cwd, "train", "--config", "c.json");
  expect(status, stderr).toBe(0);
  const config = JSON.parse(readFileSync(at("wrapped", "config.json"), "utf8"));
  expect([config.options.chat, config.options.chatArgs]).toEqual([true, { x: [1] }]);
  const [sample] = jsonLines(readFileSync(at("wrapped", "samples.jsonl"), "utf8"));
  expect(sample.messages).toEqual([{ role: "user", content: sample.prompt }]);
});

test("info names the templates", () => {
  expect(jsonLines(valuehead(cwd, "info", "--model", "m", "--json").stdout)[0].tokenizer.chatTemplates).toEqual([
    "default",
  ]);
  expect(valuehead(cwd, "info", "--model", "plain").stdout).toMatch(/chatTemplates +\[\]/);
});

test("what is wrong is said in four lines", () => {
  expectProblem(generate("--chat-args", "{x}", "--prompt", "a").stderr, "--chat-args", '"{x}"');
  expectProblem(
    generate("--chat", "--chat-args", '{"messages": []}', "--prompt", "a").stderr,
    "args, messages",
    "a variable",
  );
  const plain = valuehead(cwd, "generate", "--model", "plain", "--chat", "--prompt", "a");
  expectProblem(plain.stderr, "tokenizer.json", "a model without a chat template");
  expect(plain.status).toBe(1);
  const gemma = valuehead(cwd, "generate", "--model", "gemma", "--system", "Be brief.", "--prompt", "a");
  expectProblem(gemma.stderr, "prompt 1", "roles (system, user) that the model's chat template refuses");
  expect(gemma.stderr.replace(/\s+/g, " ")).toContain('"System role not supported"');
  writeFileSync(at("bad.jsonl"), `${JSON.stringify({ messages: [QUESTION, QUESTION] })}\n`);
  const line = valuehead(cwd, "generate", "--model", "gemma", "--prompts", "bad.jsonl");
  expectProblem(line.stderr, "bad.jsonl, line 1, column messages", "roles (user, user)");
  const long = generate("--chat", "--prompt", "a", "--max-new-tokens", "250");
  expectProblem(long.stderr, "prompt 1", "55 tokens, 54 of them the chat template's own");
  const cut = ["train", "--model", "m", "--prompts", "chat.jsonl", "--reward", "length", "--out", "x"];
  const lengths = ["--prompt-max-tokens", "9", "--prompt-min-tokens", "2"];
  expectProblem(valuehead(cwd, ...cut, ...lengths).stderr, "--prompt-max-tokens", "a conversation (chat.jsonl, line 1");
});
