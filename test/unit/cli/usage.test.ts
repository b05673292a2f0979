import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { ppoOptions } from "../../../src/train/config.ts";
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
        : value === ""
          ? "none"
          : (value ?? "none");
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

  it("an unknown command, option or missing option", () => {
    expect(valuehead(cwd, "trian")).toMatchObject({
      status: 2,
      stdout: "",
      stderr: expect.stringContaining("Did you mean train?"),
    });
    expect(train("--bach-size", "4")).toMatchObject({
      status: 2,
      stderr: expect.stringContaining("Did you mean --batch-size?"),
    });
    expect(train("--init_kl_coef", "0.2")).toMatchObject({
      status: 2,
      stderr: expect.stringContaining("unknown option '--init_kl_coef': it is called --kl-coef here"),
    });
    expect(valuehead(cwd, "train")).toMatchObject({
      status: 2,
      stderr: expect.stringContaining("required option '--prompts <file>'"),
    });
    expect(valuehead(cwd, "train", "--json")).toMatchObject({ status: 2, stdout: "" });
  });

  it("a value that is no number, out of range, not among the choices, or contradicts another", () => {
    expect(train("--reward", "length", "--steps", "many").stderr).toContain(
      "argument 'many' is invalid. It is not a number.",
    );
    expect(train("--reward", "length", "--schedule", "step").stderr).toContain(
      "Allowed choices are constant, linear, cosine.",
    );
    const range = train("--reward", "length", "--steps", "0");
    expect(range.status).toBe(2);
    expectProblem(range.stderr, "command line, steps", "0");
    const contradiction = train("--reward", "length", "--batch-size", "4");
    expect(contradiction.status).toBe(2);
    expectProblem(contradiction.stderr, "command line, miniBatchSize", "32");
  });

  it("a config file with an unknown option: the nearest name; as JSON with --json", () => {
    writeFileSync(join(cwd, "c.json"), '{"batchsize": 4}');
    const { status, stdout, stderr } = train("--reward", "length", "--config", "c.json", "--json");
    expect([status, stdout]).toEqual([2, ""]);
    const [{ error }] = jsonLines(stderr);
    expect(error).toMatchObject({
      kind: "usage",
      where: "c.json and command line, batchsize",
      found: "an unknown option",
      fix: "did you mean batchSize?",
    });
  });

  it("no reward, or one nobody knows", () => {
    expectProblem(train().stderr, "--reward", "no reward");
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
    expectProblem(cold.stderr, "temperature", "0");
  });

  it("leaves no directory behind", () => expect(readdirSync(cwd).sort()).toEqual(["c.json", "full", "m", "p.txt"]));
});
