/** @file What to run, and what config.json says of it. */
import { z } from "zod";
import type { AlgorithmName } from "../algorithms/algorithm.ts";
import type { GRPOConfig } from "../algorithms/grpo.ts";
import type { DPOConfig } from "../algorithms/options/dpo-options.ts";
import type { PPOConfig } from "../algorithms/options/ppo-options.ts";
import type { RewardConfig } from "../algorithms/options/reward-options.ts";
import type { SFTConfig } from "../algorithms/options/sft-options.ts";
import type { RLOOConfig } from "../algorithms/rloo.ts";
import type { Device } from "../backend/devices.ts";
import { fail } from "../base/errors.ts";
import type { PromptGiven } from "../data/chat.ts";
import type { Document } from "../data/corpus.ts";
import type { Judgement } from "../data/judgements.ts";
import type { PreferencePair } from "../data/pairs.ts";
import type { WorkersSpec } from "../distributed/job.ts";
import { joinPath, readJson } from "../platform/files.ts";
import { refuseWhereLocked } from "../platform/lock.ts";
import { isUnwritten } from "./checkpoint.ts";
import type { RunInputs } from "./inputs.ts";
import { CONFIG_FILE } from "./logs.ts";
import type { Changeable } from "./options.ts";

/** What every run is told. Plain data: it crosses to a worker. */
export interface AnyRunSpec {
  /** The run directory. New or empty, unless `resume`. */
  out: string;
  /** Go on from the newest checkpoint in `out` that is not damaged. */
  resume?: boolean;
  /** What may differ from what the run was started with, when it is resumed. */
  allowChange?: readonly Changeable[];
  /** Threads of the engine. Default: those the run was started with, or the cores this process may use. */
  threads?: number;
  /** What computes. Default: what the run was started with, or cpu. */
  device?: Device;
  /** What else config.json says: where the data came from. */
  record?: Readonly<Record<string, unknown>>;
  /** Start although the run is expected to take more memory than there is. */
  ignoreMemory?: boolean;
}

/** A run on prompts: PPO, GRPO or RLOO. */
export interface PromptSpec extends AnyRunSpec {
  /** A directory in Hugging Face layout, a hub id, or "tiny". */
  model: string;
  /** A LoRA adapter of it that is trained on, in PEFT's layout: a directory or a hub id. */
  adapter?: string;
  /** What is answered: texts or conversations, alone or with the other columns of their rows. */
  prompts: readonly PromptGiven[];
  /** A built-in name, a reward model's (`model:DIR`) or the path of a module; here it only names the reward in errors and in config.json. */
  rewardName: string;
  /** Prompts never trained on: responses to them are scored before and after. */
  evaluation?: { prompts: readonly PromptGiven[] };
  /** A NATS server through which workers on other machines take part. */
  workers?: WorkersSpec;
}

/** A PPO run. */
export interface RunSpec extends PromptSpec {
  /** May be left out: PPO is the default. */
  algorithm?: "ppo";
  /** Options; what is not given has its default, or is as it was in a run that is resumed. */
  config: Partial<PPOConfig>;
}

/** A GRPO run. */
export interface GRPOSpec extends PromptSpec {
  /** Tells it from a PPO run. */
  algorithm: "grpo";
  /** Options; what is not given has its default, or is as it was in a run that is resumed. */
  config: Partial<GRPOConfig>;
}

/** An RLOO run. */
export interface RLOOSpec extends PromptSpec {
  /** Tells it from a PPO run. */
  algorithm: "rloo";
  /** Options; what is not given has its default, or is as it was in a run that is resumed. */
  config: Partial<RLOOConfig>;
}

/** A run whose responses are rewarded. */
export type RewardedSpec = RunSpec | GRPOSpec | RLOOSpec;

/** A file of preference pairs, or pairs themselves. */
export type PairSource = string | readonly PreferencePair[];

