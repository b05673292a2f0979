/** @file The options of PPO, GRPO and RLOO as flags, made from their tables in algorithms/. */
import type { Command } from "commander";
import type { AlgorithmName } from "../algorithms/algorithm.ts";
import { type Followed, resolvePpoConfig } from "../algorithms/options/config.ts";
import {
  optionGroups,
  type PPOConfig,
  ppoOptions,
  type RolloutTrainerConfig,
} from "../algorithms/options/ppo-options.ts";
import { fileSource, type OptionSource, type OptionTable, shown } from "../base/options.ts";
import { asUsage } from "./errors.ts";
import { addOptions, flag, flagSource } from "./options.ts";

/** The algorithms whose responses are rewarded. */
export type RewardedAlgorithm = Exclude<AlgorithmName, "sft" | "dpo" | "reward">;

/** The options of an algorithm. */
export interface OptionSet<Config> {
  readonly table: OptionTable;
  /** Headings, by the option they stand before. */
  readonly groups: Readonly<Record<string, string | undefined>>;
  resolve(sources: readonly OptionSource[]): { config: Config; followed: readonly Followed[] };
}

const ppoSet: OptionSet<PPOConfig> = { table: ppoOptions, groups: optionGroups, resolve: resolvePpoConfig };

/** The options of an algorithm; those of PPO are there without its trainer. */
export async function optionSet(algorithm: RewardedAlgorithm): Promise<OptionSet<RolloutTrainerConfig>> {
  if (algorithm === "ppo") return ppoSet;
  const { preset: _, klCoef, gamma, ...headings } = optionGroups;
  const groups = { ...headings, steps: "The run:" };
  if (algorithm === "grpo") {
    const { grpoOptions, resolveGRPOConfig } = await import("../algorithms/grpo.ts");
    return { table: grpoOptions, groups: { ...groups, advantageScaling: gamma }, resolve: resolveGRPOConfig };
  }
  const { rlooOptions, resolveRLOOConfig } = await import("../algorithms/rloo.ts");
  return { table: rlooOptions, groups: { ...groups, klCoef: gamma }, resolve: resolveRLOOConfig };
}

/** Every option of an algorithm, as flags without defaults: what is not given stays undefined. */
export function addAlgorithmOptions(
  command: Command,
  { table, groups }: OptionSet<unknown>,
  standard: Readonly<Record<string, unknown>> = {},
): void {
  addOptions(command, table, standard, groups);
}

/** Every option of the PPO table. */
export const addPpoOptions = (command: Command, standard: Partial<PPOConfig> = {}): void =>
  addAlgorithmOptions(command, ppoSet, standard);

/** Options that nobody gave now, other defaults or those of an earlier run: they follow what is given. */
export const standing = (values: Readonly<Record<string, unknown>>, file?: string): OptionSource => ({
  ...(file === undefined ? flagSource(values, Object.keys(values)) : fileSource(values, file)),
  called: flag,
  yields: true,
});

/**
 * The complete config: flags over the other sources, the later over the earlier.
 * @param onNote hears which options were fitted to those that were given
 * @throws usage
 */
export function readAlgorithmOptions<Config extends object>(
  { table, resolve }: OptionSet<Config>,
  flags: Readonly<Record<string, unknown>>,
  sources: readonly OptionSource[] = [],
  onNote?: (text: string) => void,
): Config {
  const all = [...sources, flagSource(flags, Object.keys(table))];
  const { config, followed } = asUsage(() => resolve(all));
  for (const change of followed) onNote?.(inWords(change, config as Record<string, unknown>));
  return config;
}

/** The same of PPO. */
export const readPpoOptions = (
  flags: Readonly<Record<string, unknown>>,
  sources: readonly OptionSource[] = [],
  onNote?: (text: string) => void,
): PPOConfig => readAlgorithmOptions(ppoSet, flags, sources, onNote);

const inWords = ({ name, from, to, because }: Followed, config: Readonly<Record<string, unknown>>) =>
  `${flag(name)} is ${shown(to)}, not ${shown(from)}, to fit ${flag(because)} ${shown(config[because])}`;
