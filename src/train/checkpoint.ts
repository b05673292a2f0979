/** @file Checkpoints of a run: model, tokenizer and everything needed to go on as if nothing had happened. */
import { fail } from "../base/errors.ts";
import {
  exists,
  isDirectory,
  joinPath,
  listDirectory,
  readJson,
  removeDirectory,
  writeDirectoryAtomic,
  writeTextAtomic,
} from "../runtime/files.ts";
import { restoreCritic, saveCritic } from "./critic-checkpoint.ts";
import { loadMoments, saveMoments } from "./moments.ts";
import type { PPOTrainer, TrainerState } from "./ppo.ts";

const NAME = /^checkpoint-(\d+)$/;
const STATE_FILE = "trainer.json";
const MOMENTS_FILE = "trainer.safetensors";

/** The checkpoints of a run directory, newest first. */
export async function listCheckpoints(directory: string): Promise<{ step: number; path: string }[]> {
  if (!(await isDirectory(directory))) return [];
  const found: { step: number; path: string }[] = [];
  for (const name of await listDirectory(directory)) {
    const step = NAME.exec(name)?.[1];
    const path = joinPath(directory, name);
    if (step !== undefined && (await exists(joinPath(path, STATE_FILE)))) found.push({ step: Number(step), path });
  }
  return found.sort((a, b) => b.step - a.step);
}

/** Write `checkpoint-<step>` whole or not at all, then delete all but the newest `keep`. */
export async function saveCheckpoint(directory: string, trainer: PPOTrainer, keep: number): Promise<string> {
  const path = joinPath(directory, `checkpoint-${trainer.stepsTaken}`);
  await writeDirectoryAtomic(
    path,
    async (temporary) => {
      await trainer.model.savePretrained(temporary);
      await trainer.tokenizer.save(temporary);
      await saveMoments(joinPath(temporary, MOMENTS_FILE), trainer.optimizer);
      if (trainer.critic) await saveCritic(temporary, trainer.critic);
      const state = { trainer: trainer.getState(), optimizerStep: trainer.optimizer.step };
      await writeTextAtomic(joinPath(temporary, STATE_FILE), `${JSON.stringify(state, null, 2)}\n`);
    },
    { replace: true },
  );
  for (const old of (await listCheckpoints(directory)).slice(keep)) await removeDirectory(old.path);
  return path;
}

/** Put optimizer and trainer where the checkpoint left them. The model must have been loaded from it already. */
export async function restoreTrainer(path: string, trainer: PPOTrainer): Promise<void> {
  const stateFile = joinPath(path, STATE_FILE);
  const state = (await readJson(stateFile)) as { trainer?: TrainerState; optimizerStep?: number };
  if (typeof state?.trainer?.step !== "number" || typeof state.optimizerStep !== "number")
    fail("checkpoint", {
      where: stateFile,
      found: "no trainer state",
      expected: "an object with trainer and optimizerStep",
      fix: "resume from another checkpoint of the run, or start anew from this one's model",
    });
  await loadMoments(joinPath(path, MOMENTS_FILE), trainer.optimizer, state.optimizerStep);
  if (trainer.critic) await restoreCritic(path, trainer.critic, state.optimizerStep);
  trainer.setState(state.trainer);
}
