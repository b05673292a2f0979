/** @file Signals, and who is left behind: real processes, a reward in an endless loop. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { buildCli, startValuehead, temporaryDirectory, writeModel, writePrompts } from "../support/cli.ts";

const cwd = temporaryDirectory();
const at = (...parts: string[]) => join(cwd, ...parts);
beforeAll(async () => {
  buildCli();
  await writeModel(at("m"));
  writePrompts(at("p.txt"));
  // Says its process and that of a child it starts, is good for one call, and then in a loop.
  writeFileSync(
    at("loop.mjs"),
    `import { spawn } from "node:child_process";
const { pid } = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"], { stdio: "ignore" });
let calls = 0;
export default (batch) => {
  if (++calls > 1) { console.log("looping " + process.pid + " " + pid + " "); for (;;); }
  return batch.map(() => 1);
};`,
  );
});

const train = (out: string, reward: string) => [
  ...["train", "--model", "m", "--prompts", "p.txt", "--batch-size", "4", "--mini-batch-size", "4"],
  ...["--max-new-tokens", "3", "--save-every", "1", "--steps", "3", "--reward", reward, "--out", out],
];

/** As from a terminal, not through npm, which passes on what the terminal has already sent. */
const direct = { npm_command: undefined, npm_lifecycle_event: undefined } as unknown as Record<string, string>;

const gone = (pid: number) => {
  try {
    process.kill(pid, 0);
  } catch {
    return true;
  }
  const state = existsSync(`/proc/${pid}/stat`)
    ? readFileSync(`/proc/${pid}/stat`, "latin1").replace(/^.*\) /s, "")[0]
    : "";
  return state === "Z"; // ended, and only its parent has not asked for its end
};

async function expectGone(pids: number[]): Promise<void> {
  expect(pids).toHaveLength(2);
  for (let n = 0; n < 100 && !pids.every(gone); n++) await new Promise((resolve) => setTimeout(resolve, 50));
  expect(pids.filter((pid) => !gone(pid))).toEqual([]);
}

/** Run until the reward loops; then `first`, and when what that makes happen was said, `then`. */
async function whileLooping(out: string, first: NodeJS.Signals, then?: NodeJS.Signals) {
  let pids: number[] = [];
  let asked = false;
  const end = await startValuehead(cwd, train(out, "./loop.mjs"), undefined, {
    more: direct,
    onStderr: (soFar, child) => {
      const looping = /looping (\d+) (\d+) /.exec(soFar);
      if (looping && pids.length === 0) {
        pids = looping.slice(1).map(Number);
        child.kill(first);
      }
      if (!asked && then && soFar.includes("press Ctrl-C again to stop at once")) asked = child.kill(then);
    },
  });
  return { ...end, pids };
}

const checkpoints = (out: string) => readdirSync(at(out)).filter((name) => /^checkpoint-\d+$/.test(name));

describe("a reward in an endless loop", () => {
  it.each(["SIGINT", "SIGTERM"] as const)(
    "a second %s ends at once; what was saved stays, no process is left",
    async (name) => {
      const { signal, pids } = await whileLooping(`two-${name}`, name, name);
      expect(signal).toBe(name);
      expect(checkpoints(`two-${name}`)).toEqual(["checkpoint-1"]);
      await expectGone(pids);
    },
  );

  it("is not left behind when the program is killed", async () => {
    const { signal, pids } = await whileLooping("killed", "SIGKILL");
    expect(signal).toBe("SIGKILL");
    await expectGone(pids);
  });
});

it("a reward process that is killed by hand is started anew", async () => {
  const source =
    'export default (b) => { console.log("at " + process.pid + " "); return new Promise((r) => setTimeout(r, 300, b.map(() => 1))); }';
  writeFileSync(at("slow.mjs"), source);
  const seen = new Set<number>();
  const { status, stderr } = await startValuehead(cwd, train("by-hand", "./slow.mjs"), undefined, {
    onStderr: (soFar) => {
      for (const [, pid] of soFar.matchAll(/at (\d+) /g)) {
        if (seen.size === 0) process.kill(Number(pid), "SIGKILL");
        seen.add(Number(pid));
      }
    },
  });
  expect(status, stderr).toBe(0);
  expect(seen.size).toBe(2);
  expect(stderr).toContain("the end of its process (signal SIGKILL); call 1 of 3, the next in 1 s");
});

it("Ctrl-C while a reward works lets it finish; the reward does not hear it, and a closed terminal may say so twice", async () => {
  writeFileSync(
    at("wait.mjs"),
    `process.on("SIGINT", () => { console.log("heard"); process.exit(); });
export default (b) => { console.log("called "); return new Promise((r) => setTimeout(r, 400, b.map(() => 1))); }`,
  );
  for (const name of ["SIGINT", "SIGHUP"] as const) {
    let sent = false;
    const { status, stderr } = await startValuehead(cwd, train(name, "./wait.mjs"), undefined, {
      more: direct,
      onStderr: (soFar, child) => {
        if (sent || !soFar.includes("called ")) return;
        sent = child.kill(name);
        if (name === "SIGHUP") setTimeout(() => child.kill(name), 50);
      },
    });
    expect(status, stderr).toBe(130);
    expect(stderr).toContain(`everything is saved in ${name}/checkpoint-1`);
    expect(stderr).not.toContain("heard");
    expect(checkpoints(name)).toEqual(["checkpoint-1"]);
  }
});
