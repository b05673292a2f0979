/** @file A run of language-model training: text, and a model to train on or a new one. */

import { adapterNote, checkAdapters, loraTable, withAskedAdapter } from "../../algorithms/options/lora.ts";
import {
  checkSequenceLength,
  packingOf,
  SFT_DEFAULTS,
  type SFTConfig,
  sftConfig,
} from "../../algorithms/options/sft-options.ts";
import { type SFTData, type SFTState, SFTTrainer } from "../../algorithms/sft.ts";
import { fail, ValueheadError } from "../../base/errors.ts";
import { nearest } from "../../base/nearest.ts";
import { resolveModel } from "../../checkpoint/hub.ts";
import { loadTokenizer, locate, tokenizerOf } from "../../checkpoint/model-files.ts";
import { type Corpus, type Document, heldOut, readCorpus, tokenizing } from "../../data/corpus.ts";
import { HELD_OUT_SCORED, packingNotes } from "../../data/packing.ts";
import { isEmptyResponse, readResponses } from "../../data/responses.ts";
import type { GPT2Config } from "../../families/gpt2.ts";
import { checkModel, familyOf, modelFromConfig, openModel } from "../../families/index.ts";
import type { LlamaConfig } from "../../families/llama.ts";
import { type Architecture, architecture, type ModelConfig } from "../../model/family.ts";
import { countParameters } from "../../model/memory.ts";
import { absolutePath, isDirectory } from "../../platform/files.ts";
import { availableBytes, residentBytes } from "../../platform/memory.ts";
import { breathe } from "../../platform/worker.ts";
import { responseEnds } from "../../sample/ends.ts";
import { checkVocabulary } from "../../tokenizer/load.ts";
import type { Tokenizer } from "../../tokenizer/tokenizer.ts";
import { restoreTrainer } from "../checkpoint.ts";
import { sftCheckpoint } from "../checkpoint-state.ts";
import type { RunEvent } from "../events.ts";
import { type RunInputs, sumOfText, sumOfTokenizer } from "../inputs.ts";
import type { Beginning, Begun, RunKind } from "../kind.ts";
import { checkPretraining } from "../memory.ts";
import { engineOf, type SFTSpec, type TextSource } from "../spec.ts";

type Given = Beginning<SFTSpec, SFTConfig>;

export const sftRun: RunKind<SFTSpec, SFTConfig> = {
  algorithm: "sft",
  config: (options, where) => sftConfig(options, where),
  options: {
    free: ["steps", "evalEvery", "saveEvery", "keepCheckpoints", "keepBest"],
    fixed: ["seed", "sequenceLength", "packing", "longExamples", ...Object.keys(loraTable)],
  },
  checkpoint: sftCheckpoint,
  begin: async function* (given) {
    const { spec, checkpoint, signal, compare } = given;
    compare({ threads: spec.threads, device: spec.device }); // soon: before any text is read
    const { model, tokenizer, memory, notes, config } = await open(given);
    const data = yield* readData(spec, tokenizer, config.seed, signal, notes);
    if (!data) return undefined;
    notes.push(...packingNotes(data.train, packingOf(config, data.train.learned !== undefined)));
    const trainer = new SFTTrainer({ model, tokenizer, config });
    const before = checkpoint?.state;
    const inputs: RunInputs = {
      data: sumOfText(data.train),
      dataTokens: data.train.ids.length,
      evaluation: data.heldOut ? sumOfText(data.heldOut) : before?.inputs?.evaluation,
      tokenizer: sumOfTokenizer(tokenizer),
      threads: model.engine.threads,
      device: model.engine.device,
    };
    const changes = compare(inputs);
    if (before && checkpoint) {
      const { step, corpus } = before.trainer as SFTState;
      const other = before.inputs && before.inputs.data !== inputs.data; // allowed: it begins at its own beginning
      await restoreTrainer(checkpoint.path, before, trainer, { step, corpus: other ? undefined : corpus });
    }
    return {
      trainer,
      train: (stop) => trainer.train(data, { signal: stop }),
      inputs,
      record: await recordOf(spec),
      loaded: {
        parameters: countParameters(model).total,
        vocabSize: model.sizes.vocabSize,
        nPositions: model.sizes.context,
        memory,
        notes: [...notes, ...adapterNote(trainer.model)],
        tokens: data.train.ids.length,
        heldOutTokens: data.heldOut?.ids.length ?? 0,
      },
      changes,
      dispose: () => model.dispose(),
    } satisfies Begun;
  },
};

