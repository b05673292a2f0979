/** @file A reward model or classifier as a reward: it reads prompt and response and says how good they are. */
import type { ChatMessage } from "../../base/chat-messages.ts";
import { textOfMessage } from "../../base/chat-messages.ts";
import { fail } from "../../base/errors.ts";
import { type LocateOptions, locate, tokenizerOf } from "../../checkpoint/model-files.ts";
import { encodeJudged, type Judged } from "../../data/judgements.ts";
import { openClassifier } from "../../families/classifier.ts";
import type { ClassifierOptions, SequenceClassifier } from "../../model/classifier/classifier.ts";
import { checkVocabulary } from "../../tokenizer/load.ts";
import type { Tokenizer } from "../../tokenizer/tokenizer.ts";
import type { RewardFunction, RewardSample } from "../sample.ts";

/** How a reward model judges. */
export interface ModelRewardOptions extends ClassifierOptions, LocateOptions {
  /** Which output counts: the name of a label, or its number. May be left out where there is one output. */
  label?: string | number;
  /** Texts that are judged together. Default 32. */
  batchSize?: number;
}

/** A reward function that is a model. */
export interface ModelReward extends RewardFunction {
  /** Free the model's sessions and buffers. */
  dispose(): void;
}

/** Whether a reward is named as a model: `model:DIR`, `model:DIR#label`, or of one in ONNX form `onnx:DIR`. */
export const isModelReward = (name: string): boolean => /^(model|onnx):/.test(name);

/** What `model:DIR#label` or `onnx:DIR#label` names. */
export function namedModel(name: string): { form: "model" | "onnx"; id: string; label?: string } {
  const [, form, id, label] = /^(model|onnx):(.*?)(?:#([^#/\\]*))?$/s.exec(name) ?? [];
  if (!id || (form !== "model" && form !== "onnx"))
    return fail("usage", {
      where: "reward",
      found: JSON.stringify(name),
      expected: "model:DIR or model:DIR#LABEL; onnx:DIR for one in ONNX form",
      fix: "name the directory or hub id of a reward model or classifier",
    });
  return label ? { form, id, label } : { form, id };
}

/**
 * A reward model or classifier, as {@link loadClassifier} opens it, as a reward function. A sample's prompt and response are judged
 * together: as the text they are, or as a conversation by the judge's own chat template. The score is the output itself, a logit where it
 * is one of several labels. Where they are longer than the judge's context, their last tokens are read.
 * @param id a directory, a run directory or a hub id
 * @throws usage - a classifier of several labels without `label`, or a label that it does not have
 * @throws config, checkpoint - what is there cannot be loaded, and why
 */
export async function modelReward(id: string, options: ModelRewardOptions = {}): Promise<ModelReward> {
  const files = await locate(id, options);
  const model = await openClassifier(files, options);
  const tokenizer = await tokenizerOf(files);
  checkVocabulary(tokenizer, model.sizes.vocabSize, files.directory);
  const place = labelPlace(model.labels, options.label, id);
  const reward = async (batch: readonly RewardSample[]) => {
    const outputs = await model.outputs(
      batch.map((sample) => judgedIds(judged(sample), model, tokenizer, id)),
      options.batchSize,
    );
    return batch.map((_, i) => outputs[i * model.labels.length + place]);
  };
  return Object.assign(reward, { dispose: () => model.dispose() });
}

/** Prompt and response as one text, or as one conversation. */
function judged({ text, messages, response }: Pick<RewardSample, "text" | "messages" | "response">): Judged {
  if (!messages) return text;
  const last = messages[messages.length - 1];
  // A conversation that ends with the assistant was gone on with.
  if (last.role === "assistant")
    return [...messages.slice(0, -1), { ...last, content: textOfMessage(last) + response } satisfies ChatMessage];
  return [...messages, { role: "assistant", content: response }];
}

/** The tokens that a judge reads: at most its context. @param id what errors call it */
export function judgedIds(text: Judged, model: SequenceClassifier, tokenizer: Tokenizer, id: string): Int32Array {
  if (typeof text !== "string" && tokenizer.chatTemplates.size === 0)
    fail("reward", {
      where: `reward model ${id}`,
      found: "a conversation to judge, and no chat template in its tokenizer",
      expected: "a judge of conversations",
      fix: "take a reward model with a chat template, or give prompts that are texts",
    });
  const ids = encodeJudged(text, tokenizer, model.classifier.endOfText);
  if (ids.length === 0) return Int32Array.of(tokenizer.eosTokenId ?? 0); // neither prompt nor response
  return ids.subarray(-model.sizes.context);
}

/** The place of the label that was named. @throws usage - there is no such label, or several and none was named */
export function labelPlace(
  labels: readonly string[],
  label: string | number | undefined,
  id: string,
  form: "model" | "onnx" = "model",
): number {
  if (label === undefined) {
    if (labels.length === 1) return 0;
    return fail("usage", {
      where: `reward model ${id}`,
      found: `${labels.length} labels, and none named`,
      expected: `one of ${labels.slice(0, 20).join(", ")}, whose logit is the score`,
      fix: `write ${form}:${id}#${labels.at(-1)}`,
    });
  }
  const named = labels.indexOf(String(label));
  if (named >= 0) return named;
  const alike = labels.findIndex((name) => name.toLowerCase() === String(label).toLowerCase());
  if (alike >= 0) return alike;
  if (/^\d+$/.test(String(label)) && Number(label) < labels.length) return Number(label);
  return fail("usage", {
    where: `reward model ${id}`,
    found: `the label ${JSON.stringify(label)}`,
    expected: `one of ${labels.slice(0, 20).join(", ")}, or a number from 0 to ${labels.length - 1}`,
    fix: `write ${form}:${id}#${labels.at(-1)}`,
  });
}
