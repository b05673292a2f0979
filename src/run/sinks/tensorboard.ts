/** @file The numbers of each step for TensorBoard. */
import type { RunEvent } from "../events.ts";
import { TensorBoardWriter } from "./event-file.ts";
import type { Sink } from "./sink.ts";

/** Writes the numbers of each step to an event file of TensorBoard, which shows all event files of a directory as one run. */
export class TensorBoardSink implements Sink {
  readonly #writer: TensorBoardWriter;

  private constructor(writer: TensorBoardWriter) {
    this.#writer = writer;
  }

  /**
   * Start a new event file in `directory`, which is created if needed.
   * @param options.stepsTaken of a run that goes on after so many steps: TensorBoard forgets what older files say about later ones
   * @throws checkpoint - a directory that cannot be written
   */
  static async open(directory: string, options: { stepsTaken?: number } = {}): Promise<TensorBoardSink> {
    const { stepsTaken } = options;
    const firstStep = stepsTaken === undefined ? undefined : stepsTaken + 1;
    return new TensorBoardSink(await TensorBoardWriter.open(directory, { firstStep }));
  }

  /**
   * Write the numbers of a step; other events are nothing to it.
   * @throws checkpoint - a full disk and its like
   */
  async event(event: RunEvent): Promise<void> {
    if (event.type === "step") await this.#writer.scalars(event.step, event.metrics);
  }

  /** Close the event file. */
  close(): Promise<void> {
    return this.#writer.close();
  }
}