/** Everything that --resume needs to find the text and, where there is no checkpoint yet, the model again. */
async function recordOf(spec: SFTSpec) {
  const paths = (sources: readonly TextSource[] | undefined) =>
    sources?.every((source) => typeof source === "string") ? sources.map((path) => absolutePath(path)) : null;
  const place = async (name: string | undefined) =>
    name === undefined ? null : (await isDirectory(name)) ? absolutePath(await resolveModel(name)) : name;
  return {
    model: await place(spec.model),
    ...(spec.adapter !== undefined && { adapter: await place(spec.adapter) }),
    tokenizer: await place(spec.tokenizer),
    modelConfig: spec.modelConfig ?? null,
    data: paths(spec.data),
    ...(spec.responses && { responses: true }),
    column: spec.column ?? null,
    heldOutData: spec.heldOut ? paths(spec.heldOut) : null,
    heldOutFraction: spec.heldOutFraction ?? 0,
  };
}

/** Text as token ids, with events that say how far it is; undefined: interrupted. */
async function* readData(
  spec: SFTSpec,
  tokenizer: Tokenizer,
  seed: number,
  signal: AbortSignal,
  notes: string[],
): AsyncGenerator<RunEvent, SFTData | undefined> {
  const read = async function* (sources: readonly TextSource[]): AsyncGenerator<RunEvent, Corpus> {
    const found = { empty: 0 };
    const steps = tokenizing(documents(sources, spec, signal, found), tokenizer);
    let next = await steps.next();
    for (; !next.done; next = await steps.next()) {
      yield { type: "reading", ...next.value };
      await breathe();
    }
    const { length } = next.value.documentEnds;
    if (found.empty > 0)
      notes.push(`${found.empty} of ${length} responses say nothing: of them the end of text alone is learned`);
    return next.value;
  };
  const train = yield* read(spec.data);
  if (signal.aborted) return undefined;
  const aside = spec.heldOut && (yield* read(spec.heldOut));
  if (signal.aborted) return undefined;
  if (aside) return { train, heldOut: aside };
  return spec.heldOutFraction ? heldOut(train, spec.heldOutFraction, seed) : { train };
}

/** Ends early when `signal` aborts. */
async function* documents(
  sources: readonly TextSource[],
  spec: SFTSpec,
  signal: AbortSignal,
  found: { empty: number },
): AsyncGenerator<Document> {
  const read = (path: string) => (spec.responses ? readResponses([path]) : readCorpus([path], spec));
  for (const source of sources) {
    for await (const document of typeof source === "string" ? read(source) : source) {
      if (typeof document === "object" && isEmptyResponse(document)) found.empty++;
      yield document;
      if (signal.aborted) return;
    }
  }
}

