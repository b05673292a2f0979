/** @file Checkpoints of a run: model, tokenizer and everything needed to continue exactly where it stopped. */

import type { z } from "zod";
import type { Trainer } from "../algorithms/algorithm.ts";
import type { BestCheckpoint } from "../algorithms/events.ts";
import { problemOf } from "../algorithms/trainer-state.ts";
import { fail, messageOf } from "../base/errors.ts";
import { BEST_FILE, type Checkpoint, listCheckpoints } from "../checkpoint/run-checkpoints.ts";
import { findDamage, writeChecksums } from "../platform/file-checksums.ts";
import {
  baseName,
  exists,
  isDirectory,
  isLeftover,
  joinPath,
  listDirectory,
  readJson,
  remove,
  removeLeftovers,
  writeDirectoryAtomic,
  writeTextAtomic,
} from "../platform/files.ts";
import { isLockFile } from "../platform/lock.ts";
import { CARD_FILE } from "../ship/card.ts";
import { bytesOf, bytesOfOlder, restoreOlder, restorePart, saveOlder, savePart } from "./checkpoint-parts.ts";
import type { CheckpointState } from "./checkpoint-state.ts";

const STATE_FILE = "trainer.json";

/**
 * Write `checkpoint-<step>` whole or not at all.
 * @param rest what the trainer does not know of its run
 * @param card its README.md
 */
export async function saveCheckpoint(
  directory: string,
  trainer: Trainer<never, { step: number }>,
  rest: Omit<CheckpointState, "trainer" | "optimizerStep">,
  card: string,
): Promise<Checkpoint> {
  const path = joinPath(directory, `checkpoint-${trainer.stepsTaken}`);
  const { parts, olderWeights, stepsTaken } = trainer;
  const bytes = parts.reduce((n, part) => n + bytesOf(part), bytesOfOlder(olderWeights, stepsTaken));
  await writeDirectoryAtomic(
    path,
    async (temporary) => {
      for (const part of parts) await savePart(temporary, part);
      await saveOlder(temporary, olderWeights, stepsTaken);
      await trainer.tokenizer.save(temporary);
      const state: CheckpointState = { trainer: trainer.getState(), optimizerStep: parts[0].optimizer.step, ...rest };
      await writeTextAtomic(joinPath(temporary, STATE_FILE), `${JSON.stringify(state, null, 2)}\n`);
      await writeChecksums(temporary);
      await writeTextAtomic(joinPath(temporary, CARD_FILE), card); // not among them: people add to it
    },
    { replace: true, bytes },
  );
  return { step: trainer.stepsTaken, path };
}

/**
 * Delete all checkpoints but the newest `keep` and, if `keepBest`, the best, which best.json then names: what decides lies in
 * the checkpoints themselves. Those of later
 * steps than `newest` are of a run that was abandoned there, and go too.
 * @returns the best
 */
export async function pruneCheckpoints(
  directory: string,
  newest: number,
  { keepCheckpoints, keepBest }: { keepCheckpoints: number; keepBest: boolean },
  schema: z.ZodType,
): Promise<BestCheckpoint | undefined> {
  const all = await listCheckpoints(directory);
  const ours = all.filter(({ step }) => step <= newest);
  const best = keepBest ? await findBest(ours, schema) : undefined;
  if (best) {
    const { step, path, ...measured } = best;
    const record = { checkpoint: baseName(path), step, ...measured };
    await writeTextAtomic(joinPath(directory, BEST_FILE), `${JSON.stringify(record, null, 2)}\n`);
  } else await remove(joinPath(directory, BEST_FILE));
  const kept = ours.slice(0, keepCheckpoints).map(({ path }) => path);
  for (const { path } of all) if (!kept.includes(path) && path !== best?.path) await remove(path);
  return best;
}

/**
 * The checkpoint of the highest mean reward or the lowest held-out loss, the newest of equals. One whose state cannot be read
 * does not count, nor one at whose step nothing was measured.
 */
