/** @file A progress bar at the bottom of the terminal; nothing at all where stderr is not a terminal. */
import type { SingleBar } from "cli-progress";
import { visible } from "../base/text.ts";
import { packageRequire } from "../platform/package.ts";
import { shorten, widthOf } from "./output.ts";

/** What stands before the text: 20 of the bar and a blank; the last column stays free. */
const BESIDE = 22;

export class Progress {
  readonly #bar: SingleBar | undefined;
  #total = 1;
  #done = 0;
  #text = "";
  #visible = false;

  constructor(enabled: boolean) {
    if (!enabled || !process.stderr.isTTY) return;
    const { SingleBar: Bar } = packageRequire()("cli-progress"); // loaded where there is a bar to be seen
    this.#bar = new Bar({
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

  /** Show `done` of `total`, with facts behind the bar: as many, from the first on, as there is room for. */
  show(done: number, total: number, ...facts: readonly string[]): void {
    if (!this.#bar) return;
    const room = Math.max(20, (process.stderr.columns ?? 80) - BESIDE);
    [this.#done, this.#total, this.#text] = [done, total, fitting(facts.map(visible), room)];
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

/** The facts that fit, in their order: one that does not leaves its place to shorter ones after it. */
export function fitting(facts: readonly string[], room: number): string {
  let text = "";
  for (const fact of facts) {
    const longer = text ? `${text}, ${fact}` : fact;
    if (widthOf(longer) <= room) text = longer;
  }
  return text || shorten(facts[0] ?? "", room);
}
