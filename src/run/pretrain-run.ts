/** @file Language-model training as a whole: text files in, a model directory out. */
import type { z } from "zod";
import { PRETRAIN_DEFAULTS, type PretrainConfig, type PretrainEvent, pretrain } from "../algorithms/pretrain.ts";
import { fail, ValueheadError } from "../base/errors.ts";
import { nearest } from "../base/nearest.ts";
import { choice, count, decay, notNegative, positive, share } from "../base/option-values.ts";
import { librarySource, type OptionSource, type OptionTable, resolveOptions } from "../base/options.ts";
import { VERSION } from "../base/version.ts";
import { resolveModel } from "../checkpoint/hub.ts";
import { type Corpus, type CorpusProgress, corpusBytes, heldOut, readCorpus, tokenizeCorpus } from "../data/corpus.ts";
import { CorpusSampler } from "../data/sampler.ts";
import { type GPT2Config, gpt2, makeConfig } from "../families/gpt2.ts";
import { checkModel, GPT2HeadWithValueModel, loadModel } from "../families/index.ts";
import { type Architecture, architecture } from "../model/family.ts";
import { AppendFile, joinPath, writeAtomic, writeTextAtomic } from "../platform/files.ts";
import type { RunLock } from "../platform/lock.ts";
import { availableBytes, residentBytes } from "../platform/memory.ts";
import { enterRunDirectory, lostDirectory, rescue } from "../platform/run-directory.ts";
import { responseEnds } from "../sample/ends.ts";
import { loadTokenizer } from "../tokenizer/load.ts";
import { checkVocabulary, type Tokenizer } from "../tokenizer/tokenizer.ts";
import { checkPretraining } from "./memory.ts";

export interface PretrainSpec {
  /** Files as {@link readCorpus} reads them. */
  data: readonly string[];
  /** Column of the text in files that have columns. */
  column?: string;
  /** How errors call `column`. */
  columnOption?: string;
  /** The model directory to write; new or empty. */
  out: string;
  /** Train this model on, with its tokenizer. */
  model?: string;
  /** For a model from scratch: a directory with tokenizer files. */
  tokenizer?: string;
  /** For a model from scratch; what is left out is GPT-2's, the vocabulary is the tokenizer's. */
  modelConfig?: Readonly<Record<string, unknown>>;
  config?: Readonly<Record<string, unknown>>;
  /** Files to measure the held-out loss on. */
  heldOut?: readonly string[];
  /** Or this share of the data's tokens, in whole documents. */
  heldOutFraction?: number;
  threads?: number;
  /** Start although the run is expected to take more memory than there is. */
  ignoreMemory?: boolean;
  /** What errors call the origin of `config` and `modelConfig`. */
  where?: string;
}

export type PretrainRunEvent =
  | PretrainEvent
  | { type: "loaded"; parameters: number; tokens: number; heldOutTokens: number; notes: readonly string[] }
  | { type: "saved"; step: number; directory: string }
  /** The last event. Without a directory nothing had been trained yet, and nothing was saved. */
  | { type: "done"; step: number; interrupted: boolean; directory?: string };

/** Steps between saves of the model. */
const SAVE_EVERY = 500;

/** Every option, with its default. */
export const pretrainOptions = {
  sequenceLength: [count(), "tokens per sequence"],
  batchSize: [count(), "sequences per step"],
  steps: [count(), "optimizer steps"],
  learningRate: [positive, "AdamW's step size"],
  schedule: [choice(["constant", "linear", "cosine"]), "learning rate over the run"],
  warmupSteps: [count(0), "steps of linear warm-up"],
  finalFactor: [share, "the schedule ends at this share of the learning rate"],
  weightDecay: [notNegative, "AdamW, decoupled decay of weight matrices"],
  beta1: [decay, "AdamW, first moment"],
  beta2: [decay, "AdamW, second moment"],
  epsilon: [positive, "AdamW, added to the root of the second moment"],
  maxGradNorm: [notNegative, "gradients are scaled down to this norm; 0: never"],
  evalEvery: [count(0), "steps between measurements of the held-out loss; 0: only at the end"],
  seed: [count(0, Number.MAX_SAFE_INTEGER), "seed for everything random"],
} satisfies Record<keyof PretrainConfig, readonly [z.ZodType, string]>;

const table: OptionTable = Object.fromEntries(
  Object.entries(pretrainOptions).map(([name, [values, meaning]]) => [
    name,
    [values, PRETRAIN_DEFAULTS[name as keyof PretrainConfig], meaning],
  ]),
);

