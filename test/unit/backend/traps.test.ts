/**
 * @file The traps of ONNX Runtime 1.30.0, handled. Each has its counterpart in traps-off.test.ts, where the handling is
 * switched off and the trap shuts: another file, because each file is a process and some traps are set once a process.
 */
import os from "node:os";
import { expect, test } from "vitest";
import { largestProducts, Session, zeroCopyWorks } from "../../../src/backend/ort-node.ts";
import { add, scatterAddRows } from "../../../src/graph/ops/index.ts";
import { input } from "../../../src/graph/tensor.ts";
import { bytesAllocated } from "../../support/allocations.ts";
import { denormalCounts } from "../../support/denormals.ts";
import { residentOverLive } from "../../support/memory.ts";
import { scatterNDRows, scatterSession } from "../../support/scatter-nd.ts";
import { cpuInPauses } from "../../support/spinning.ts";

// First in the file: the first session of the process decides.
test("denormal results are exactly zero", () => {
  const { softmax, exp } = denormalCounts({});
  // exp(-80) .. exp(-87) and the 1 are normal numbers; exp(-88) .. exp(-109) are not.
  expect(softmax).toEqual({ denormal: 0, zero: 4 * 22, normal: 4 * 9 });
  expect(exp).toEqual({ denormal: 0, zero: 4 * 22, normal: 4 * 9 });
});

test("a session with the switch off does not turn it off again", () => {
  expect(denormalCounts({ flushDenormals: false }).softmax.denormal).toBe(0);
});

test("memory stays near what is alive", () => {
  expect(residentOverLive({})).toBeLessThan(1.5);
});

test("the binding still stops at the sentinel", () => {
  expect(zeroCopyWorks()).toBe(true);
});

test("outputs are written into the caller's buffer and nowhere else", () => {
  const n = 4 << 20; // 16 MB
  const x = input("x", { n });
  const session = new Session({ name: "double", outputs: { y: add(x, x) } }, { threads: 1 });
  const feed = new Float32Array(n).fill(1.5);
  const y = new Float32Array(n);
  expect(bytesAllocated(() => session.run({ x: feed }, { y }))).toBeLessThan(1 << 20);
  expect(y.every((v) => v === 3)).toBe(true);
  session.dispose();
});

test("an output may be an input's buffer", () => {
  const x = input("x", { n: 5 });
  const session = new Session({ name: "step", outputs: { y: add(x, input("g", { n: 5 })) } }, { threads: 1 });
  const data = Float32Array.of(1, 2, 3, 4, 5);
  for (let i = 0; i < 3; i++) session.run({ x: data, g: new Float32Array(5).fill(10) }, { y: data });
  expect([...data]).toEqual([31, 32, 33, 34, 35]);
  session.dispose();
});

test("an error of the run itself is not taken for the sentinel", () => {
  const y = scatterAddRows(input("base", { V: 2, C: 1 }), input("ids", { N: 1 }, "int32"), input("u", { N: 1, C: 1 }));
  const session = new Session({ name: "outside", outputs: { y } }, { threads: 1 });
  const run = () =>
    session.run(
      { base: new Float32Array(2), ids: Int32Array.of(7), u: new Float32Array(1) },
      { y: new Float32Array(2) },
    );
  expect(run).toThrow(/^running outside: found .*7.*expected ONNX Runtime to accept it/s);
  session.dispose();
});

test("rows added twice are added twice, on two threads", () => {
  const session = scatterSession(scatterAddRows, 2);
  for (let i = 0; i < 50; i++) expect(session.isRight()).toBe(true);
  session.dispose();
});

test("a session refuses ScatterND", () => {
  expect(() => scatterSession(scatterNDRows, 1)).toThrow(
    "building scatter: found ScatterND, which loses updates to repeated indices on two threads, expected ScatterElements. " +
      "Fix: use scatterAddRows or scatterAddLast",
  );
});

test("products of integers are exact", () => {
  for (const product of largestProducts({})) expect(product).toBeCloseTo(64 * 127, 2);
});

test("buffers of the wrong kind or length are refused", () => {
  const x = input("x", { B: 2, T: 3 });
  const session = new Session({ name: "double", outputs: { y: add(x, x) } }, { threads: 1 });
  const right = new Float32Array(6);
  expect(() => session.run({}, { y: right })).toThrow(
    "input x of double: found nothing, expected [B=2, T=3]:float32. Fix: pass one buffer of that type and length",
  );
  expect(() => session.run({ x: new Int32Array(6) }, { y: right })).toThrow(
    "found Int32Array of 6, expected [B=2, T=3]",
  );
  expect(() => session.run({ x: right }, { y: new Float32Array(5) })).toThrow(
    "output y of double: found Float32Array of 5, expected [B=2, T=3]:float32",
  );
  session.dispose();
});

test.skipIf(os.availableParallelism() < 2)("threads sleep when a run is over", async () => {
  const spent = await cpuInPauses({}); // in 30 pauses of 10 ms
  expect(spent).toBeLessThan(100);
});
