import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { GPT2HeadWithValueModel } from "../../../src/families/index.ts";
import { generate } from "../../../src/sample/generate.ts";
import { loadTokenizer } from "../../../src/tokenizer/load.ts";
import {
  buildCli,
  jsonLines,
  runPrinted,
  startValuehead,
  temporaryDirectory,
  valuehead,
  writeModel,
  writePrompts,
} from "../../support/cli.ts";

const cwd = temporaryDirectory();
const at = (...parts: string[]) => join(cwd, ...parts);
const lines = (...parts: string[]) => jsonLines(readFileSync(at(...parts), "utf8"));
beforeAll(async () => {
  buildCli();
  await writeModel(at("m"));
  writePrompts(at("p.txt"));
  writePrompts(at("h.txt"), 3);
});
const SMALL = ["--batch-size", "4", "--mini-batch-size", "2", "--max-new-tokens", "5", "--reward", "length"];
const run = ["train", "--model", "m", "--prompts", "p.txt", ...SMALL];

describe("generate", () => {
  it("samples from the quantised copy with --precision int8", () => {
    const args = ["generate", "--model", "m", "--json", "--max-new-tokens", "4", "--prompt", "This movie"];
    const [fp32, again, int8] = [[], ["--precision", "fp32"], ["--precision", "int8"]].map(
      (precision) => jsonLines(valuehead(cwd, ...args, ...precision).stdout)[0].logprobs as number[],
    );
    expect(again).toEqual(fp32);
    expect(int8[0]).not.toBe(fp32[0]);
    expect(Math.abs(int8[0] - fp32[0])).toBeLessThan(0.5);
    const auto = valuehead(cwd, ...args, "--precision", "auto");
    const chosen = /note: --precision auto: (fp32|int8), as measured now: 1 x 4 tokens/.exec(auto.stderr)?.[1];
    expect(jsonLines(auto.stdout)[0].logprobs).toEqual(chosen === "int8" ? int8 : fp32);
  });

  it("says what the library samples with that seed, whole characters only", async () => {
    const model = await GPT2HeadWithValueModel.fromPretrained(at("m"));
    const tokenizer = await loadTokenizer(at("m"));
    const { responses } = await generate(model, [tokenizer.encode("This movie")], { maxNewTokens: 20, seed: 7 });
    const text = `This movie${tokenizer.decode(responses[0].tokens, { skipSpecialTokens: true })}`;
    const { status, stdout, stderr } = valuehead(
      cwd,
      "generate",
      "--model",
      "m",
      "--prompt",
      "This movie",
      "--max-new-tokens",
      "20",
      "--seed",
      "7",
    );
    expect([status, stderr, stdout]).toEqual([0, "", `${text}\n`]);
  });

  it("prints an object per response with --json, the same whatever the batch", () => {
    const args = ["generate", "--model", "m", "--json", "--max-new-tokens", "4", "--num", "2"];
    const { status, stdout } = valuehead(cwd, ...args, "--prompts", "h.txt");
    expect(status).toBe(0);
    const all = jsonLines(stdout);
    expect(all).toHaveLength(6);
    for (const one of all) {
      expect(Object.keys(one)).toEqual([
        "prompt",
        "response",
        "responseWithSpecialTokens",
        "tokens",
        "logprobs",
        "rawLogprobs",
        "keptMass",
        "values",
        "finished",
      ]);
      expect(one.logprobs).toHaveLength(one.tokens.length);
      expect(one.values).toHaveLength(one.tokens.length);
    }
    expect(all[0].tokens).not.toEqual(all[1].tokens);
    const [alone] = jsonLines(valuehead(cwd, ...args, "--prompt", "This movie number 0 is").stdout);
    expect(alone.tokens).toEqual(all[0].tokens);
  });

  it("takes every option of the sampler", () => {
    const args = ["generate", "--model", "m", "--json", "--max-new-tokens", "12", "--prompt", "This movie"];
    const [plain] = jsonLines(valuehead(cwd, ...args).stdout);
    const banned = plain.tokens.flatMap((id: number) => ["--banned-tokens", `${id}`]);
    const [other] = jsonLines(
      valuehead(cwd, ...args, ...banned, "--min-p", "0.001", "--repetition-penalty", "1.3").stdout,
    );
    expect(other.tokens.some((id: number) => plain.tokens.includes(id))).toBe(false);
    expect(Math.max(...other.keptMass)).toBeLessThan(1);
    const [stopped] = jsonLines(valuehead(cwd, ...args, "--stop", plain.response.slice(0, 3), "--stop", "zzz").stdout);
    expect(stopped.finished).toBe(true);
    expect(stopped.tokens).toEqual(plain.tokens.slice(0, stopped.tokens.length));
    expect(stopped.tokens.length).toBeLessThan(plain.tokens.length);
    const bad = valuehead(cwd, ...args, "--banned-tokens", "99999999");
    expect([bad.status, bad.stdout]).toEqual([2, ""]);
    const empty = valuehead(cwd, ...args, "--stop", "");
    expect([empty.status, empty.stdout]).toEqual([2, ""]);
  });
});