function unknownName(where: string, name: string, known: readonly string[]): never {
  return fail("config", {
    where: `${where}, ${name}`,
    found: "an unknown option",
    expected: `one of ${known.join(", ")}`,
    fix: `did you mean ${nearest(name, known)}?`,
  });
}

/**
 * A complete, checked config from some options.
 * @throws config - an unknown name, a value out of range
 */
export function pretrainConfig(options: Readonly<Record<string, unknown>> = {}, where = "options"): PretrainConfig {
  return resolvePretrainConfig([librarySource(options, where)]);
}

/** The same from several sources, the later before the earlier. */
export function resolvePretrainConfig(sources: readonly OptionSource[]): PretrainConfig {
  const defaults = librarySource({ ...PRETRAIN_DEFAULTS }, "defaults");
  return resolveOptions(table, [defaults, ...sources]).values as unknown as PretrainConfig;
}

/** The config of a model from scratch for this tokenizer. Names are those of {@link GPT2Config}. */
function newModelConfig(options: Readonly<Record<string, unknown>>, tokenizer: Tokenizer, where: string): GPT2Config {
  const known = Object.keys(makeConfig()).filter((name) => name !== "raw" && name !== "numLabels");
  for (const name of Object.keys(options)) if (!known.includes(name)) unknownName(where, name, known);
  const { vocabSize, eosTokenId } = tokenizer;
  let config: GPT2Config;
  try {
    config = makeConfig({ vocabSize, eosTokenId, bosTokenId: eosTokenId, ...(options as Partial<GPT2Config>) });
  } catch (error) {
    if (error instanceof ValueheadError) fail(error.kind, { ...error.problem, where: `${where}, model` }, error);
    throw error;
  }
  checkVocabulary(tokenizer, config.vocabSize, `${where}, vocabSize`);
  return config;
}

async function modelAndTokenizer(spec: PretrainSpec, { seed, ...training }: PretrainConfig, where: string) {
  const { threads } = spec;
  const check = async (model: Architecture) => {
    if (spec.ignoreMemory) return;
    const sequenceLength = Math.min(training.sequenceLength, model.sizes.context);
    const limits = { available: await availableBytes(), resident: residentBytes() };
    checkPretraining(model, { ...training, sequenceLength }, limits);
  };
  if (spec.model !== undefined) {
    if (spec.modelConfig && Object.keys(spec.modelConfig).length > 0)
      fail("usage", {
        where: `${where}, model`,
        found: `a config for a new model, and the model ${spec.model} to train on`,
        expected: "one of them",
        fix: "leave the model config out, or give a tokenizer in place of the model",
      });
    const directory = await resolveModel(spec.model);
    await check(await checkModel(directory));
    const model = await loadModel(directory, { threads, seed });
    const tokenizer = await loadTokenizer(spec.tokenizer ?? (model.directory as string));
    checkVocabulary(tokenizer, model.sizes.vocabSize, spec.model);
    if (tokenizer.eosTokenId !== null && tokenizer.eosTokenId >= model.sizes.vocabSize)
      fail("checkpoint", {
        where: tokenizer.where,
        found: `an end-of-text token with id ${tokenizer.eosTokenId}, and a model of ${model.sizes.vocabSize} ids`,
        expected: "one of the model's ids to put between documents",
        fix: "set eos_token in tokenizer_config.json to a token of the vocabulary",
      });
    return { model, tokenizer, notes: [...model.notes, ...tokenizer.notes, ...responseEnds(model, tokenizer).notes] };
  }
  if (spec.tokenizer === undefined)
    return fail("usage", {
      where: "pretraining",
      found: "neither a model nor a tokenizer",
      expected: "a model to train on, or a tokenizer for a new one",
      fix: "give --model M, or --tokenizer DIR with a model in the --config file",
    });
  const tokenizer = await loadTokenizer(spec.tokenizer);
  const config = newModelConfig(spec.modelConfig ?? {}, tokenizer, where);
  await check(architecture(gpt2, config));
  return { model: GPT2HeadWithValueModel.fromConfig(config, { threads, seed }), tokenizer, notes: tokenizer.notes };
}

/**
 * Tokenize, train, save. The model is written every 500 steps, at the end and, after the step in progress, when
 * `signal` aborts. Blocks the thread while a step computes.
 * @param options.onTokenized called as tokenizing goes on
 * @throws checkpoint - another run is at work in `out`
 */
