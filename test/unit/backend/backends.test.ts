/** @file What every backend does: computes each operation of the registry, owns memory, checks what it is given. */
import { describe, expect, it, test, vi } from "vitest";
import { Engine } from "../../../src/backend/engine.ts";
import { OrtWeb } from "../../../src/backend/ort-web.ts";
import { add, scale, scatterAddRows, tanh } from "../../../src/graph/ops/index.ts";
import { operations } from "../../../src/graph/ops/registry.ts";
import { input, stored } from "../../../src/graph/tensor.ts";
import * as packages from "../../../src/platform/package.ts";
import { backends } from "../../support/backends.ts";
import { cases, compileCase } from "../../support/operations.ts";

describe.each(backends)("%s", (name, open) => {
  const backend = open();

  it("says what it is", () => {
    expect(backend.name).toBe(name);
    expect(backend.threads).toBe(2);
  });

  it.each([...operations.keys()])("computes %s", async (op) => {
    for (const c of cases.filter((one) => one.op === op)) {
      const { program, feeds, fetches } = compileCase(c);
      const executable = await backend.compile(program);
      await executable.run(feeds, fetches);
      executable.dispose();
      for (const [i, { data }] of c.outputs.entries())
        for (const [j, want] of data.entries()) {
          const gap = Math.abs(fetches[`y${i}`][j] - want) / (1 + Math.abs(want));
          if (!(gap <= 2e-6)) expect.fail(`output ${i}, element ${j}: got ${fetches[`y${i}`][j]}, want ${want}`);
        }
    }
  });

  it("takes numbers from its own memory and from the host's, and writes to either", async () => {
    const double = await backend.compile({ name: "double", outputs: { y: scale(x(3), 2) } });
    const [from, to] = [backend.buffer("float32", 3), backend.buffer("float32", 3)];
    const results = new Float32Array(3);
    await backend.write(from, Float32Array.of(1, 2, 3));
    await double.run({ x: from }, { y: to });
    await backend.read(to, results);
    expect([...results]).toEqual([2, 4, 6]);
    await double.run({ x: to }, { y: results });
    expect([...results]).toEqual([4, 8, 12]);
    await double.run({ x: results }, { y: from });
    await backend.read(from, results);
    expect([...results]).toEqual([8, 16, 24]);
    for (const buffer of [from, to]) backend.free(buffer);
    double.dispose();
  });

  it("keeps integers", async () => {
    const buffer = backend.buffer("int32", 2);
    expect([buffer.dtype, buffer.length]).toEqual(["int32", 2]);
    await backend.write(buffer, Int32Array.of(7, -(2 ** 31)));
    const back = new Int32Array(2);
    await backend.read(buffer, back);
    expect([...back]).toEqual([7, -(2 ** 31)]);
  });

  it("shares the memory that the host can see, where it can", async () => {
    const buffer = backend.buffer("float32", 2);
    await backend.write(buffer, Float32Array.of(1, 2));
    const host = backend.host(buffer);
    if (host) host[1] = 20;
    const back = new Float32Array(2);
    await backend.read(buffer, back);
    expect([...back]).toEqual(name === "cpu" ? [1, 20] : [1, 2]);
  });

  it.each(["its own memory", "the host's"])("writes a result where an input lies, in %s", async (where) => {
    const step = await backend.compile({ name: "step", outputs: { y: add(x(2), input("g", { N: 2 })) } });
    const start = Float32Array.of(1, 2);
    const slot = where === "the host's" ? start : backend.buffer("float32", 2);
    if (slot !== start) await backend.write(slot as ReturnType<typeof backend.buffer>, start);
    for (let i = 0; i < 3; i++) await step.run({ x: slot, g: Float32Array.of(10, 20) }, { y: slot });
    if (slot !== start) await backend.read(slot as ReturnType<typeof backend.buffer>, start);
    expect([...start]).toEqual([31, 62]);
    step.dispose();
  });

  it("has read a program's numbers when compile returns", async () => {
    const numbers = Float32Array.of(1, 2);
    const compiling = backend.compile({ name: "p", outputs: { y: add(x(2), stored(numbers, { N: 2 })) } });
    numbers.fill(100);
    const y = new Float32Array(2);
    await (await compiling).run({ x: Float32Array.of(10, 10) }, { y });
    expect([...y]).toEqual([11, 12]);
  });

  it("is told the size of a free axis at each run", async () => {
    const bias = stored(Float32Array.of(1, 2), { C: 2 });
    const program = { name: "p", free: ["N"], outputs: { y: add(input("x", { N: 2, C: 2 }), bias) } };
    const executable = await backend.compile(program);
    for (const N of [1, 3]) {
      const y = new Float32Array(2 * N);
      await executable.run({ x: new Float32Array(2 * N).fill(5) }, { y }, { N });
      expect([...y]).toEqual(Array.from({ length: N }, () => [6, 7]).flat());
    }
  });

  it("runs several programs at once", async () => {
    const [double, bend] = await Promise.all([
      backend.compile({ name: "double", outputs: { y: scale(x(2), 2) } }),
      backend.compile({ name: "bend", outputs: { y: tanh(x(2)) } }),
    ]);
    const results = Array.from({ length: 6 }, () => new Float32Array(2));
    await Promise.all(results.map((y, i) => (i % 2 ? bend : double).run({ x: Float32Array.of(i, -i) }, { y })));
    results.forEach((y, i) => {
      expect(y[0]).toBeCloseTo(i % 2 ? Math.tanh(i) : 2 * i, 6);
      expect(y[1]).toBe(-y[0]);
    });
  });

  it("refuses slots of the wrong kind or length, and says which", async () => {
    const double = await backend.compile({ name: "double", outputs: { y: scale(x(2), 2) } });
    const right = new Float32Array(2);
    await expect(double.run({}, { y: right })).rejects.toThrow(
      "input x of double: found nothing, expected [N=2]:float32. Fix: pass one buffer of that type and length",
    );
    await expect(double.run({ x: new Int32Array(2) }, { y: right })).rejects.toThrow("found Int32Array of 2");
    await expect(double.run({ x: right }, { y: backend.buffer("float32", 3) })).rejects.toThrow(
      "output y of double: found Float32Array of 3, expected [N=2]:float32",
    );
    const other = backends
      .find(([one]) => one !== name)?.[1]()
      .buffer("float32", 2);
    await expect(double.run({ x: other as NonNullable<typeof other> }, { y: right })).rejects.toThrow(
      "input x of double: found",
    );
  });

  it("reports what the runtime throws", async () => {
    const y = scatterAddRows(x(2, "base", 1), input("ids", { N: 1 }, "int32"), x(1, "u", 1));
    const outside = await backend.compile({ name: "outside", outputs: { y } });
    const feeds = { base: new Float32Array(2), ids: Int32Array.of(7), u: new Float32Array(1) };
    await expect(outside.run(feeds, { y: new Float32Array(2) })).rejects.toThrow(/^running outside: found .*7/s);
  });
});

