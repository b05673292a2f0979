/** @file The model of a run: where its files lie when it begins and when it goes on, and what config.json says of it. */
import type { ModelFiles } from "../checkpoint/model-files.ts";
import { readAdapterConfig } from "../checkpoint/peft.ts";
import { ADAPTER_CONFIG } from "../checkpoint/weights.ts";
import { absolutePath, exists, isDirectory, joinPath } from "../platform/files.ts";

/**
 * Where a run's model lies when it goes on: at its checkpoint. Of an adapter the base is the one that the run began with, which may
 * have moved: --model says where it is, and its weights are compared with what they were.
 */
export async function filesAt(checkpoint: string, began: ModelFiles): Promise<ModelFiles> {
  const files = { ...began, directory: checkpoint, notes: [] };
  if (await exists(joinPath(checkpoint, ADAPTER_CONFIG)))
    return { ...files, adapter: await readAdapterConfig(checkpoint) };
  return { ...files, adapter: undefined, base: checkpoint, baseName: absolutePath(checkpoint) };
}

/** What config.json says of the model. A run directory means its best checkpoint: the one it means today. */
export async function modelRecord({ model, adapter }: { model: string; adapter?: string }, began: ModelFiles) {
  const at = adapter === undefined ? began.directory : began.base;
  return {
    model: (await isDirectory(model)) ? at : model,
    ...(adapter !== undefined && { adapter: (await isDirectory(adapter)) ? began.directory : adapter }),
  };
}