describe("score", () => {
  it("prints the notebook's table: token --> greedy next", () => {
    const { status, stdout } = valuehead(cwd, "score", "--model", "m", "--text", "I like this movie.");
    const rows = stdout.trimEnd().split("\n");
    expect(status).toBe(0);
    expect(rows[0]).toMatch(/pos +id +log-prob +value +token +--> greedy next/);
    expect(rows).toHaveLength(6);
    expect(rows[1]).toMatch(/^ +0 +40 +- +-?\d+\.\d{4} +I +--> ./);
  });

  it("prints an object per text with --json, in the form tools/reference/check_roundtrip.py reads", () => {
    const { stdout } = valuehead(cwd, "score", "--model", "m", "--json", "--text", "I like", "--text", "this");
    const [first, second] = jsonLines(stdout);
    expect(Object.keys(first.tokens[0])).toEqual(["id", "text", "logprob", "value", "greedyId", "greedy"]);
    expect(first.tokens.map((t: { text: string }) => t.text)).toEqual(["I", " like"]);
    expect([first.tokens[0].logprob, second.tokens[0].logprob]).toEqual([null, null]);
    expect(first.tokens[1].logprob).toBeLessThan(0);
  });
});

it("info shows config, parameter counts, tokenizer, memory and files", () => {
  const { status, stdout } = valuehead(cwd, "info", "--model", "m");
  expect(status).toBe(0);
  for (const part of ["Config", "Parameters", "Tokenizer", "Memory", "Files", "model.safetensors"])
    expect(stdout).toContain(part);
  const [json] = jsonLines(valuehead(cwd, "info", "--model", "m", "--json").stdout);
  // 8192 x 16 + 48 x 16; 12 C^2 + 13 C; final layer norm 2 C, value head C + 1
  expect(json.parameters).toEqual({
    total: 131840 + 3280 + 49,
    embeddings: 131840,
    blocks: 3280,
    head: 49,
    adapter: 0,
  });
  expect(json.tokenizer).toMatchObject({ vocabSize: 8192, eosToken: "<|endoftext|>" });
  expect(json.memory).toMatchObject({ fits: true, training: { parts: { weights: 4 * 135169 } } });
  expect(json.memory.available).toBeGreaterThan(json.memory.training.total);
});

