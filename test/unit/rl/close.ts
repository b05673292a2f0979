import { expect } from "vitest";

/** Every element within `tolerance` · max(1, |expected|); names the worst one. NaN is never close. */
export function expectClose(found: ArrayLike<number>, expected: ArrayLike<number>, tolerance = 1e-6): void {
  expect(found.length, "length").toBe(expected.length);
  for (let i = 0; i < expected.length; i++) {
    const error = Math.abs(found[i] - expected[i]);
    const ok = error <= tolerance * Math.max(1, Math.abs(expected[i]));
    expect(ok, `element ${i}: found ${found[i]}, expected ${expected[i]}`).toBe(true);
  }
}
