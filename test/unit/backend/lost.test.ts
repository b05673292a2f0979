/** @file A GPU that is lost: what is under way ends with an error that says what to do, and so does everything after it. */
import { expect, test, vi } from "vitest";
import { WebGPU } from "../../../src/backend/webgpu.ts";
import type { GPURuntime, Memory } from "../../../src/backend/webgpu-runtime.ts";
import { add } from "../../../src/graph/ops/index.ts";
import { input } from "../../../src/graph/tensor.ts";

const memory: Memory = { gpuBuffer: {}, free: () => {} };
let runs = () => Promise.resolve({});
let lose = (_why: string) => {};
let runtime: GPURuntime;
vi.mock("../../../src/backend/webgpu-runtime.ts", () => ({ openGPU: () => runtime }));

function open(tells: boolean): WebGPU {
  const lost = new Promise<string>((resolve) => {
    lose = resolve;
  });
  const Tensor = Object.assign(class {}, { fromGpuBuffer: () => ({}) }) as unknown as GPURuntime["Tensor"];
  runtime = {
    Tensor,
    ...(tells && { lost }),
    compile: async () => ({ run: () => runs(), dispose: () => {} }),
    make: async () => memory,
    write: async () => {},
    read: async () => {},
  };
  return new WebGPU({ threads: 1 });
}
const x = input("x", { N: 2 });
const program = { name: "double", outputs: { y: add(x, x) } };
const said = (why: string) =>
  `device "webgpu": found a GPU that was lost while it was at work (${why}), expected one that stays: a driver that is restarted, a ` +
  "machine that sleeps, or too little memory of the GPU takes it away. Fix: start again (in a browser load the page anew) and resume the " +
  "run from its last checkpoint (--resume); where it happens again take a smaller miniBatchSize or rolloutBatchSize, or the device " +
  '"cpu" or "wasm"';

test("a run that would never end does, and what comes after it does not begin", async () => {
  const backend = open(true);
  const executable = await backend.compile(program);
  runs = () => new Promise(() => {});
  const [from, to] = [backend.buffer("float32", 2), backend.buffer("float32", 2)];
  const running = executable.run({ x: from }, { y: to });
  running.catch(() => {});
  await Promise.resolve();
  lose("A valid external Instance reference no longer exists.");
  await expect(running).rejects.toThrow(said("A valid external Instance reference no longer exists."));
  runs = () => Promise.resolve({});
  await expect(backend.write(from, Float32Array.of(1, 2))).rejects.toThrow("a GPU that was lost");
  await expect(backend.compile(program)).rejects.toMatchObject({ kind: "engine" });
});

test("where only errors tell: one that says so counts, any other does not", async () => {
  const backend = open(false);
  const executable = await backend.compile(program);
  const slots = [{ x: backend.buffer("float32", 2) }, { y: backend.buffer("float32", 2) }] as const;
  runs = () => Promise.reject(new Error("shapes do not fit"));
  await expect(executable.run(...slots)).rejects.toThrow("shapes do not fit");
  runs = () => Promise.reject(new Error("WebGPU device lost (2): out of memory"));
  await expect(executable.run(...slots)).rejects.toThrow(said("WebGPU device lost (2): out of memory"));
  runs = () => Promise.resolve({});
  await expect(executable.run(...slots)).rejects.toThrow("a GPU that was lost");
});
