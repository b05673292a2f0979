/**
 * @file Rewards that do what they should not: whatever they do, the steps before are saved, and what happened is named. Each is a run
 * of the command line. docs/prompts-and-rewards.md has the table.
 */
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { limiter } from "../../src/experience/patience.ts";
import { buildCli, jsonLines, startValuehead, temporaryDirectory, writeModel, writePrompts } from "../support/cli.ts";

const cwd = temporaryDirectory();
const at = (...parts: string[]) => join(cwd, ...parts);
beforeAll(async () => {
  buildCli();
  await writeModel(at("m"));
  writePrompts(at("p.txt"));
});

/** Two at a time, for they mostly wait. */
const inTurn = limiter(2);

const BASE = ["train", "--model", "m", "--prompts", "p.txt", "--batch-size", "4", "--mini-batch-size", "4"];
const SMALL = [...BASE, "--max-new-tokens", "3", "--ppo-epochs", "1", "--steps", "3", "--reward-retries", "0"];

function run(name: string, source: string, flags: readonly string[] = [], more: Record<string, string> = {}) {
  const module = name.includes(".") ? name : `${name}.mjs`;
  writeFileSync(at(module), source);
  const out = `run-${name}`;
  return inTurn(async () => {
    const end = await startValuehead(cwd, [...SMALL, "--reward", `./${module}`, "--out", out, ...flags], undefined, {
      more,
    });
    const names = existsSync(at(out)) ? readdirSync(at(out)) : [];
    return {
      ...end,
      saved: names.filter((n) => n.startsWith("checkpoint")),
      begun: names.length > 0,
      file: at(module),
    };
  });
}

/** A reward that is good for one call; what it does in the second stands in line 3. */
const second = (deed: string, setUp = "") => `${setUp}let calls = 0;
export default async (batch) => { if (++calls === 2) {
${deed}
} return batch.map(() => calls); };`;

const NO_ANSWER = "no answer within 10 seconds with 4 samples, the first: prompt ";
const limited = ["--reward-timeout", "10"]; // enough for the answer of the first step on a loaded machine
const never = "await new Promise(() => {});";

/** What stops a run at its second step. FILE stands for the module. */
const stops: [name: string, source: string, found: string, flags?: string[], more?: Record<string, string>][] = [
  ["endless loop", second("for (;;);"), NO_ANSWER, limited],
  ["never answers", second(never), NO_ANSWER, limited],
  ["process.exit(0)", second("process.exit(0);"), "the end of its process (exit code 0, by process.exit at FILE:3:9)"],
  [
    "process.exit(1) in a timer",
    second(`setTimeout(() => process.exit(1)); ${never}`),
    "the end of its process (exit code 1, by process.exit at FILE:3:26)",
  ],
  [
    "stray rejection",
    second(`setTimeout(() => Promise.reject(Error("lost")), 20); ${never}`),
    "a rejected Promise that nothing awaited (lost) at FILE:3:33",
  ],
  [
    "throw in a timer",
    second(`setTimeout(() => { throw new RangeError("late"); }, 20); ${never}`),
    "an error that nothing caught (RangeError: late) at FILE:3:26",
  ],
  [
    "error event that nobody hears",
    second(`new (await import("node:events")).EventEmitter().emit("error", new Error("deaf"));`),
    "an exception (deaf) at FILE:3:64, with 4 samples",
  ],
  [
    "throws with a cause",
    second(`throw new Error("no judge", { cause: new TypeError("bad key") });`),
    "an exception (no judge) at FILE:3:7, caused by TypeError: bad key at FILE:3:38, with 4 samples",
  ],
  [
    "throws a string",
    second(`throw "tired";`),
    'an exception (what was thrown is no Error but the string "tired"), with',
  ],
  ["throws undefined", second("throw undefined;"), "an exception (what was thrown is no Error but undefined), with"],
  [
    "TypeError, with repetitions",
    second("batch[9].response;"),
    "an exception (TypeError: Cannot read properties of undefined (reading 'response')) at FILE:3:10, with 4 samples",
    ["--reward-retries", "2"],
  ],
  [
    "recursion without end",
    second("const f = () => f() + 1; f();"),
    "an exception (RangeError: Maximum call stack size exceeded) at FILE:3:",
  ],
  [
    "eats all memory",
    second("for (const all = []; ; ) all.push(new Array(1e5).fill(calls + all.length));"),
    "no memory left in its process",
    [],
    { NODE_OPTIONS: "--max-old-space-size=96" },
  ],
  ["aborts", second("process.abort();"), "the end of its process (signal SIGABRT)"],
  ["crashes", second(`process.kill(process.pid, "SIGSEGV"); ${never}`), "the end of its process (signal SIGSEGV)"],
  ["is killed", second(`process.kill(process.pid, "SIGKILL"); ${never}`), "the end of its process (signal SIGKILL)"],
  ["returns a word", second(`return "high";`), 'the string "high"'],
  ["returns what cannot be sent", second("return new Map([[0, () => 1]]);"), "a Map"],
  ["returns too few scores", second("return [1, 2, 3];"), "3 scores"],
  ["returns NaN", second("return batch.map((_, i) => (i === 2 ? NaN : 0));"), "NaN"],
];