describe("train", () => {
  it("two steps: a table, the run directory, a checkpoint that other commands read", () => {
    const { status, stdout, stderr } = valuehead(cwd, ...run, "--steps", "2", "--out", "r", "--eval-prompts", "h.txt");
    expect(status, stderr).toBe(0);
    expect(stdout).toMatch(/step +reward +KL +KL coef +entropy +clipfrac +value loss +seconds\n +1 .*\n +2 /);
    expect(stdout).toMatch(/before +-?\d\.\d{3} ± .*\n +after .*\n +difference /);
    expect(stdout).toContain(
      "Checkpoint after step 2: r/checkpoint-2\n  valuehead generate --model r/checkpoint-2 --prompt",
    );
    expect(readdirSync(at("r")).sort()).toEqual([
      "best.json",
      "checkpoint-2",
      "config.json",
      "evaluation.json",
      "events.jsonl",
      "metrics.jsonl",
      "report.html",
      "samples.jsonl",
      "tb",
    ]);
    expect(lines("r", "metrics.jsonl").map((m) => m.step)).toEqual([1, 2]);
    expect(lines("r", "samples.jsonl")).toHaveLength(8);
    expect(JSON.parse(readFileSync(at("r", "config.json"), "utf8"))).toMatchObject({
      version: "0.1.0",
      model: at("m"),
      reward: "length",
      options: { steps: 2, batchSize: 4, miniBatchSize: 2, maxNewTokens: 5, learningRate: 1.41e-5 },
    });
    const advised = runPrinted(cwd, stdout);
    expect(advised.map(({ line }) => line.split(" ").filter(Boolean)[1])).toEqual(["generate", "score"]);
    for (const { line, status, stderr } of advised) expect(status, `${line}\n${stderr}`).toBe(0);
  });

  it("--json: events and nothing else on stdout; a config file below flags", () => {
    writeFileSync(at("c.json"), '{"steps": 5, "topK": 7}');
    const { status, stdout } = valuehead(cwd, ...run, "--config", "c.json", "--steps", "1", "--out", "j", "--json");
    expect(status).toBe(0);
    const types = jsonLines(stdout).map((e) => e.type);
    expect([...new Set(types)]).toEqual(["loaded", "progress", "step", "checkpoint", "done"]);
    expect(JSON.parse(readFileSync(at("j", "config.json"), "utf8")).options).toMatchObject({ steps: 1, topK: 7 });
  });

  it("takes lists and switches: what was given is what is recorded, and no replay is warned about", () => {
    const flags = ["--stop", ".", "--stop", "\n", "--banned-tokens", "5", "--no-mask-replay", "--top-p", "0.8"];
    const { status, stdout } = valuehead(
      cwd,
      ...run,
      ...flags,
      "--audit",
      "warn",
      "--steps",
      "1",
      "--out",
      "l",
      "--json",
    );
    expect(status).toBe(0);
    const warnings = jsonLines(stdout).filter((e) => e.type === "warning");
    expect(warnings[0].message).toContain("maskReplay is off");
    const given = { stop: [".", "\n"], bannedTokens: [5], maskReplay: false, topP: 0.8 };
    expect(JSON.parse(readFileSync(at("l", "config.json"), "utf8")).options).toMatchObject(given);
  });

  it("--quiet keeps the table to itself", () => {
    const { stdout, stderr } = valuehead(cwd, ...run, "--steps", "1", "--out", "q", "--quiet");
    expect(stdout).not.toContain("clipfrac");
    expect(stdout).toContain("Checkpoint after step 1");
    expect(stderr).toBe("");
  });

  it("Ctrl-C finishes the step, saves, ends with 130 and says how to go on; resumed it ends as if uninterrupted", async () => {
    const args = [...run, "--steps", "400", "--out", "i"];
    let sent = false;
    const { status, stderr } = await startValuehead(cwd, args, (stdout, child) => {
      if (!sent && /^ +2 /m.test(stdout)) sent = child.kill("SIGINT");
    });
    expect(status).toBe(130);
    expect(stderr).toContain("finishing this step, then saving; press Ctrl-C again to stop at once");
    expect(stderr).toContain("go on with\n  valuehead train --resume i\n");
    const [checkpoint] = readdirSync(at("i")).filter((name) => name.startsWith("checkpoint-"));
    const step = Number(checkpoint.split("-")[1]);
    expect(stderr).toContain(`stopped after step ${step}; everything is saved in i/${checkpoint}`);
    expect(lines("i", "metrics.jsonl")).toHaveLength(step);
    // Options, model and reward come from the run directory; the number of steps is given anew.
    const end = String(step + 1);
    const resumed = valuehead(cwd, "train", "--resume", "i", "--steps", end);
    expect(resumed.status, resumed.stderr).toBe(0);
    valuehead(cwd, ...run, "--steps", end, "--out", "u");
    const weights = (run: string) => readFileSync(at(run, `checkpoint-${end}`, "model.safetensors"));
    expect(weights("i").equals(weights("u"))).toBe(true);
    expect(lines("i", "metrics.jsonl").map((m) => m.step)).toEqual(Array.from({ length: step + 1 }, (_, n) => n + 1));
    // Resumed with nothing left to do, it says where the result is.
    const again = valuehead(cwd, "train", "--resume", "--out", "i", "--prompts", "p.txt", "--steps", end);
    expect(again.stdout).toContain(`Checkpoint after step ${end}: i/checkpoint-${end}\n`);
    expect(again.stderr).toContain(
      `nothing was left to do: the run has taken its ${end} steps; for more of them\n  valuehead train --resume i --steps ${2 * Number(end)}\n`,
    );
  });

  it("SIGTERM is like Ctrl-C; a second signal ends at once and leaves no broken checkpoint", async () => {
    let sent = 0;
    const { status, signal } = await startValuehead(
      cwd,
      [...run, "--steps", "400", "--out", "k", "--json"],
      (stdout, child) => {
        if (sent++ === 0 && stdout.includes('"loaded"')) {
          child.kill("SIGTERM");
          setTimeout(() => child.kill("SIGINT"), 1);
        }
      },
    );
    // By the signal itself, which a shell shows as 130, or the run was faster. Of two that wait, either may be heard first.
    expect(signal === "SIGINT" || signal === "SIGTERM" || status === 130, `${signal} ${status}`).toBe(true);
    for (const name of existsSync(at("k")) ? readdirSync(at("k")) : [])
      if (/^checkpoint-\d+$/.test(name)) expect(readdirSync(at("k", name))).toContain("model.safetensors");
  });

  it("a reader that goes away (| head) is like Ctrl-C: what was trained is saved", async () => {
    const { status, stderr } = await startValuehead(cwd, [...run, "--steps", "400", "--out", "e"], (_, child) =>
      child.stdout?.destroy(),
    );
    expect(status).toBe(130);
    expect(stderr).toContain("everything is saved in e/checkpoint-");
    expect(stderr).not.toContain("EPIPE");
  });
});

