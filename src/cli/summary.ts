/** @file What is printed at the end of a run. */

import { visible } from "../base/text.ts";
import { pairedDifference } from "../rl/kl.ts";
import { curvesForTerminal } from "./curves.ts";
import { INTERRUPTED } from "./interrupt.ts";
import {
  commandLine,
  fixed,
  note,
  print,
  printFacts,
  printWrapped,
  sideBySide,
  style,
  terminalWidth,
  withError,
  wrap,
} from "./output.ts";
import type { RunOutcome } from "./run-view.ts";

/** Held-out responses before and after; `shown` of them, spread over the list, beside each other. */
export function printComparison({ before, after }: RunOutcome, shown: number): void {
  if (!before || !after) {
    const only = after ?? before;
    if (only)
      print(`\nHeld-out mean reward ${only.when} training: ${withError(only)} (${only.samples.length} prompts)`);
    return;
  }
  const width = terminalWidth();
  if (shown > 0) print(`\n${style.bold(sideBySide("BEFORE", "AFTER", width)[0])}`);
  const apart = Math.max(1, Math.floor(before.samples.length / Math.max(1, shown)));
  for (let n = 0; n < Math.min(shown, before.samples.length); n++) {
    const [a, b] = [before.samples[n * apart], after.samples[n * apart]];
    print("-".repeat(width));
    for (const line of wrap(visible(a.prompt.replace(/\s+/g, " ")), width)) print(style.cyan(line));
    for (const line of sideBySide(
      `[${fixed(a.score, 2)}] ...${a.response}`,
      `[${fixed(b.score, 2)}] ...${b.response}`,
      width,
    ))
      print(line);
  }
  if (shown > 0) print("-".repeat(width));
  const scores = [before, after].map(({ samples }) => samples.map(({ score }) => score));
  print();
  printWrapped(`Mean reward of responses to ${before.samples.length} held-out prompts, with standard errors:`);
  printFacts([
    ["before", withError(before)],
    ["after", withError(after)],
    ["difference", `${withError(pairedDifference(scores[0], scores[1]))} (paired by prompt)`],
  ]);
}

/**
 * Pictures of the run's curves, where the checkpoint is and what can be done with it; for an interrupted run how to go on. Sets the exit code.
 * @param chat flags that make a conversation of a text, for a model that answers those
 * @param judges it is a reward model or a classifier, which writes nothing
 */
export function printEnd(
  outcome: RunOutcome,
  resume: readonly string[],
  to: (line: string) => void = print,
  chat: readonly string[] = [],
  judges = false,
): void {
  const { interrupted, step, directory, best, resumedAt, curves = [] } = outcome;
  if (interrupted) {
    process.exitCode = INTERRUPTED;
    if (directory === "") {
      note("stopped before the first step; nothing to save");
      return;
    }
    note(`stopped after step ${step}; everything is saved in ${directory}`);
    note(`go on with\n  ${commandLine("train", ...resume)}`);
    return;
  }
  if (resumedAt > 0 && resumedAt === step) {
    note(
      `nothing was left to do: the run has taken its ${step} steps; for more of them\n  ${commandLine("train", ...resume, "--steps", `${2 * step}`)}`,
    );
  }
  for (const line of curvesForTerminal(curves)) to(line);
  to(`\n${style.bold(`Checkpoint after step ${step}:`)} ${directory}`);
  if (judges) {
    to(`  ${commandLine("score", "--model", directory, "--text", "This movie was great.")}`);
    to(`  as a reward: --reward model:${directory}`);
  }
  const [prompt, text] = chat.length > 0 ? ["Hello!", "Hello!"] : ["This movie", "This movie was great."];
  if (!judges) {
    to(`  ${commandLine("generate", "--model", directory, ...chat, "--prompt", prompt)}`);
    to(`  ${commandLine("score", "--model", directory, ...chat, "--text", text)}`);
  }
  if (best && best.step !== step) {
    const steps = best.overSteps === 1 ? "in its step" : `over ${best.overSteps} steps`;
    if (best.heldOutLoss === undefined) to(`Best mean reward (${fixed(best.rewardMean, 3)} ${steps}): ${best.path}`);
    else to(`Lowest held-out loss (${fixed(best.heldOutLoss, 4)}${judges ? "" : " nats per token"}): ${best.path}`);
  }
}
