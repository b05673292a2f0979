/** @file Prompts kept away from training, to see what it does to others. */
import { stream } from "../base/streams.ts";
import { type Prompt, promptKey } from "./chat.ts";

/** A tenth of the prompts, at most this many. */
const MOST = 64;
/** With fewer different prompts none are held out: they are needed, and so few answers would tell nothing. */
const ENOUGH = 80;

/** How many prompts a run holds out when nobody says. */
export function heldOutCount(prompts: readonly Prompt[]): number {
  const different = new Set(prompts.map(promptKey)).size;
  return different < ENOUGH ? 0 : Math.min(MOST, Math.floor(different / 10));
}

/**
 * `count` different prompts, chosen by seed, and all the others. A prompt that comes more than once is on one side only, and
 * held out once.
 */
export function holdOut(
  prompts: readonly Prompt[],
  count: number,
  seed: number,
): { training: Prompt[]; heldOut: Prompt[] } {
  const keys = prompts.map(promptKey);
  const different = [...new Set(keys)];
  const order = stream(seed, "heldOutPrompts").permutation(different.length);
  const chosen = new Set(Array.from(order.subarray(0, count), (i) => different[i]));
  const heldOut = [...chosen].map((key) => prompts[keys.indexOf(key)]);
  return { training: prompts.filter((_, i) => !chosen.has(keys[i])), heldOut };
}
