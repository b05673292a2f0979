/** @file What listens to a run. Terminal, metrics.jsonl and TensorBoard are sinks; a user's own is one more. */
import { messageOf, ValueheadError } from "../../base/errors.ts";
import type { RunEvent } from "../events.ts";

/** Hears every event of a run, in order, one at a time: the next event waits until the promise is settled. */
export interface Sink {
  /** An event. What it throws ends the run, once the step in progress is done and saved; it is not called again then. */
  event(event: RunEvent): Promise<void>;
  /** Called once, after the last event: also when the run ended with an error, was interrupted, or is listened to no more. */
  close(): Promise<void>;
}

/**
 * The events of a run or of {@link PPOTrainer.train}, told to every sink before they are yielded.
 *
 * A sink that throws stops the run like an abort of `signal`: the step in progress is finished, and a run saves it. The other
 * sinks hear everything that comes until then.
 *
 * @param source begins the run: `(signal) => trainer.train(prompts, { signal })`
 * @param options.signal asks the run to end after the step in progress
 * @throws code - at the end, what the first sink to throw has thrown, as `cause`. An error of the run itself comes first
 */
export async function* withSinks<E extends RunEvent>(
  source: (signal: AbortSignal) => AsyncIterable<E>,
  sinks: readonly Sink[],
  options: { signal?: AbortSignal } = {},
): AsyncGenerator<E> {
  const controller = new AbortController();
  const stop = () => controller.abort(options.signal?.reason);
  if (options.signal?.aborted) stop();
  options.signal?.addEventListener("abort", stop);
  const failed = new Set<Sink>();
  let first: ValueheadError | undefined;
  const call = async (sink: Sink, doing: string, work: () => Promise<void>) => {
    try {
      await work();
    } catch (error) {
      failed.add(sink);
      first ??= sinkError(sink, sinks, doing, error);
      controller.abort(first);
    }
  };
  try {
    for await (const event of source(controller.signal)) {
      for (const sink of sinks)
        if (!failed.has(sink)) await call(sink, `the event "${event.type}"`, () => sink.event(event));
      yield event;
    }
  } finally {
    options.signal?.removeEventListener("abort", stop);
    for (const sink of sinks) await call(sink, "close()", () => sink.close());
  }
  if (first) throw first;
}

function sinkError(sink: Sink, sinks: readonly Sink[], doing: string, error: unknown): ValueheadError {
  const name = sink.constructor?.name;
  const called = name && name !== "Object" ? ` (${name})` : "";
  const problem = {
    where: `sink ${sinks.indexOf(sink) + 1} of ${sinks.length}${called}, ${doing}`,
    found: `an error: ${messageOf(error)}`,
    expected: "a sink that takes every event",
    fix: "correct the sink and go on from here: the step in progress was finished, and a run is saved as it was after it",
  };
  return new ValueheadError("code", problem, { cause: error });
}
