/** @file Seeded damage to bytes and JSON, of the kinds that break loaders. */
import type { RNG } from "../src/base/rng.ts";

const pick = <T>(rng: RNG, from: readonly T[]): T => from[rng.int(from.length)];

/** As 64-bit little-endian numbers: sizes and lengths that no file has. */
const SIZES = [0n, 1n, 7n, 255n, 65536n, 2n ** 31n, 2n ** 32n - 1n, 2n ** 53n, 2n ** 60n, 2n ** 63n, 2n ** 64n - 1n];

/** 1 to 4 changes: bits, bytes, 64-bit numbers, pieces taken out, put in twice or swapped for noise, the end cut off. */
export function damageBytes(rng: RNG, original: Uint8Array): Uint8Array {
  let bytes = original.slice();
  for (let n = 1 + Math.floor(rng.int(8) / 4) * rng.int(4); n > 0 && bytes.length > 0; n--) {
    const at = rng.int(bytes.length);
    const end = Math.min(bytes.length, at + 1 + rng.int(16));
    const kind = rng.int(7);
    if (kind === 0) bytes[at] ^= 1 << rng.int(8);
    else if (kind === 1) bytes[at] = pick(rng, [0, 0x22, 0x2c, 0x30, 0x39, 0x5b, 0x5d, 0x7b, 0x7d, 0x7f, 0x80, 0xff]);
    else if (kind === 2 && bytes.length >= 8) {
      const place = rng.int(2) === 0 ? 0 : rng.int(bytes.length - 7);
      new DataView(bytes.buffer).setBigUint64(place, pick(rng, SIZES), true);
    } else if (kind === 3) bytes = Uint8Array.from([...bytes.subarray(0, at), ...bytes.subarray(end)]);
    else if (kind === 4) bytes = Uint8Array.from([...bytes.subarray(0, end), ...bytes.subarray(at)]);
    else if (kind === 5) for (let i = at; i < end; i++) bytes[i] = rng.int(256);
    else bytes = bytes.slice(0, at);
  }
  return bytes;
}

/** Stands for a value nested too deeply for JSON.stringify; {@link jsonText} puts it in. */
const DEEP = "@deep@";
const LONG = "long ".repeat(2000);

const VALUES: readonly unknown[] = [
  null,
  true,
  false,
  0,
  -1,
  0.5,
  1e308,
  -1e308,
  2 ** 31,
  2 ** 32,
  2 ** 53,
  2 ** 53 + 2,
  1e18,
  "",
  "x",
  "0",
  "NaN",
  "\u0000",
  "\ud800",
  "__proto__",
  "constructor",
  LONG,
  [],
  {},
  [null],
  [[]],
  [1, 2, 3],
  [-1],
  [1e18, 1e18],
  [0, 2 ** 53 - 1],
  { length: 1e9 },
  { toString: 1 },
  Array(2000).fill(0),
  DEEP,
];

/** A copy with 1 or 2 values replaced, removed, renamed or put in twice. */
export function damageJson(rng: RNG, original: unknown): unknown {
  const holder = { root: structuredClone(original) };
  for (let n = 1 + Math.floor(rng.int(6) / 4); n > 0; n--) {
    // A walk down from the root that may stop anywhere.
    let parent: Record<string, unknown> = holder;
    let key = "root";
    for (;;) {
      const value = parent[key];
      if (typeof value !== "object" || value === null || Object.keys(value).length === 0 || rng.int(4) === 0) break;
      parent = value as Record<string, unknown>;
      key = pick(rng, Object.keys(value));
    }
    const kind = rng.int(6);
    if (kind === 0 && parent !== holder) delete parent[key];
    else if (kind === 1 && parent !== holder) {
      Object.defineProperty(parent, pick(rng, [`${key}x`, "__proto__", "", LONG, "0"]), {
        value: parent[key],
        enumerable: true,
        configurable: true,
        writable: true,
      });
      delete parent[key];
    } else if (kind === 2 && typeof parent[key] === "number")
      parent[key] = (parent[key] as number) * pick(rng, [-1, 0.5, 2, 1e6, 1e15]) + pick(rng, [0, 1, -1]);
    else parent[key] = structuredClone(pick(rng, VALUES));
  }
  return holder.root;
}

/** JSON, now and then with broken text. */
export function jsonText(rng: RNG, value: unknown): string {
  const depth = 20_000;
  const text = (JSON.stringify(value) ?? "").replaceAll(`"${DEEP}"`, "[".repeat(depth) + "]".repeat(depth));
  if (rng.int(8) > 0) return text;
  return new TextDecoder().decode(damageBytes(rng, new TextEncoder().encode(text)));
}
