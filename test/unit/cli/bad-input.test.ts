import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
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
const at = (...parts: string[]) => join(cwd, ...parts);
beforeAll(async () => {
  buildCli();
  await writeModel(at("m"));
  writePrompts(at("p.txt"));
});

/** A copy of the model with one thing changed. */
function broken(name: string, change: (directory: string) => void): string {
  mkdirSync(at(name));
  for (const file of readdirSync(at("m"))) copyFileSync(at("m", file), at(name, file));
  change(at(name));
  return name;
}
const editConfig = (fields: object) => (directory: string) => {
  const path = join(directory, "config.json");
  writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, "utf8")), ...fields }));
};
const train = (...args: string[]) =>
  valuehead(
    cwd,
    "train",
    "--prompts",
    "p.txt",
    "--batch-size",
    "4",
    "--mini-batch-size",
    "2",
    "--max-new-tokens",
    "4",
    ...args,
  );

/** A model that cannot be loaded: the same message from every command, exit code 1, and no run directory. */
function expectRefused(model: string, where: string, found: string): void {
  for (const { status, stdout, stderr } of [
    valuehead(cwd, "score", "--model", model, "--text", "I"),
    train("--model", model, "--reward", "length", "--out", `run-${model}`),
  ]) {
    expect([status, stdout]).toEqual([1, ""]);
    expectProblem(stderr, where, found);
  }
  expect(existsSync(at(`run-${model}`))).toBe(false);
}

describe("a model", () => {
  it("without weights", () => {
    mkdirSync(at("none"));
    copyFileSync(at("m", "config.json"), at("none", "config.json"));
    expectRefused("none", "none", "only config.json");
  });

  it("with a truncated safetensors file", () => {
    broken("cut", (directory) => truncateSync(join(directory, "model.safetensors"), 300_000));
    const header = Number(readFileSync(at("m", "model.safetensors")).readBigUInt64LE(0));
    expectRefused("cut", "cut/model.safetensors", `${300_000 - 8 - header} bytes of tensor data`);
  });

  it("with a tensor of another shape than the config says", () => {
    broken("shape", editConfig({ n_positions: 40 }));
    expectRefused("shape", "shape/model.safetensors, tensor transformer.wpe.weight", "shape [48, 16]");
  });

  it("of an unknown architecture", () => {
    broken("mistral", editConfig({ model_type: "mistral" }));
    expectRefused("mistral", "mistral/config.json", 'model_type = "mistral"');
  });

  it("with an impossible config", () => {
    broken("heads", editConfig({ n_head: 3 }));
    expectRefused("heads", "heads/config.json", "n_head = 3");
  });

  it("that is not there", () => {
    const { status, stderr } = valuehead(cwd, "info", "--model", "./nowhere");
    expect(status).toBe(2);
    expectProblem(stderr, 'model "./nowhere"', "no such directory");
  });
});

describe("prompts", () => {
  it("an empty file, as a JSON object with --json", () => {
    writeFileSync(at("empty.txt"), "");
    const { status, stdout, stderr } = valuehead(
      cwd,
      "train",
      "--model",
      "m",
      "--prompts",
      "empty.txt",
      "--reward",
      "length",
      "--out",
      "x",
      "--json",
    );
    expect([status, stdout]).toEqual([1, ""]);
    expect(jsonLines(stderr)).toEqual([
      {
        error: {
          kind: "data",
          where: "empty.txt",
          found: "nothing in it",
          expected: "at least one prompt",
          fix: "write one prompt per line",
        },
      },
    ]);
    expect(existsSync(at("x"))).toBe(false);
  });

  it("longer than the context", () => {
    writeFileSync(at("long.txt"), `short\n${"good ".repeat(60)}\n`);
    const { status, stderr } = train("--prompts", "long.txt", "--model", "m", "--reward", "length", "--out", "x");
    expect(status).toBe(1);
    expectProblem(stderr, "prompt 2 (", "61 tokens");
    expect(stderr).toContain("at most 44");
    expect(existsSync(at("x"))).toBe(false);
  });
});

describe("a reward module", () => {
  const failing = (name: string, source: string) => {
    writeFileSync(at(name), source);
    const { status, stderr } = train("--model", "m", "--reward", `./${name}`, "--out", `run-${name}`, "--steps", "2");
    expect(status).toBe(1);
    return stderr;
  };

  it("that throws; --debug shows where", () => {
    const stderr = failing("throws.mjs", "export default () => { throw new Error('no key'); };");
    expectProblem(stderr, `reward ${at("throws.mjs")}`, "an exception (no key)");
    const debug = train("--model", "m", "--reward", "./throws.mjs", "--out", "run-debug", "--debug");
    expect(debug.stderr).toContain("    at ");
  });

  it("that returns too few scores", () =>
    expectProblem(failing("few.mjs", "export default (batch) => batch.slice(1).map(() => 0);"), "reward ", "3 scores"));

  it("that returns NaN", () =>
    expectProblem(
      failing("nan.mjs", "export default (batch) => batch.map((_, i) => (i === 2 ? NaN : 0));"),
      `reward ${at("nan.mjs")}, score 2 of 4`,
      "NaN",
    ));

  it("without a default function, or not there", () => {
    expectProblem(failing("empty.mjs", "export const reward = 1;"), "./empty.mjs", "no default function");
    expect(existsSync(at("run-empty.mjs"))).toBe(false);
    const { status, stderr } = train("--model", "m", "--reward", "./nowhere.mjs", "--out", "x");
    expect(status).toBe(2);
    expectProblem(stderr, "./nowhere.mjs", "nothing at this path");
  });

  it("that fails late: checkpoints and logs written before stay whole, and the run resumes from them", () => {
    writeFileSync(
      at("late.mjs"),
      "let n = 0; export default (batch) => { if (++n > 2) throw new Error('late'); return batch.map(() => 0); };",
    );
    const late = train("--model", "m", "--reward", "./late.mjs", "--out", "late", "--steps", "4", "--save-every", "1");
    expect(late.status).toBe(1);
    expect(readdirSync(at("late")).filter((name) => name.startsWith("checkpoint"))).toEqual([
      "checkpoint-1",
      "checkpoint-2",
    ]);
    expect(jsonLines(readFileSync(at("late", "metrics.jsonl"), "utf8")).map((m) => m.step)).toEqual([1, 2]);
    const { status, stderr } = valuehead(
      cwd,
      "train",
      "--resume",
      "--out",
      "late",
      "--prompts",
      "p.txt",
      "--reward",
      "length",
      "--steps",
      "3",
    );
    expect(status, stderr).toBe(0);
    expect(stderr).toContain("resuming after step 2");
  });
});

it("resuming where nothing was saved", () => {
  const { status, stderr } = train("--resume", "--out", "m", "--reward", "length");
  expect(status).toBe(1);
  expect(stderr).toContain("valuehead train");
});