/** An input [N], or [N, C]. */
function x(N: number, name = "x", C?: number) {
  return input(name, C === undefined ? { N } : { N, C });
}

describe("the device", () => {
  it.each(backends)("%s is asked for by name", (name) => {
    const engine = new Engine({ device: name as "cpu" | "wasm", threads: 2 });
    expect(engine.backend.name).toBe(name);
    expect(engine.threads).toBe(2);
  });

  it("is the CPU unless another is named", () => {
    expect(new Engine().backend.name).toBe("cpu");
  });

  it("is one there is", () => {
    expect(() => new Engine({ device: "gpu" as "cpu" })).toThrow(
      'device: found the string "gpu", expected cpu or wasm or webgpu. Fix: name one of them, or leave it out: cpu',
    );
  });

  test("wasm without its package says how to get it", () => {
    const spy = vi.spyOn(packages, "packageRequire").mockReturnValue((() => {
      throw new Error("Cannot find module 'onnxruntime-web'\nRequire stack: ...");
    }) as unknown as NodeJS.Require);
    try {
      expect(() => new OrtWeb({ threads: 1 })).toThrow(
        "device \"wasm\": found Cannot find module 'onnxruntime-web', expected the package onnxruntime-web, which the CPU " +
          "does not need and npm therefore does not install by itself. Fix: npm install --ignore-scripts onnxruntime-web@1.30.0",
      );
    } finally {
      spy.mockRestore();
    }
  });
});
