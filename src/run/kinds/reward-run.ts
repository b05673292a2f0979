/** @file A run that trains a reward model or a classifier: judgements, and a language model or classifier to begin with. */

import { namedLabels, type RewardConfig, rewardConfig } from "../../algorithms/options/reward-options.ts";
import { type RewardState, RewardTrainer } from "../../algorithms/reward.ts";
import { fail } from "../../base/errors.ts";
import { stream } from "../../base/streams.ts";
import { locate, type ModelFiles, tokenizerOf } from "../../checkpoint/model-files.ts";
import {
  type EncodedJudgements,
  encodeJudgements,
  haveLabels,
  type Judgement,
  readJudgements,
  refuseEqualTargets,
} from "../../data/judgements.ts";
import { checkClassifier, labelsIn, openClassifier } from "../../families/classifier.ts";
import { readModel } from "../../families/index.ts";
import type { ClassifierConfig, ProblemType } from "../../model/classifier/labels.ts";
import { countParameters } from "../../model/memory.ts";
import { absolutePath } from "../../platform/files.ts";
import { availableBytes, residentBytes } from "../../platform/memory.ts";
import { checkVocabulary } from "../../tokenizer/load.ts";
import { restoreTrainer } from "../checkpoint.ts";
import { rewardCheckpoint } from "../checkpoint-state.ts";
import { type RunInputs, sumOfJudgements, sumOfTokenizer } from "../inputs.ts";
import type { Begun, RunKind } from "../kind.ts";
import { checkPretraining } from "../memory.ts";
import { filesAt, modelRecord } from "../model-of.ts";
import { engineOf, type JudgementSource, type RewardModelSpec } from "../spec.ts";

export const rewardRun: RunKind<RewardModelSpec, RewardConfig> = {
  algorithm: "reward",
  config: (options, where) => rewardConfig(options, where),
  options: {
    free: ["steps", "evalEvery", "saveEvery", "keepCheckpoints", "keepBest"],
    fixed: ["seed", "labels", "endOfText", "longTexts", "frozenLayers"],
  },
  checkpoint: rewardCheckpoint,
  begin: async function* ({ spec, config, checkpoint, compare }) {
    const before = checkpoint?.state;
    compare({ threads: spec.threads, device: spec.device }); // soon: before any judgement is read
    const began = await locate(spec.model);
    const files = checkpoint ? await filesAt(checkpoint.path, began) : began;
    if (files.adapter) refuseAdapter(spec.model);
    const language = await readModel(files);
    const tokenizer = await tokenizerOf(files);
    checkVocabulary(tokenizer, language.sizes.vocabSize, files.directory);
    const { train, heldOut } = await judgementsOf(spec, config.seed);
    const { longTexts, endOfText } = config;
    const encode = (judgements: readonly Judgement[], labels?: readonly string[]) =>
      encodeJudgements(judgements, tokenizer, language.sizes, { longTexts, endOfText, labels });
    const ofModel = (await labelsIn(files)) ?? [];
    const names = namedLabels(config) ?? (haveLabels(train, ofModel) ? ofModel : undefined);
    const data = encoded(train, heldOut, names, encode);
    refuseEqualTargets(data.train);
    const { kind, labels } = data.train;
    const problems: Record<typeof kind, ProblemType> = {
      pairs: "regression",
      scores: "regression",
      labels: "single_label_classification",
    };
    const head: Partial<ClassifierConfig> & Pick<ClassifierConfig, "labels"> = {
      labels: kind === "labels" ? labels : ["LABEL_0"],
      problem: problems[kind],
      endOfText,
    };
    const architecture = await checkClassifier(files, { head });
    const texts = config.microBatchSize || config.batchSize;
    const longest = [data.train, ...(data.heldOut ? [data.heldOut] : [])]
      .flatMap(({ texts }) => texts)
      .reduce((most, { length }) => Math.max(most, length), 1);
    const sizes = { batchSize: kind === "pairs" ? 2 * texts : texts, sequenceLength: longest };
    const available = spec.ignoreMemory ? Number.POSITIVE_INFINITY : await availableBytes();
    const memory = checkPretraining(architecture, sizes, { available, resident: residentBytes() });
    const model = await openClassifier(files, { ...engineOf(spec, before?.inputs), head, seed: config.seed });
    const inputs: RunInputs = {
      data: sumOfJudgements(data.train),
      judgements: data.train.targets.length,
      evaluation: data.heldOut ? sumOfJudgements(data.heldOut) : before?.inputs?.evaluation,
      tokenizer: sumOfTokenizer(tokenizer),
      threads: model.engine.threads,
      device: model.engine.device,
    };
    const changes = compare(inputs);
    const trainer = new RewardTrainer({ model, tokenizer, config });
    if (before && checkpoint) {
      const state = before.trainer as RewardState;
      const other = before.inputs && before.inputs.data !== inputs.data; // allowed: they begin at their own beginning
      await restoreTrainer(checkpoint.path, before, trainer, other ? { step: state.step } : state);
    }
    return {
      trainer,
      train: (signal) => trainer.train(data, { signal }),
      inputs,
      record: { ...(await recordOf(spec, began, checkpoint !== undefined)), labels: model.labels },
      loaded: {
        parameters: countParameters(model).total,
        vocabSize: model.sizes.vocabSize,
        nPositions: model.sizes.context,
        memory,
        notes: [...model.notes, ...tokenizer.notes, ...data.train.notes, ...(data.heldOut?.notes ?? [])],
        judgements: data.train.targets.length,
        heldOutJudgements: data.heldOut?.targets.length ?? 0,
        kind,
      },
      changes,
      dispose: () => model.dispose(),
    } satisfies Begun;
  },
};

