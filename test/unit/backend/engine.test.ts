/** @file What the engine keeps between runs stays within bounds, however many lengths the sequences have. */
import { describe, expect, it } from "vitest";
import type { Backend, Executable } from "../../../src/backend/backend.ts";
import { Engine, MIN_WORKING_BYTES, SESSIONS_OF_LARGEST } from "../../../src/backend/engine.ts";
import { type ONNXModel, type Program, writeOnnx } from "../../../src/graph/onnx.ts";
import { add, exp, mul, scale } from "../../../src/graph/ops/index.ts";
import { input } from "../../../src/graph/tensor.ts";
import { workingBytes } from "../../../src/graph/work.ts";

/** y = e^x e^x + e^x; two intermediate results of N floats at once. */
function program(N: number, cut = false, name = "test"): Program {
  const x = input("x", { N });
  const e = exp(x);
  const cuts = cut ? new Map([[e, "e"]]) : undefined;
  return { name, outputs: { y: add(mul(e, e), e) }, cuts };
}

describe("workingBytes", () => {
  it("counts what lives at once: not inputs, results, or what is fed", () => {
    expect(workingBytes(program(1000))).toBe(8000);
    expect(workingBytes(program(1000, true))).toBe(4000);
    const x = input("x", { N: 1000 });
    expect(workingBytes({ name: "chain", outputs: { y: exp(exp(exp(exp(x)))) } })).toBe(8000); // one read, one written
    expect(workingBytes({ name: "both results", outputs: { y: exp(x), z: add(x, x) } })).toBe(0);
  });
});

/** A backend that computes nothing and writes down what is asked of it. */
class Recorder implements Backend {
  readonly name = "recorder";
  readonly lacks = new Set<string>();
  readonly keeps = false;
  readonly threads = 1;
  readonly events: string[] = [];
  /** Called before a program is compiled, and before one has run. */
  compiling = async (_name: string) => {};
  running = async (_name: string) => {};

  /** What was written, and what was compiled. */
  readonly models: { written: ONNXModel[]; compiled: (ONNXModel | undefined)[] } = { written: [], compiled: [] };

  onnx(program: Program): ONNXModel {
    const model = writeOnnx(program);
    this.models.written.push(model);
    return model;
  }

  async compile({ name }: Program, model?: ONNXModel): Promise<Executable> {
    this.models.compiled.push(model);
    this.events.push(`compile ${name}`);
    await this.compiling(name);
    return {
      run: async () => {
        this.events.push(`run ${name}`);
        await this.running(name);
      },
      dispose: () => {
        this.events.push(`dispose ${name}`);
      },
    };
  }

  /** What happened since this was last called, but for the runs. */
  take(): string[] {
    return this.events.splice(0).filter((event) => !event.startsWith("run"));
  }

  buffer = () => ({ dtype: "float32" as const, length: 0 });
  write = async () => {};
  read = async () => {};
  host = () => undefined;
  free = () => {};
}

