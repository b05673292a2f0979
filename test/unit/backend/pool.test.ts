/** @file What is given back is handed out again, and free memory makes room for new. */
import { describe, expect, it } from "vitest";
import type { DeviceBuffer } from "../../../src/backend/backend.ts";
import { BufferPool } from "../../../src/backend/pool.ts";
import { backends } from "../../support/backends.ts";

describe.each(backends)("BufferPool on %s", (_, open) => {
  const backend = open();
  const freed: DeviceBuffer[] = [];
  const free = backend.free.bind(backend);
  backend.free = (buffer) => {
    freed.push(buffer);
    free(buffer);
  };

  describe.each([
    ["buffers", (pool: BufferPool, length: number) => pool.take(length)],
    ["arrays", (pool: BufferPool, length: number) => pool.array(length)],
  ])("%s", (kind, take) => {
    it("are as long as asked", () => {
      expect(take(new BufferPool(backend), 10)).toHaveLength(10);
    });

    it("are handed out again", () => {
      const pool = new BufferPool(backend);
      const a = take(pool, 10);
      pool.release(a);
      expect(take(pool, 10)).toBe(a);
      expect(take(pool, 10)).not.toBe(a);
    });

    it("of other lengths are dropped for a new one, as many as it takes", () => {
      const pool = new BufferPool(backend);
      const [a, b, c] = [take(pool, 10), take(pool, 10), take(pool, 30)];
      pool.release(a, b, c);
      freed.length = 0;
      take(pool, 15); // in the place of a and b
      expect(freed).toEqual(kind === "buffers" ? [b, a] : []);
      expect(take(pool, 30)).toBe(c);
      const fresh = take(pool, 10);
      expect(fresh === a || fresh === b).toBe(false);
    });
  });

  it("makes room for either kind out of both", () => {
    const pool = new BufferPool(backend);
    const [buffer, first, second] = [pool.take(10), pool.array(20), pool.array(20)];
    pool.release(buffer, first, second);
    freed.length = 0;
    pool.array(30); // 10 of the buffer and 20 of an array
    expect(freed).toEqual([buffer]);
    expect(pool.array(20)).toBe(first);
    expect(pool.array(20)).not.toBe(second);
  });

  it("does not mix the kinds", () => {
    const pool = new BufferPool(backend);
    const array = pool.array(10);
    pool.release(array);
    expect(pool.take(10)).not.toBeInstanceOf(Float32Array);
    expect(pool.array(10)).not.toBeInstanceOf(pool.take(10).constructor);
  });

  it("forgets everything when cleared", () => {
    const pool = new BufferPool(backend);
    const [buffer, array] = [pool.take(10), pool.array(10)];
    pool.release(buffer, array);
    freed.length = 0;
    pool.clear();
    expect(freed).toEqual([buffer]);
    expect(pool.take(10)).not.toBe(buffer);
    expect(pool.array(10)).not.toBe(array);
  });
});
