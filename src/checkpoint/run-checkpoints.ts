/** @file The checkpoints of a run directory: which there are, and which one is meant where a model is asked for. */
import { fail } from "../base/errors.ts";
import { shellQuote } from "../base/shell.ts";
import { findDamage } from "../platform/file-checksums.ts";
import { baseName, exists, isDirectory, joinPath, listDirectory, readJson } from "../platform/files.ts";
import { INDEX_FILE, WEIGHTS_FILE } from "./weights.ts";

const NAME = /^checkpoint-(\d+)$/;
/** In a run directory: which checkpoint is best, for people and for {@link checkpointOfRun}. */
export const BEST_FILE = "best.json";

export interface Checkpoint {
  step: number;
  path: string;
}

/** The checkpoints of a run directory, newest first, whole or damaged. */
export async function listCheckpoints(directory: string): Promise<Checkpoint[]> {
  if (!(await isDirectory(directory))) return [];
  const found: Checkpoint[] = [];
  for (const name of await listDirectory(directory)) {
    const step = NAME.exec(name)?.[1];
    if (step !== undefined) found.push({ step: Number(step), path: joinPath(directory, name) });
  }
  return found.sort((a, b) => b.step - a.step);
}

/**
 * The model that a run directory stands for: its best checkpoint, or where best.json does not name a whole one the newest
 * that is as it was written. Undefined for a directory that is no run.
 * @throws checkpoint - a run without a whole checkpoint
 */
export async function checkpointOfRun(directory: string): Promise<{ path: string; note: string } | undefined> {
  const names = await listDirectory(directory);
  if (names.includes(WEIGHTS_FILE) || names.includes(INDEX_FILE)) return undefined;
  const checkpoints = await listCheckpoints(directory);
  if (checkpoints.length === 0 && !(await isRunConfig(joinPath(directory, "config.json")))) return undefined;
  const best = await namedBest(directory);
  const isBest = ({ path }: Checkpoint) => baseName(path) === best;
  const damaged: string[] = [];
  for (const checkpoint of [...checkpoints.filter(isBest), ...checkpoints.filter((c) => !isBest(c))]) {
    const damage = await findDamage(checkpoint.path);
    if (damage !== undefined) {
      damaged.push(`${baseName(checkpoint.path)}: ${damage}`);
      continue;
    }
    const which = isBest(checkpoint) ? "best" : damaged.length > 0 ? "newest whole" : "newest";
    const others = damaged.length > 0 ? ` (damaged: ${damaged.join("; ")})` : "";
    return {
      path: checkpoint.path,
      note: `${directory} is a run: its ${which} checkpoint is used, ${checkpoint.path}${others}`,
    };
  }
  return fail("checkpoint", {
    where: directory,
    found:
      damaged.length > 0 ? `a run without a whole checkpoint (${damaged.join("; ")})` : "a run without a checkpoint",
    expected: "a model directory, or a run that has saved a checkpoint",
    fix:
      damaged.length > 0
        ? "restore one of them from a copy"
        : `go on with the run: valuehead train --resume ${shellQuote(directory)}`,
  });
}

/** The name in best.json; undefined where there is none, or nothing that can be one. */
async function namedBest(directory: string): Promise<string | undefined> {
  const path = joinPath(directory, BEST_FILE);
  if (!(await exists(path))) return undefined;
  const json = (await readJson(path).catch(() => undefined)) as { checkpoint?: unknown } | null | undefined;
  return typeof json?.checkpoint === "string" ? json.checkpoint : undefined;
}

async function isRunConfig(path: string): Promise<boolean> {
  if (!(await exists(path))) return false;
  const json = (await readJson(path).catch(() => undefined)) as Record<string, unknown> | null | undefined;
  const { reward, algorithm, options } = json ?? {};
  return (
    (typeof reward === "string" || ["sft", "dpo", "reward"].includes(String(algorithm))) && typeof options === "object"
  );
}
