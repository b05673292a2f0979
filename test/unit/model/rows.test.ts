/** @file Rows by index: the loop and the program do the same. */
import { describe, expect, it } from "vitest";
import type { Backend } from "../../../src/backend/backend.ts";
import { Engine } from "../../../src/backend/engine.ts";
import { OrtNode } from "../../../src/backend/ort-node.ts";
import { Rows } from "../../../src/model/rows.ts";
import { backends, hidden } from "../../support/backends.ts";

const all: [string, () => Backend][] = [...backends, ["hidden cpu", () => hidden(new OrtNode({ threads: 1 }))]];

describe.each(all)("rows of 2 numbers on %s", (_, open) => {
  const backend = open();
  const rows = new Rows(2, Engine.over(backend));
  const table = Float32Array.of(1, 2, 3, 4, 5, 6); // [3, 2]

  async function buffer(numbers: number[]) {
    const made = backend.buffer("float32", numbers.length);
    await backend.write(made, Float32Array.from(numbers));
    return made;
  }
  async function numbers(from: ReturnType<Backend["buffer"]>) {
    const to = new Float32Array(from.length);
    await backend.read(from, to);
    return [...to];
  }

  it("are gathered from the host's memory, summed over tables", async () => {
    const to = await buffer([9, 9, 9, 9, 9, 9]);
    await rows.gather([{ from: table, rows: Int32Array.of(2, 0, 2) }], to);
    expect(await numbers(to)).toEqual([5, 6, 1, 2, 5, 6]);
    const other = Float32Array.of(10, 20, 30, 40); // [2, 2]
    const sources = [
      { from: table, rows: Int32Array.of(2, 0, 1) },
      { from: other, rows: Int32Array.of(0, 1, 1) },
    ];
    await rows.gather(sources, to);
    expect(await numbers(to)).toEqual([15, 26, 31, 42, 33, 44]);
  });

  it("are gathered from its own memory, the last one repeated to the end", async () => {
    const to = await buffer([9, 9, 9, 9, 9, 9, 9, 9]);
    await rows.gather([{ from: await buffer([...table]), rows: Int32Array.of(1, 2) }], to);
    expect(await numbers(to)).toEqual([3, 4, 5, 6, 5, 6, 5, 6]);
  });

  it("are added to, twice where a row is named twice, and rows behind the named ones change nothing", async () => {
    const from = await buffer([10, 20, 30, 40, 50, 60, 0, 0]);
    const picked = { from, rows: Int32Array.of(2, 0, 2) };
    const to = await buffer([1, 2, 3, 4, 5, 6]);
    await rows.add(to, picked);
    expect(await numbers(to)).toEqual([31, 42, 3, 4, 65, 86]);
    await rows.add(to, picked, true); // what was there is gone
    expect(await numbers(to)).toEqual([30, 40, 0, 0, 60, 80]);
  });

  it("are added to in the host's memory", async () => {
    const to = table.slice();
    await rows.add(to, { from: await buffer([10, 20]), rows: Int32Array.of(1) });
    expect([...to]).toEqual([1, 2, 13, 24, 5, 6]);
  });
});
