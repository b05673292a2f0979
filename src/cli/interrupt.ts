/** @file Ctrl-C and its like: the first asks for a clean end, the second ends at once. */
import { note } from "./output.ts";

export const INTERRUPTED = 130;

/** What a closed stdout means to the command that is running. */
let onBrokenPipe: (() => void) | undefined;

/** `valuehead ... | head`: a run is saved as with Ctrl-C; everything else just ends. */
export function brokenPipe(error: NodeJS.ErrnoException): void {
  if (error.code !== "EPIPE") throw error;
  if (onBrokenPipe) onBrokenPipe();
  else process.exit();
}

/** By the signal itself, which a shell reports as 130: process.exit() waits for a worker and aborts inside its native call. */
function dieAtOnce(): void {
  process.removeAllListeners("SIGINT");
  process.kill(process.pid, "SIGINT");
}

/**
 * Call `work` with a signal that aborts on the first SIGINT, SIGTERM or closed stdout. The second signal ends the
 * process at once.
 * @param promise   what the first one makes happen, in words
 * @param onMessage called before something is printed: clears a progress bar
 */
export async function interruptible<T>(
  promise: string,
  work: (signal: AbortSignal) => Promise<T>,
  onMessage: () => void = () => {},
): Promise<T> {
  const controller = new AbortController();
  const interrupt = () => {
    onMessage();
    if (controller.signal.aborted) return dieAtOnce();
    controller.abort();
    note(`${promise}; press Ctrl-C again to stop at once`);
  };
  process.on("SIGINT", interrupt);
  process.on("SIGTERM", interrupt);
  onBrokenPipe = () => controller.signal.aborted || interrupt();
  try {
    return await work(controller.signal);
  } finally {
    process.off("SIGINT", interrupt);
    process.off("SIGTERM", interrupt);
    onBrokenPipe = undefined;
  }
}
