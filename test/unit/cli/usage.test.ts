import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { ppoOptions } from "../../../src/algorithms/options/ppo-options.ts";
import {
  buildCli,
  expectProblem,
  jsonLines,
  temporaryDirectory,
  valuehead,
  writeModel,
  writePrompts,
} from "../../support/cli.ts";

const cwd = temporaryDirectory();
beforeAll(async () => {
  buildCli();
  await writeModel(join(cwd, "m"));
  writePrompts(join(cwd, "p.txt"));
});
const train = (...args: string[]) =>
  valuehead(cwd, "train", "--model", "m", "--prompts", "p.txt", "--out", "none", ...args);

describe("help", () => {
  it("lists every command of the contract and the exit codes", () => {
    const { status, stdout, stderr } = valuehead(cwd, "--help");
    expect([status, stderr]).toEqual([0, ""]);
    for (const name of ["demo", "train", "generate", "score", "pretrain", "info"])
      expect(stdout).toMatch(new RegExp(`^  ${name} `, "m"));
    expect(stdout).toContain("Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted with everything saved.");
  });

  it("of train has a flag for every PPO option, with its default", () => {
    const { status, stdout } = valuehead(cwd, "train", "--help");
    expect(status).toBe(0);
    const text = stdout.replace(/\s+/g, " ");
    for (const [name, [, value, meaning]] of Object.entries(ppoOptions)) {
      const flag = `--${name.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`;
      expect(text).toContain(`${flag} `);
      const standard = Array.isArray(value)
        ? "none; may be given several times"
        : value === "" || typeof value === "object"
          ? "none"
          : value;
      expect(text).toContain(`${meaning} (default: ${standard})`);
    }
  });

  it.each(["demo", "generate", "score", "pretrain", "info"])("of %s", (name) => {
    const { status, stdout } = valuehead(cwd, name, "--help");
    expect(status).toBe(0);
    expect(stdout).toContain(`Usage: valuehead ${name} [options]`);
    expect(stdout).toContain("--debug");
  });

  it("prints the version", () => expect(valuehead(cwd, "--version").stdout).toBe("0.1.0\n"));
});

