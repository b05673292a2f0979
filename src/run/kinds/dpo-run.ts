/** @file A DPO run: preference pairs, a policy, and the reference that it is at the beginning. */

import { type DPOState, DPOTrainer } from "../../algorithms/dpo.ts";
import { type DPOConfig, dpoConfig } from "../../algorithms/options/dpo-options.ts";
import { adapterNote, checkAdapters, loraTable, withAskedAdapter } from "../../algorithms/options/lora.ts";
import { fail } from "../../base/errors.ts";
import { stream } from "../../base/streams.ts";
import { locate, tokenizerOf } from "../../checkpoint/model-files.ts";
import { type EncodedPairs, encodePairs, type PreferencePair, readPairs } from "../../data/pairs.ts";
import { checkModel, openModel } from "../../families/index.ts";
import { countParameters } from "../../model/memory.ts";
import { absolutePath } from "../../platform/files.ts";
import { availableBytes, residentBytes } from "../../platform/memory.ts";
import { checkVocabulary } from "../../tokenizer/load.ts";
import { restoreTrainer } from "../checkpoint.ts";
import { dpoCheckpoint } from "../checkpoint-state.ts";
import { type RunInputs, sumOfPairs, sumOfTokenizer } from "../inputs.ts";
import type { Begun, RunKind } from "../kind.ts";
import { checkPretraining } from "../memory.ts";
import { filesAt, modelRecord } from "../model-of.ts";
import { type DPOSpec, engineOf, type PairSource } from "../spec.ts";

export const dpoRun: RunKind<DPOSpec, DPOConfig> = {
  algorithm: "dpo",
  config: (options, where) => dpoConfig(options, where),
  options: {
    free: ["steps", "evalEvery", "saveEvery", "keepCheckpoints", "keepBest"],
    fixed: ["seed", "longPairs", "frozenLayers", ...Object.keys(loraTable)],
  },
  checkpoint: dpoCheckpoint,
  begin: async function* ({ spec, config, checkpoint, compare }) {
    const before = checkpoint?.state;
    compare({ threads: spec.threads, device: spec.device }); // soon: before any pair is read
    const began = await locate(spec.model, { adapter: spec.adapter });
    const files = checkpoint ? await filesAt(checkpoint.path, began) : began;
    const read = await checkModel(files);
    checkAdapters(read, config, files.directory, checkpoint !== undefined);
    const architecture = withAskedAdapter(read, config);
    const tokenizer = await tokenizerOf(files);
    checkVocabulary(tokenizer, architecture.sizes.vocabSize, files.directory);
    const { train, heldOut } = await pairsOf(spec, config.seed);
    const encode = (pairs: readonly PreferencePair[]) =>
      encodePairs(pairs, tokenizer, architecture.sizes, config.longPairs);
    const data = { train: encode(train), heldOut: heldOut && encode(heldOut) };
    const sizes = { batchSize: 2 * (config.microBatchSize || config.batchSize), sequenceLength: longest(data) };
    const available = spec.ignoreMemory ? Number.POSITIVE_INFINITY : await availableBytes();
    const memory = checkPretraining(architecture, sizes, { available, resident: residentBytes() });
    const engine = engineOf(spec, before?.inputs);
    const model = await openModel(files, { ...engine, seed: config.seed, tokenizer, makeValueHead: false });
    const inputs: RunInputs = {
      data: sumOfPairs(data.train),
      pairs: data.train.prompts.length,
      evaluation: data.heldOut ? sumOfPairs(data.heldOut) : before?.inputs?.evaluation,
      tokenizer: sumOfTokenizer(tokenizer),
      threads: model.engine.threads,
      device: model.engine.device,
    };
    const changes = compare(inputs);
    const saved = before?.trainer as DPOState | undefined;
    const others =
      before?.inputs && (["data", "evaluation"] as const).some((name) => before.inputs?.[name] !== inputs[name]);
    // Of pairs that it was not asked about, the reference has to be asked: it is the model that the run began with.
    const reference = others
      ? await openModel(began, { engine: model.engine, tokenizer, makeValueHead: false })
      : undefined;
    const trainer = new DPOTrainer({ model, tokenizer, config, reference });
    if (before && checkpoint && saved)
      await restoreTrainer(checkpoint.path, before, trainer, others ? { step: saved.step } : saved);
    return {
      trainer,
      train: (signal) => trainer.train(data, { signal }),
      inputs,
      record: recordOf(spec, checkpoint ? spec : await modelRecord(spec, began)),
      loaded: {
        parameters: countParameters(model).total,
        vocabSize: model.sizes.vocabSize,
        nPositions: model.sizes.context,
        memory,
        notes: [
          ...model.notes,
          ...tokenizer.notes,
          ...adapterNote(model),
          ...data.train.notes,
          ...(data.heldOut?.notes ?? []),
        ],
        pairs: data.train.prompts.length,
        heldOutPairs: data.heldOut?.prompts.length ?? 0,
      },
      changes,
      dispose: () => model.dispose(),
    } satisfies Begun;
  },
};

/** The pairs to learn from, and those held out: of a file of their own, or a share of the others chosen by seed. */
async function pairsOf(
  { data, heldOut, heldOutFraction = 0 }: DPOSpec,
  seed: number,
): Promise<{ train: readonly PreferencePair[]; heldOut?: readonly PreferencePair[] }> {
  const all = await pairsIn(data);
  if (heldOut !== undefined) return { train: all, heldOut: await pairsIn(heldOut) };
  const count = Math.round(all.length * heldOutFraction);
  if (heldOutFraction === 0) return { train: all };
  if (count === 0 || count === all.length)
    fail("data", {
      where: "heldOutFraction",
      found: `${heldOutFraction} of ${all.length} ${all.length === 1 ? "pair" : "pairs"}, which is ${count}`,
      expected: "at least one pair on either side",
      fix: "change heldOutFraction, or give more pairs",
    });
  const order = stream(seed, "heldOutPairs").permutation(all.length);
  const chosen = new Set(order.subarray(0, count));
  return { train: all.filter((_, i) => !chosen.has(i)), heldOut: all.filter((_, i) => chosen.has(i)) };
}

const pairsIn = async (source: PairSource): Promise<readonly PreferencePair[]> =>
  typeof source === "string" ? readPairs(source) : source;

/** Tokens of the longest prompt with a response. */
const longest = ({ train, heldOut }: { train: EncodedPairs; heldOut: EncodedPairs | undefined }): number =>
  [train, ...(heldOut ? [heldOut] : [])]
    .flatMap(({ prompts, chosen, rejected }) =>
      prompts.map((prompt, p) => prompt.length + Math.max(chosen[p].length, rejected[p].length)),
    )
    .reduce((most, length) => Math.max(most, length), 1);

/** Everything that --resume needs to find pairs and model again. */
function recordOf(
  { data, heldOut, heldOutFraction = 0 }: DPOSpec,
  { model, adapter }: Pick<DPOSpec, "model" | "adapter">,
) {
  const path = (source: PairSource | undefined) => (typeof source === "string" ? absolutePath(source) : null);
  return { model, adapter, pairsPath: path(data), heldOutPairs: path(heldOut), heldOutFraction };
}
