/**
 * @file Ctrl-C and its like: the first asks for a clean end, the second ends at once. A closed terminal and a closed stdout ask
 * for a clean end too, and so does an error that nothing caught.
 */
import { note } from "./output.ts";

export const INTERRUPTED = 130;

/** What is going on that should not just end. */
interface Work {
  /** Ask for a clean end. */
  stop(): void;
  /** What ended it, beside a signal. */
  fault?: { error: unknown };
}

let current: Work | undefined;

/**
 * `valuehead ... | head`, or a terminal that is gone: a run is saved as with Ctrl-C; everything else just ends.
 * @throws any other error of stdout
 */
export function brokenPipe(error: NodeJS.ErrnoException): void {
  if (error.code !== "EPIPE" && error.code !== "EIO") throw error;
  if (current) current.stop();
  else process.exit();
}

/**
 * An error that nothing caught, while something goes on: it is asked for a clean end, after which {@link interruptible} throws the
 * error. Only the first counts; a timer may throw again and again.
 * @returns false when nothing goes on
 */
export function endWith(error: unknown): boolean {
  if (!current) return false;
  current.fault ??= { error };
  current.stop();
  return true;
}

/** Ask what goes on for a clean end, as the first Ctrl-C does; nothing where nothing goes on. */
export const stopCurrent = (): void => current?.stop();

/** Milliseconds in which the same signal is one key press where npm started this: it passes on what the terminal already sent. */
const ECHO = 200;

const viaNpm = () => process.env.npm_command !== undefined || process.env.npm_lifecycle_event !== undefined;

/** By the signal itself, which a shell reports as 130: process.exit() waits for a worker and aborts inside its native call. */
function dieAtOnce(signal: NodeJS.Signals): void {
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
}

/**
 * Call `work` with a signal that aborts on the first SIGINT, SIGTERM or SIGHUP, closed stdout or uncaught error. A second SIGINT or
 * SIGTERM ends the process at once, whatever it is doing.
 * @param promise   what the first one makes happen, in words
 * @param onMessage called before something is printed: clears a progress bar
 * @throws what `work` throws, and an error given to {@link endWith} when `work` is done
 */
export async function interruptible<T>(
  promise: string,
  work: (signal: AbortSignal) => Promise<T>,
  onMessage: () => void = () => {},
): Promise<T> {
  const controller = new AbortController();
  let first: { signal: NodeJS.Signals; at: number } | undefined;
  const stop = (how = "") => {
    if (controller.signal.aborted) return;
    controller.abort();
    onMessage();
    note(`${promise}${how}`);
  };
  const interrupt = (signal: NodeJS.Signals) => {
    if (first === undefined) {
      first = { signal, at: performance.now() };
      return stop("; press Ctrl-C again to stop at once");
    }
    if (viaNpm() && signal === first.signal && performance.now() - first.at < ECHO) return;
    onMessage();
    dieAtOnce(signal);
  };
  const hangUp = () => stop(); // the shell and the system may both send it, so a second one means nothing
  const listeners = { SIGINT: interrupt, SIGTERM: interrupt, SIGHUP: hangUp };
  for (const [signal, listener] of Object.entries(listeners)) process.on(signal, listener);
  const mine: Work = { stop };
  current = mine;
  try {
    const result = await work(controller.signal);
    if (mine.fault) throw mine.fault.error;
    return result;
  } finally {
    for (const [signal, listener] of Object.entries(listeners)) process.off(signal, listener);
    current = undefined;
  }
}
