/** @file The PPO options as flags, made from the table of algorithms/options.ts. */
import type { Command } from "commander";
import { type Followed, resolvePpoConfig } from "../algorithms/config.ts";
import { optionGroups, type PPOConfig, ppoOptions } from "../algorithms/options.ts";
import { fileSource, type OptionSource, shown } from "../base/options.ts";
import { asUsage } from "./errors.ts";
import { addOptions, flag, flagSource } from "./options.ts";

/** Every option of the PPO table, as flags without defaults: what is not given stays undefined. */
export function addPpoOptions(command: Command, standard: Partial<PPOConfig> = {}): void {
  addOptions(command, ppoOptions, standard, optionGroups);
}

/** Options that nobody gave now, other defaults or those of an earlier run: they follow what is given. */
export const standing = (values: Readonly<Record<string, unknown>>, file?: string): OptionSource => ({
  ...(file === undefined ? flagSource(values, Object.keys(values)) : fileSource(values, file)),
  called: flag,
  yields: true,
});

/**
 * The complete PPO config: flags over the other sources, the later over the earlier.
 * @param onNote hears which options were fitted to those that were given
 * @throws usage
 */
export function readPpoOptions(
  flags: Readonly<Record<string, unknown>>,
  sources: readonly OptionSource[] = [],
  onNote?: (text: string) => void,
): PPOConfig {
  const all = [...sources, flagSource(flags, Object.keys(ppoOptions))];
  const { config, followed } = asUsage(() => resolvePpoConfig(all));
  for (const change of followed) onNote?.(inWords(change, config));
  return config;
}

const inWords = ({ name, from, to, because }: Followed, config: PPOConfig) =>
  `${flag(name)} is ${shown(to)}, not ${shown(from)}, to fit ${flag(because)} ${shown(config[because])}`;
