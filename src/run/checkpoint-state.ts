/** @file What a checkpoint says beside weights and moments: trainer.json, every field with its limits. */
import { z } from "zod";
import { dpoStateSchema } from "../algorithms/dpo.ts";
import { rewardStateSchema } from "../algorithms/reward.ts";
import { sftStateSchema } from "../algorithms/sft.ts";
import { rolloutStateSchema, trainerStateSchema } from "../algorithms/trainer-state.ts";
import { dpoInputs, ppoInputs, type RunInputs, rewardInputs, sftInputs } from "./inputs.ts";

const count = z.number().int().min(0);

/** trainer.json of an algorithm, given what its trainer's state is and what it learns from. */
const checkpointSchema = <S extends z.ZodType<{ step: number }>, I extends z.ZodType>(trainer: S, inputs: I) =>
  z.strictObject({
    trainer,
    optimizerStep: count,
    /** Mean rewards of the last steps: what decides which checkpoint is best. */
    rewards: z.array(z.number()),
    /** What it was trained with. Checkpoints of 0.1.0 do not say. */
    inputs: inputs.optional(),
    options: z.record(z.string(), z.unknown()).optional(),
    /** Written after an error: older checkpoints are kept beside it until a later one is complete. */
    keepOlder: z.literal(true).optional(),
  });

export const ppoCheckpoint = checkpointSchema(trainerStateSchema, ppoInputs);

/** Of GRPO and RLOO. */
export const rolloutCheckpoint = checkpointSchema(rolloutStateSchema, ppoInputs);

/** The held-out loss, where it was measured at this very step: what decides which checkpoint is best. */
const heldOutLoss = z.number().optional();

export const sftCheckpoint = checkpointSchema(sftStateSchema, sftInputs).extend({ heldOutLoss });

export const dpoCheckpoint = checkpointSchema(dpoStateSchema, dpoInputs).extend({ heldOutLoss });

export const rewardCheckpoint = checkpointSchema(rewardStateSchema, rewardInputs).extend({ heldOutLoss });

/** Of any algorithm. */
export type CheckpointState = Omit<z.infer<typeof sftCheckpoint>, "trainer" | "inputs"> & {
  trainer: { step: number };
  inputs?: RunInputs;
};
