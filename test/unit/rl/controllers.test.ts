import { describe, expect, it } from "vitest";
import { AdaptiveKLController, FixedKLController } from "../../../src/rl/controllers.ts";

describe("AdaptiveKLController", () => {
  const updated = (kl: number, nSteps = 256) => {
    const controller = new AdaptiveKLController(0.2, 6, 10_000);
    controller.update(kl, nSteps);
    return controller.value;
  };

  // Published: with 256 responses the coefficient moves by at most ±0.512 %.
  it("moves by at most 0.512 % per batch of 256, up above the target and down below it", () => {
    expect(updated(1000) / 0.2).toBeCloseTo(1.00512, 12);
    expect(updated(0) / 0.2).toBeCloseTo(0.99488, 12);
    expect(updated(-50) / 0.2).toBeCloseTo(0.99488, 12);
    expect(updated(6)).toBe(0.2);
    expect(updated(6.6) / 0.2).toBeCloseTo(1 + (0.1 * 256) / 10_000, 12);
  });

  it("far below the target, 100 batches of 256 take 0.2 to 0.120", () => {
    const controller = new AdaptiveKLController(0.2, 6, 10_000);
    for (let i = 0; i < 100; i++) controller.update(1, 256);
    expect(controller.value).toBeCloseTo(0.12, 3);
  });

  it("continues from its state", () => {
    const controller = new AdaptiveKLController(0.2, 6, 10_000);
    controller.update(9, 256);
    const copy = new AdaptiveKLController(0.2, 6, 10_000);
    copy.setState(JSON.parse(JSON.stringify(controller.getState())));
    expect(copy.value).toBe(controller.value);
    controller.update(3, 64);
    copy.update(3, 64);
    expect(copy.value).toBe(controller.value);
  });

  it("rejects impossible settings", () => {
    expect(() => new AdaptiveKLController(0.2, 0, 10_000)).toThrow(
      "AdaptiveKLController, target: found 0, expected a positive number. Fix: 6 nats per response is the usual target",
    );
    expect(() => new AdaptiveKLController(0.2, 6, -1)).toThrow("AdaptiveKLController, horizon: found -1");
    expect(() => new AdaptiveKLController(-0.1, 6, 1)).toThrow(
      "AdaptiveKLController, klCoef: found -0.1, expected a number of at least 0",
    );
    expect(() => new AdaptiveKLController(0.2, 6, 1).setState({ value: Number.NaN })).toThrow("setState, klCoef");
  });

  it("rejects a KL that is not finite and a batch that would turn the coefficient negative", () => {
    expect(() => updated(Number.NaN)).toThrow("AdaptiveKLController, update: found a KL of NaN");
    expect(() => updated(0, 50_000)).toThrow(
      "found 50000 responses against a horizon of 10000, a factor of 0, expected a batch below 5 horizons",
    );
  });
});

describe("FixedKLController", () => {
  it("never changes, and carries its state", () => {
    const controller = new FixedKLController(0.05);
    controller.update(1000, 256);
    expect(controller.value).toBe(0.05);
    controller.setState({ value: 0.1 });
    expect(controller.getState()).toEqual({ value: 0.1 });
    expect(() => new FixedKLController(Number.POSITIVE_INFINITY)).toThrow("FixedKLController, klCoef: found Infinity");
  });
});
