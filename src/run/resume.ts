/** @file Which options may change when a run is resumed, and what else must be as it was. */

import type { Changeable } from "../algorithms/changeable.ts";
import type { PPOConfig, PPOOptionName } from "../algorithms/config.ts";
import { type Change, changedInputs, type RunInputs } from "../algorithms/inputs.ts";
import { fail } from "../base/errors.ts";
import { shown } from "../base/options.ts";

/** What a run learns does not depend on these: they change without a word. */
export const FREE_OPTIONS: readonly PPOOptionName[] = [
  "preset", // its values count, each by itself
  "steps",
  "rewardConcurrency",
  "rewardTimeout",
  "rewardRetries",
  "maxSkippedSteps",
  "valueHeadInit", // only at the start
  "valueHeadStd",
  "saveEvery",
  "keepCheckpoints",
  "keepBest",
  "logSamples",
  "audit",
];

/** Prompts already drawn, random streams already used or moments already gathered would not fit any more. */
export const FIXED_OPTIONS: readonly PPOOptionName[] = [
  "seed",
  "batchSize",
  "promptMinTokens",
  "promptMaxTokens",
  "longPrompts",
  "valueModel",
  "frozenLayers",
];

/** The options that what is learned depends on: a checkpoint says them, and is the same whatever the others are. */
export function learningOptions(config: PPOConfig): Partial<PPOConfig> {
  const counts = (name: string) =>
    name === "steps" ? config.schedule !== "constant" : !FREE_OPTIONS.includes(name as PPOOptionName);
  return Object.fromEntries(Object.entries(config).filter(([name]) => counts(name)));
}

/** Options whose values differ, but for those that may. */
function changedOptions(before: Readonly<Record<string, unknown>>, now: PPOConfig): PPOOptionName[] {
  const differs = (name: string) => JSON.stringify(before[name]) !== JSON.stringify(now[name as PPOOptionName]);
  const names = Object.keys(learningOptions(now)).filter((name) => before[name] !== undefined);
  return names.filter(differs) as PPOOptionName[];
}

/** What a checkpoint was trained with, and what is given now. */
export interface Resumed {
  where: string;
  before: { inputs?: RunInputs; options?: Readonly<Record<string, unknown>> };
  now: { inputs: Partial<RunInputs>; config: PPOConfig };
  allowed: readonly Changeable[];
}

/**
 * @returns what to tell the user: changes that are allowed, and change what is learned
 * @throws usage - changes that are not allowed
 */
export function checkResumed({ where, before, now, allowed }: Resumed): string[] {
  const changes = before.inputs ? changedInputs(before.inputs, now.inputs) : [];
  const options = changedOptions(before.options ?? {}, now.config);
  const told = (name: PPOOptionName) => `${name} ${shown(now.config[name])} (was ${shown(before.options?.[name])})`;
  const fixed = options.filter((name) => FIXED_OPTIONS.includes(name));
  for (const name of fixed) changes.push({ what: "options", now: told(name) });
  const refused = changes.filter(({ what }) => !allowed.includes(what));
  if (refused.length > 0) {
    const names = [...new Set(refused.map(({ what }) => what))];
    fail("usage", {
      where,
      found: inWords(refused),
      expected: "what the run was started with: resumed with anything else it is another run",
      fix: `give it as it was, or say that it may change: ${names.map((name) => `allowChange ${name}`).join(" ")}`,
    });
  }
  const notes = changes.length > 0 ? [`from here on with ${inWords(changes)}, as allowed`] : [];
  const others = options.filter((name) => !fixed.includes(name));
  if (others.length > 0)
    notes.push(
      `from here on with other options than before: ${others.map(told).join(", ")}; the run is not the one it was begun as`,
    );
  const { reward, rewardFile, threads } = before.inputs ?? {};
  if (reward !== undefined && reward !== now.inputs.reward)
    notes.push(`from here on with the reward ${JSON.stringify(now.inputs.reward)} (was ${JSON.stringify(reward)})`);
  else if (rewardFile !== undefined && now.inputs.rewardFile !== undefined && rewardFile !== now.inputs.rewardFile)
    notes.push(`the reward's file is not what it was when the run was saved: ${now.inputs.reward}`);
  if (threads !== undefined && now.inputs.threads !== undefined && threads !== now.inputs.threads)
    notes.push(
      `${now.inputs.threads} threads from here on, ${threads} before: sums are taken in another order, so the last bits differ from those of the run undisturbed`,
    );
  if (!before.inputs)
    notes.push(
      "the checkpoint is of an earlier version: it does not say which prompts, reward and model the run began with",
    );
  return notes;
}

const inWords = (changes: readonly Change[]) => changes.map(({ now }) => now).join(", ");
