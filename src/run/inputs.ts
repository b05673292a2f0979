/** @file What a run learns from, as checksums in its checkpoints: a run that is resumed with something else is another run. */
import { z } from "zod";
import { asPrompt, type PromptGiven } from "../data/chat.ts";
import type { Corpus } from "../data/corpus.ts";
import type { EncodedJudgements } from "../data/judgements.ts";
import type { EncodedPairs } from "../data/pairs.ts";
import { isModelReward, namedModel } from "../experience/rewards/model-reward.ts";
import type { CausalLMWithValueHead } from "../model/model.ts";
import { sha256OfFile } from "../platform/file-checksums.ts";
import { fileSize, isDirectory, joinPath, listDirectory, readText } from "../platform/files.ts";
import { sha256Of } from "../platform/hash.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { Changeable } from "./options.ts";

const sum = z.string().regex(/^[0-9a-f]{64}$/);

/** What computes: other kernels have other bits, too. Undefined in checkpoints from before there was a choice: the CPU. */
const device = z.string().min(1).optional();

/** What a PPO run learns from. */
export const ppoInputs = z.strictObject({
  /** Of the prompts with their rows, in their order. */
  prompts: sum,
  promptCount: z.number().int().min(1),
  /** Of the prompts that are never trained on. */
  evaluation: sum.optional(),
  /** Of the weights the run began with, which the KL is measured against; their value head does not count. */
  reference: sum.optional(),
  tokenizer: sum,
  /** Of the chat template, where there are conversations. */
  chatTemplate: sum.optional(),
  /** The local time that a chat template is told which asks for it: the same for the whole run. */
  time: z.string().optional(),
  /** A name, or the path of a module. */
  reward: z.string(),
  /** Of that module's file. */
  rewardFile: sum.optional(),
  /** Threads of the engine: other sums have other bits. */
  threads: z.number().int().min(1),
  device,
});

/** What language-model training learns from. */
export const sftInputs = z.strictObject({
  /** Of the text that is trained on, as token ids. */
  data: sum,
  dataTokens: z.number().int().min(1),
  /** Of the text that the held-out loss is measured on. */
  evaluation: sum.optional(),
  tokenizer: sum,
  threads: z.number().int().min(1),
  device,
});

/** What DPO learns from. */
export const dpoInputs = z.strictObject({
  /** Of the pairs that are learned from, as token ids. */
  data: sum,
  pairs: z.number().int().min(1),
  /** Of the pairs that the held-out loss is measured on. */
  evaluation: sum.optional(),
  tokenizer: sum,
  threads: z.number().int().min(1),
  device,
});

/** What a reward model learns from. */
export const rewardInputs = z.strictObject({
  /** Of the judgements that are learned from, as token ids and numbers. */
  data: sum,
  judgements: z.number().int().min(1),
  /** Of the judgements that the held-out loss is measured on. */
  evaluation: sum.optional(),
  tokenizer: sum,
  threads: z.number().int().min(1),
  device,
});

/** What a run of any algorithm learns from. */
export type RunInputs = Partial<
  z.infer<typeof ppoInputs> & z.infer<typeof sftInputs> & z.infer<typeof dpoInputs> & z.infer<typeof rewardInputs>
> & {
  tokenizer: string;
  threads: number;
};

function* asText(prompts: readonly PromptGiven[]): Generator<string> {
  const plain = (_: string, value: unknown) => (typeof value === "bigint" ? `${value}n` : value);
  for (const [i, item] of prompts.entries()) {
    const { prompt, row, messages } = asPrompt(item, `prompt ${i + 1}`);
    yield `${JSON.stringify([messages ?? prompt, row], plain)}\n`;
  }
}

export const sumOfPrompts = (prompts: readonly PromptGiven[]): string => sha256Of(asText(prompts));

/** Of the chat templates of a tokenizer, whichever file they are in. */
export const sumOfChatTemplate = ({ chatTemplates }: Tokenizer): string =>
  sha256Of([JSON.stringify([...chatTemplates].sort(([a], [b]) => (a < b ? -1 : 1)))]);

