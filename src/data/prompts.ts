/**
 * @file Prompts: reading them from a file, and drawing batches of them.
 */
import { fail } from "../base/errors.ts";
import { stream } from "../base/streams.ts";
import { conversationIn, endsWithAnswer, type Prompt, promptKey, rowConversation } from "./chat.ts";
import { columnOf, openTable, type Row, type Table, textOf } from "./tables.ts";

export type { Prompt } from "./chat.ts";

/** Tried in this order when no column is given. */
export const PROMPT_COLUMNS = ["prompt", "text", "query", "messages"];

/**
 * The prompts of a file, in order, each with its row; `-` is stdin.
 *
 * `.txt`: one per line. `.json`: an array of strings, or of objects with the prompt in `column` (default: the first of
 * {@link PROMPT_COLUMNS} there is). `.jsonl`: each line one of these. `.csv`, `.tsv`, `.parquet`: in that column. All but
 * Parquet may end in `.gz`. Spaces at the ends of a prompt are kept, for they are tokens.
 *
 * A prompt may be a conversation: a list of messages with role and content. In a column `prompt` it is the prompt as it stands,
 * and a last message of the assistant is one to be continued. In any other column, such as `messages`, it is a whole conversation: if
 * it ends with the assistant's answer, that is no part of the prompt, and the row has it.
 *
 * Blank lines are skipped. Rows with a blank prompt are left out and prompts that come more than once are kept, as often as
 * they come; `onNote` hears how many of each there were. `columnOption` is how errors call `column`.
 *
 * Throws `data` for a file that is missing, empty, of another kind or broken at some row, and `usage` for a column of a `.txt`.
 */
export async function readPrompts(
  path: string,
  options: { column?: string; columnOption?: string; onNote?: (note: string) => void } = {},
): Promise<Prompt[]> {
  const { column, columnOption = "column", onNote } = options;
  const table = await openTable(path);
  const { name, kind } = table;
  if (kind === "txt" && column !== undefined) {
    fail("usage", {
      where: name,
      found: `the column ${JSON.stringify(column)} for plain text`,
      expected: "a column for files that have columns",
      fix: `leave ${columnOption} out`,
    });
  }
  const columns = column === undefined ? PROMPT_COLUMNS : [column];
  const prompts: Prompt[] = [];
  const blank: string[] = [];
  let answered = 0;
  let beside: string | undefined;
  for await (const row of kind === "txt" ? textLines(name, table.lines) : table.rows) {
    const read = readRow(row, columns, columnOption, kind);
    if (read === undefined) {
      blank.push(row.where);
      continue;
    }
    prompts.push(read.prompt);
    if (read.answered) answered++;
    if (read.beside && column === undefined) beside ??= read.beside;
  }
  if (prompts.length === 0) {
    fail("data", {
      where: name,
      found: blank.length === 0 ? "nothing in it" : `${blank.length} rows, all of them without a prompt`,
      expected: "at least one prompt",
      fix:
        kind === "txt"
          ? "write one prompt per line"
          : `name the column that holds the prompts (${columnOption}), or fill it`,
    });
  }
  if (blank.length > 0) onNote?.(`${name}: ${blank.length} without a prompt left out, the first: ${blank[0]}`);
  if (beside !== undefined)
    onNote?.(`${name}: the prompts are texts; there are conversations too (${columnOption} ${beside} takes those)`);
  if (answered > 0)
    onNote?.(
      `${name}: ${answered} of ${prompts.length} conversations end with the assistant's answer, which is left out of the prompt and is in the row`,
    );
  const begun = prompts.filter(({ messages }) => messages && endsWithAnswer(messages)).length;
  if (begun > 0)
    onNote?.(`${name}: ${begun} of ${prompts.length} prompts end with a message of the assistant, which is continued`);
  const different = new Set(prompts.map(promptKey)).size;
  if (different < prompts.length)
    onNote?.(`${name}: ${prompts.length} prompts, ${different} of them different; all are used`);
  return prompts;
}

interface ReadRow {
  prompt: Prompt;
  /** Whether the conversation went on with an answer. */
  answered?: boolean;
  /** A column of conversations beside a prompt that is text. */
  beside?: string;
}

/** The prompt of a row; undefined: it has none. */
function readRow(row: Row, columns: readonly string[], option: string, kind: Table["kind"]): ReadRow | undefined {
  const { where, value } = row;
  if (typeof value !== "string") {
    const column = columnOf({ where, value }, columns, option);
    const messages = conversationIn(value[column], kind === "csv" || kind === "tsv");
    if (messages !== undefined && !messages.every((item) => typeof item === "string"))
      return rowConversation(messages, value, `${where}, column ${column}`, column !== "prompt");
    if (messages?.length === 0) return undefined;
  }
  const prompt = textOf(row, columns, option, "text, or a list of messages: [{ role, content }, ...]");
  if (prompt === null || prompt.trim() === "") return undefined;
  if (typeof value === "string") return { prompt: { prompt, row: {} } };
  const beside = Array.isArray(value.messages) && value.messages[0]?.role !== undefined ? "messages" : undefined;
  return { prompt: { prompt, row: value }, beside };
}

async function* textLines(name: string, lines: AsyncIterable<string>): AsyncGenerator<Row> {
  let number = 0;
  for await (const value of lines) {
    number++;
    if (value.trim() !== "") yield { where: `${name}, line ${number}`, value };
  }
}

/** Plain data, safe for JSON. */
export interface PromptSamplerState {
  /** Prompts there are: others would have another order. */
  count: number;
  /** Seed of the order. */
  seed: number;
  /** Epochs finished. */
  epoch: number;
  /** How many prompts of the epoch are drawn. */
  position: number;
}

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
    return stream(this.seed, "promptOrder", this.#epoch).permutation(this.count);
  }
}