describe("demo", () => {
  it("shows the task, the table, texts beside each other, the difference and the checkpoint; picks a free directory", () => {
    const args = ["demo", "--model", "m", "--steps", "1", ...SMALL.slice(0, 6)];
    const { status, stdout, stderr } = valuehead(cwd, ...args);
    expect(status, stderr).toBe(0);
    expect(stdout).toContain("1 steps, seed 0");
    expect(stdout).toMatch(/BEFORE +\| AFTER\n-+\n/);
    expect(stdout).toMatch(/difference .* \(paired by prompt\)/);
    expect(stdout).toContain("Checkpoint after step 1: runs/demo-0/checkpoint-1");
    const again = valuehead(cwd, ...args, "--json");
    expect(again.stderr).toBe("runs/demo-0 is not empty; using runs/demo-0-2\n");
    expect(jsonLines(again.stdout).filter((e) => e.type === "evaluation")).toHaveLength(2);
    expect(existsSync(at("runs", "demo-0-2", "checkpoint-1", "model.safetensors"))).toBe(true);
  });
});

describe("pretrain", () => {
  const data = ["--data", "d.txt", "--config", "pt.json"];
  beforeAll(() => {
    writeFileSync(
      at("d.txt"),
      Array.from({ length: 40 }, (_, i) => `Text ${i} tells of ${i} things, all of them good.\n\n`).join(""),
    );
    const model = { nLayer: 1, nHead: 2, nEmbd: 16, nPositions: 32 };
    writeFileSync(at("pt.json"), JSON.stringify({ model, training: { sequenceLength: 16, batchSize: 2 } }));
    writeFileSync(at("more.json"), JSON.stringify({ training: { sequenceLength: 16, batchSize: 2 } }));
  });

  it("from scratch, then on from its own result", () => {
    const { status, stdout, stderr } = valuehead(
      cwd,
      "pretrain",
      ...data,
      "--tokenizer",
      "m",
      "--out",
      "p1",
      "--steps",
      "3",
      "--held-out-fraction",
      "0.2",
    );
    expect(status, stderr).toBe(0);
    expect(stdout).toMatch(/held-out loss after step 3: \d\.\d{4} nats per token, \d+\.\d{4} bits per byte/);
    expect(stdout).toContain("Checkpoint after step 3: p1/checkpoint-3");
    const advised = runPrinted(cwd, stdout);
    expect(advised.map(({ line }) => line.trim().split(" ")[1])).toEqual(["generate", "score"]);
    for (const { status, stderr } of advised) expect(status, stderr).toBe(0);
    expect(readdirSync(at("p1")).sort()).toEqual([
      "best.json",
      "checkpoint-3",
      "config.json",
      "events.jsonl",
      "metrics.jsonl",
      "report.html",
      "samples.jsonl",
      "tb",
    ]);
    const on = valuehead(
      cwd,
      "pretrain",
      "--data",
      "d.txt",
      "--config",
      "more.json",
      "--model",
      "p1",
      "--out",
      "p2",
      "--steps",
      "2",
      "--json",
    );
    expect(on.status, on.stderr).toBe(0);
    expect(jsonLines(on.stdout).map((e) => e.type)).toEqual([
      "reading",
      "loaded",
      "step",
      "step",
      "checkpoint",
      "done",
    ]);
  });

  it("Ctrl-C saves the model and ends with 130", async () => {
    let sent = false;
    const args = ["pretrain", ...data, "--tokenizer", "m", "--out", "p3", "--steps", "100000", "--json"];
    const { status, stderr } = await startValuehead(cwd, args, (stdout, child) => {
      if (!sent && stdout.includes('"step":2,')) sent = child.kill("SIGINT");
    });
    expect(status).toBe(130);
    expect(stderr).toMatch(/stopped after step \d+; everything is saved in p3\/checkpoint-\d+\n/);
    expect(valuehead(cwd, "generate", "--model", "p3", "--prompt", "I", "--max-new-tokens", "3").status).toBe(0);
    // What is printed goes on with it; --resume knows which algorithm it is without being told.
    expect(stderr).toContain("valuehead train --algorithm sft --resume p3");
    const steps = readFileSync(at("p3", "metrics.jsonl"), "utf8").trim().split("\n").length;
    const on = valuehead(cwd, "train", "--resume", "p3", "--steps", String(steps + 1));
    expect(on.status, on.stderr).toBe(0);
    expect(on.stderr).toContain(`resuming after step ${steps}`);
    expect(on.stdout).toContain(`Checkpoint after step ${steps + 1}: p3/checkpoint-${steps + 1}`);
  });
});
