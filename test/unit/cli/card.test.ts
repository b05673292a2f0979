/** @file The model card of a run's checkpoint: what it says, and that its code runs. */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { format } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { modelCard } from "../../../src/ship/card.ts";
import { writeChatModel } from "../../support/chat.ts";
import { buildCli, runPrinted, temporaryDirectory, valuehead, writeModel, writePrompts } from "../../support/cli.ts";
import { transformersJS } from "../../support/transformers-js.ts";

const cwd = temporaryDirectory();
const before = process.cwd();
beforeAll(async () => {
  buildCli();
  await writeModel(join(cwd, "m"));
  writePrompts(join(cwd, "prompts.txt"), 4);
  writeFileSync(join(cwd, "kind.mjs"), "export default (batch) => batch.map(({ response }) => response.length);\n");
  const sizes = ["--steps", "2", "--batch-size", "2", "--mini-batch-size", "2", "--max-new-tokens", "4"];
  const given = ["--model", join(cwd, "m"), "--prompts", "prompts.txt", "--reward", "./kind.mjs", "--out", "runs/kind"];
  const ppo = valuehead(cwd, "train", ...given, ...sizes, "--temperature", "0.9");
  expect(ppo.status, ppo.stderr).toBe(0);
  const text = ["--data", "prompts.txt", "--model", "m", "--steps", "1", "--batch-size", "1", "--sequence-length", "8"];
  const sft = valuehead(cwd, "train", "--algorithm", "sft", ...text, "--out", "runs/text");
  expect(sft.status, sft.stderr).toBe(0);
  process.chdir(cwd);
});
afterAll(() => process.chdir(before));

const cardOf = (run: string, step: number) =>
  readFileSync(join(cwd, "runs", run, `checkpoint-${step}`, "README.md"), "utf8");

/** The YAML in front: `name: value` and a list of tags. */
function frontMatter(card: string) {
  const [, yaml] = /^---\n([\s\S]*?)\n---\n/.exec(card) as RegExpExecArray;
  const fields = [...yaml.matchAll(/^(\w+): (.+)$/gm)].map(([, name, value]) => [name, value]);
  return { ...Object.fromEntries(fields), tags: [...yaml.matchAll(/^ {2}- (.+)$/gm)].map(([, tag]) => tag) };
}

const codeOf = (card: string, language: string) =>
  (new RegExp(`\`\`\`${language}\\n([\\s\\S]*?)\`\`\``).exec(card) as RegExpExecArray)[1];

/** What a module prints, run as it stands but for where its packages are. */
async function printed(code: string, name: string): Promise<string> {
  const folder = new URL("../../../.cache/cards/", import.meta.url).pathname;
  mkdirSync(folder, { recursive: true });
  const file = join(folder, `${name}.ts`);
  writeFileSync(file, code.replace('"valuehead"', '"../../src/index.ts"'));
  const lines: string[] = [];
  const { log } = console;
  console.log = (...args) => lines.push(format(...args));
  try {
    await import(/* @vite-ignore */ file);
  } finally {
    console.log = log;
  }
  return lines.join("\n");
}

test("what a PPO run's card says, with no folder of this machine in it", () => {
  const card = cardOf("kind", 2);
  expect(frontMatter(card)).toEqual({
    library_name: "transformers",
    pipeline_tag: "text-generation",
    tags: ["valuehead", "ppo", "reinforcement-learning", "rlhf"],
  });
  expect(card).toContain("| algorithm | PPO (proximal policy optimization, Schulman et al. 2017) with a value head |");
  expect(card).toContain("| steps | 2 |");
  expect(card).toContain("| reward | `kind.mjs`, a reward function of its author's |");
  expect(card).toContain("| data | 4 prompts from `prompts.txt` |");
  expect(card).toContain("`temperature` `0.9`");
  expect(card).not.toContain("`steps`");
  const lines = readFileSync(join(cwd, "runs", "kind", "metrics.jsonl"), "utf8")
    .trim()
    .split("\n");
  const { "env/reward_mean": reward } = JSON.parse(lines.at(-1) as string);
  expect(card).toContain(`| mean reward of the last step | ${Number(reward.toPrecision(4))} |`);
  expect(card).not.toContain(cwd);
});

