/** @file The simulated step in cases that can be worked out by hand. */
import { expect, test } from "vitest";
import { throttled } from "../../../bench/worker-links.ts";
import { aloneStep, payingBandwidth, type StepModel, simulateStep } from "../../../bench/worker-model.ts";
import { stepModel } from "../../../bench/workers.ts";

const base: StepModel = {
  ...{ workers: 1, parts: 8, rows: 8, draw: 1, judge: 0, judges: 1, update: 2, check: 0, prepare: 0 },
  ...{ weights: 0, task: 0, result: 0, roundTrip: 0 },
  ...{ workerBandwidth: 1e6, trainerBandwidth: 1e6, serverBandwidth: 1e6 },
};

test("work that is divided takes its share of the time, and no less than one part", () => {
  expect(simulateStep(base).seconds).toBe(8 + 2);
  expect(simulateStep({ ...base, workers: 2 }).seconds).toBe(4 + 2);
  expect(simulateStep({ ...base, workers: 3 }).seconds).toBe(3 + 2); // 8 parts: 3, 3 and 2
  expect(simulateStep({ ...base, workers: 100 }).seconds).toBe(1 + 2);
});

test("a judge works while the next part is drawn", () => {
  expect(simulateStep({ ...base, judge: 3 }).seconds).toBe(1 + 8 * 3 + 2);
  expect(simulateStep({ ...base, judge: 0.5 }).seconds).toBe(8 + 0.5 + 2);
  expect(simulateStep({ ...base, judge: 3, judges: 3 }).seconds).toBe(aloneStep({ ...base, judge: 3, judges: 3 }));
  expect(aloneStep({ ...base, judge: 3 })).toBe(1 + 8 * 3 + 2);
});

test("weights go through the trainer's line once and through the server's as often as there are workers", () => {
  const weights = { ...base, weights: 1e6, draw: 0, update: 0 };
  expect(simulateStep(weights).seconds).toBe(1 + 1);
  expect(simulateStep({ ...weights, workers: 4 }).seconds).toBe(1 + 4);
  expect(simulateStep({ ...weights, workers: 4, workerBandwidth: 1e5 }).seconds).toBe(1 + 10);
  expect(simulateStep({ ...weights, workers: 4, serverBandwidth: 4e6 }).seconds).toBe(1 + 1);
});

test("an object is stored piece by piece, each with a round trip", () => {
  const far = {
    ...base,
    weights: 10e6,
    draw: 0,
    update: 0,
    roundTrip: 0.1,
    trainerBandwidth: 1e9,
    serverBandwidth: 1e9,
  };
  // There: 3 trips and 10 pieces; back: 3 trips; the last of 8 tasks: 2 trips each, and one to give it back.
  expect(simulateStep({ ...far, workerBandwidth: 1e9 }).weights).toBeCloseTo(0.01 + 1.3 + 0.01 + 0.3, 9);
});

test("a line's limit adds to what its ends take for the bytes, and distance is the worker's alone", () => {
  // To the server; line, processor and 3 trips of 0.2 s; 2 trips for the task; half a trip back to the server, beside which the trainer is.
  const model = throttled({ ...base, weights: 1e6, draw: 0, update: 0 }, 8, 100);
  expect(simulateStep({ ...model, workers: 1, parts: 1 }).seconds).toBeCloseTo(1 + (2 + 0.6) + 0.4 + 0.1, 9);
});

test("what was measured without workers becomes the simulator's step", () => {
  const times = { "time/get_response": 0.8, "time/get_scores": 2.6, "time/ppo/forward_pass": 0.4, "time/total": 4.8 };
  const alone = { sha256: "", seconds: [5], others: [], times: [times], load: 0 };
  const shape = { responses: 64, part: 8, tokens: 8, steps: 5, reward: 50, lora: 0 };
  const model = stepModel(shape, [alone], { bytes: 21e6, send: 0.2, load: 0.3 }, 2);
  expect(model).toMatchObject({ parts: 8, judge: 0.4, judges: 1, check: 0.8 / 64, cores: 2, weights: 21e6 });
  expect(model.draw).toBeCloseTo(1.2 / 8, 9);
  expect(model.update).toBeCloseTo(1 + 0.2, 9);
  expect(model.trainerBandwidth).toBeCloseTo(105e6, 0);
  expect(model.serverBandwidth).toBeCloseTo(140e6, 0);
});

test("workers on one machine share its cores when they draw, and not when they judge", () => {
  expect(simulateStep({ ...base, workers: 4, cores: 2 }).seconds).toBe(8 / 2 + 2);
  expect(simulateStep({ ...base, workers: 4, cores: 2, draw: 0, judge: 1 }).seconds).toBe(8 / 4 + 2);
});

test("results are taken one after another", () => {
  expect(simulateStep({ ...base, workers: 8, update: 0, check: 0.5 }).seconds).toBe(1 + 8 * 0.5);
});

test("a gradient pays where its bytes take less time than its computing", () => {
  expect(payingBandwidth(4, 500e6, 1)).toBe(250e6);
  expect(payingBandwidth(4, 500e6, 10)).toBe(25e6);
});
