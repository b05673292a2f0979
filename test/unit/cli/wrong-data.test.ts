/** @file Data that an algorithm cannot learn from: each says where, what was found, what was expected, and what to do. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, it } from "vitest";
import { buildCli, temporaryDirectory, valuehead, writeModel, writePrompts } from "../../support/cli.ts";

const cwd = temporaryDirectory();
beforeAll(async () => {
  buildCli();
  await writeModel(join(cwd, "m"));
  writePrompts(join(cwd, "p.txt"));
});

const said = (content: string) => ({ role: "user", content });
const answer = { role: "assistant", content: "b" };
type Case = [what: string, flags: string, rows: object[], where: string, found: string, fix: string];
const dpo = "--algorithm dpo --data d.jsonl";
const sft = "--algorithm sft --responses --data d.jsonl";
const rm = "--algorithm reward --data d.jsonl";
const grpo = "--algorithm grpo --prompts p.txt --reward length --batch-size 4";

it.each<Case>([
  ["a pair without rejected", dpo, [{ prompt: "a", chosen: "b" }], "d.jsonl, line 1", "no rejected", "add rejected"],
  [
    "a pair of text and messages",
    dpo,
    [{ prompt: [said("a")], chosen: "b", rejected: "c" }],
    "prompt",
    "[{",
    "all as texts",
  ],
  [
    "pairs of one response",
    dpo,
    [{ prompt: "a", chosen: "b", rejected: "b" }],
    "1 pair",
    "the same response twice",
    "how chosen",
  ],
  [
    "one pair, half of it held out",
    `${dpo} --held-out-fraction 0.5`,
    [{ prompt: "a", chosen: "b", rejected: "c" }],
    "--held-out-fraction",
    "0.5 of 1 pair,",
    "more pairs",
  ],
  ["no pair", dpo, [], "d.jsonl", "nothing in it", "a file with pairs"],
  ["prompts for pairs", "--algorithm dpo --prompts p.txt", [], "--prompts", "an unknown option", "it is called --data"],
  [
    "no response",
    sft,
    [{ prompt: "a", answer: "b" }],
    "d.jsonl, line 1",
    "no response (there are prompt, answer)",
    "add response",
  ],
  ["a question alone", sft, [{ messages: [said("a")] }], "line 1, messages", "one message", "add the answer"],
  ["messages that are a text", sft, [{ messages: "a" }], "line 1, messages", '"a"', "correct it"],
  [
    "a message with another field",
    sft,
    [{ messages: [{ role: "user", text: "a" }, answer] }],
    "message 1, content",
    "a field text",
    "rename text to content",
  ],
  [
    "ShareGPT's fields",
    sft,
    [{ messages: [{ from: "human", value: "a" }, answer] }],
    "message 1",
    "from and value",
    "rename from",
  ],
  [
    "an example longer than a window",
    `${sft} --sequence-length 4`,
    [
      { prompt: "a", response: "b" },
      { prompt: "one two three four five", response: " six" },
    ],
    "example 2",
    " tokens",
    "--long-examples to truncate or drop",
  ],
  [
    "responses read as text",
    "--algorithm sft --data d.jsonl",
    [{ prompt: "a", response: "b" }],
    "line 1",
    "a prompt with its response",
    "add --responses",
  ],
  [
    "plain text as responses",
    "--algorithm sft --responses --data p.txt",
    [],
    "p.txt",
    "plain text",
    "leave responses out",
  ],
  ["a group of one", `${grpo} --num-generations 1`, [], "--num-generations", "1", "correct --num-generations"],
  [
    "groups that are not whole",
    `${grpo} --num-generations 3`,
    [],
    "--num-generations",
    "3",
    "change --num-generations",
  ],
  [
    "labels that are all equal",
    rm,
    [
      { text: "a", label: "x" },
      { text: "b", label: "x" },
    ],
    "training data",
    "the label x for all 2 texts",
    "texts of the other kind",
  ],
  [
    "scores that are all equal",
    rm,
    [
      { text: "a", score: 1 },
      { text: "b", score: 1 },
    ],
    "training data",
    "the score 1 for all 2 texts",
    "texts of the other kind",
  ],
  ["an algorithm that is none", "--algorithm gpro --prompts p.txt", [], "--algorithm", '"gpro"', "did you mean grpo?"],
  [
    "packing that is none",
    `${sft} --packing bfd`,
    [{ prompt: "a", response: "b" }],
    "--packing",
    '"bfd"',
    "correct --packing",
  ],
])("%s", (_, flags, rows, where, found, fix) => {
  writeFileSync(join(cwd, "d.jsonl"), rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
  const { status, stderr } = valuehead(cwd, "train", "--model", "m", "--out", "out", ...flags.split(" "));
  expect(status, stderr).not.toBe(0);
  const [line, ...rest] = stderr.slice(stderr.indexOf("error: ")).split("\n");
  expect(line).toContain(where);
  expect(rest[0]).toContain(found);
  expect(rest.join("\n").replace(/\s+/g, " ")).toContain(fix);
});

it("responses that say nothing are counted", () => {
  const rows = ["", " fine", " "].map((response) => ({ prompt: "a", response }));
  writeFileSync(join(cwd, "d.jsonl"), rows.map((row) => `${JSON.stringify(row)}\n`).join(""));
  const sizes = ["--steps", "1", "--batch-size", "1", "--sequence-length", "8"];
  const { status, stdout, stderr } = valuehead(
    cwd,
    "train",
    "--model",
    "m",
    "--out",
    "empty",
    ...sft.split(" "),
    ...sizes,
  );
  expect(status, stderr).toBe(0);
  expect(stdout + stderr).toContain("2 of 3 responses say nothing: of them the end of text alone is learned");
});
