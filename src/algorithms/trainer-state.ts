/** @file Where a run on prompts is, beside weights and moments, every field with its limits. A field is added here, in the interface and in the schema beside it. */
import { z } from "zod";
import { fail } from "../base/errors.ts";
import type { PromptSamplerState } from "../data/prompts.ts";
import type { KLControllerState } from "../rl/controllers.ts";
import type { MartingaleState } from "../rl/martingale.ts";
import type { RunningMoments } from "../rl/scores.ts";

const count = z.number().int().min(0);
/** Of a number that may be 0; JSON has null for the logarithm of that. */
const logarithm = z.custom<number>((x) => x === null || x === Number.NEGATIVE_INFINITY || Number.isFinite(x), {
  message: "a logarithm",
});

/** Where a run is, without the weights. Plain data, safe for JSON; the optimizer's moments go beside it. */
export interface RolloutState {
  /** Steps taken. */
  step: number;
  /** Where the sampler of prompts is; left out before the first step, and where prompts come from the caller. */
  prompts?: PromptSamplerState;
  /** Of all scores so far, when they are scaled. */
  scores?: RunningMoments;
  /** Optimizer steps left out so far because a number was not finite. */
  skippedUpdates?: number;
  /** Of the audit's test. */
  audit?: MartingaleState;
}

/** Where a PPO run is. */
export interface TrainerState extends RolloutState {
  /** Of the KL controller. */
  kl: KLControllerState;
}

export const samplerStateSchema = z
  .strictObject({ count: z.number().int().min(1), seed: count, epoch: count, position: count })
  .refine(({ count, position }) => position <= count, { message: "a position of at most count", path: ["position"] });

export const rolloutStateSchema = z.strictObject({
  step: count,
  prompts: samplerStateSchema.optional(),
  scores: z.strictObject({ mean: z.number(), variance: z.number().min(0), count }).optional(),
  skippedUpdates: count.optional(),
  audit: z.strictObject({ steps: count, logs: z.record(z.string(), logarithm) }).optional(),
} satisfies Record<keyof RolloutState, z.ZodType>);

export const trainerStateSchema = rolloutStateSchema.extend({
  kl: z.strictObject({ value: z.number().min(0) }),
} satisfies Record<Exclude<keyof TrainerState, keyof RolloutState>, z.ZodType>);

/** The first thing wrong with data, in words: `trainer.step: found 1.5, expected int`. */
export function problemOf(schema: z.ZodType, data: unknown): string | undefined {
  const result = schema.safeParse(data);
  if (result.success) return undefined;
  const { path, message } = result.error.issues[0];
  let value = data;
  for (const key of path) value = (value as Record<PropertyKey, unknown> | undefined)?.[key];
  const found = value === undefined ? "nothing" : (JSON.stringify(value) ?? String(value)).slice(0, 60);
  return `${path.length > 0 ? `${path.map(String).join(".")}: ` : ""}found ${found} (${message})`;
}

/** @throws checkpoint - a state that no such trainer can have been in; `algorithm` is how errors call it */
export function checkState(state: unknown, algorithm: string, schema: z.ZodType): void {
  const problem = problemOf(schema, state);
  if (problem === undefined) return;
  fail("checkpoint", {
    where: `${algorithm}Trainer, setState`,
    found: problem.replace(/^found /, ""),
    expected: "what getState() returned",
    fix: "pass the state as it was saved",
  });
}

/** @throws checkpoint - a state that no PPO trainer can have been in */
export function checkedTrainerState(state: unknown): TrainerState {
  checkState(state, "PPO", trainerStateSchema);
  return state as TrainerState;
}
