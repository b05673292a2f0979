/** @file A run directory names a reward module, which is code: it does not run without a word. What is advised is run as printed. */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { beforeAll, describe, expect, it } from "vitest";
import { recordedReward } from "../../../src/cli/confirm.ts";
import {
  buildCli,
  startValuehead,
  temporaryDirectory,
  valuehead,
  writeModel,
  writePrompts,
} from "../../support/cli.ts";

describe("recordedReward", () => {
  const ask = async (answer: string) => {
    const [input, output] = [new PassThrough(), new PassThrough()];
    let asked = "";
    output.on("data", (piece) => {
      asked += piece;
    });
    input.end(answer);
    const typed = ["train", "--resume", "--out", "a run"];
    const outcome = await recordedReward("/else/where.mjs", "a run/config.json", typed, { input, output }).catch(
      (e) => e,
    );
    return { asked, outcome };
  };

  it("asks at a terminal, and takes only yes for yes", async () => {
    for (const answer of ["y\n", "Yes\n"]) {
      const { asked, outcome } = await ask(answer);
      expect(asked).toContain(
        "a run/config.json names a reward module, which is a program:\n  /else/where.mjs\nRun it? [y/N] ",
      );
      expect(outcome).toBe("/else/where.mjs");
    }
    for (const answer of ["\n", "n\n", "yellow\n", ""]) {
      expect((await ask(answer)).outcome).toMatchObject({
        kind: "usage",
        problem: {
          found: "the module /else/where.mjs, which a run/config.json names and you did not agree to",
          fix: "if you know the module: valuehead train --resume --out 'a run' --reward /else/where.mjs",
        },
      });
    }
  });

  it("asks nothing of a built-in reward, and shows no escape codes", async () => {
    expect(await recordedReward("positive", "config.json", [], undefined)).toBe("positive");
    const error = await recordedReward("/x\u001b[2J.mjs", "config.json", ["train"], undefined).catch((e) => e);
    expect(error.message).toContain("/x\\u001b[2J.mjs");
    expect(error.message).not.toContain("\u001b");
  });
});

describe("train --resume", () => {
  const cwd = temporaryDirectory();
  const at = (...parts: string[]) => join(cwd, ...parts);
  beforeAll(async () => {
    buildCli();
    await writeModel(at("m"));
    writePrompts(at("p.txt"));
    mkdirSync(at("my rewards"));
    writeFileSync(
      at("my rewards", "mark.mjs"),
      'import { writeFileSync } from "node:fs";\nwriteFileSync("ran", "");\nexport default (b) => b.map(() => 1);',
    );
  });
  const RUN = [
    "train",
    "--model",
    "m",
    "--prompts",
    "p.txt",
    "--batch-size",
    "4",
    "--mini-batch-size",
    "4",
    "--out",
    "r",
  ];

  /** What stands in a line that begins with `valuehead`, as a shell would run it. */
  const words = (line: string) =>
    [...line.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain).slice(1);

  it("runs no module that only config.json names; the commands it advises do", async () => {
    let sent = false;
    const args = [...RUN, "--max-new-tokens", "3", "--steps", "200", "--reward", "./my rewards/mark.mjs"];
    const { status, stderr } = await startValuehead(cwd, args, (stdout, child) => {
      if (!sent && /^ +1 /m.test(stdout)) sent = child.kill("SIGINT");
    });
    expect(status, stderr).toBe(130);
    const steps = Number(/stopped after step (\d+)/.exec(stderr)?.[1]);
    const advice = words(/go on with\n {2}(valuehead .*)/.exec(stderr)?.[1] ?? "");
    expect(advice).toContain("./my rewards/mark.mjs");

    rmSync(at("ran"));
    const silent = advice.filter((word, i) => word !== "--reward" && advice[i - 1] !== "--reward");
    const refused = valuehead(cwd, ...silent, "--steps", String(steps + 1));
    expect(refused.status).toBe(2);
    expect(refused.stderr).toContain(`the module ${at("my rewards", "mark.mjs")}, which `);
    expect(existsSync(at("ran"))).toBe(false);

    const fix = words(/if you know the module: (valuehead .*)/.exec(refused.stderr)?.[1] ?? "");
    const resumed = valuehead(cwd, ...fix.filter((word, i) => word !== "--threads" && fix[i - 1] !== "--threads"));
    expect(resumed.status, resumed.stderr).toBe(0);
    expect(resumed.stderr).toContain(`resuming after step ${steps}`);
    expect(existsSync(at("ran"))).toBe(true);

    const again = valuehead(cwd, ...advice, "--steps", String(steps + 2));
    expect(again.status, again.stderr).toBe(0);
    expect(JSON.parse(readFileSync(at("r", "config.json"), "utf8")).reward).toBe(at("my rewards", "mark.mjs"));
  });
});