describe("Engine", () => {
  const use = (engine: Engine, name: string, bytes: number) => engine.run(program(bytes / 8, false, name), {}, {});

  it("keeps many small programs, and drops large ones that were not used for longest", async () => {
    const backend = new Recorder();
    const engine = Engine.over(backend);
    const large = MIN_WORKING_BYTES / 2;
    for (let i = 0; i < 20; i++) await use(engine, `small ${i}`, 8000);
    for (let i = 0; i < SESSIONS_OF_LARGEST; i++) await use(engine, `large ${i}`, large);
    backend.take();
    await use(engine, "large 0", large); // used again, so "large 1" is now the one to go
    await use(engine, "small 19", 8000);
    expect(backend.take()).toEqual(["dispose large 1", "compile small 19"]); // the small ones before the large ones made room
    await use(engine, `large ${SESSIONS_OF_LARGEST}`, large);
    expect(backend.take()).toEqual(["dispose large 2", `compile large ${SESSIONS_OF_LARGEST}`]);
    await use(engine, "large 0", large);
    await use(engine, "large 1", large);
    expect(backend.take()).toEqual(["dispose large 3", "compile large 1"]);
    engine.dispose();
  });

  it("drops by number too", async () => {
    const backend = new Recorder();
    const engine = Engine.over(backend, { maxSessions: 2 });
    for (const [key, bytes] of Object.entries({ a: 80, b: 160 })) await use(engine, key, bytes);
    await use(engine, "a", 80);
    await use(engine, "c", 240);
    backend.take();
    await use(engine, "a", 80);
    await use(engine, "b", 160);
    expect(backend.take()).toEqual(["dispose c", "compile b"]);
    engine.dispose();
    expect(backend.take()).toEqual(["dispose a", "dispose b"]);
  });

  it("compiles a program once for two runs that want it at once", async () => {
    const backend = new Recorder();
    const engine = Engine.over(backend);
    await Promise.all([use(engine, "a", 80), use(engine, "a", 80), use(engine, "b", 160)]);
    expect(backend.events.filter((event) => event.startsWith("compile"))).toEqual(["compile a", "compile b"]);
    expect(backend.events.filter((event) => event === "run a")).toHaveLength(2);
  });

  it("writes a program once, to know it and to compile it, and knows the same object without", async () => {
    const backend = new Recorder();
    const engine = Engine.over(backend);
    const [first, same, other] = [program(10), program(10), program(20)];
    for (const one of [first, first, same, same, other]) await engine.run(one, {}, {});
    const { written, compiled } = backend.models;
    expect(written.map(({ inputs }) => inputs.get("x")?.shape[0].size)).toEqual([10, 10, 20]);
    expect(compiled).toEqual([written[0], written[2]]);
  });

  it("tells every run that a program does not compile, and tries again at the next", async () => {
    const backend = new Recorder();
    const engine = Engine.over(backend);
    backend.compiling = () => Promise.reject(new Error("no"));
    const results = await Promise.allSettled([use(engine, "a", 80), use(engine, "a", 80)]);
    expect(results.map((r) => r.status === "rejected" && r.reason.message)).toEqual(["no", "no"]);
    backend.compiling = async () => {};
    await use(engine, "a", 80);
    expect(backend.take()).toEqual(["compile a", "compile a"]);
  });

  it.each([
    ["room is made", (engine: Engine) => use(engine, "b", 160)],
    ["the engine is disposed of", async (engine: Engine) => engine.dispose()],
  ])("disposes of a program after its last run, when meanwhile %s", async (_, act) => {
    const backend = new Recorder();
    const engine = Engine.over(backend, { maxSessions: 1 });
    let end = () => {};
    backend.running = (name) => (name === "a" ? new Promise((resolve) => (end = resolve)) : Promise.resolve());
    const run = use(engine, "a", 80);
    await new Promise((resolve) => setTimeout(resolve));
    await act(engine);
    expect(backend.events).not.toContain("dispose a");
    end();
    await run;
    expect(backend.events.filter((event) => event === "dispose a")).toHaveLength(1);
  });
});

describe("programs of one engine", () => {
  const scaled = (factor: number): Program => {
    const x = input("x", { N: 2 });
    return { name: "loss", outputs: { y: scale(x, factor) } };
  };
  const result = async (engine: Engine, made: Program) => {
    const y = new Float32Array(2);
    await engine.run(made, { x: Float32Array.of(1, 2) }, { y });
    return [...y];
  };

  it("are told apart by their structure, whatever they are called", async () => {
    const engine = new Engine({ threads: 1 });
    expect(await result(engine, scaled(2))).toEqual([2, 4]);
    expect(await result(engine, scaled(3))).toEqual([3, 6]); // the same name, another number
    expect(await result(engine, scaled(2))).toEqual([2, 4]);
    engine.dispose();
  });

  it("share one where the structure is the same, whoever built them", async () => {
    const backend = new Recorder();
    const engine = Engine.over(backend);
    for (const made of [scaled(2), scaled(2), scaled(3), program(8), program(8, true), program(8)])
      await engine.run(made, {}, {});
    expect(backend.take()).toEqual(["compile loss", "compile loss", "compile test", "compile test"]);
  });
});
