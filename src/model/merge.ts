/** @file Merging an adapter: W + s B A in place of W. */
import type { Engine } from "../backend/engine.ts";
import { Memo } from "../base/memo.ts";
import type { Program } from "../graph/onnx.ts";
import { linear, scale } from "../graph/ops/index.ts";
import { input } from "../graph/tensor.ts";
import { adapterName } from "./adapter.ts";
import type { ParameterBuffer } from "./parameters.ts";

interface MergeForm {
  /** Sizes of W as it is stored. */
  shape: readonly number[];
  rank: number;
  matrix: "in,out" | "out,in";
  scaling: number;
}

/** W [in, out] + s Aᵀ Bᵀ, or W [out, in] + s B A; A [r, in], B [out, r]. */
function mergeProgram({ shape: [rows, columns], rank, matrix, scaling }: MergeForm): Program {
  const [from, to] = matrix === "in,out" ? [rows, columns] : [columns, rows];
  const w = input("w", { rows, columns });
  const [a, b] = [input("a", { r: rank, in: from }), input("b", { out: to, r: rank })];
  const scaled = scale(a, scaling);
  const merged = matrix === "in,out" ? linear(scaled, b, w, { transX: true, transW: true }) : linear(b, scaled, w); // of W's shape
  return { name: "merge", outputs: { merged } };
}

/**
 * Overwrite the matrices of `plain` that `adapted` has an adapter for.
 * @param adapted the base's matrices and the adapter's rows
 * @param plain   parameters of the same names, without the adapter's; of memory of their own
 */
export async function mergedMatrices(engine: Engine, adapted: ParameterBuffer, plain: ParameterBuffer): Promise<void> {
  const programs = new Memo(mergeProgram);
  const rows = new Map(adapted.table.map((row) => [row.name, row]));
  for (const { name, shape, matrix } of plain.table) {
    const names = [adapterName(name, "A"), adapterName(name, "B")];
    const adapts = rows.get(names[1])?.adapts;
    if (!matrix || !adapts) continue;
    const [a, b] = names.map((part) => adapted.view(part));
    const form = { shape, rank: rows.get(names[0])?.shape[0] as number, matrix, scaling: adapts.scaling };
    await engine.run(programs.get(form), { w: adapted.view(name), a, b }, { merged: plain.view(name) });
  }
}
