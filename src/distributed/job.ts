/** @file Whose prompts workers answer, and what they are told of the run: the job. */
import type { RolloutTrainerConfig } from "../algorithms/options/ppo-options.ts";
import { fail } from "../base/errors.ts";
import { VERSION } from "../base/version.ts";
import type { CausalLMWithValueHead } from "../model/model.ts";
import { namesAbove, trainedRows } from "../model/parameters.ts";
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
  /**
   * Workers compute gradients too: `auto`, where the way to the server is quick enough for that to pay, or `always`. Default: the trainer
   * computes them all. With an adapter the run has the same bits either way.
   */
  gradients?: "auto" | "always";
}

/** Whose steps are answered. */
export interface JobSource {
  readonly model: CausalLMWithValueHead;
  readonly reference?: CausalLMWithValueHead | undefined;
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

/** Bytes of a gradient, at most. */
export function gradientBytes({ model, config }: Pick<JobSource, "model" | "config">): number {
  const { table } = model.parameters;
  const names = namesAbove(model, table, config.frozenLayers);
  return 4 * trainedRows(table, names).reduce((n, { start, end }) => n + end - start, 0);
}

/** @throws config - a model that workers cannot be given; gradients to share where an optimizer step has one microbatch, or beside async */
export function checkJobSource({ model, config }: Pick<JobSource, "model" | "config">, spec: WorkersSpec): void {
  const { microBatchSize, miniBatchSize, async } = config;
  if (spec.gradients && async > 0)
    fail("config", {
      where: "workers, gradients",
      found: `async ${async}`,
      expected:
        "one of the two: with async workers draw responses while the trainer computes the gradients, which would wait behind them",
      fix: "leave --worker-gradients out, or --async",
    });
  if (spec.gradients && (microBatchSize === 0 || microBatchSize >= miniBatchSize))
    fail("config", {
      where: "workers, gradients",
      found: `one microbatch for each optimizer step (microBatchSize ${microBatchSize}, miniBatchSize ${miniBatchSize})`,
      expected: "several, which workers and trainer share",
      fix: `set microBatchSize (--micro-batch-size) to a part of ${miniBatchSize}, such as ${Math.max(1, Math.floor(miniBatchSize / 4))}, or leave --worker-gradients out`,
    });
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
 * @param base        files of the base
 * @param onlyTrained whether the policy's frozen layers are the base's
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
