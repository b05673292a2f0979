/**
 * @file The one error type of the library. Every message says where, what was found, what was expected and how to fix it.
 */

import { visible } from "./text.ts";

/** What kind of thing was wrong. The command line maps `usage` to exit code 2, everything else to 1. */
export type ErrorKind =
  | "usage" // an option or argument that makes no sense
  | "config" // a model or training config with an impossible or unsupported value
  | "checkpoint" // a weight, tokenizer or state file that cannot be read or written
  | "shape" // a tensor of the wrong rank, shape or type
  | "input" // token ids, prompts, masks
  | "data" // a prompts or corpus file
  | "reward" // what a reward function did
  | "numbers" // NaN or infinity where a number must be
  | "audit" // an invariant of sampling and scoring that does not hold
  | "code" // user code outside this library
  | "engine"; // ONNX Runtime refused or failed

/** What was wrong, in four parts: what the message is made of. */
export interface Problem {
  /** Where: a file, an argument, `row 3, position 7`, an operation. */
  where: string;
  /** What was found there. */
  found: string;
  /** What would have been right. */
  expected: string;
  /** What the reader can do about it. */
  fix: string;
}

/**
 * Thrown for every problem a caller can cause or run into. `message` is `where: found X, expected Y. Fix: Z`. What it quotes may
 * come out of a file: control characters are written as `\\u001b`, so that no terminal acts on them.
 */
export class ValueheadError extends Error {
  /** The same for every error of this library. */
  override readonly name = "ValueheadError";
  /** What kind of thing was wrong. */
  readonly kind: ErrorKind;
  /** The parts of the message, control characters escaped. */
  readonly problem: Problem;
  /** Whether retrying the same call may succeed. */
  readonly transient: boolean;

  constructor(kind: ErrorKind, problem: Problem, options: { cause?: unknown; transient?: boolean } = {}) {
    const { cause, transient = false } = options;
    const because = cause === undefined ? undefined : { cause };
    const [where, found, expected, fix] = [problem.where, problem.found, problem.expected, problem.fix].map(visible);
    super(`${where}: found ${found}, expected ${expected}. Fix: ${fix}`, because);
    this.kind = kind;
    this.problem = { where, found, expected, fix };
    this.transient = transient;
  }
}

/** `fail("config", { where, found, expected, fix })`: throw in expression position. */
export function fail(kind: ErrorKind, problem: Problem, cause?: unknown): never {
  throw new ValueheadError(kind, problem, cause === undefined ? undefined : { cause });
}

/** The message of anything that was thrown. */
export function messageOf(error: unknown): string {
  if (error instanceof Error) return error.message;
  try {
    return String(error);
  } catch {
    return "an object without text"; // Object.create(null)
  }
}
