/** @file `train --algorithm reward` and `--reward model:DIR`, from a file of judgements to a run that is judged by the model. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, it } from "vitest";
import { buildCli, jsonLines, temporaryDirectory, valuehead, writeModel, writePrompts } from "../../support/cli.ts";

const cwd = temporaryDirectory();
const at = (...parts: string[]) => join(cwd, ...parts);
const write = (name: string, rows: object[]) =>
  writeFileSync(at(name), rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
const train = (...args: string[]) => valuehead(cwd, "train", ...args);
const reward = ["--algorithm", "reward", "--model", "m", "--batch-size", "4", "--micro-batch-size", "2"];

beforeAll(async () => {
  buildCli();
  await writeModel(at("m"));
  writePrompts(at("p.txt"));
  write(
    "pairs.jsonl",
    Array.from({ length: 8 }, (_, i) => ({ prompt: `Film ${i}`, chosen: " is good", rejected: " is bad" })),
  );
  write(
    "labels.jsonl",
    Array.from({ length: 8 }, (_, i) => ({ text: i % 2 ? `good ${i}` : `bad ${i}`, label: i % 2 })),
  );
  write(
    "scores.jsonl",
    Array.from({ length: 8 }, (_, i) => ({ prompt: "A film", response: ` of ${i} stars`, score: i / 4 })),
  );
});

it("shows its own options", () => {
  const { stdout } = train("--algorithm", "reward", "--help");
  for (const flag of ["--data", "--center-rewards", "--labels", "--end-of-text"]) expect(stdout).toContain(`${flag} `);
  for (const flag of ["--prompts", "--reward", "--beta", "--lora"]) expect(stdout).not.toContain(`${flag} `);
});

it("learns from pairs, goes on with --resume, and is a model that score opens", () => {
  const first = train(
    ...reward,
    "--data",
    "pairs.jsonl",
    "--held-out-fraction",
    "0.25",
    "--steps",
    "2",
    "--out",
    "r",
    "--learning-rate",
    "0.01",
  );
  expect([first.status, first.stderr.match(/error:[\s\S]*/)]).toEqual([0, null]);
  expect(first.stderr).toContain("6 pairs, 2 held out");
  expect(first.stdout).toContain("held out, after step 2: loss");
  expect(first.stdout).toContain("--reward model:r/checkpoint-2");
  const more = train("--resume", "r", "--steps", "3", "--json");
  expect(more.status).toBe(0);
  const events = jsonLines(more.stdout);
  expect(events.filter(({ type }) => type === "step")).toHaveLength(1);
  const config = JSON.parse(readFileSync(at("r", "checkpoint-3", "config.json"), "utf8"));
  expect(config).toMatchObject({
    architectures: ["GPT2ForSequenceClassification"],
    num_labels: 1,
    append_eos_token: true,
  });
  const card = readFileSync(at("r", "checkpoint-3", "README.md"), "utf8");
  for (const words of ["A reward model, trained", "pipeline_tag: text-classification", "`pairs.jsonl`"])
    expect(card).toContain(words);
  const said = valuehead(cwd, "score", "--model", "r", "--text", "Film 1 is good", "--text", "Film 1 is bad", "--json");
  const [good, bad] = jsonLines(said.stdout) as unknown as { outputs: { LABEL_0: number } }[];
  expect(good.outputs.LABEL_0).toBeGreaterThan(bad.outputs.LABEL_0);
});