async function findBest(checkpoints: readonly Checkpoint[], schema: z.ZodType): Promise<BestCheckpoint | undefined> {
  let best: { checkpoint: BestCheckpoint; score: number } | undefined;
  for (const { step, path } of checkpoints) {
    const state = await readState({ step, path }, schema);
    const measured = typeof state === "string" ? undefined : measuredIn(state);
    if (measured && (!best || measured.score > best.score))
      best = { score: measured.score, checkpoint: { step, path, ...measured.facts } };
  }
  return best?.checkpoint;
}

/** What checkpoints are compared by, higher is better; undefined: nothing was measured. */
function measuredIn({ rewards, heldOutLoss }: CheckpointState) {
  if (heldOutLoss !== undefined) return { score: -heldOutLoss, facts: { heldOutLoss } };
  if (rewards.length === 0) return undefined;
  const rewardMean = rewards.reduce((a, b) => a + b, 0) / rewards.length;
  return { score: rewardMean, facts: { rewardMean, overSteps: rewards.length } };
}

/** Where a run can be resumed, and what is wrong with newer checkpoints. */
export interface ResumePoint {
  /** The newest whole one; undefined for a run that ended before it wrote any, which begins again. */
  checkpoint?: Checkpoint & { state: CheckpointState };
  damaged: string[];
}

/**
 * The newest checkpoint of a run directory that is as it was written. What a killed process left half done is removed.
 * @param schema what trainer.json may say
 * @throws checkpoint - checkpoints that are all damaged
 */
export async function findResumePoint(directory: string, schema: z.ZodType): Promise<ResumePoint> {
  await removeLeftovers(directory);
  const all = await listCheckpoints(directory);
  const damaged: string[] = [];
  for (const checkpoint of all) {
    const damage = await findDamage(checkpoint.path);
    const state = damage ?? (await readState(checkpoint, schema));
    if (typeof state !== "string") return { checkpoint: { ...checkpoint, state }, damaged };
    damaged.push(`${baseName(checkpoint.path)}: ${state}`);
  }
  if (damaged.length > 0)
    fail("checkpoint", {
      where: directory,
      found: `no whole checkpoint (${damaged.join("; ")})`,
      expected: "at least one checkpoint that is as it was written",
      fix: "restore one of them from a copy, or start anew in another directory",
    });
  return { damaged };
}

/** @throws checkpoint - a directory that no run has written in, nor begun to */
export async function refuseNoRun(directory: string): Promise<void> {
  if ((await isUnwritten(directory)) || (await listCheckpoints(directory)).length > 0) return;
  const path = joinPath(directory, "config.json"); // a model's directory has one too
  const record = (await exists(path)) ? ((await readJson(path)) as { options?: unknown } | null) : null;
  if (typeof record?.options === "object") return;
  fail("checkpoint", {
    where: directory,
    found: "no run",
    expected: "the directory of an earlier run, with config.json and checkpoints",
    fix: "name the run directory of that run, or start without --resume",
  });
}

/** Whether a directory is there and empty, but for what a killed process left: a run that ended before it wrote anything. */
export async function isUnwritten(directory: string): Promise<boolean> {
  const counts = (name: string) => !isLeftover(name) && !isLockFile(name);
  return (await isDirectory(directory)) && !(await listDirectory(directory)).some(counts);
}

/** What a checkpoint says about itself; a text that says what is wrong with that. */
async function readState({ path, step }: Checkpoint, schema: z.ZodType): Promise<CheckpointState | string> {
  let state: CheckpointState;
  try {
    state = (await readJson(joinPath(path, STATE_FILE))) as CheckpointState;
  } catch (error) {
    return messageOf(error);
  }
  const problem = problemOf(schema, state);
  if (problem !== undefined) return `${STATE_FILE}, ${problem}`;
  if (state.trainer.step !== step)
    return `${STATE_FILE}, trainer.step: found ${state.trainer.step} in the checkpoint of step ${step}`;
  return state;
}

/** Put optimizers and trainer where the checkpoint left them. The model must have been loaded from it already. */
export async function restoreTrainer<State extends { step: number }>(
  path: string,
  { optimizerStep }: CheckpointState,
  trainer: Trainer<never, State>,
  state: State,
): Promise<void> {
  for (const part of trainer.parts) await restorePart(path, part, optimizerStep);
  await restoreOlder(path, trainer.olderWeights, state.step);
  trainer.setState(state);
}