/** A DPO run. */
export interface DPOSpec extends AnyRunSpec {
  /** Tells it from a PPO run. */
  algorithm: "dpo";
  /** The model that is trained, and that it is held to as it is at the beginning: a directory, a hub id, or "tiny". */
  model: string;
  /** A LoRA adapter of it that is trained on, in PEFT's layout: a directory or a hub id. */
  adapter?: string;
  /** What is learned from: a file as {@link readPairs} reads it, or pairs. */
  data: PairSource;
  /** Pairs never learned from: the loss on them is measured. */
  heldOut?: PairSource;
  /** Or this share of the pairs. Above 0, below 1. */
  heldOutFraction?: number;
  /** Options; what is not given has its default, or is as it was in a run that is resumed. */
  config?: Partial<DPOConfig>;
  /** What errors call the origin of `config`. */
  where?: string;
}

/** A file of judgements, or judgements themselves. */
export type JudgementSource = string | readonly Judgement[];

/** A run that trains a reward model or a classifier. */
export interface RewardModelSpec extends AnyRunSpec {
  /** Tells it from a PPO run. */
  algorithm: "reward";
  /** The language model or classifier that it begins with: a directory, a hub id, or "tiny". */
  model: string;
  /** What is learned from: a file as {@link readJudgements} reads it, or judgements. */
  data: JudgementSource;
  /** Judgements never learned from: the loss on them is measured. */
  heldOut?: JudgementSource;
  /** Or this share of the judgements. Above 0, below 1. */
  heldOutFraction?: number;
  /** Options; what is not given has its default, or is as it was in a run that is resumed. */
  config?: Partial<RewardConfig>;
  /** What errors call the origin of `config`. */
  where?: string;
}

/** A run that is not rewarded. */
export type DataSpec = SFTSpec | DPOSpec | RewardModelSpec;

/** A file of text, or texts (or prompts with responses) themselves. */
export type TextSource = string | readonly Document[];

/** A run of language-model training on raw text. */
export interface SFTSpec extends AnyRunSpec {
  /** Tells it from a PPO run. */
  algorithm: "sft";
  /** Files as {@link readCorpus} reads them, or texts. */
  data: readonly TextSource[];
  /** The files hold prompts with responses, as {@link readResponses} reads them, and the responses alone are learned. */
  responses?: boolean;
  /** Column of the text in files that have columns. */
  column?: string;
  /** How errors call `column`. */
  columnOption?: string;
  /** Train this model on, with its tokenizer: a directory in Hugging Face layout, a hub id, or "tiny". */
  model?: string;
  /** A LoRA adapter of it that is trained on, in PEFT's layout: a directory or a hub id. */
  adapter?: string;
  /** For a model from scratch: a directory with tokenizer files. */
  tokenizer?: string;
  /**
   * For a model from scratch: fields of its config; what is left out is the default of its `modelType`, which is "gpt2" if left out,
   * and the vocabulary is the tokenizer's.
   */
  modelConfig?: Readonly<Record<string, unknown>>;
  /** Options; what is not given has its default, or is as it was in a run that is resumed. */
  config?: Partial<SFTConfig>;
  /** Text to measure the held-out loss on. */
  heldOut?: readonly TextSource[];
  /** Or this share of the data's tokens, in whole documents. Above 0, below 1. */
  heldOutFraction?: number;
  /** What errors call the origin of `config` and `modelConfig`. */
  where?: string;
}

/** What a run computes with, of which a model trains: what is asked for now, or what its checkpoint says. */
export const engineOf = ({ device, threads }: AnyRunSpec, before: Partial<RunInputs> = {}) => ({
  device: device ?? (before.device as Device | undefined),
  threads: threads ?? before.threads,
  toTrain: true,
});