it("learns labels by name, and a run is judged by one of them, also when it is resumed", () => {
  const named = ["--labels", "negative,positive", "--learning-rate", "0.01"];
  const first = train(...reward, "--data", "labels.jsonl", ...named, "--steps", "6", "--out", "judge", "--quiet");
  expect([first.status, first.stderr.match(/error:[\s\S]*/)]).toEqual([0, null]);
  const said = valuehead(cwd, "score", "--model", "judge", "--text", "good 3", "--json");
  const { outputs } = jsonLines(said.stdout)[0] as unknown as { outputs: Record<string, number> };
  expect(Object.keys(outputs)).toEqual(["negative", "positive"]);
  expect(outputs.positive).toBeGreaterThan(outputs.negative);

  const asked = ["--model", "m", "--prompts", "p.txt", "--batch-size", "4", "--max-new-tokens", "4", "--no-eval"];
  const unnamed = train(...asked, "--reward", "model:judge", "--steps", "1", "--out", "no");
  expect(unnamed.status).not.toBe(0);
  expect(unnamed.stderr).toContain("found     2 labels, and none named");
  expect(unnamed.stderr).toContain("#positive");
  const run = train(...asked, "--reward", "model:judge#positive", "--steps", "1", "--out", "run", "--quiet");
  expect([run.status, run.stderr.match(/error:[\s\S]*/)]).toEqual([0, null]);
  expect(JSON.parse(readFileSync(at("run", "config.json"), "utf8")).reward).toBe(
    `model:${at("judge", "checkpoint-6")}#positive`,
  );
  const [{ prompt, response, score }] = jsonLines(readFileSync(at("run", "samples.jsonl"), "utf8")) as unknown as {
    prompt: string;
    response: string;
    score: number;
  }[];
  // What the run was told is what the model says of that text.
  const again = valuehead(cwd, "score", "--model", "judge", "--text", prompt + response, "--json");
  const { outputs: told } = jsonLines(again.stdout)[0] as unknown as { outputs: Record<string, number> };
  expect(score).toBeCloseTo(told.positive, 4);
  const more = train("--resume", "run", "--steps", "2", "--quiet");
  expect([more.status, more.stderr.match(/error:[\s\S]*/)]).toEqual([0, null]);
});

it("learns scores", () => {
  const run = train(...reward, "--data", "scores.jsonl", "--held-out", "scores.jsonl", "--steps", "2", "--out", "s");
  expect([run.status, run.stderr.match(/error:[\s\S]*/)]).toEqual([0, null]);
  expect(run.stdout).toMatch(/held out, after step 2: loss [\d.]+, correlation/);
});

it.each([
  ["a pair without rejected", [{ prompt: "a", chosen: " b" }], "no rejected"],
  [
    "labels that are all equal",
    [1, 1, 1].map((label, i) => ({ text: `a ${i}`, label })),
    "the label LABEL_1 for all 3 texts",
  ],
  ["scores that are all equal", [2, 2].map((score, i) => ({ text: `a ${i}`, score })), "the score 2 for all 2 texts"],
  ["no score", [{ text: "a", rating: 3 }], "neither chosen and rejected nor score or label (there are text, rating)"],
  ["a label that is a fraction", [{ text: "a", label: 0.5 }], "call the column score"],
  ["a score that is a word", [{ text: "a", score: "good" }], 'found     "good"'],
  ["no text", [{ review: "a", label: 1 }], "rename the column of the text to text"],
  [
    "several kinds",
    [
      { text: "a", label: 1 },
      { text: "b", score: 1 },
    ],
    "scores, after labels",
  ],
  ["the same twice", [{ prompt: "a", chosen: " b", rejected: " b" }], "the same text twice in all of them"],
])("%s reads well", (name, rows, words) => {
  const file = `${name.replaceAll(" ", "-")}.jsonl`;
  write(file, rows);
  const { status, stderr } = train(...reward, "--data", file, "--out", "wrong");
  expect(status).not.toBe(0);
  expect(stderr).toContain(words);
});

it.each([
  [["--data", "p.txt", "--out", "x"], "write one {"],
  [["--data", "labels.jsonl", "--labels", "only", "--out", "x"], "one of only, or its number from 0 to 0"],
  [["--lora", "8"], "a reward model is trained whole"],
  [["--center_rewards_coefficient", "0.1"], "it is called --center-rewards here"],
])("%j reads well", (args, words) => {
  const { status, stderr } = train("--algorithm", "reward", "--model", "m", ...args);
  expect(status).not.toBe(0);
  expect(stderr).toContain(words);
});

it("a language model is no judge, and says how to make one", () => {
  const { status, stderr } = train("--model", "m", "--prompts", "p.txt", "--reward", "model:m", "--out", "y");
  expect(status).not.toBe(0);
  expect(stderr).toContain("no score.weight: a language model, and no classifier");
  expect(stderr).toContain("--algorithm reward");
});

it("info says what it is, and a run tells when its judge is not what it was", () => {
  const said = JSON.parse(valuehead(cwd, "info", "--model", "judge", "--json").stdout);
  expect(said).toMatchObject({ labels: ["negative", "positive"], problem: "single_label_classification" });
  writeFileSync(
    at("judge", "checkpoint-6", "tokenizer.json"),
    readFileSync(at("m", "tokenizer.json"), "utf8").concat(" "),
  );
  const more = train("--resume", "run", "--steps", "3", "--quiet");
  expect(more.status).toBe(0);
  expect(more.stderr).toContain("the reward's file is not what it was when the run was saved: model:");
});
