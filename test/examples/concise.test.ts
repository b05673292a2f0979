/** @file The concise example: its reward, its questions, and its command in small, on a chat model of a few hundred kB. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import type { Sample } from "../../src/index.ts";
import { writeChatModel } from "../support/chat.ts";
import { buildCli, jsonLines, temporaryDirectory, valuehead } from "../support/cli.ts";

const example = new URL("../../examples/concise/", import.meta.url).pathname;
const cwd = temporaryDirectory();
const rows = (name: string) =>
  readFileSync(join(example, name), "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as { prompt: string; keyword: string });

beforeAll(async () => {
  buildCli();
  await writeChatModel(join(cwd, "m"), "smollm2");
});

test("its reward counts the key word, the end of an answer and sentences beyond two", async () => {
  const module = await import(join(example, "reward.mjs"));
  const score = (response: string, end = "<|im_end|>") => {
    const sample = { response, responseWithSpecialTokens: response + end, row: { keyword: "moon" } };
    return (module.default as (batch: Partial<Sample>[]) => number[])([sample])[0];
  };
  expect(score("The Moon is made of rock.")).toBe(2);
  expect(score("It is rock. The moon has 3.5 times less of it!")).toBe(2);
  expect(score("It is made of rock.")).toBe(1); // no key word
  expect(score("The moon is made of", "")).toBe(1); // cut off
  expect(score("The moon is made of")).toBe(1); // an end in the middle of a sentence
  expect(score("The moon? Rock. Rock. Rock.")).toBe(1); // four sentences
  expect(score("")).toBe(0);
});

test("its 200 questions differ, and each has a key word", () => {
  const all = [...rows("questions.jsonl"), ...rows("held-out.jsonl")];
  expect(all).toHaveLength(200);
  expect(new Set(all.map(({ prompt }) => prompt)).size).toBe(200);
  for (const { prompt, keyword } of all) expect([prompt.endsWith("?"), keyword.length > 2]).toEqual([true, true]);
});

test("its command trains an adapter and answers the held-out questions before and after", () => {
  const readme = readFileSync(join(example, "README.md"), "utf8");
  const command = readme.match(/^ {4}npx valuehead (train (?:.*\\\n)*.*)$/m)?.[1] ?? "";
  const words = command.replaceAll("\\\n", " ").match(/"[^"]*"|\S+/g) ?? [];
  const args = words.map((word) => word.replaceAll('"', "").replace(/^examples\/concise\//, example));
  args[args.indexOf("--model") + 1] = "m"; // instead of the model of 538 MB
  const small = ["--steps", "1", "--batch-size", "4", "--mini-batch-size", "4", "--max-new-tokens", "4", "--lora", "2"];
  const { status, stderr, stdout } = valuehead(cwd, ...args, ...small, "--out", "run", "--json");
  expect(status, stderr).toBe(0);
  expect(jsonLines(stdout).some(({ type }) => type === "evaluation")).toBe(true);
  const evaluation = JSON.parse(readFileSync(join(cwd, "run", "evaluation.json"), "utf8"));
  expect(JSON.stringify(evaluation)).toContain("What is an eclipse?");
});
