/** @file What a reward module prints arrives, however slow its reader is and however soon the process is asked to end. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { rewardProcess } from "../../../src/run/reward-process.ts";
import { buildCli, temporaryDirectory } from "../../support/cli.ts";

const cwd = temporaryDirectory();
beforeAll(buildCli);

const sample = {
  prompt: "This",
  response: " film",
  text: "This film",
  row: {},
  tokens: [2],
  promptTokens: [1],
};

test("all of it is there when close() has ended", async () => {
  const path = join(cwd, "prints.mjs");
  writeFileSync(path, `export default (batch) => { console.log("x".repeat(8e6)); return batch.map(() => 1); };`);
  let received = 0;
  const reward = await rewardProcess(path, {
    onOutput: async (bytes) => {
      received += bytes.length;
      await new Promise((resolve) => setTimeout(resolve, 5)); // 8 MB come in about 120 pieces
    },
  });
  expect(await reward([sample as never])).toEqual([1]);
  expect(received).toBeLessThan(8e6); // the scores do not wait for a reader
  await reward.close();
  expect(received).toBe(8e6 + 1);
});