function refuseAdapter(model: string): never {
  return fail("usage", {
    where: `model ${model}`,
    found: "a LoRA adapter",
    expected: "a whole model: a reward model is trained whole",
    fix: "merge it first (valuehead merge) and give the merged model",
  });
}

/** Both sides as token ids, with the same labels: those that were named, those of the model where they fit, or those of the data. */
function encoded(
  train: readonly Judgement[],
  heldOut: readonly Judgement[] | undefined,
  known: readonly string[] | undefined,
  encode: (judgements: readonly Judgement[], labels?: readonly string[]) => EncodedJudgements,
): { train: EncodedJudgements; heldOut?: EncodedJudgements } {
  const first = encode(train, known);
  if (!heldOut) return { train: first };
  const second = encode(heldOut, first.kind === "labels" ? first.labels : undefined);
  if (second.kind !== first.kind)
    fail("data", {
      where: "held-out data",
      found: second.kind,
      expected: `${first.kind}, as there are to learn from`,
      fix: "give held-out data of the same kind",
    });
  return { train: first, heldOut: second };
}

/** The judgements to learn from, and those held out: of a file of their own, or a share of the others chosen by seed. */
async function judgementsOf(
  { data, heldOut, heldOutFraction = 0 }: RewardModelSpec,
  seed: number,
): Promise<{ train: readonly Judgement[]; heldOut?: readonly Judgement[] }> {
  const all = await judgementsIn(data);
  if (heldOut !== undefined) return { train: all, heldOut: await judgementsIn(heldOut) };
  if (heldOutFraction === 0) return { train: all };
  const count = Math.round(all.length * heldOutFraction);
  if (count === 0 || count === all.length)
    fail("data", {
      where: "heldOutFraction",
      found: `${heldOutFraction} of ${all.length} rows, which is ${count}`,
      expected: "at least one row on either side",
      fix: "change heldOutFraction, or give more rows",
    });
  const order = stream(seed, "heldOutJudgements").permutation(all.length);
  const chosen = new Set(order.subarray(0, count));
  return { train: all.filter((_, i) => !chosen.has(i)), heldOut: all.filter((_, i) => chosen.has(i)) };
}

const judgementsIn = async (source: JudgementSource): Promise<readonly Judgement[]> =>
  typeof source === "string" ? readJudgements(source) : source;

/** Everything that --resume needs to find judgements and model again. */
async function recordOf(spec: RewardModelSpec, began: ModelFiles, resumed: boolean) {
  const { data, heldOut, heldOutFraction = 0 } = spec;
  const path = (source: JudgementSource | undefined) => (typeof source === "string" ? absolutePath(source) : null);
  const { model } = resumed ? spec : await modelRecord(spec, began);
  return { model, judgementsPath: path(data), heldOutJudgements: path(heldOut), heldOutFraction };
}