export async function* pretrainRun(
  spec: PretrainSpec,
  options: { signal?: AbortSignal; onTokenized?: (progress: CorpusProgress) => void } = {},
): AsyncGenerator<PretrainRunEvent> {
  pretrainConfig(spec.config, spec.where ?? "options"); // report wrong options before anything else
  const lock = await enterRunDirectory(spec.out, false);
  try {
    yield* pretrainIn(lock, spec, options);
  } finally {
    await lock.release();
  }
}

async function* pretrainIn(
  lock: RunLock,
  spec: PretrainSpec,
  options: { signal?: AbortSignal; onTokenized?: (progress: CorpusProgress) => void },
): AsyncGenerator<PretrainRunEvent> {
  const { out, where = "options" } = spec;
  const { signal } = options;
  const config = pretrainConfig(spec.config, where);
  const { model, tokenizer, notes } = await modelAndTokenizer(spec, config, where);
  const context = model.sizes.context;
  if (spec.config?.sequenceLength === undefined) config.sequenceLength = Math.min(config.sequenceLength, context);
  if (config.sequenceLength > context)
    fail("config", {
      where: `${where}, sequenceLength`,
      found: String(config.sequenceLength),
      expected: `at most ${context}, the model's context (nPositions)`,
      fix: "lower sequenceLength, or give a new model a longer context",
    });

  const tokenize = (paths: readonly string[]) =>
    tokenizeCorpus(until(signal, readCorpus(paths, spec)), tokenizer, options.onTokenized);
  const all = await tokenize(spec.data);
  let parts: { train: Corpus; heldOut?: Corpus } = { train: all };
  if (spec.heldOut && !signal?.aborted) parts = { train: all, heldOut: await tokenize(spec.heldOut) };
  else if (spec.heldOutFraction && !signal?.aborted) parts = heldOut(all, spec.heldOutFraction, config.seed);
  if (signal?.aborted) return yield { type: "done", step: 0, interrupted: true };
  const evaluation = parts.heldOut && { ids: parts.heldOut.ids, bytes: corpusBytes(parts.heldOut) };
  const sampler = new CorpusSampler(parts.train.ids, config);

  const record = { version: VERSION, data: spec.data, model: spec.model ?? null, options: config };
  const recordText = `${JSON.stringify(record, null, 2)}\n`;
  lock.keepDirectory();
  await writeTextAtomic(joinPath(out, "training.json"), recordText);
  const log = await AppendFile.open(joinPath(out, "metrics.jsonl"));
  const tokens = parts.train.ids.length;
  const heldOutTokens = evaluation?.ids.length ?? 0;
  let step = 0;
  let saved = -1;
  const saveTo = async (directory: string) => {
    await model.savePretrained(directory);
    await tokenizer.save(directory);
  };
  const save = async (): Promise<PretrainRunEvent> => {
    await saveTo(out);
    saved = step;
    return { type: "saved", step, directory: out };
  };
  const lost = async () =>
    (await lock.lost()) ?? ((await log.isInPlace()) ? undefined : "no metrics.jsonl of this run any more");
  /** A directory that is gone, or somebody else's, is not written in; nor is what was learned lost. */
  const checkDirectory = async () => {
    const found = await lost();
    if (found === undefined) return;
    const place = await rescue(out, async (directory) => {
      await saveTo(directory);
      await writeTextAtomic(joinPath(directory, "training.json"), recordText);
      await writeAtomic(joinPath(directory, "metrics.jsonl"), async (sink) => sink.write(await log.contents()));
    });
    lostDirectory(out, found, `the model is saved as it was after step ${step}, in ${place}`);
  };
  try {
    yield { type: "loaded", parameters: model.parameters.data.length, tokens, heldOutTokens, notes };
    for await (const event of pretrain(model, sampler, config, { heldOut: evaluation, signal })) {
      await log.appendLine(JSON.stringify(event));
      step = event.step;
      yield event;
      await checkDirectory();
      if (event.type === "step" && step % SAVE_EVERY === 0) yield await save();
    }
    if (saved !== step) {
      await checkDirectory();
      yield await save();
    }
    yield { type: "done", step, interrupted: step < config.steps, directory: out };
  } finally {
    await log.close();
    model.dispose();
  }
}

async function* until<T>(signal: AbortSignal | undefined, items: AsyncIterable<T>): AsyncGenerator<T> {
  for await (const item of items) {
    yield item;
    if (signal?.aborted) return;
  }
}
