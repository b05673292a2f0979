/** @file `train --algorithm`: each has its own options, help, runs and resuming. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { RunReader } from "../../../src/run/page/reader.ts";
import {
  buildCli,
  jsonLines,
  runPrinted,
  temporaryDirectory,
  valuehead,
  writeModel,
  writePrompts,
} from "../../support/cli.ts";

const cwd = temporaryDirectory();
const at = (...parts: string[]) => join(cwd, ...parts);
beforeAll(async () => {
  buildCli();
  mkdirSync(at("elsewhere"));
  await writeModel(at("m"));
  writePrompts(at("p.txt"));
  const pairs = Array.from({ length: 8 }, (_, i) => ({ prompt: `Film ${i}`, chosen: " is good", rejected: " is bad" }));
  writeFileSync(at("pairs.jsonl"), pairs.map((pair) => `${JSON.stringify(pair)}\n`).join(""));
});

const sizes = ["--batch-size", "4", "--steps", "2"];
const sampled = [
  "--prompts",
  "p.txt",
  "--reward",
  "length",
  "--max-new-tokens",
  "4",
  "--no-eval",
  "--num-generations",
  "2",
];
const runs = {
  grpo: [...sampled, ...sizes, "--mini-batch-size", "2"],
  rloo: [...sampled, ...sizes, "--mini-batch-size", "2"],
  dpo: ["--data", "pairs.jsonl", "--held-out-fraction", "0.25", ...sizes],
};
const own = {
  grpo: {
    has: ["--num-generations", "--advantage-scaling", "--kl-correction"],
    not: ["--vf-coef", "--preset", "--lambda"],
  },
  rloo: { has: ["--num-generations", "--normalize-advantages"], not: ["--vf-coef", "--length-normalization"] },
  dpo: { has: ["--data", "--beta", "--label-smoothing"], not: ["--prompts", "--reward", "--max-new-tokens"] },
};

/** The command for a run, typed in another directory, gives its numbers once more. */
async function expectAgain(out: string) {
  const reader = new RunReader(at(out));
  await reader.read();
  const { command, steps, columns } = reader.data;
  const [{ status, stderr }] = runPrinted(at("elsewhere"), `${command} --quiet --steps ${steps.length}`);
  expect([status, stderr.match(/error:[\s\S]*/)]).toEqual([0, null]);
  const again = new RunReader(at(`${out}-again`));
  await again.read();
  const kept = (all: typeof columns) =>
    Object.fromEntries(Object.entries(all).filter(([name]) => !/^(time|memory)\//.test(name)));
  expect(kept(again.data.columns)).toEqual(kept(columns));
}

describe.each(["grpo", "rloo", "dpo"] as const)("%s", (algorithm) => {
  it("shows its own options", () => {
    const { stdout } = valuehead(cwd, "train", "--algorithm", algorithm, "--help");
    for (const flag of own[algorithm].has) expect(stdout).toContain(`${flag} `);
    for (const flag of own[algorithm].not) expect(stdout).not.toContain(`${flag} `);
  });

  it("trains, is made again by the command that its page shows, and --resume knows what the run is", async () => {
    const first = valuehead(
      cwd,
      "train",
      "--algorithm",
      algorithm,
      "--model",
      "m",
      ...runs[algorithm],
      "--out",
      algorithm,
    );
    expect([first.status, first.stderr.match(/error:.*/)]).toEqual([0, null]);
    expect(JSON.parse(readFileSync(at(algorithm, "config.json"), "utf8")).algorithm).toBe(algorithm);
    await expectAgain(algorithm);
    const more = valuehead(cwd, "train", "--resume", algorithm, "--steps", "3", "--json");
    expect([more.status, more.stderr]).toEqual([0, ""]);
    const events = jsonLines(more.stdout);
    expect(events.filter(({ type }) => type === "step")).toHaveLength(1);
    expect(events.at(-1)).toMatchObject({ type: "done", step: 3, interrupted: false });
    const answer = valuehead(cwd, "generate", "--model", algorithm, "--prompt", "This movie", "--max-new-tokens", "3");
    expect(answer.status).toBe(0);
  });

  it("is resumed as itself alone", () => {
    const { status, stderr } = valuehead(cwd, "train", "--algorithm", "sft", "--data", "p.txt", "--resume", algorithm);
    expect(status).toBe(2);
    expect(stderr).toContain(`a run of the algorithm ${algorithm}`);
  });

  it("takes a run's config.json for options", () => {
    const args = ["--config", join(algorithm, "config.json"), "--model", "m", "--out", `${algorithm}-2`];
    const data = algorithm === "dpo" ? ["--data", "pairs.jsonl"] : ["--prompts", "p.txt", "--reward", "length"];
    const { status, stderr } = valuehead(cwd, "train", ...args, ...data, "--steps", "1", "--quiet");
    expect([status, stderr.match(/error:[\s\S]*/)]).toEqual([0, null]);
    expect(JSON.parse(readFileSync(at(`${algorithm}-2`, "config.json"), "utf8")).algorithm).toBe(algorithm);
  });
});

it("a reward model is made again", async () => {
  const made = ["--algorithm", "reward", "--model", "m", "--data", "pairs.jsonl", "--held-out-fraction", "0.25"];
  const { status, stderr } = valuehead(cwd, "train", ...made, ...sizes, "--out", "judge", "--quiet");
  expect([status, stderr.match(/error:[\s\S]*/)]).toEqual([0, null]);
  await expectAgain("judge");
});

it("sft learns a new model from text, and is made again", async () => {
  const model = { nEmbd: 8, nLayer: 1, nHead: 1, nPositions: 16 };
  writeFileSync(at("new.json"), JSON.stringify({ model, training: { steps: 2, batchSize: 2, sequenceLength: 8 } }));
  const made = ["--data", "p.txt", "--held-out", "p.txt", "--tokenizer", "m", "--config", "new.json", "--out", "new"];
  const { status, stderr } = valuehead(cwd, "train", "--algorithm", "sft", ...made, "--quiet");
  expect([status, stderr.match(/error:[\s\S]*/)]).toEqual([0, null]);
  await expectAgain("new");
});

it("sft learns responses alone, and --resume knows it", async () => {
  const rows = Array.from(
    { length: 12 },
    (_, i) => `${JSON.stringify({ prompt: `${i} + 1 =`, response: ` ${i + 1}` })}\n`,
  );
  writeFileSync(at("rows.jsonl"), rows.join(""));
  const sizes = ["--sequence-length", "8", "--batch-size", "2", "--steps", "1"];
  const args = [
    "--algorithm",
    "sft",
    "--responses",
    "--data",
    "rows.jsonl",
    "--model",
    "m",
    "--out",
    "answers",
    ...sizes,
  ];
  const first = valuehead(cwd, "train", ...args, "--quiet");
  expect([first.status, first.stderr.match(/error:[\s\S]*/)]).toEqual([0, null]);
  const more = valuehead(cwd, "train", "--resume", "answers", "--steps", "2", "--quiet");
  expect([more.status, more.stderr.match(/error:[\s\S]*/)]).toEqual([0, null]);
  await expectAgain("answers");
  const wrong = valuehead(
    cwd,
    "train",
    ...args.map((word) => (word === "rows.jsonl" ? "pairs.jsonl" : word)),
    "--resume",
  );
  expect(wrong.stderr).toContain("found     no response (there are prompt, chosen, rejected)");
});

describe("what is wrong reads well", () => {
  it.each([
    [["--algorithm", "grpo", "--vf-coef", "1"], "--vf-coef", "an unknown option"],
    [["--algorithm", "grpo", "--scale-rewards", "none"], "--scale-rewards", "it is called --advantage-scaling here"],
    [["--algorithm", "sft", "--workers", "nats://a"], "--workers", "answer the prompts of ppo, grpo and rloo"],
    [["--algorithm", "dpo", "--label_smoothing", "0"], "--label_smoothing", "it is called --label-smoothing here"],
    [["--algorithm", "dpo", "--data", "p.txt", "--out", "x"], "p.txt", "write one {"],
    [["--algorithm", "gpro"], "gpro", "one of ppo, grpo, rloo, dpo, sft, reward", "did you mean grpo?"],
  ])("%j", (args, ...words) => {
    const { status, stderr } = valuehead(cwd, "train", ...args);
    expect(status).not.toBe(0);
    for (const word of words) expect(stderr).toContain(word);
  });
});
