/** @file The value model in a checkpoint: a directory of its own, in the same layout as the policy's. */

import type { Learner } from "../algorithms/learner.ts";
import { fail } from "../base/errors.ts";
import { GPT2HeadWithValueModel } from "../model/model.ts";
import { isDirectory, joinPath } from "../platform/files.ts";
import { loadMoments, saveMoments } from "./moments.ts";

const DIRECTORY = "value_model";
const MOMENTS_FILE = "optimizer.safetensors";

export async function saveCritic(checkpoint: string, critic: Learner): Promise<void> {
  const directory = joinPath(checkpoint, DIRECTORY);
  await critic.model.savePretrained(directory);
  await saveMoments(joinPath(directory, MOMENTS_FILE), critic.optimizer);
}

/**
 * Put weights and optimizer where the checkpoint left them, after `step` optimizer steps.
 * @throws checkpoint - a run without a value model of its own
 */
export async function restoreCritic(checkpoint: string, critic: Learner, step: number): Promise<void> {
  const directory = joinPath(checkpoint, DIRECTORY);
  if (!(await isDirectory(directory)))
    fail("checkpoint", {
      where: directory,
      found: "no such directory",
      expected: "a value model: valueModel is separate",
      fix: 'resume with valueModel "shared", as that run was, or start anew',
    });
  const { data } = critic.model.parameters;
  const saved = (await GPT2HeadWithValueModel.fromPretrained(directory, { engine: critic.model.engine })).parameters
    .data;
  data.set(saved.subarray(saved.length - data.length)); // frozen layers that are the policy's own are not its to load
  await loadMoments(joinPath(directory, MOMENTS_FILE), critic.optimizer, step);
}
