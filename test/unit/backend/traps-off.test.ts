/** @file The traps of ONNX Runtime 1.30.0 with the handling switched off: what traps.test.ts checks is not so by itself. */
import os from "node:os";
import { expect, test } from "vitest";
import { largestProducts, Session } from "../../../src/backend/ort-node.ts";
import { add } from "../../../src/graph/ops/index.ts";
import { input } from "../../../src/graph/tensor.ts";
import { bytesAllocated } from "../../support/allocations.ts";
import { denormalCounts } from "../../support/denormals.ts";
import { residentOverLive } from "../../support/memory.ts";
import { lacksAll } from "../../support/processor.ts";
import { scatterNDRows, scatterSession } from "../../support/scatter-nd.ts";
import { cpuInPauses } from "../../support/spinning.ts";

// The kernels of older processors write zeros by themselves.
const keepsDenormals = !lacksAll("avx512f");
// First in the file: the first session of the process decides. With the sentinel the first session would be its probe.
test.runIf(keepsDenormals)("denormal results are kept", () => {
  const { softmax, exp } = denormalCounts({ flushDenormals: false, sentinel: false });
  // exp(-88) .. exp(-103) are denormal, exp(-104) and below are zero in float32.
  expect(softmax.denormal).toBeGreaterThanOrEqual(4 * 14);
  expect(exp.denormal).toBeGreaterThanOrEqual(4 * 14);
});

test.runIf(keepsDenormals)("switching it on in a later session is too late", () => {
  expect(denormalCounts({ flushDenormals: true }).softmax.denormal).toBeGreaterThanOrEqual(4 * 14);
});

test("the memory pattern doubles memory", () => {
  expect(residentOverLive({ noMemoryPattern: false })).toBeGreaterThan(1.8);
});

test("without the sentinel every output is allocated again; the numbers are the same", () => {
  const n = 4 << 20; // 16 MB
  const x = input("x", { n });
  const session = new Session(
    { name: "double", outputs: { y: add(x, x) } },
    { threads: 1, traps: { sentinel: false } },
  );
  const feed = new Float32Array(n).fill(1.5);
  const y = new Float32Array(n);
  // The largest of a few: a collection of older garbage in between is counted against one of them.
  const allocated = Array.from({ length: 5 }, () => bytesAllocated(() => session.run({ x: feed }, { y })));
  expect(Math.max(...allocated)).toBeGreaterThanOrEqual(4 * n);
  expect(y.every((v) => v === 3)).toBe(true);
  session.dispose();
});

test.skipIf(os.availableParallelism() < 2)("ScatterND loses updates on two threads, and on one it does not", () => {
  const one = scatterSession(scatterNDRows, 1, { refuseScatterND: false });
  for (let i = 0; i < 20; i++) expect(one.isRight()).toBe(true);
  one.dispose();
  const two = scatterSession(scatterNDRows, 2, { refuseScatterND: false });
  let right = true;
  for (const start = Date.now(); right && Date.now() - start < 15_000; ) right = two.isRight();
  two.dispose();
  expect(right).toBe(false);
});

test.skipIf(os.availableParallelism() < 2)("threads spin after a run, on a core the next session needs", async () => {
  const spent = await cpuInPauses({ stopSpinning: false }); // in 30 pauses of 10 ms
  expect(spent).toBeGreaterThan(150);
});

test.runIf(lacksAll("avx512_vnni", "avx_vnni"))("pairs of integer products are cut off at 16 bits", () => {
  for (const product of largestProducts({ wideSums: false })) expect(product).toBeLessThan(0.6 * 64 * 127);
});
