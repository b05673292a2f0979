/** @file The terminal's table of a run: columns of what the run has. */
import { afterEach, expect, test, vi } from "vitest";
import { groupDisplay, RunView } from "../../../src/cli/run-view.ts";
import type { Metrics } from "../../../src/rl/metrics.ts";

afterEach(() => {
  vi.restoreAllMocks();
});

test("no column for a KL that is not measured", async () => {
  const lines: string[] = [];
  vi.spyOn(process.stdout, "write").mockImplementation((text) => lines.push(String(text)) > 0);
  vi.spyOn(process.stderr, "write").mockReturnValue(true);
  const shown = async (metrics: Metrics) => {
    const view = new RunView({ display: groupDisplay(4), out: "o", steps: 1 });
    await view.event({ type: "step", step: 1, steps: 1, metrics, samples: [] });
    await view.close();
    return lines.splice(0).map((line) => line.trim().split(/ +/));
  };
  const scores: Metrics = { "env/reward_mean": 1 };
  const [titles, numbers] = await shown({ ...scores, "objective/kl": 2 });
  expect([titles.slice(0, 3), numbers.slice(0, 3)]).toEqual([
    ["step", "reward", "KL"],
    ["1", "1.000", "2.000"],
  ]);
  const [others] = await shown(scores);
  expect(others.slice(0, 3)).toEqual(["step", "reward", "in"]);
});