/** Of a text as token ids. */
export const sumOfText = ({ ids, learned }: Corpus): string =>
  sha256Of([new Uint8Array(ids.buffer, ids.byteOffset, ids.byteLength), ...(learned ? [learned] : [])]);

function* pairsAsIds({ prompts, chosen, rejected }: EncodedPairs): Generator<string> {
  for (let p = 0; p < prompts.length; p++) yield `${prompts[p].join()};${chosen[p].join()};${rejected[p].join()}\n`;
}

/** Of preference pairs as token ids. */
export const sumOfPairs = (pairs: EncodedPairs): string => sha256Of(pairsAsIds(pairs));

function* judgementsAsIds({ kind, texts, targets, labels }: EncodedJudgements): Generator<string> {
  yield `${JSON.stringify([kind, labels])}\n`;
  for (const ids of texts) yield `${ids.join()}\n`;
  yield targets.join();
}

/** Of judgements as token ids and numbers. */
export const sumOfJudgements = (judgements: EncodedJudgements): string => sha256Of(judgementsAsIds(judgements));

function* weights({ parameters }: CausalLMWithValueHead): Generator<string | Uint8Array> {
  for (const { name, shape } of parameters.table) {
    if (name.startsWith("v_head.")) continue;
    yield `${name} [${shape}]\n`;
    for (const { buffer, byteOffset, byteLength } of parameters.held(name))
      yield new Uint8Array(buffer, byteOffset, byteLength);
  }
}

/** Of a model's weights but for the value head, whatever files they came from. */
export const sumOfWeights = (model: CausalLMWithValueHead): string => sha256Of(weights(model));

export const sumOfTokenizer = (tokenizer: Tokenizer): string => sha256Of([tokenizer.fingerprint]);

/** The checksum of a reward's module or of a reward model's files; undefined for a name that is no path. */
export async function sumOfRewardFile(rewardName: string): Promise<string | undefined> {
  if (isModelReward(rewardName)) {
    const { id } = namedModel(rewardName);
    const names = (await isDirectory(id)) ? await listDirectory(id) : [];
    const files = names.filter((name) => /\.(safetensors|onnx)$|^(config|tokenizer)\.json$/.test(name)).sort();
    const sums = await Promise.all(files.map((name) => sha256OfFile(joinPath(id, name))));
    return files.length > 0 ? sha256Of(sums) : undefined;
  }
  if (!/[/\\.]/.test(rewardName) || (await fileSize(rewardName)) === null) return undefined;
  return sha256Of([await readText(rewardName).catch(() => "")]);
}

/** Something that is not as it was. */
export interface Change {
  what: Changeable;
  /** In words, for `found`. */
  now: string;
}

/** What differs from what a checkpoint was trained with, and may not. */
export function changedInputs(before: Partial<RunInputs>, now: Partial<RunInputs>): Change[] {
  const changes: Change[] = [];
  const differs = (name: keyof RunInputs) => now[name] !== undefined && now[name] !== before[name];
  if (differs("prompts"))
    changes.push({
      what: "prompts",
      now:
        now.promptCount === before.promptCount
          ? `${now.promptCount} prompts that are not those of the run`
          : `${now.promptCount} prompts (the run has ${before.promptCount})`,
    });
  if (differs("data"))
    changes.push({
      what: "data",
      now:
        now.pairs !== undefined
          ? `${now.pairs} pairs that are not those of the run`
          : now.judgements !== undefined
            ? `${now.judgements} judgements that are not those of the run`
            : `a text of ${now.dataTokens} tokens that is not that of the run`,
    });
  if (before.evaluation !== undefined && differs("evaluation")) {
    const of =
      before.data === undefined
        ? "other evaluation prompts"
        : before.pairs
          ? "other held-out pairs"
          : before.judgements
            ? "other held-out judgements"
            : "another held-out text";
    changes.push({ what: "evaluation", now: of });
  }
  if (before.reference !== undefined && differs("reference"))
    changes.push({
      what: "model",
      now: "another model to measure the KL against: its weights are not those the run began with",
    });
  if (differs("tokenizer")) changes.push({ what: "model", now: "another tokenizer" });
  if (before.chatTemplate !== undefined && differs("chatTemplate"))
    changes.push({ what: "model", now: "another chat template" });
  return changes;
}
