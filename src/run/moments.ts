/** @file An optimizer's moments in a file of a checkpoint. */
import { fail } from "../base/errors.ts";
import { openSafetensors, writeSafetensors } from "../checkpoint/safetensors.ts";
import type { AdamW } from "../nn/adamw.ts";
import { openFile, writeAtomic } from "../platform/files.ts";

/** Bytes of both moments. */
export const momentBytes = ({ state: { m, v } }: AdamW) => (m?.byteLength ?? 0) + (v?.byteLength ?? 0);

/** Write m and v; nothing for an optimizer that has not stepped. */
export async function saveMoments(path: string, { state: { m, v } }: AdamW): Promise<void> {
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
export async function loadMoments(path: string, optimizer: AdamW, step: number): Promise<void> {
  const moments: { m?: Float32Array; v?: Float32Array } = {};
  if (step > 0) {
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
        moments[name] = new Float32Array(size);
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
