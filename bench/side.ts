/** @file One side of a benchmark: a child process that answers JSON lines with JSON lines, ours and every peer's. */
import { type ChildProcess, spawn } from "node:child_process";
import { basename } from "node:path";
import { createInterface } from "node:readline";

/** What is asked: `run` names the work, the rest are its arguments. */
export interface Command {
  run: string;
  [argument: string]: unknown;
}

export interface Answer {
  seconds: number;
  /** Peak resident bytes of the run. */
  rss: number;
  /** CPU seconds the side used while it had nothing to do. */
  idle: number;
  /** What both sides must agree on: log-probabilities of a forward run, the loss of a training step. */
  numbers: number[];
  /** Why this side cannot do that; nothing was measured then. */
  skipped?: string;
  [finding: string]: unknown;
}

export class Side {
  /** What it said it is. */
  readonly about: Record<string, unknown>;
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly #errors: () => string;

  private constructor(
    child: ChildProcess,
    lines: AsyncIterator<string>,
    errors: () => string,
    about: Record<string, unknown>,
  ) {
    this.#child = child;
    this.#lines = lines;
    this.#errors = errors;
    this.about = about;
  }

  /**
   * Starts it and waits for its first line.
   * @throws with what its stderr says last, if it ends instead
   */
  static async start(command: string, args: readonly string[], env: Record<string, string>): Promise<Side> {
    const child = spawn(command, args, { stdio: ["pipe", "pipe", "pipe"], env: { ...process.env, ...env } });
    const failed = new Promise<never>((_, reject) => {
      child.once("error", ({ message }) => reject(new Error(message.replace(command, basename(command)))));
    });
    child.stdin.on("error", () => {}); // a side that ended is noticed where its answer is missing
    let stderr = "";
    child.stderr.setEncoding("utf8").on("data", (text) => {
      stderr = (stderr + text).slice(-10_000);
    });
    const errors = () => {
      const all = stderr.trim().split("\n");
      return all.findLast((line) => /^\w*(Error|Exception|Interrupt)\b/.test(line)) ?? all.at(-1) ?? "";
    };
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const about = await Promise.race([nextLine(lines, errors), failed]);
    return new Side(child, lines, errors, about);
  }

  async ask(command: Command): Promise<Answer> {
    this.#child.stdin!.write(`${JSON.stringify(command)}\n`);
    return (await nextLine(this.#lines, this.#errors)) as unknown as Answer;
  }

  /** Ends its input; it leaves by itself. */
  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#child.stdin!.end();
    await gone;
  }

  /** Ends it at once. */
  kill(): void {
    this.#child.kill("SIGKILL");
  }
}

async function nextLine(lines: AsyncIterator<string>, errors: () => string): Promise<Record<string, unknown>> {
  const { value, done } = await lines.next();
  if (!done) return JSON.parse(value);
  await new Promise((resolve) => setTimeout(resolve, 100)); // the rest of its stderr
  throw new Error(errors() || "it ended without a word");
}
