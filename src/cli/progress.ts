/** @file A progress bar at the bottom of the terminal; nothing at all where stderr is not a terminal. */
import { SingleBar } from "cli-progress";

export class Progress {
  readonly #bar: SingleBar | undefined;
  #total = 1;
  #done = 0;
  #text = "";
  #visible = false;

  constructor(enabled: boolean) {
    if (!enabled || !process.stderr.isTTY) return;
    this.#bar = new SingleBar({
      stream: process.stderr,
      hideCursor: false, // a process that is killed cannot bring it back
      clearOnComplete: true,
      gracefulExit: false, // signals are interrupt.ts's business
      barsize: 20,
      format: "{bar} {text}",
      barCompleteChar: "#",
      barIncompleteChar: ".",
    });
  }

  /** Show `done` of `total`, with a text behind the bar. */
  show(done: number, total: number, text: string): void {
    if (!this.#bar) return;
    [this.#done, this.#total, this.#text] = [
      done,
      total,
      text.slice(0, Math.max(20, (process.stderr.columns ?? 80) - 23)),
    ];
    if (!this.#visible) this.#bar.start(this.#total, this.#done, { text: this.#text });
    else {
      this.#bar.setTotal(this.#total);
      this.#bar.update(this.#done, { text: this.#text });
    }
    this.#visible = true;
  }

  /** Take the bar away, to print something; the next {@link show} brings it back. */
  clear = (): void => {
    if (!this.#visible) return;
    this.#visible = false;
    this.#bar?.stop();
  };
}
