/** @file The PPO options as flags, made from the table of train/config.ts. */
import { type Command, Option } from "commander";
import {
  optionGroups,
  type PpoConfig,
  type PpoOptionName,
  ppoConfig,
  ppoOptions,
  presetNamed,
  shown,
} from "../train/config.ts";
import { asUsage, flag } from "./errors.ts";
import { collect, collectNumbers, number, readObject } from "./options.ts";

/** Every option of the PPO table, as flags without defaults: what is not given stays undefined. */
export function addPpoOptions(command: Command, standard: Partial<PpoConfig> = {}): void {
  for (const [name, [schema, value, meaning]] of Object.entries(ppoOptions)) {
    const heading = optionGroups[name as PpoOptionName];
    if (heading) command.optionsGroup(heading);
    const text = `${meaning} (default: ${describe(standard[name as PpoOptionName] ?? value)})`;
    if (typeof value === "boolean") command.option(flag(name), text).option(flag(`no-${name}`), "");
    else if (name === "bannedTokens") command.option(`${flag(name)} <id>`, text, collectNumbers);
    else if (Array.isArray(value)) command.option(`${flag(name)} <text>`, text, collect);
    else if (typeof value === "number" || value === null) command.option(`${flag(name)} <number>`, text, number);
    else if (value === "") command.option(`${flag(name)} <text>`, text);
    else
      command.addOption(
        new Option(`${flag(name)} <name>`, text).choices([...(schema as { options: string[] }).options]),
      );
  }
}

const describe = (value: unknown) => shown(value) + (Array.isArray(value) ? "; may be given several times" : "");

/** The complete PPO config: flags over the --config file over `base`. */
export async function readPpoOptions(
  flags: Readonly<Record<string, unknown>>,
  file?: string,
  base: Partial<PpoConfig> = {},
): Promise<PpoConfig> {
  const given = Object.fromEntries(
    Object.keys(ppoOptions)
      .filter((name) => flags[name] !== undefined)
      .map((name) => [name, flags[name]]),
  );
  const where = file === undefined ? "command line" : `${file} and command line`;
  const fromFile = file === undefined ? {} : await readObject(file);
  const explicit = { ...fromFile, ...given };
  return asUsage(() => ppoConfig({ ...base, ...presetNamed(explicit.preset), ...explicit }, where));
}
