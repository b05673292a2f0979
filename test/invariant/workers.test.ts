/** @file Processes of the command line that fail: workers, trainer, server, connections. The long form is `npm run worker-faults`. */
import { beforeAll, expect, test } from "vitest";
import { faultTest } from "../../tools/worker-faults.ts";
import { buildCli, root, temporaryDirectory } from "../support/cli.ts";
import { hasServer } from "../support/nats.ts";

beforeAll(() => buildCli());

test.skipIf(!hasServer)(
  "with faults at random moments a run ends as one without, and counts nothing twice",
  async () => {
    const run = { root, directory: temporaryDirectory(), steps: 12 };
    const report = await faultTest(run, 5, 4, () => {}, ["plain"]);
    expect(report).toMatchObject({ differences: [], miscounted: 0 });
    expect(report.runs).toBeGreaterThan(0);
  },
  300_000,
);
