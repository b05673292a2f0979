/** @file A peer of a benchmark: a child process that answers JSON lines with JSON lines. */
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";

export interface PeerAnswer {
  seconds: number;
  /** Peak resident bytes of the run. */
  rss: number;
  /** CPU seconds the peer used while it had nothing to do. */
  idle: number;
  /** What both sides must agree on: log-probabilities of a forward run, the loss of a training step. */
  numbers: number[];
}

export class Peer {
  /** What the peer said it is. */
  readonly about: Record<string, unknown>;
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  private constructor(child: ChildProcess, lines: AsyncIterator<string>, about: Record<string, unknown>) {
    this.#child = child;
    this.#lines = lines;
    this.about = about;
  }

  /** Starts it and waits for its first line. Its stderr is ours. */
  static async start(command: string, args: string[], env: Record<string, string>): Promise<Peer> {
    const child = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"], env: { ...process.env, ...env } });
    const failed = new Promise<never>((_, reject) => child.once("error", reject));
    child.stdin!.on("error", () => {}); // a peer that ended is noticed where its answer is missing
    const lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
    return new Peer(child, lines, await Promise.race([nextLine(lines), failed]));
  }

  async ask(command: object): Promise<PeerAnswer> {
    this.#child.stdin!.write(`${JSON.stringify(command)}\n`);
    return (await nextLine(this.#lines)) as unknown as PeerAnswer;
  }

  /** Ends its input; it leaves by itself. */
  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#child.stdin!.end();
    await gone;
  }
}

async function nextLine(lines: AsyncIterator<string>): Promise<Record<string, unknown>> {
  const { value, done } = await lines.next();
  if (done) throw new Error("the peer ended; what went wrong is on stderr");
  return JSON.parse(value);
}
