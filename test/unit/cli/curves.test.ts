import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { Curves, curveLines } from "../../../src/cli/curves.ts";
import { widthOf } from "../../../src/cli/output.ts";
import { buildCli, root, temporaryDirectory, writeModel, writePrompts } from "../../support/cli.ts";

const plain = (lines: readonly string[]) => lines.map((line) => line.replace(/[\da-f-]{36}\[\d+m/g, ""));
const numbers = (n: number, of: (step: number) => number) => {
  const steps = Array.from({ length: n }, (_, i) => i + 1);
  return { steps, values: steps.map(of) };
};
const RISING = { title: "reward", ...numbers(40, (step) => step) };
const BARS = " ▁▂▃▄▅▆▇█";
/** The height of each column of a picture, in eighths of a row. */
const heights = (lines: readonly string[]) => {
  const rows = lines.filter((line) => line.includes("│")).map((line) => [...line.slice(line.indexOf("│") + 1)]);
  return rows[0].map((_, c) => rows.reduce((sum, row) => sum + BARS.indexOf(row[c]), 0));
};

describe("a picture of numbers", () => {
  test("is as high as they are, and says from where to where", () => {
    const lines = plain(curveLines([RISING], 100));
    expect(lines[1].trim()).toBe("reward");
    expect(lines[2]).toMatch(/^40.0 │/);
    expect(lines[6]).toMatch(/^ 1.0 │▁/);
    expect(lines[7]).toMatch(/^ {6}1 +40$/);
    // 5 rows of 8 eighths for 40 different numbers: each one eighth above the last.
    expect(heights(lines)).toEqual(RISING.values);
  });

  test("of a KL begins at zero; of one number only there is none; of equal numbers it is flat", () => {
    const { steps } = RISING;
    const flat = plain(curveLines([{ title: "KL", steps, values: steps.map(() => 3), fromZero: true }], 100));
    expect(new Set(heights(flat))).toEqual(new Set([40]));
    expect(flat[6]).toMatch(/^0.00 │/);
    expect(curveLines([{ title: "KL", steps: [1], values: [3] }], 100)).toEqual([]);
    expect(new Set(heights(plain(curveLines([{ title: "loss", steps, values: steps.map(() => 3) }], 100)))).size).toBe(
      1,
    );
  });

  test("has means of many steps in a column, and several columns for each of few", () => {
    const many = heights(plain(curveLines([{ title: "r", ...numbers(5000, (step) => step % 2) }], 100)));
    expect(new Set(many).size).toBe(1);
    expect(many).toHaveLength(50);
    const few = heights(plain(curveLines([{ title: "r", ...numbers(3, (step) => step) }], 100)));
    expect(few).toEqual([1, 21, 40].flatMap((height) => Array(16).fill(height)));
    expect(curveLines([{ title: "r", ...numbers(300_000, (step) => step) }], 100)).toHaveLength(8);
  });

  test.each([40, 60, 79, 80, 120, 160])("is no wider than a terminal of %d columns", (width) => {
    const KL = { title: "KL to the reference, nats", ...numbers(5000, (step) => step * 1e7), fromZero: true };
    const lines = curveLines([RISING, KL], width);
    for (const line of lines) expect(widthOf(line)).toBeLessThanOrEqual(width);
    expect(lines).toHaveLength(width < 72 ? 16 : 8); // below or beside each other
  });

  test("leaves out what is no number, and says of which steps the rest is", () => {
    const curves = new Curves([{ title: "loss", metric: "eval/loss" }]);
    const losses = [undefined, 2, undefined, Number.NaN, 1, Number.POSITIVE_INFINITY];
    for (const [i, loss] of losses.entries()) curves.add(i + 1, { "eval/loss": loss });
    expect(curves.curves).toEqual([{ title: "loss", fromZero: undefined, steps: [2, 5], values: [2, 1] }]);
  });
});

describe.skipIf(process.platform !== "linux" || spawnSync("script", ["--version"]).status !== 0)("a run", () => {
  const cwd = temporaryDirectory();
  beforeAll(async () => {
    buildCli();
    await writeModel(join(cwd, "m"));
    writePrompts(join(cwd, "p.txt"));
  });
  const sizes = "--steps 3 --batch-size 4 --max-new-tokens 4 --no-eval --threads 1";
  const command = `${process.execPath} ${root}/bin/valuehead.js train --model m --prompts p.txt --reward length ${sizes}`;

  test("ends with pictures in a terminal, and with none where its output goes elsewhere", () => {
    const script = `stty cols 90; ${command} --out a`;
    const inTerminal = spawnSync("script", ["-qec", script, "/dev/null"], { cwd, encoding: "utf8" });
    expect(inTerminal.status, inTerminal.stdout).toBe(0);
    expect(inTerminal.stdout).toMatch(/mean reward by step.*KL to the reference, nats/);
    expect(inTerminal.stdout).toMatch(/│.*▁.*│.*▁/);
    const piped = spawnSync("bash", ["-c", `${command} --out c`], { cwd, encoding: "utf8" });
    expect(piped.status, piped.stderr).toBe(0);
    expect(piped.stdout).toContain("Checkpoint after step 3");
    expect(piped.stdout).not.toContain("▁");
  });
});
