/** @file Reward models, whose loading a browser loads when one is opened. */
import type * as there from "../classifier.ts";

export type * from "../classifier.ts";

export const loadClassifier: typeof there.loadClassifier = async (...given) =>
  (await import("../classifier.ts")).loadClassifier(...given);
export const openClassifier: typeof there.openClassifier = async (...given) =>
  (await import("../classifier.ts")).openClassifier(...given);
export const checkClassifier: typeof there.checkClassifier = async (...given) =>
  (await import("../classifier.ts")).checkClassifier(...given);
export const labelsIn: typeof there.labelsIn = async (...given) =>
  (await import("../classifier.ts")).labelsIn(...given);
