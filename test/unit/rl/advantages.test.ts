import { describe, expect, it } from "vitest";
import { RNG } from "../../../src/base/rng.ts";
import { gae } from "../../../src/rl/advantages.ts";
import { expectClose } from "./close.ts";

const rng = new RNG(3);
const [rows, width] = [3, 6];
const lengths = [6, 1, 4];
const mask = Uint8Array.from({ length: rows * width }, (_, i) => (i % width < lengths[Math.floor(i / width)] ? 1 : 0));
const batch = { rows, width, mask };
const random = () => Float32Array.from({ length: rows * width }, () => rng.normal());
const rewards = random();
const values = random();
const each = (of: (i: number, row: number, end: number) => number) =>
  Array.from(mask, (exists, i) => {
    const row = Math.floor(i / width);
    return exists ? of(i, row, row * width + lengths[row]) : 0;
  });

describe("gae", () => {
  it("λ = 1: returns are the discounted rewards to go, whatever the values", () => {
    const toGo = each((i, _, end) => {
      let sum = 0;
      for (let k = i; k < end; k++) sum += 0.9 ** (k - i) * rewards[k];
      return sum;
    });
    const ours = gae({ rewards, values, batch, gamma: 0.9, lambda: 1 });
    expectClose(ours.returns, toGo);
    expectClose(
      ours.advantages,
      each((i) => toGo[i] - values[i]),
    );
  });

  it("λ = 0: the one-step error r + γ·V' − V, with V' = 0 after the last token", () => {
    const ours = gae({ rewards, values, batch, gamma: 0.9, lambda: 0 });
    expectClose(
      ours.advantages,
      each((i, _, end) => rewards[i] + (i + 1 < end ? 0.9 * values[i + 1] : 0) - values[i]),
    );
  });

  it("a padded row gives what the row alone gives", () => {
    const whole = gae({ rewards, values, batch, gamma: 1, lambda: 0.95 });
    for (const [row, length] of lengths.entries()) {
      const part = (x: Float32Array) => x.slice(row * width, row * width + length);
      const alone = gae({
        rewards: part(rewards),
        values: part(values),
        batch: { rows: 1, width: length, mask: new Uint8Array(length).fill(1) },
        gamma: 1,
        lambda: 0.95,
      });
      expectClose(part(whole.advantages), alone.advantages, 0);
      expectClose(part(whole.returns), alone.returns, 0);
    }
  });

  it("does not read padding", () => {
    const dirty = (x: Float32Array) => x.map((v, i) => (mask[i] ? v : Number.NaN));
    const ours = gae({ rewards: dirty(rewards), values: dirty(values), batch, gamma: 1, lambda: 0.95 });
    expectClose(ours.advantages, gae({ rewards, values, batch, gamma: 1, lambda: 0.95 }).advantages, 0);
  });

  it("rejects arrays that do not fit the mask", () => {
    expect(() => gae({ rewards, values: values.slice(1), batch, gamma: 1, lambda: 1 })).toThrow(
      "gae, values: found 17 elements, expected 18 for [3, 6]",
    );
  });
});
