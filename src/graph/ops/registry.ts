/**
 * @file The registry. Tests loop over it: an operation here without a finite-difference test and a forward test against
 * the reference fails the build. To add an operation: one record in one file, one line here, its cases in
 * tools/reference/ops.py.
 */
import type { Op } from "../tensor.ts";
import * as elementwise from "./elementwise.ts";
import * as exported from "./exported.ts";
import * as gather from "./gather.ts";
import * as inference from "./inference.ts";
import * as linear from "./linear.ts";
import * as normalize from "./normalize.ts";
import * as reduce from "./reduce.ts";
import * as shape from "./shape.ts";

const isOp = (value: unknown): value is Op => typeof value === "object" && value !== null && "infer" in value;

/** Every operation by name. */
export const operations: ReadonlyMap<string, Op> = new Map(
  [elementwise, reduce, normalize, shape, gather, linear, inference, exported]
    .flatMap((module) => Object.values(module))
    .filter(isOp)
    .map((op) => [op.name, op]),
);
