/** @file What a sequence classifier's outputs are called, and its part of config.json. Names and defaults: transformers' PretrainedConfig. */
import { fail } from "../../base/errors.ts";
import { brief } from "../../base/text.ts";
import { isObject, type JsonObject } from "../../checkpoint/config-json.ts";

/** What the outputs mean, in transformers' names: numbers; logits of labels of which one is right; logits of labels that are each right or wrong. */
export type ProblemType = "regression" | "single_label_classification" | "multi_label_classification";
const PROBLEM_TYPES: readonly ProblemType[] = [
  "regression",
  "single_label_classification",
  "multi_label_classification",
];

/** A classifier's part of config.json. */
export interface ClassifierConfig {
  /** The name of each output, in order: `id2label`. */
  readonly labels: readonly string[];
  /** `problem_type`; undefined: the config does not say. */
  readonly problem?: ProblemType;
  /** Texts are pooled at their last token that is not this one: `pad_token_id`; null: at their last token. */
  readonly padTokenId: number | null;
  /**
   * Whether the texts that it learned from had the end of text after them, so that those it judges have it too: `append_eos_token`, a
   * field of this library's.
   */
  readonly endOfText: boolean;
}

const defaultLabels = (count: number) => Array.from({ length: count }, (_, i) => `LABEL_${i}`);

/**
 * The classifier's part of a parsed config.json. As in transformers there are two labels where nothing is said.
 * @param where what errors call it
 * @throws config - labels that are no list of names
 */
export function readLabels(
  json: JsonObject,
  where: string,
): Pick<ClassifierConfig, "labels" | "problem" | "endOfText"> {
  const { id2label, num_labels: count, problem_type: problem, append_eos_token: endOfText } = json;
  const wrong = (field: string, found: unknown, expected: string): never =>
    fail("config", { where: `${where}, ${field}`, found: brief(found), expected, fix: `correct ${field}` });
  if (problem != null && !PROBLEM_TYPES.includes(problem as ProblemType))
    wrong("problem_type", problem, `one of ${PROBLEM_TYPES.join(", ")}, or null`);
  if (count !== undefined && !(Number.isInteger(count) && Number(count) >= 1 && Number(count) <= 100_000))
    wrong("num_labels", count, "a whole number from 1");
  const rest = { problem: (problem ?? undefined) as ProblemType | undefined, endOfText: endOfText === true };
  if (id2label == null) return { labels: defaultLabels((count as number | undefined) ?? 2), ...rest };
  const names = isObject(id2label) ? Object.entries(id2label).sort(([a], [b]) => Number(a) - Number(b)) : [];
  const isList = names.length > 0 && names.every(([id, name], i) => Number(id) === i && typeof name === "string");
  if (!isList)
    wrong("id2label", id2label, 'the name of each output by its number from 0: {"0": "negative", "1": "positive"}');
  // As in transformers, where the two differ the number counts.
  if (count !== undefined && count !== names.length) return { labels: defaultLabels(count as number), ...rest };
  return { labels: names.map(([, name]) => name as string), ...rest };
}

/** The same as JSON. */
export function labelsToJson({ labels, problem, padTokenId, endOfText }: ClassifierConfig): JsonObject {
  return {
    num_labels: labels.length,
    id2label: Object.fromEntries(labels.map((name, i) => [String(i), name])),
    label2id: Object.fromEntries(labels.map((name, i) => [name, i])),
    problem_type: problem ?? null,
    pad_token_id: padTokenId,
    append_eos_token: endOfText,
  };
}