describe("wrong usage ends with 2 and writes nothing", () => {
  it("no command: the help, on stderr", () => {
    const { status, stdout, stderr } = valuehead(cwd);
    expect([status, stdout]).toEqual([2, ""]);
    expect(stderr).toContain("Usage: valuehead");
  });

  const usage = (...args: string[]) => {
    const { status, stdout, stderr } = valuehead(cwd, ...args);
    expect([status, stdout]).toEqual([2, ""]);
    return stderr;
  };

  it("an unknown command, option or missing option", () => {
    const unknown = usage("trian");
    expectProblem(unknown, "valuehead trian", "an unknown command");
    expect(unknown).toContain("did you mean train?");
    expectProblem(usage("train", "me"), "valuehead train", '"me" with no option before it');
    expectProblem(usage("train"), "--prompts, --reward, --out", "nothing: they were not given");
    expect(usage("train", "--out", "x", "--reward", "length")).toContain("fix       add --prompts FILE\n");
    expectProblem(usage("score"), "--text", "nothing: it was not given");
    expectProblem(usage("pretrain", "--out", "x"), "--data", "nothing: it was not given");
    expect(jsonLines(usage("train", "--json"))[0].error).toMatchObject({ kind: "usage", fix: expect.any(String) });
  });

  it("unknown options come before missing ones, wrong values too", () => {
    expectProblem(usage("train", "--bach-size", "4"), "--bach-size", "an unknown option");
    expectProblem(usage("train", "--steps", "many"), "--steps", '"many"');
    expectProblem(usage("pretrain", "--seed", "-1"), "--seed", "-1");
  });

  it.each([
    ["train", "--bach-size", "did you mean --batch-size?"],
    ["train", "--init_kl_coef", "it is called --kl-coef here"],
    ["train", "--output-dir", "it is called --out here"],
    ["train", "--epochs", "did you mean --ppo-epochs (passes over each batch) or --steps (steps to take)?"],
    ["train", "--max-tokens", "it is called --max-new-tokens here"],
    ["train", "--report-to", "the run directory holds metrics.jsonl, samples.jsonl and TensorBoard events in tb/"],
    ["train", "--lr", "it is called --learning-rate here"],
    ["train", "--learning_rate", "it is called --learning-rate here"],
    ["train", "--learningRate", "it is called --learning-rate here"],
    ["train", "--num-train-epochs", "it is called --steps here"],
    ["train", "--per-device-train-batch-size", "it is called --micro-batch-size here"],
    ["train", "--dataset", "it is called --prompts here"],
    ["train", "--kl-coefficient", "it is called --kl-coef here"],
    ["train", "--gae-lambda", "it is called --lambda here"],
    ["train", "--temp", "it is called --temperature here"],
    ["train", "-o", "it is called --out here"],
    ["train", "-m", "it is called --model here"],
    ["train", "--model-name-or-path", "it is called --model here"],
    ["train", "--resume-from-checkpoint", "it is called --resume here"],
    ["train", "--overwrite_output_dir", "nothing is overwritten"],
    ["train", "--gpu", "--device webgpu computes on a GPU"],
    ["train", "--column", "it is called --prompt-column here"],
    ["train", "--zzzzzz", "see valuehead train --help"],
    ["generate", "--n", "it is called --num here"],
    ["generate", "--samples", "it is called --num here"],
    ["generate", "--text", "it is called --prompt here"],
    ["generate", "--max_length", "it is called --max-new-tokens here"],
    ["score", "--prompt", "it is called --text here"],
    ["pretrain", "--dataset", "it is called --data here"],
    ["pretrain", "--eval-file", "it is called --held-out here"],
    ["info", "--model-path", "it is called --model here"],
  ])("%s %s: %s", (command, flag, fix) => {
    const stderr = usage(command, flag, "1");
    expectProblem(stderr, flag, "an unknown option");
    expect(stderr.slice(stderr.indexOf("  fix"))).toContain(fix);
  });

  it("a value that is no number, out of range, not among the choices, or contradicts another", () => {
    const wrong = (...args: string[]) =>
      usage("train", "--prompts", "p.txt", "--out", "none", "--reward", "length", ...args);
    expectProblem(wrong("--steps", "many"), "--steps", '"many"');
    expect(wrong("--schedule", "step")).toContain("expected  one of constant, linear, cosine\n");
    expectProblem(wrong("--steps", "0"), "--steps", "0");
    const contradiction = wrong("--batch-size", "4", "--mini-batch-size", "8");
    expectProblem(contradiction, "--mini-batch-size", "8");
    expect(contradiction).toContain("at most --batch-size (4)");
    expectProblem(wrong("--steps"), "--steps", "no value");
    expectProblem(wrong("--steps", "--quiet"), "--steps", "no value");
  });

  it("a config file with an unknown option: the nearest name; as JSON with --json", () => {
    writeFileSync(join(cwd, "c.json"), '{"batchsize": 4}');
    const { status, stdout, stderr } = train("--reward", "length", "--config", "c.json", "--json");
    expect([status, stdout]).toEqual([2, ""]);
    const [{ error }] = jsonLines(stderr);
    expect(error).toMatchObject({
      kind: "usage",
      where: 'c.json, "batchsize"',
      found: "an unknown option",
      fix: 'did you mean "batchSize"?',
    });
    writeFileSync(join(cwd, "c.json"), '{"prompts": 4, "steps": 2}');
    expectProblem(train("--config", "c.json").stderr, 'c.json, "prompts"', "4");
    const own = train("--config", join("m", "config.json"));
    expect(own.status).toBe(2);
    expectProblem(own.stderr, join("m", "config.json"), 'the config of a model (model_type "gpt2")');
  });

  it("no reward, or one nobody knows", () => {
    expectProblem(train().stderr, "--reward", "nothing: it was not given");
    const { status, stderr } = train("--reward", "positiv");
    expect(status).toBe(2);
    expectProblem(stderr, "reward", '"positiv"');
    expect(stderr).toContain("did you mean positive?");
  });

  it("an output directory that is not empty; what is in it stays", () => {
    mkdirSync(join(cwd, "full"));
    writeFileSync(join(cwd, "full", "mine.txt"), "x");
    const { status, stderr } = valuehead(
      cwd,
      "train",
      "--model",
      "m",
      "--prompts",
      "p.txt",
      "--reward",
      "length",
      "--out",
      "full",
    );
    expect(status).toBe(2);
    expectProblem(stderr, "full", "a directory with 1 entries (mine.txt)");
    expect(readdirSync(join(cwd, "full"))).toEqual(["mine.txt"]);
  });

  it("generate without a prompt, or with an impossible temperature", () => {
    const none = valuehead(cwd, "generate", "--model", "m");
    expect(none.status).toBe(2);
    expectProblem(none.stderr, "--prompt, --prompts", "neither");
    const cold = valuehead(cwd, "generate", "--model", "m", "--prompt", "I", "--temperature", "0");
    expect(cold.status).toBe(2);
    expectProblem(cold.stderr, "--temperature", "0");
  });

  it("leaves no directory behind", () => expect(readdirSync(cwd).sort()).toEqual(["c.json", "full", "m", "p.txt"]));
});
