/** @file Opening sequence classifiers and reward models of any family, as transformers' AutoModelForSequenceClassification saves them. */
import { fail } from "../base/errors.ts";
import { stream } from "../base/streams.ts";
import type { JsonObject } from "../checkpoint/config-json.ts";
import { type LocateOptions, locate, type ModelFiles, tokenizerOf } from "../checkpoint/model-files.ts";
import { noConfig } from "../checkpoint/no-weights.ts";
import { isValueHead, TensorNames } from "../checkpoint/tensor-names.ts";
import { findParameters, loadParameters, openWeights, type Weights } from "../checkpoint/weights.ts";
import {
  type ClassifierOptions,
  classifierArchitecture,
  type LoadedClassifier,
  SCORE,
  SequenceClassifier,
} from "../model/classifier/classifier.ts";
import { type ClassifierConfig, readLabels } from "../model/classifier/labels.ts";
import { type Architecture, architecture, type ModelConfig } from "../model/family.ts";
import { initializeParameter, newParameters, parameterTable } from "../model/parameters.ts";
import { exists, joinPath, readJson } from "../platform/files.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { familyOf } from "./index.ts";

/** How a classifier is opened. */
export interface LoadClassifierOptions extends ClassifierOptions, LocateOptions {
  /** What its outputs are to be, where it is to be trained: a model without such outputs gets new ones, drawn with `seed`. */
  head?: Partial<ClassifierConfig> & Pick<ClassifierConfig, "labels">;
  /** Of a new head. Default 0. */
  seed?: number;
  /** A run trains it and nothing else is done with it. @internal */
  toTrain?: boolean;
}

/**
 * A classifier or reward model from a directory in Hugging Face layout, a run directory (its best checkpoint) or a hub id: the families
 * that {@link loadModel} opens, as AutoModelForSequenceClassification saves them. With `head` a language model does, too, and gets a new
 * matrix on top, N(0, initializerRange).
 * @throws usage - an id that names nothing
 * @throws config, checkpoint - what is there cannot be loaded, and why; a language model, without `head`
 */
export async function loadClassifier(id: string, options: LoadClassifierOptions = {}): Promise<SequenceClassifier> {
  const notes: string[] = [];
  const files = await locate(id, { onNote: (text) => notes.push(text), ...options });
  return openClassifier(files, options, notes);
}

/** {@link loadClassifier} where it is known where the files lie. */
export async function openClassifier(
  files: ModelFiles,
  options: LoadClassifierOptions = {},
  noted: readonly string[] = [],
): Promise<SequenceClassifier> {
  return new SequenceClassifier(await readWeights(files, options, noted), options);
}

/** The architecture of a classifier, once it is known that its weights are there. Reads no weights. */
export async function checkClassifier(
  files: ModelFiles,
  options: Pick<LoadClassifierOptions, "head"> = {},
): Promise<Architecture> {
  const { base, json, path } = await readConfig(files);
  const weights = await openWeights(files.base);
  try {
    const { made } = await found(base, json, path, weights, options.head, undefined);
    return made;
  } finally {
    await weights.close();
  }
}

/**
 * Whether a directory holds a classifier rather than a language model: whether its weights have the matrix on top. What cannot be read is
 * none: whoever opens it as a language model says what is wrong.
 */
export async function isClassifier({ base }: Pick<ModelFiles, "base">): Promise<boolean> {
  const weights = await openWeights(base).catch(() => undefined);
  if (!weights) return false;
  try {
    return new TensorNames(weights.tensors, { prefix: "" }).find(SCORE, []) !== undefined;
  } finally {
    await weights.close();
  }
}

async function readConfig({ base: directory, adapter, directory: given }: ModelFiles) {
  if (adapter)
    fail("checkpoint", {
      where: given,
      found: "a LoRA adapter",
      expected: "a classifier's whole weights",
      fix: "merge it in PEFT (merge_and_unload()) and give the merged model",
    });
  const path = joinPath(directory, "config.json");
  if (!(await exists(path))) await noConfig(directory);
  const json = (await readJson(path)) as JsonObject;
  const family = familyOf(json, path);
  return { base: architecture(family, family.readConfig(json, path)), json, path };
}

