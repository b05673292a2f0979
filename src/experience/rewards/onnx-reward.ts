/**
 * @file A text classifier in ONNX form as a reward, through @huggingface/transformers: BERT, DistilBERT, RoBERTa and whatever else that
 * library knows. It is an optional peer dependency.
 */
import { fail, messageOf } from "../../base/errors.ts";
import { absolutePath, baseName, isDirectory, parentDirectory } from "../../platform/files.ts";
import { importPackage } from "../../platform/modules.ts";
import type { RewardFunction, RewardSample } from "../sample.ts";
import { labelPlace } from "./model-reward.ts";

/** How a classifier in ONNX form judges. */
export interface ONNXRewardOptions {
  /** Which output counts: the name of a label, or its number. May be left out where there is one output. */
  label?: string | number;
  /** Texts that are judged together. Default 32. */
  batchSize?: number;
  /** Of the weights, as @huggingface/transformers names its files. Default "fp32". */
  dtype?: "fp32" | "fp16" | "q8" | "q4";
}

const PACKAGE = "@huggingface/transformers";

/** What is used of it. */
interface TransformersJS {
  env: { localModelPath: string; allowLocalModels: boolean };
  AutoTokenizer: {
    from_pretrained(id: string): Promise<(texts: string[], options: object) => Record<string, unknown>>;
  };
  AutoModelForSequenceClassification: {
    from_pretrained(id: string, options: object): Promise<Classifier>;
  };
}
interface Classifier {
  (inputs: Record<string, unknown>): Promise<{ logits: { data: ArrayLike<number>; dims: number[] } }>;
  config: { id2label?: Readonly<Record<string, string>> };
  dispose(): Promise<unknown>;
}

/**
 * A text classifier in ONNX form, as @huggingface/transformers opens it, as a reward function: BERT and its kin, which
 * {@link modelReward} does not. Prompt and response are judged as one text; the score is the output itself, a logit where it is one of
 * several labels. Texts that are too long for it are cut at their end.
 * @param id a directory with `onnx/model.onnx`, config.json and tokenizer.json, or a hub id
 * @throws engine - the package @huggingface/transformers is not installed
 * @throws usage - a classifier of several labels without `label`, or a label that it does not have
 * @throws checkpoint - it cannot be opened
 */
export async function onnxReward(
  id: string,
  { label, batchSize = 32, dtype = "fp32" }: ONNXRewardOptions = {},
): Promise<RewardFunction & { dispose(): void }> {
  const library = await importPackage<TransformersJS>(PACKAGE, `reward onnx:${id}`);
  const local = await isDirectory(id);
  const name = local ? baseName(absolutePath(id)) : id;
  if (local) library.env.localModelPath = parentDirectory(absolutePath(id));
  const opened = async () => ({
    tokenizer: await library.AutoTokenizer.from_pretrained(name),
    model: await library.AutoModelForSequenceClassification.from_pretrained(name, { dtype }),
  });
  const { tokenizer, model } = await opened().catch((error) =>
    fail(
      "checkpoint",
      {
        where: `reward onnx:${id}`,
        found: `nothing that ${PACKAGE} opens as a text classifier (${messageOf(error).split("\n")[0]})`,
        expected: "a directory with onnx/model.onnx, config.json and tokenizer.json, or a hub id of such a repository",
        fix: "export it first: optimum-cli export onnx --model ID --task text-classification DIR/onnx",
      },
      error,
    ),
  );
  const names = Object.entries(model.config.id2label ?? {});
  const labels = names.sort(([a], [b]) => Number(a) - Number(b)).map(([, text]) => text);
  const place = labelPlace(labels, label, id, "onnx");
  const reward = async (batch: readonly RewardSample[]) => {
    const scores: number[] = [];
    for (let start = 0; start < batch.length; start += batchSize) {
      const texts = batch.slice(start, start + batchSize).map(({ text }) => text);
      const { logits } = await model(tokenizer(texts, { padding: true, truncation: true }));
      const width = logits.dims[logits.dims.length - 1];
      scores.push(...texts.map((_, i) => logits.data[i * width + place]));
    }
    return scores;
  };
  return Object.assign(reward, { dispose: () => void model.dispose() });
}
