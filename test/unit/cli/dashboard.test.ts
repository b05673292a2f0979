/** @file `train --dashboard` and `view`, as a user starts them. */
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import {
  buildCli,
  expectProblem,
  startValuehead,
  temporaryDirectory,
  valuehead,
  writeModel,
  writePrompts,
} from "../../support/cli.ts";

const cwd = temporaryDirectory();
const at = (...parts: string[]) => join(cwd, ...parts);
const run = ["train", "--model", "m", "--prompts", "p.txt", "--reward", "length", "--batch-size", "4"];
const sizes = ["--mini-batch-size", "2", "--max-new-tokens", "5", "--no-eval"];

beforeAll(async () => {
  buildCli();
  await writeModel(at("m"));
  writePrompts(at("p.txt"));
});

describe("train --dashboard", () => {
  it("shows a link, saves and stops when the page asks, and leaves a report", async () => {
    let asked: Promise<unknown> | undefined;
    const seen: Record<string, unknown> = {};
    const follow = async (link: string) => {
      const { origin, hash } = new URL(link);
      const headers = { Origin: origin, "X-Valuehead-Token": hash.replace("#token=", "") };
      const steps = async () => (await (await fetch(`${origin}/data`)).json()).runs[0];
      while ((await steps()).steps.length < 2) await new Promise((resolve) => setTimeout(resolve, 50));
      seen.refused = (await fetch(`${origin}/stop`, { method: "POST", headers: { Origin: origin } })).status;
      seen.saved = (await fetch(`${origin}/save`, { method: "POST", headers })).status;
      while (!readdirSync(at("live")).some((name) => /^checkpoint-\d+$/.test(name)))
        await new Promise((resolve) => setTimeout(resolve, 20));
      const { steps: taken, state } = await steps();
      seen.state = state;
      while ((await steps()).steps.length < taken.length + 2) await new Promise((resolve) => setTimeout(resolve, 50));
      seen.stopped = (await fetch(`${origin}/stop`, { method: "POST", headers })).status;
    };
    const { status, stderr } = await startValuehead(
      cwd,
      [...run, ...sizes, "--out", "live", "--steps", "100000", "--dashboard", "0"],
      undefined,
      {
        onStderr: (soFar) => {
          const link = /dashboard: (http:\/\/127\.0\.0\.1:\d+\/#token=[\w-]+)\n/.exec(soFar)?.[1];
          if (link) asked ??= follow(link);
        },
      },
    );
    await asked;
    expect(seen).toEqual({ refused: 403, saved: 200, state: "running", stopped: 200 });
    expect(status, stderr).toBe(130); // as after Ctrl-C
    expect(stderr).toContain("finishing this step, then saving");
    const events = readFileSync(at("live", "events.jsonl"), "utf8")
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(events.map(({ type }) => type)).toEqual(["loaded", "checkpoint", "checkpoint", "done"]);
    expect(statSync(at("live", "report.html")).size).toBeLessThan(2_000_000);
  });

  it("a port that is none is refused before anything begins", () => {
    const { status, stderr } = valuehead(cwd, ...run, ...sizes, "--out", "never", "--dashboard", "70000");
    expect(status).toBe(2);
    expectProblem(stderr, "--dashboard", "70000");
    expect(existsSync(at("never"))).toBe(false);
  });
});

describe("view", () => {
  it("--export writes the page of several runs into one file", () => {
    const { status, stdout, stderr } = valuehead(cwd, "view", "live", "live", "--export", "both.html");
    expect(status, stderr).toBe(0);
    expect(stdout).toMatch(/^both\.html {2}0\.\d MB\n$/);
    expect(readFileSync(at("both.html"), "utf8")).not.toMatch(/(src|href)="https?:/);
  });

  it.each([
    ["nothing", "no such directory"],
    ["m", "a directory without metrics.jsonl"],
    ["p.txt", "a file"],
  ])("of what is no run: %s", (name, found) => {
    const { status, stderr } = valuehead(cwd, "view", name);
    expect(status).toBe(2);
    expectProblem(stderr, name, found);
  });
});