/** The model where the run goes on, the one to train on, or a new one; with its tokenizer, and options that fit its context. */
async function open({ spec, config: asked, checkpoint }: Given) {
  const { where = "options" } = spec;
  const fitTo = async (model: Architecture) => {
    const isGiven = checkpoint !== undefined || spec.config?.sequenceLength !== undefined;
    const sequenceLength = isGiven ? asked.sequenceLength : Math.min(SFT_DEFAULTS.sequenceLength, model.sizes.context);
    const config = { ...asked, sequenceLength };
    checkSequenceLength(config, model.sizes.context, where);
    const scored = spec.heldOut !== undefined || spec.heldOutFraction ? HELD_OUT_SCORED : [];
    const packed = packingOf(config, spec.responses ?? false).packing === "whole";
    const available = spec.ignoreMemory ? Number.POSITIVE_INFINITY : await availableBytes();
    return {
      config,
      memory: checkPretraining(model, { ...config, scored, packed }, { available, resident: residentBytes() }),
    };
  };
  const source = checkpoint?.path ?? spec.model;
  if (source !== undefined) {
    if (!checkpoint && Object.keys(spec.modelConfig ?? {}).length > 0)
      fail("usage", {
        where: `${where}, model`,
        found: `a config for a new model, and the model ${spec.model} to train on`,
        expected: "one of them",
        fix: "leave the model config out, or give a tokenizer in place of the model",
      });
    const files = await locate(source, { adapter: checkpoint ? undefined : spec.adapter });
    const read = await checkModel(files);
    checkAdapters(read, asked, files.directory, checkpoint !== undefined);
    const fitted = await fitTo(withAskedAdapter(read, asked));
    const tokenizer =
      checkpoint || !spec.tokenizer
        ? await tokenizerOf(files)
        : await loadTokenizer(await resolveModel(spec.tokenizer));
    const model = await openModel(files, { ...engineOf(spec, checkpoint?.state.inputs), seed: asked.seed });
    checkVocabulary(tokenizer, model.sizes.vocabSize, source);
    checkEnd(tokenizer, model.sizes.vocabSize);
    const notes = [...model.notes, ...tokenizer.notes, ...responseEnds(model, tokenizer).notes];
    return { model, tokenizer, notes, ...fitted };
  }
  if (asked.lora > 0)
    fail("usage", {
      where: `${where}, lora`,
      found: `${asked.lora}, for a new model`,
      expected: "a model whose weights are worth leaving as they are",
      fix: "give the model to train on, or leave lora out",
    });
  if (spec.tokenizer === undefined)
    return fail("usage", {
      where: "language-model training",
      found: "neither a model nor a tokenizer",
      expected: "a model to train on, or a tokenizer for a new one",
      fix: "give --model M, or --tokenizer DIR with a model in the --config file",
    });
  const tokenizer = await loadTokenizer(await resolveModel(spec.tokenizer));
  const modelConfig = newModelConfig(spec.modelConfig ?? {}, tokenizer, where);
  const fitted = await fitTo(architecture(familyOf({ model_type: modelConfig.modelType }, where), modelConfig));
  const model = modelFromConfig(modelConfig, { ...engineOf(spec), seed: asked.seed });
  return { model, tokenizer, notes: [...tokenizer.notes], ...fitted };
}

/** @throws checkpoint - a token between documents that the model does not have */
function checkEnd({ eosTokenId, where }: Tokenizer, vocabSize: number): void {
  if (eosTokenId === null || eosTokenId < vocabSize) return;
  fail("checkpoint", {
    where,
    found: `an end-of-text token with id ${eosTokenId}, and a model of ${vocabSize} ids`,
    expected: "one of the model's ids to put between documents",
    fix: "set eos_token in tokenizer_config.json to a token of the vocabulary",
  });
}

type AnyConfig = GPT2Config | LlamaConfig;

/** The config of a model from scratch for this tokenizer, a GPT-2 unless `modelType` says otherwise. Names are those of its config. */
function newModelConfig(options: Readonly<Record<string, unknown>>, tokenizer: Tokenizer, where: string): AnyConfig {
  const { modelType = "gpt2" } = options as { modelType?: string };
  const family = familyOf({ model_type: modelType }, `${where}, model`);
  const known = Object.keys(family.newConfig({ modelType })).filter((name) => name !== "raw" && name !== "numLabels");
  for (const name of Object.keys(options))
    if (!known.includes(name))
      fail("config", {
        where: `${where}, ${name}`,
        found: "an unknown option",
        expected: `one of ${known.join(", ")}`,
        fix: `did you mean ${nearest(name, known)}?`,
      });
  const { vocabSize, eosTokenId } = tokenizer;
  let config: AnyConfig;
  try {
    const given = { vocabSize, eosTokenId, bosTokenId: eosTokenId, modelType, ...(options as Partial<AnyConfig>) };
    config = family.newConfig(given as Partial<ModelConfig>) as AnyConfig;
  } catch (error) {
    if (error instanceof ValueheadError) fail(error.kind, { ...error.problem, where: `${where}, model` }, error);
    throw error;
  }
  checkVocabulary(tokenizer, config.vocabSize, `${where}, vocabSize`);
  return config;
}
