/** @file The models of a checkpoint with their optimizers' moments, and the older weights that responses are drawn with (async). */
import type { OlderWeights, TrainedPart } from "../algorithms/algorithm.ts";
import { fail } from "../base/errors.ts";
import { openSafetensors, writeSafetensors } from "../checkpoint/safetensors.ts";
import { loadModel } from "../families/index.ts";
import { loadAdapterInto } from "../model/load.ts";
import type { AdamW } from "../nn/adamw.ts";
import { isDirectory, joinPath, openFile, writeAtomic } from "../platform/files.ts";

/** A part's directory, and the file of its moments in it. */
function placeOf(checkpoint: string, { name }: TrainedPart): { directory: string; moments: string } {
  const directory = name === "" ? checkpoint : joinPath(checkpoint, name);
  return { directory, moments: joinPath(directory, name === "" ? "trainer.safetensors" : "optimizer.safetensors") };
}

/** Bytes of a part's weights and both moments. */
export const bytesOf = ({ model, optimizer: { step, size } }: TrainedPart) =>
  model.parameters.buffer.byteLength + (step > 0 ? 2 * 4 * size : 0);

export async function savePart(checkpoint: string, part: TrainedPart): Promise<void> {
  const { directory, moments } = placeOf(checkpoint, part);
  await part.model.savePretrained(directory);
  await saveMoments(moments, part.optimizer);
}

/**
 * Put optimizer and weights where the checkpoint left them, after `step` optimizer steps. The weights of the first part are
 * there already: the run has loaded its model from the checkpoint.
 * @throws checkpoint - a part that the checkpoint does not have
 */
export async function restorePart(checkpoint: string, part: TrainedPart, step: number): Promise<void> {
  const { directory, moments } = placeOf(checkpoint, part);
  if (part.name !== "") await restoreWeights(directory, part);
  await loadMoments(moments, part.optimizer, step);
}

async function restoreWeights(directory: string, { name, model }: TrainedPart): Promise<void> {
  if (!(await isDirectory(directory)))
    fail("checkpoint", {
      where: directory,
      found: "no such directory",
      expected: `a ${name.replaceAll("_", " ")}, which the options of the run ask for`,
      fix: "resume with the options that the run had, or start anew",
    });
  if (model.adapter) return loadAdapterInto(model, directory);
  const { buffer, table } = model.parameters;
  const saved = (await loadModel(directory, { engine: model.engine })).parameters;
  for (const { name: row } of table)
    if (model.parameters.slot(row).buffer === buffer) model.parameters.view(row).set(saved.view(row)); // frozen layers that are the policy's own are not its to load
}

/** Write m and v; nothing for an optimizer that has not stepped. */
async function saveMoments(path: string, optimizer: AdamW): Promise<void> {
  await optimizer.refresh();
  const { m, v } = optimizer.state;
  if (!m || !v) return;
  await writeAtomic(path, (sink) =>
    writeSafetensors(sink, [
      { name: "m", shape: [m.length], dtype: "F32", data: m },
      { name: "v", shape: [v.length], dtype: "F32", data: v },
    ]),
  );
}

/**
 * Put an optimizer where it was after `step` steps.
 * @throws checkpoint - moments of another number of parameters, or that no optimizer can have had
 */
async function loadMoments(path: string, optimizer: AdamW, step: number): Promise<void> {
  const moments = step > 0 ? optimizer.moments() : undefined;
  if (moments) {
    const { size } = optimizer;
    const file = await openSafetensors(await openFile(path));
    try {
      for (const name of ["m", "v"] as const) {
        const shape = file.tensors.get(name)?.shape;
        if (shape?.length !== 1 || shape[0] !== size)
          fail("checkpoint", {
            where: `${file.name}, tensor ${name}`,
            found: shape ? `shape [${shape}]` : "no such tensor",
            expected: `[${size}], one number for each parameter that is trained`,
            fix: "resume from another checkpoint of the run, or start anew from this one's model",
          });
        await file.readFloat32Into(name, moments[name]);
        const bad = moments[name].findIndex((x) => !Number.isFinite(x) || (name === "v" && x < 0));
        if (bad >= 0)
          fail("checkpoint", {
            where: `${file.name}, tensor ${name}, element ${bad}`,
            found: String(moments[name][bad]),
            expected: name === "v" ? "a finite number of at least 0" : "a finite number",
            fix: "resume from another checkpoint of the run, or start anew from this one's model",
          });
      }
    } finally {
      await file.close();
    }
  }
  optimizer.setState({ step, ...moments });
}

const OLDER_FILE = "older.safetensors";
const olderName = (after: number) => `after-${after}`;

/** Bytes of the older weights of a checkpoint. */
export const bytesOfOlder = (older: OlderWeights | undefined, step: number): number =>
  older ? 4 * older.size * older.needed(step).length : 0;

/** Write the weights that the next responses are drawn with, beside the model's own; nothing where there are none. */
export async function saveOlder(checkpoint: string, older: OlderWeights | undefined, step: number): Promise<void> {
  const saved = [...(older?.saved(step) ?? [])];
  if (saved.length === 0) return;
  const tensors = saved.map(([after, data]) => ({
    name: olderName(after),
    shape: [data.length],
    dtype: "F32" as const,
    data,
  }));
  await writeAtomic(joinPath(checkpoint, OLDER_FILE), (sink) => writeSafetensors(sink, tensors));
}

/**
 * The same back again.
 * @throws checkpoint - none, or others than the trainer needs
 */
export async function restoreOlder(checkpoint: string, older: OlderWeights | undefined, step: number): Promise<void> {
  const needed = older?.needed(step) ?? [];
  if (!older || needed.length === 0) return;
  const file = await openSafetensors(await openFile(joinPath(checkpoint, OLDER_FILE)));
  const saved = new Map<number, Float32Array>();
  try {
    for (const after of needed) {
      const name = olderName(after);
      const shape = file.tensors.get(name)?.shape;
      const numbers = new Float32Array(older.size);
      if (shape?.length === 1 && shape[0] === older.size) await file.readFloat32Into(name, numbers);
      else
        fail("checkpoint", {
          where: `${file.name}, tensor ${name}`,
          found: shape ? `shape [${shape}]` : "no such tensor",
          expected: `[${older.size}], the weights as they were after ${after} steps, which responses are drawn with (async)`,
          fix: "resume from another checkpoint of the run, or start anew from this one's model",
        });
      if (!numbers.every(Number.isFinite))
        fail("checkpoint", {
          where: `${file.name}, tensor ${name}`,
          found: "a number that is not finite",
          expected: "finite numbers",
          fix: "resume from another checkpoint of the run, or start anew from this one's model",
        });
      saved.set(after, numbers);
    }
  } finally {
    await file.close();
  }
  older.restore(saved);
}
