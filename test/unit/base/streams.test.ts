/** @file Random streams: one table, and no two purposes with the same numbers. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { STREAMS, stream } from "../../../src/base/streams.ts";

const PURPOSES = Object.keys(STREAMS) as (keyof typeof STREAMS)[];

test("no two purposes share a stream, with no, one or two numbers more", () => {
  const first = new Map<string, string>();
  for (const purpose of PURPOSES)
    for (const numbers of [[], [0], [1], [7], [0, 0], [1, 0], [1, 1]]) {
      const rng = stream(5, purpose, ...numbers);
      const drawn = [rng.uint32(), rng.uint32()].join();
      expect(first.get(drawn), `${purpose} ${numbers}`).toBeUndefined();
      first.set(drawn, `${purpose} ${numbers}`);
    }
});

test("a stream is made nowhere but in the table's file", () => {
  const root = new URL("../../../src", import.meta.url).pathname;
  const files = readdirSync(root, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".ts"));
  const makers = files.filter((name) => readFileSync(join(root, name), "utf8").includes("new RNG("));
  expect(makers.sort()).toEqual(["base/rng.ts", "base/streams.ts"]);
});