test("a card may be changed, and a language-model run has one", () => {
  writeFileSync(join(cwd, "runs", "text", "checkpoint-1", "README.md"), `${cardOf("text", 1)}\nWhat I saw.\n`);
  const { stderr } = valuehead(cwd, "info", "--model", "runs/text");
  expect(stderr).toContain("runs/text/checkpoint-1");
  expect(stderr).not.toContain("damaged");
  const card = cardOf("text", 1);
  expect(frontMatter(card).tags).toEqual(["valuehead", "sft"]);
  expect(card).toContain("| algorithm | supervised training on text |");
  expect(card).not.toContain("| reward |");
  expect(existsSync(join(cwd, "m", "README.md"))).toBe(false);
});

test("its code runs: valuehead, the export, transformers.js, and they agree", async () => {
  const card = cardOf("kind", 2);
  const ours = await printed(codeOf(card, "ts"), "valuehead");
  const command = codeOf(card, "sh").replace("npx ", "");
  const [{ status, stderr }] = runPrinted(cwd, command);
  expect(status, stderr).toBe(0);
  await transformersJS(); // offline from here on
  const js = await printed(codeOf(card, "js"), "transformers");
  expect(js).toBe(`Hello${ours}`);
});

test("the card of a model that answered conversations asks in conversations, and its code runs too", async () => {
  await writeChatModel(join(cwd, "chat"), "smollm2");
  writeFileSync(
    join(cwd, "chat.jsonl"),
    `${JSON.stringify({ messages: [{ role: "user", content: "Where is Paris?" }] })}\n`,
  );
  const given = ["--model", join(cwd, "chat"), "--prompts", "chat.jsonl", "--reward", "length", "--out", "runs/chat"];
  const sizes = ["--steps", "1", "--batch-size", "2", "--mini-batch-size", "2", "--max-new-tokens", "4"];
  const { status, stderr } = valuehead(cwd, "train", ...given, ...sizes, "--system", 'Be "brief".');
  expect(status, stderr).toBe(0);
  const card = cardOf("chat", 1);
  expect(card).toContain("| data | 1 prompts (conversations) from `chat.jsonl` |");
  const messages = '[{"role":"system","content":"Be \\"brief\\"."},{"role":"user","content":"Hello"}]';
  for (const language of ["ts", "python", "js"]) expect(codeOf(card, language)).toContain(`messages = ${messages}`);
  const ours = await printed(codeOf(card, "ts"), "valuehead-chat");
  const exported = codeOf(card, "sh").replace("npx ", "").replace("onnx-model", "onnx-chat");
  const [command] = runPrinted(cwd, exported);
  expect(command.status, command.stderr).toBe(0);
  await transformersJS();
  expect(await printed(codeOf(card, "js").replace("onnx-model", "onnx-chat"), "transformers-chat")).toBe(ours);
});

test("models of the hub are linked to, adapters are said to be adapters", () => {
  const facts = {
    ...{
      id: "a/b",
      algorithm: "grpo",
      step: 5,
      baseModel: "HuggingFaceTB/SmolLM2-135M",
      onHub: true,
      data: [],
      reward: "positive",
    },
    ...{ options: {}, metrics: { "env/reward_mean": Number.NaN }, adapter: true, version: "1" },
  };
  const card = modelCard(facts);
  expect(frontMatter(card)).toMatchObject({
    library_name: "peft",
    base_model: '"HuggingFaceTB/SmolLM2-135M"',
    base_model_relation: "adapter",
  });
  expect(card).toContain("# SmolLM2-135M, GRPO, step 5");
  expect(card).toContain("[HuggingFaceTB/SmolLM2-135M](https://huggingface.co/HuggingFaceTB/SmolLM2-135M)");
  expect(card).toContain("from peft import AutoPeftModelForCausalLM as AutoModel");
  expect(card).not.toContain("NaN");
  expect(card).not.toContain("Options other");
});