describe("stops the run at its second step: the first is saved, the cause named", () => {
  it.concurrent.each(stops)("%s", async (name, source, found, flags, more) => {
    const { status, stderr, saved, file } = await run(name.replace(/\W+/g, "-"), source, flags, more);
    expect(stderr).toContain(`  found     ${found.replaceAll("FILE", file)}`);
    expect(stderr).toMatch(/\n {2}expected {2}\S.*\n {2}fix {7}\S.*\n$/); // the last word, and no stack
    expect(stderr).toContain(`error: reward ${file}`);
    expect(stderr).not.toContain("this is a bug");
    expect(stderr).not.toContain("the next in"); // no repetition
    expect([status, saved]).toEqual([1, ["checkpoint-1"]]);
  });
});

/** What does not even load. */
const unusable: [name: string, source: string, found: string, flags?: string[]][] = [
  [
    "syntax-error.mjs",
    "const a = 1;\nexport default (batch) => batch.map(=> 1);",
    "an error while the module loaded (SyntaxError: Unexpected token '=>') at FILE:2",
  ],
  [
    "throws-at-import.mjs",
    "\nthrow new Error('no lexicon');",
    "an error while the module loaded (no lexicon) at FILE:2:7",
  ],
  [
    "exits-at-import.mjs",
    "process.exit(0);",
    "the end of its process while it loaded (exit code 0, by process.exit at FILE:1:9)",
  ],
  ["no-default.mjs", "export const reward = () => [];", "no default function among the exports (reward)"],
  ["loops-at-import.mjs", "for (;;);", "no end of loading within 10 seconds", limited],
  ["waits-at-import.mjs", `${never} export default () => [];`, "no end of loading within 10 seconds", limited],
];

describe("does not load: no run is begun", () => {
  it.concurrent.each(unusable)("%s", async (name, source, found, flags) => {
    const { status, stderr, begun, file } = await run(name, source, flags);
    expect(stderr).toContain(`  found     ${found.replaceAll("FILE", file)}`);
    expect([status, begun]).toEqual([1, false]);
  });
});

/** What is bad manners, and no more. */
const harmless: [name: string, source: string][] = [
  [
    "empties and changes the batch",
    second("const n = batch.length; batch[0].response = null; batch.length = 0; return Array(n).fill(1);"),
  ],
  ["prints", second('console.log("to stdout"); process.stdout.write("more\\n"); console.error("to stderr");')],
  ["prints 20 MB", second('for (let i = 0; i < 200; i++) console.log("x".repeat(100_000));')],
  ["leaves a timer running", second("setInterval(() => {}, 1000);")],
  [
    "closes its streams",
    second("process.stdin.destroy(); process.stdout.destroy(); process.stderr.end(); console.log(1);"),
  ],
  ["changes directory", second('process.chdir("/");')],
  ["removes handlers of signals", second('for (const s of ["SIGINT", "SIGTERM"]) process.removeAllListeners(s);')],
  ["is slow", second("await new Promise((resolve) => setTimeout(resolve, 700));")],
];

describe("does no harm", () => {
  it.concurrent.each(harmless)("%s", async (name, source) => {
    const { status, stdout, stderr, saved } = await run(name.replace(/\W+/g, "-"), source, ["--json"]);
    const [printed] = stderr.split('{"error"');
    expect(status, stderr.slice(0, 2000)).toBe(0);
    expect(saved).toEqual(["checkpoint-3"]);
    expect(jsonLines(stdout).at(-1)).toMatchObject({ type: "done", step: 3, interrupted: false }); // every line is JSON
    if (name === "prints") expect(printed).toMatch(/^to stdout\nmore\n/);
    if (name === "prints") expect(printed).toContain("to stderr\n");
    if (name === "prints 20 MB") expect(printed.length).toBe(200 * 100_001);
  });

  it("fails once, in whatever way: it is called again in a process that is fresh where need be", async () => {
    const once = (deed: string) =>
      `import { existsSync, writeFileSync } from "node:fs";
export default async (batch) => { const mark = import.meta.filename + ".once"; if (!existsSync(mark)) {
writeFileSync(mark, ""); ${deed}
} return batch.map(() => 1); };`;
    const deeds: [string, string, string, string[]?][] = [
      ["busy", 'throw new Error("busy");', "busy at FILE:3:"],
      ["exits", "process.exit(3);", "the end of its process (exit code 3, by process.exit at FILE:3:"],
      ["stuck", "for (;;);", "no answer within 10 seconds; ", limited],
    ];
    const ends = deeds.map(async ([name, deed, warning, flags = []]) => {
      const { status, stdout, stderr, file, saved } = await run(name, once(deed), [
        "--json",
        "--reward-retries",
        "1",
        ...flags,
      ]);
      expect(status, stderr).toBe(0);
      expect(saved).toEqual(["checkpoint-3"]);
      const warnings = jsonLines(stdout).filter(({ type }) => type === "warning");
      expect(warnings).toHaveLength(1);
      expect(warnings[0].message).toContain(`reward ${file}: ${warning.replace("FILE", file)}`);
      expect(warnings[0].message).toContain("call 1 of 2, the next in 1 s");
    });
    await Promise.all(ends);
  });
});