/** What the classifier is, and which of its tensors are there. */
async function found(
  base: Architecture,
  json: JsonObject,
  path: string,
  weights: Weights,
  head: LoadClassifierOptions["head"],
  tokenizer: Pick<Tokenizer, "padTokenId" | "eosTokenId"> | undefined,
) {
  const { prefix } = base.family;
  const stored = new TensorNames(weights.tensors, { prefix }).find(SCORE, []);
  if (stored === undefined && head === undefined)
    fail("checkpoint", {
      where: weights.name,
      found: `no ${SCORE}: a language model, and no classifier`,
      expected: "a model as AutoModelForSequenceClassification saves it",
      fix: "train one (valuehead train --algorithm reward), or give another model",
    });
  const said = readLabels(json, path);
  // The labels that were asked for are those of the model, or the model's are of the same number and nobody has named any.
  const fits = stored !== undefined && (head === undefined || stored.info.shape[0] === head.labels.length);
  const isNew = stored === undefined || !fits;
  const { padTokenId: ofModel } = base.config;
  // Where a model is to be trained that names no padding, it is the tokenizer's, or its end of text: as in TRL.
  const ofTokenizer = tokenizer?.padTokenId ?? tokenizer?.eosTokenId ?? null;
  const padTokenId = ofModel !== null && ofModel >= 0 ? ofModel : head ? ofTokenizer : null;
  const classifier: ClassifierConfig = { padTokenId, ...said, ...head };
  const made = classifierArchitecture(base, classifier.labels);
  const names = { prefix, embedding: base.family.embeddings(base.config)[0].name };
  const table = parameterTable(made).map((p) => ({ ...p, optional: isNew && p.name === SCORE }));
  const wanted = isNew ? table.filter(({ name }) => name !== SCORE) : table;
  const { ignored } = findParameters(weights, wanted, names); // before the memory for them is taken
  return { made, classifier, wanted, names, isNew, ignored, other: isNew ? stored : undefined };
}

async function readWeights(
  files: ModelFiles,
  { head, seed = 0, toTrain }: LoadClassifierOptions,
  noted: readonly string[],
): Promise<LoadedClassifier<ModelConfig>> {
  const { base, json, path } = await readConfig(files);
  const tokenizer = head && (await tokenizerOf(files).catch(() => undefined));
  const weights = await openWeights(files.base);
  try {
    const { made, classifier, wanted, names, isNew, ignored, other } = await found(
      base,
      json,
      path,
      weights,
      head,
      tokenizer,
    );
    const parameters = newParameters(parameterTable(made), toTrain);
    await loadParameters(
      weights,
      wanted.map((p) => ({ ...p, target: parameters.view(p.name) })),
      names,
    );
    const notes = [...noted, ...files.notes, ...base.family.notes(base.config, path)];
    if (isNew) {
      parameters.table.forEach((p, i) => {
        if (p.name === SCORE) initializeParameter(parameters.view(SCORE), p, made, stream(seed, "parameter", i));
      });
      const [outputs] = parameters.table.find(({ name }) => name === SCORE)?.shape ?? [];
      const instead = other ? `${SCORE} with ${other.info.shape[0]} outputs` : `no ${SCORE}`;
      notes.push(
        `${weights.name} has ${instead}: a new one with ${outputs}, N(0, ${made.config.initializerRange}), was made`,
      );
    }
    const unused = ignored.filter(
      (name) => !isValueHead(name) && !/(^|\.)lm_head\./.test(name) && !name.endsWith(SCORE),
    );
    if (unused.length > 0)
      notes.push(`${weights.name}: not used: ${unused.slice(0, 5).join(", ")}${unused.length > 5 ? ", ..." : ""}`);
    const { directory } = files;
    return { architecture: made, classifier, parameters, directory, notes, headIsNew: isNew };
  } finally {
    await weights.close();
  }
}

/** The labels of a classifier; undefined: it is a language model. */
export async function labelsIn(files: ModelFiles): Promise<readonly string[] | undefined> {
  if (!(await isClassifier(files))) return undefined;
  const { json, path } = await readConfig(files);
  return readLabels(json, path).labels;
}
