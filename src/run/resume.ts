/** @file Which options may change when a run is resumed, and what else must be as it was. */

import { fail } from "../base/errors.ts";
import { shown } from "../base/options.ts";
import { type Change, changedInputs, type RunInputs } from "./inputs.ts";
import type { Changeable } from "./options.ts";

/** Which options may change when a run is resumed. All others change what is learned, and are told. */
export interface OptionRules {
  /** What a run learns does not depend on these: they change without a word. */
  readonly free: readonly string[];
  /** Data already drawn, random streams already used or moments already gathered would not fit any more. */
  readonly fixed: readonly string[];
}

type Options = Readonly<Record<string, unknown>>;

/** The options that what is learned depends on: a checkpoint says them, and is the same whatever the others are. */
export function learningOptions(config: object, { free }: OptionRules): Options {
  const options = config as Options;
  const counts = (name: string) => (name === "steps" ? options.schedule !== "constant" : !free.includes(name));
  return Object.fromEntries(Object.entries(options).filter(([name]) => counts(name)));
}

/** Options that are given, where a run that goes on has decided already what is left to the clock: as it decided. */
export const asDecided = (given: Options, before: Options = {}): Options =>
  given.rolloutPrecision === "auto" && before.rolloutPrecision !== undefined
    ? { ...given, rolloutPrecision: before.rolloutPrecision }
    : given;

/** Options whose values differ, but for those that may. */
function changedOptions(before: Options, now: Options, rules: OptionRules): string[] {
  const differs = (name: string) => JSON.stringify(before[name]) !== JSON.stringify(now[name]);
  return Object.keys(learningOptions(now, rules)).filter((name) => before[name] !== undefined && differs(name));
}

/** What a checkpoint was trained with, and what is given now. */
export interface Resumed {
  where: string;
  before: { inputs?: RunInputs; options?: Options };
  now: { inputs: Partial<RunInputs>; config: object };
  rules: OptionRules;
  allowed: readonly Changeable[];
}

/**
 * @returns what to tell the user: changes that are allowed, and change what is learned
 * @throws usage - changes that are not allowed
 */
export function checkResumed({ where, before, now, rules, allowed }: Resumed): string[] {
  const config = now.config as Options;
  const changes = before.inputs ? changedInputs(before.inputs, now.inputs) : [];
  const options = changedOptions(before.options ?? {}, config, rules);
  const told = (name: string) => `${name} ${shown(config[name])} (was ${shown(before.options?.[name])})`;
  const fixed = options.filter((name) => rules.fixed.includes(name));
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
  const { reward, rewardFile, threads, device = "cpu" } = before.inputs ?? {};
  if (reward !== undefined && reward !== now.inputs.reward)
    notes.push(`from here on with the reward ${JSON.stringify(now.inputs.reward)} (was ${JSON.stringify(reward)})`);
  else if (rewardFile !== undefined && now.inputs.rewardFile !== undefined && rewardFile !== now.inputs.rewardFile)
    notes.push(`the reward's file is not what it was when the run was saved: ${now.inputs.reward}`);
  if (threads !== undefined && now.inputs.threads !== undefined && threads !== now.inputs.threads)
    notes.push(
      `${now.inputs.threads} threads from here on, ${threads} before: sums are taken in another order, so the last bits differ from those of the run undisturbed`,
    );
  if (before.inputs && now.inputs.device !== undefined && device !== now.inputs.device)
    notes.push(
      `device ${now.inputs.device} from here on, ${device} before: its kernels round otherwise, so the last bits differ from those of the run undisturbed`,
    );
  if (!before.inputs)
    notes.push(
      "the checkpoint is of an earlier version: it does not say which prompts, reward and model the run began with",
    );
  return notes;
}

const inWords = (changes: readonly Change[]) => changes.map(({ now }) => now).join(", ");