/** What config.json of a run directory says. */
export interface RunRecord {
  /** Undefined before there was another than PPO. */
  algorithm?: AlgorithmName;
  model: string | null;
  /** What was typed when it began; the command line writes it. */
  command?: readonly string[];
  /** The adapter of it that the run began with. */
  adapter?: string | null;
  options: Readonly<Record<string, unknown>>;
  /** Of a PPO run. */
  reward?: string;
  /** The name of the run on the server of its workers, and whether they compute gradients. */
  workers?: { run?: string; gradients?: "auto" | "always" };
  /** Where rolloutPrecision auto was decided: the seconds that responses of a step took, by precision. */
  rolloutSeconds?: Readonly<Record<"fp32" | "int8", number>>;
  /** Whole paths, where the prompts came from files; the command line writes them. */
  promptsPath?: string | null;
  promptColumn?: string | null;
  /** How many of its prompts, of those held out too, are conversations. */
  conversations?: number;
  evalPrompts?: string | null;
  /** Prompts held out of those in promptsPath. */
  heldOut?: number;
  /** Of language-model training: whole paths; null for text that came from elsewhere. */
  data?: readonly string[] | null;
  heldOutData?: readonly string[] | null;
  heldOutFraction?: number;
  responses?: boolean;
  column?: string | null;
  /** Of a DPO run: whole paths; null for pairs that came from elsewhere. */
  pairsPath?: string | null;
  heldOutPairs?: string | null;
  /** Of a run that trains a reward model: whole paths; null for judgements that came from elsewhere. */
  judgementsPath?: string | null;
  heldOutJudgements?: string | null;
  /** The name of each output. */
  labels?: readonly string[];
  /** Of a model from scratch. */
  tokenizer?: string | null;
  modelConfig?: Readonly<Record<string, unknown>> | null;
}

const text = z.string().nullable().optional();
const paths = z.array(z.string()).nullable().optional();
const object = z.record(z.string(), z.unknown());
const ppoRecord = z.looseObject({
  algorithm: z.enum(["ppo", "grpo", "rloo"]).optional(),
  model: z.string(),
  adapter: text,
  reward: z.string(),
  options: object,
  promptsPath: text,
  promptColumn: text,
  evalPrompts: text,
  conversations: z.number().int().min(0).optional(),
  heldOut: z.number().int().min(0).optional(),
  command: z.array(z.string()).optional(),
});
const sftRecord = z.looseObject({
  algorithm: z.literal("sft"),
  model: z.string().nullable(),
  adapter: text,
  options: object,
  data: paths,
  heldOutData: paths,
  heldOutFraction: z.number().min(0).max(1).optional(),
  responses: z.boolean().optional(),
  column: text,
  tokenizer: text,
  modelConfig: object.nullable().optional(),
  command: z.array(z.string()).optional(),
});

const dpoRecord = z.looseObject({
  algorithm: z.literal("dpo"),
  model: z.string(),
  adapter: text,
  options: object,
  pairsPath: text,
  heldOutPairs: text,
  heldOutFraction: z.number().min(0).max(1).optional(),
});

const rewardRecord = z.looseObject({
  algorithm: z.literal("reward"),
  model: z.string(),
  options: object,
  judgementsPath: text,
  heldOutJudgements: text,
  heldOutFraction: z.number().min(0).max(1).optional(),
});

/** What config.json of a run says, or nothing where there is none that can be read. */
export async function recordIn(out: string): Promise<Partial<RunRecord>> {
  const json = (await readJson(joinPath(out, CONFIG_FILE)).catch(() => null)) as Partial<RunRecord> | null;
  return typeof json?.options === "object" && json.options !== null ? json : {};
}

/** The spec of an earlier run, to resume it without saying everything again; undefined where it was not yet written. */
export async function readRunConfig(out: string): Promise<RunRecord | undefined> {
  await refuseWhereLocked(out);
  if (await isUnwritten(out)) return undefined;
  const path = joinPath(out, CONFIG_FILE);
  const json = await readJson(path);
  const record = [ppoRecord, sftRecord, dpoRecord, rewardRecord]
    .map((schema) => schema.safeParse(json))
    .find(({ success }) => success);
  if (!record)
    fail("config", {
      where: path,
      found: "another kind of file",
      expected: "the config.json of a run, with model, reward (of PPO) and options",
      fix: "name a directory that `valuehead train` wrote",
    });
  return json as RunRecord;
}

/** @throws usage - a run that another algorithm began; one that does not say is PPO's */
export function refuseOtherAlgorithm(
  out: string,
  { algorithm: earlier = "ppo", options }: Partial<RunRecord>,
  algorithm: AlgorithmName,
): void {
  if (options === undefined || earlier === algorithm) return;
  fail("usage", {
    where: out,
    found: `a run of the algorithm ${earlier}`,
    expected: `one of ${algorithm}`,
    fix: `resume it as that (algorithm ${earlier}), or start another run in another directory`,
  });
}
