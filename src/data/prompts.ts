/**
 * @file Prompts: reading them from a file, and drawing batches of them.
 */
import { fail, messageOf } from "../base/errors.ts";
import { parseJson } from "../base/json.ts";
import { Rng } from "../base/rng.ts";
import { readLines } from "../runtime/files.ts";

/** Tried in this order when no column is given. */
const COLUMNS = ["prompt", "text"];

/**
 * The prompts of a file, in order.
 *
 * `.txt`: one per line. `.jsonl`: each line a JSON string, or an object with the prompt in `column` (default `prompt`, else
 * `text`). Either may end in `.gz`. Blank lines are skipped; spaces at the ends of a prompt are kept, for they are tokens.
 *
 * Throws `data` for a file that is missing, empty, of another kind or broken at some line, and `usage` for a column of a `.txt`.
 */
export async function readPrompts(path: string, options: { column?: string } = {}): Promise<string[]> {
  const { column } = options;
  const kind = /\.(txt|jsonl)(\.gz)?$/.exec(path)?.[1];
  if (kind === undefined) {
    fail("data", {
      where: path,
      found: "an unknown kind of file",
      expected: "a name ending in .txt or .jsonl, or either with .gz",
      fix: "write one prompt per line (.txt) or one JSON value per line (.jsonl)",
    });
  }
  if (kind === "txt" && column !== undefined) {
    fail("usage", {
      where: path,
      found: `the column ${JSON.stringify(column)} for a text file`,
      expected: "a column for .jsonl files only",
      fix: "leave the column out",
    });
  }
  const prompts: string[] = [];
  let lineNumber = 0;
  for await (const line of readLines(path)) {
    lineNumber++;
    if (line.trim() === "") continue;
    prompts.push(kind === "txt" ? line : promptOf(line, column, `${path}, line ${lineNumber}`));
  }
  if (prompts.length === 0) {
    fail("data", {
      where: path,
      found: lineNumber === 0 ? "an empty file" : "blank lines only",
      expected: "at least one prompt",
      fix: kind === "txt" ? "write one prompt per line" : 'write one JSON string or {"prompt": "..."} per line',
    });
  }
  return prompts;
}

function promptOf(line: string, column: string | undefined, where: string): string {
  let value: unknown;
  try {
    value = parseJson(line);
  } catch (error) {
    fail(
      "data",
      {
        where,
        found: `broken JSON (${messageOf(error)})`,
        expected: "one JSON string or object on the line",
        fix: "correct the line; a file of plain text must be called .txt",
      },
      error,
    );
  }
  let name = "the line";
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    const wanted = column === undefined ? COLUMNS : [column];
    const found = Object.keys(value);
    const key = wanted.find((key) => Object.hasOwn(value as object, key));
    if (key === undefined) {
      fail("data", {
        where,
        found: found.length === 0 ? "an object without columns" : `the columns ${found.join(", ")}`,
        expected: `a column ${wanted.join(" or ")}`,
        fix: "name the column of the prompts, or correct the line",
      });
    }
    name = `column ${key}`;
    value = (value as Record<string, unknown>)[key];
  }
  if (typeof value === "string" && value !== "") return value;
  return fail("data", {
    where: `${where}, ${name}`,
    found: value === "" ? "an empty string" : (JSON.stringify(value).match(/^.{1,60}/)?.[0] ?? ""),
    expected: "a string of at least one character",
    fix: "correct or remove the line",
  });
}

/** Plain data, safe for JSON. */
export interface PromptSamplerState {
  count: number;
  seed: number;
  epoch: number;
  /** How many prompts of the epoch are drawn. */
  position: number;
}

/** Keeps these permutations apart from other streams of the same seed. */
const STREAM = 1;

/**
 * Endless batches of prompt indices: every epoch is a fresh permutation of 0 … count − 1, so no prompt comes twice before all
 * others came once. A batch may span epochs. The order depends on `seed` and `count` alone.
 */
export class PromptSampler {
  readonly count: number;
  readonly seed: number;
  #epoch = 0;
  #position = 0;
  #order: Int32Array;

  /** Throws `data` unless there is at least one prompt. */
  constructor(count: number, seed: number) {
    if (!(Number.isSafeInteger(count) && count > 0)) {
      fail("data", {
        where: "PromptSampler",
        found: `${count} prompts`,
        expected: "at least one",
        fix: "check the prompts file",
      });
    }
    this.count = count;
    this.seed = seed;
    this.#order = this.#permutation();
  }

  /** The next `n` indices. */
  next(n: number): number[] {
    const batch: number[] = [];
    while (batch.length < n) {
      if (this.#position === this.count) {
        this.#epoch++;
        this.#position = 0;
        this.#order = this.#permutation();
      }
      batch.push(this.#order[this.#position++]);
    }
    return batch;
  }

  getState(): PromptSamplerState {
    return { count: this.count, seed: this.seed, epoch: this.#epoch, position: this.#position };
  }

  /** Continues where {@link getState} was taken. Throws `data` when the state is of other prompts or another seed. */
  setState(state: PromptSamplerState): void {
    if (state.count !== this.count || state.seed !== this.seed) {
      fail("data", {
        where: "PromptSampler, setState",
        found: `a state of ${state.count} prompts with seed ${state.seed}`,
        expected: `${this.count} prompts with seed ${this.seed}`,
        fix: "resume with the prompts file and the seed of the interrupted run",
      });
    }
    this.#epoch = state.epoch;
    this.#position = state.position;
    this.#order = this.#permutation();
  }

  #permutation(): Int32Array {
    return new Rng(this.seed, STREAM, this.#epoch).permutation(this.count);
  }
}
