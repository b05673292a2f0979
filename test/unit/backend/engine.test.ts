/** @file What the engine keeps between runs stays within bounds, however many lengths the sequences have. */
import { describe, expect, it } from "vitest";
import { BufferPool, Engine, MIN_WORKING_BYTES, SESSIONS_OF_LARGEST } from "../../../src/backend/engine.ts";
import type { Program } from "../../../src/graph/onnx.ts";
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

describe("Engine", () => {
  const built: string[] = [];
  const use = (engine: Engine, name: string, bytes: number) => engine.session(program(bytes / 8, false, name));
  const watched = (engine: Engine) => {
    const compile = engine.compile.bind(engine);
    engine.compile = (made) => {
      built.push(made.name);
      return compile(made);
    };
    return engine;
  };

  it("keeps many small sessions, and drops large ones that were not used for longest", () => {
    const engine = watched(new Engine({ threads: 1 }));
    const large = MIN_WORKING_BYTES / 2;
    for (let i = 0; i < 20; i++) use(engine, `small ${i}`, 8000);
    const names = Array.from({ length: SESSIONS_OF_LARGEST + 1 }, (_, i) => `large ${i}`);
    for (const name of names.slice(0, -1)) use(engine, name, large);
    built.length = 0;
    use(engine, "large 0", large); // used again, so "large 1" is now the one to go
    use(engine, "small 19", 8000);
    expect(built).toEqual(["small 19"]); // the small ones before the large ones made room
    use(engine, names[SESSIONS_OF_LARGEST], large);
    built.length = 0;
    use(engine, "large 0", large);
    use(engine, "large 1", large);
    expect(built).toEqual(["large 1"]);
    engine.dispose();
  });

  it("drops by number too", () => {
    const engine = watched(new Engine({ threads: 1, maxSessions: 2 }));
    for (const key of ["a", "b", "a", "c"]) use(engine, key, 8000);
    built.length = 0;
    for (const key of ["a", "b"]) use(engine, key, 8000);
    expect(built).toEqual(["b"]);
    engine.dispose();
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

  it("share a session where the structure is the same, whoever built them", () => {
    const engine = new Engine({ threads: 1 });
    expect(engine.session(scaled(2))).toBe(engine.session(scaled(2)));
    expect(engine.session(scaled(2))).not.toBe(engine.session(scaled(3)));
    expect(engine.session(program(8))).not.toBe(engine.session(program(8, true)));
    engine.dispose();
  });
});

describe("BufferPool", () => {
  it("hands out again what came back", () => {
    const pool = new BufferPool();
    const a = pool.take(10);
    pool.release(a);
    expect(pool.take(10)).toBe(a);
    expect(pool.take(10)).not.toBe(a);
  });

  it("drops free buffers of other lengths for a new one, as much as it takes", () => {
    const pool = new BufferPool();
    const [a, b, c] = [pool.take(10), pool.take(10), pool.take(30)];
    pool.release(a, b, c);
    pool.take(15); // in the place of a and b
    expect(pool.take(30)).toBe(c);
    const fresh = pool.take(10);
    expect(fresh === a || fresh === b).toBe(false);
  });
});
