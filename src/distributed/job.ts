/** @file Whose prompts workers answer, and what they are told of the run: the job. */
import type { RolloutTrainerConfig } from "../algorithms/options/ppo-options.ts";
import { fail } from "../base/errors.ts";
import { VERSION } from "../base/version.ts";
import type { CausalLMWithValueHead } from "../model/model.ts";
import { randomId } from "../platform/hash.ts";
import type { GenerateOptions } from "../sample/generate.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { ServerSpec } from "./connection.ts";
import { type Job, PROTOCOL } from "./messages.ts";

/** Workers of a run. Plain data: it crosses to a thread. */
export interface WorkersSpec extends ServerSpec {
  /** Seconds after which a worker that nothing is heard of is taken for lost, and its task given to another. Default 20. */
  timeout?: number;
  /** Share of the responses of each result that is scored again. Default 0.05; 0: none. */
  check?: number;
}

/** Whose steps are answered. */
export interface JobSource {
  readonly model: CausalLMWithValueHead;
  readonly reference: CausalLMWithValueHead;
  readonly tokenizer: Tokenizer;
  readonly config: RolloutTrainerConfig;
  sampling(): GenerateOptions;
}

/** What the job says of the run beside that. */
export interface JobFacts {
  /** Its name on the server. */
  run: string;
  algorithm: string;
  modelName: string;
  values: boolean;
  reward: Job["reward"];
}

const TIMEOUT = 20;

/** @throws config - a model that workers cannot be given */
export function checkJobSource({ model }: Pick<JobSource, "model">): void {
  if (model.basePrecision !== "fp32")
    fail("config", {
      where: "workers",
      found: `a base in ${model.basePrecision} (basePrecision)`,
      expected: "fp32: workers are sent the base in fp32 and would round it anew",
      fix: "leave basePrecision out, or train without workers",
    });
}

/**
 * What workers are told.
 * @param base        files of the reference
 * @param onlyTrained whether the policy's frozen layers are the reference's
 */
export function jobOf(
  { timeout = TIMEOUT }: WorkersSpec,
  { model, config }: JobSource,
  { run, algorithm, modelName, values, reward }: JobFacts,
  base: Job["base"],
  onlyTrained: boolean,
): Job {
  return {
    protocol: PROTOCOL,
    version: VERSION,
    run,
    session: randomId(),
    startedAt: Date.now(),
    algorithm,
    model: modelName,
    config: { ...config },
    values,
    ...(model.adapter && { adapter: { ...model.adapter } }),
    sharedLayers: onlyTrained ? config.frozenLayers : 0,
    reward,
    threads: model.engine.threads,
    device: model.engine.device,
    base,
    ackWait: timeout,
  };
}
