/** @file What a terminal gets to see: widths, colour, and nothing that commands it. */
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import stringWidth from "string-width";
import { afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import {
  fittingColumns,
  padEnd,
  print,
  printJson,
  shorten,
  sideBySide,
  style,
  widthOf,
  wrap,
} from "../../../src/cli/output.ts";
import { fitting } from "../../../src/cli/progress.ts";
import { buildCli, root, temporaryDirectory, writeModel, writePrompts } from "../../support/cli.ts";

const cwd = temporaryDirectory();
beforeAll(async () => {
  buildCli();
  await writeModel(join(cwd, "m"));
  writePrompts(join(cwd, "p.txt"), 100);
});

const ESCAPE = "\u001b";
/** The command, with nothing else in the environment that says how to print. */
function run(env: NodeJS.ProcessEnv, ...args: string[]) {
  const { NO_COLOR, FORCE_COLOR, COLUMNS, TERM, ...rest } = process.env;
  const bin = join(root, "bin", "valuehead.js");
  const options = { cwd, env: { ...rest, HF_HUB_OFFLINE: "1", ...env }, encoding: "utf8" } as const;
  const { stdout, stderr } = spawnSync(process.execPath, [bin, ...args], options);
  return { stdout, stderr, lines: `${stdout}${stderr}`.split("\n") };
}
/** What is to be copied stays on one line, however long. */
const toCopy = (line: string) => /^ +valuehead /.test(line);
const train = ["train", "--model", "m", "--prompts", "p.txt", "--reward", "length", "--threads", "1"];
const small = ["--steps", "1", "--batch-size", "4", "--max-new-tokens", "4"];

describe("nothing is wider than the terminal", () => {
  it.each([60, 80, 120])("at %d columns: help, a run to its end, a table of tokens, a model, an error", (width) => {
    const env = { COLUMNS: `${width}` };
    const shown = [
      ...["train", "demo", "generate", "score", "pretrain", "info"].map((name) => run(env, name, "--help")),
      run(env, ...train, ...small, "--out", `r${width}`),
      run(
        env,
        "score",
        "--model",
        "m",
        "--threads",
        "1",
        "--text",
        "I like\tthese \u65e5\u672c\u8a9e films, unbelievably",
      ),
      run(env, "info", "--model", "m"),
      run(env, "train", "--report-to", "x"),
    ];
    for (const { lines } of shown)
      for (const line of lines) if (!toCopy(line)) expect(widthOf(line), line).toBeLessThanOrEqual(width);
    const [, , , , , , run_] = shown;
    expect(/value loss/.test(run_.stdout)).toBe(width >= 80);
    expect(run_.stdout).toMatch(/^ +step +reward +KL +KL coef/m);
    expect(run_.stdout).toMatch(/BEFORE +\| AFTER\n/);
    expect(run_.stdout).toMatch(/before +-?\d.*\n +after .*\n +difference /);
    expect(run_.stderr).toMatch(/10 of 100 prompts are held out/);
  });

  it("the least important columns of a table go first, the bar's facts from the end", () => {
    const columns = [
      { title: "a", width: 5 },
      { title: "b", width: 5, keep: 1 },
      { title: "c", width: 5, keep: 2 },
    ];
    const titles = (width: number) => fittingColumns(columns, width).map(({ title }) => title);
    expect([titles(15), titles(14), titles(9), titles(1)]).toEqual([["a", "b", "c"], ["a", "c"], ["a"], ["a"]]);
    expect(fitting(["step 1/2", "sampling 3/4", "5s left"], 22)).toBe("step 1/2, sampling 3/4");
    expect(fitting(["step 1/2", "sampling 3/4", "5s left"], 18)).toBe("step 1/2, 5s left");
    expect(fitting(["a fact without any room"], 10)).toBe("a fact wi\u2026");
  });
});

describe("letters of two columns and emoji keep columns straight", () => {
  const family = "\u{1f468}\u200d\u{1f469}\u200d\u{1f467}";

  it("widths, cutting, wrapping", () => {
    expect(["a", "\u65e5\u672c", family, "e\u0301", "\u{1fae0}"].map(widthOf)).toEqual([1, 4, 2, 1, 2]);
    expect(widthOf(style.bold("ab"))).toBe(2);
    expect([shorten("\u65e5\u672c\u8a9e", 5), shorten(`${family}${family}`, 3)]).toEqual([
      "\u65e5\u672c\u2026",
      `${family}\u2026`,
    ]);
    for (const line of wrap("\u65e5\u672c\u8a9e\u306f\u7a7a\u767d\u306a\u3057", 5))
      expect(widthOf(line)).toBeLessThanOrEqual(5);
    expect(wrap(`${family.repeat(3)}`, 2)).toEqual([family, family, family]);
    expect(padEnd("\u65e5", 4)).toBe("\u65e5  ");
  });

  it("widths are those of string-width", () => {
    const texts = [
      ...["Ångström", "naïve — “quoted”…", "Добрый день", "مرحبا", "שלום", "สวัสดีครับ", "नमस्ते", "tiếng Việt"],
      ...["漢字かなカナ", "ｶﾞｷﾞﾊﾟ", "ＡＢＣ１２３", "한국어", "한글".normalize("NFD"), "中文，标点。", "𠮷野家"],
      ...[
        "😀 👍🏽 ❤️ ❤ ☝🏽 ☃ ©️ ©",
        "👩‍👩‍👧‍👦🏳️‍🌈",
        "🇩🇪🇯🇵 🇩",
        "1️⃣ #️⃣ 1⃣ 1",
        "🫠⌚⏳⭐",
        "\u200b\ufeff\u00ad",
        "a\u0301\u0327",
        "\u0000\t\n",
      ],
      ...["→ ≤ ½ ° ± • █▓░ ┌─┐", "\ud800", ""],
    ];
    for (const text of texts) {
      expect(widthOf(text), JSON.stringify(text)).toBe(stringWidth(text));
      for (const letter of text) expect(widthOf(letter), JSON.stringify(letter)).toBe(stringWidth(letter));
    }
  });

  it("beside each other", () => {
    const lines = sideBySide(`\u65e5\u672c\u8a9e ${family} film`, "b \u{1f600} c", 23);
    for (const line of lines) expect(widthOf(line.slice(0, line.indexOf("|")))).toBe(11);
  });
});

describe("colour", () => {
  const help = (env: NodeJS.ProcessEnv) => run(env, "score").stderr;

  it("none in a pipe, under NO_COLOR, with TERM=dumb, with --json; FORCE_COLOR brings it", () => {
    for (const env of [
      {},
      { NO_COLOR: "1" },
      { TERM: "dumb" },
      { NO_COLOR: "1", FORCE_COLOR: "1" },
      { FORCE_COLOR: "0" },
    ])
      expect(help(env)).not.toContain(ESCAPE);
    expect(help({ FORCE_COLOR: "1" })).toContain(`${ESCAPE}[31merror:${ESCAPE}[39m`);
    expect(run({ FORCE_COLOR: "1" }, "score", "--json").stderr).not.toContain(ESCAPE);
  });

  const printed = (terminal: Partial<NodeJS.WriteStream>, environment: Record<string, string>) => {
    const lines: string[] = [];
    for (const name of ["NO_COLOR", "FORCE_COLOR", "TERM"]) vi.stubEnv(name, environment[name]);
    vi.spyOn(process.stdout, "write").mockImplementation((text) => lines.push(String(text)) > 0);
    const before = { isTTY: process.stdout.isTTY, getColorDepth: process.stdout.getColorDepth };
    Object.assign(process.stdout, terminal);
    print(style.red("x"));
    Object.assign(process.stdout, before);
    vi.restoreAllMocks();
    return lines.join("");
  };
  afterEach(() => vi.unstubAllEnvs());

  it("where the terminal has it", () => {
    const terminal = { isTTY: true, getColorDepth: () => 4 } as Partial<NodeJS.WriteStream>;
    expect(printed(terminal, { TERM: "xterm" })).toBe(`${ESCAPE}[31mx${ESCAPE}[39m\n`);
    expect(printed(terminal, { TERM: "dumb" })).toBe("x\n");
    expect(printed(terminal, { TERM: "xterm", NO_COLOR: "1" })).toBe("x\n");
    expect(printed({ isTTY: true, getColorDepth: () => 1 } as Partial<NodeJS.WriteStream>, { TERM: "vt100" })).toBe(
      "x\n",
    );
    expect(printed({ isTTY: false } as Partial<NodeJS.WriteStream>, { TERM: "xterm" })).toBe("x\n");
  });
});

describe("control characters from files are shown, not obeyed", () => {
  const evil = `${ESCAPE}[2J${ESCAPE}]0;owned\u0007\u009b31m`;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  const commands = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/;

  it("names of columns, prompts, paths, and what a model is given", () => {
    writeFileSync(join(cwd, "evil.json"), JSON.stringify([{ [`col${evil}`]: "x", other: "y" }]));
    writeFileSync(join(cwd, "evil.jsonl"), `${JSON.stringify({ prompt: `hi ${evil}` })}\n`);
    const reader = ["generate", "--model", "m", "--threads", "1", "--max-new-tokens", "2"];
    for (const args of [
      [...reader, "--prompts", "evil.json"],
      [...reader, "--prompts", "evil.jsonl"],
      [...reader, "--prompts", "evil.jsonl", "--num", "2"],
      [...reader, "--prompts", "evil.jsonl", "--json"],
      [...reader, "--prompts", `none${evil}.txt`],
      ["score", "--model", "m", "--threads", "1", "--text", `a${evil}`],
      ["info", "--model", `./none${evil}`],
      [`comm${evil}`],
      ["train", `--opt${evil}`],
    ]) {
      const { stdout, stderr } = run({ FORCE_COLOR: "0" }, ...args);
      expect(`${stdout}${stderr}`, args.join(" ")).not.toMatch(commands);
      expect(`${stdout}${stderr}`).toContain("\\u001b");
    }
  });

  it("names of tensors and of files in a model", () => {
    mkdirSync(join(cwd, "evil"));
    for (const name of ["tokenizer.json", "tokenizer_config.json", "config.json"])
      copyFileSync(join(cwd, "m", name), join(cwd, "evil", name));
    const bytes = readFileSync(join(cwd, "m", "model.safetensors"));
    const end = 8 + Number(bytes.readBigUInt64LE(0));
    const header = JSON.parse(bytes.toString("utf8", 8, end));
    header[`extra${evil}`] = { dtype: "F32", shape: [0], data_offsets: [0, 0] };
    const text = Buffer.from(JSON.stringify(header));
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(text.length));
    writeFileSync(join(cwd, "evil", "model.safetensors"), Buffer.concat([length, text, bytes.subarray(end)]));
    writeFileSync(join(cwd, "evil", `file${evil}`), "");
    for (const args of [
      ["info", "--model", "evil"],
      ["score", "--model", "evil", "--text", "I", "--threads", "1"],
    ]) {
      const { stdout, stderr } = run({}, ...args);
      expect(`${stdout}${stderr}`).toContain("extra\\u001b[2J");
      expect(`${stdout}${stderr}`).not.toMatch(commands);
    }
  });

  it("what looks like our own colours is text too; JSON keeps its value", () => {
    const lines: string[] = [];
    vi.spyOn(process.stdout, "write").mockImplementation((text) => lines.push(String(text)) > 0);
    vi.stubEnv("NO_COLOR", undefined);
    vi.stubEnv("FORCE_COLOR", "1");
    print(`${ESCAPE}[31mx`);
    printJson({ a: evil });
    vi.restoreAllMocks();
    vi.unstubAllEnvs();
    expect(lines[0]).toBe("\\u001b[31mx\n");
    expect(lines[1]).not.toMatch(/[\u007f-\u009f]/);
    expect(JSON.parse(lines[1])).toEqual({ a: evil });
  });
});
