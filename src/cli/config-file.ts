/** @file A --config file: PPO options, and what else a run is made of. Also a run's own config.json. */

import { z } from "zod";
import { fail } from "../base/errors.ts";
import { fileSource, type OptionSource, type OptionTable, resolveOptions } from "../base/options.ts";
import type { RunRecord } from "../run/spec.ts";
import { asUsage } from "./errors.ts";
import { readObject } from "./options.ts";
import { standing } from "./ppo-options.ts";

const text = z.string().min(1).describe("a text that is not empty").optional();
const onOff = z.boolean().describe("true or false").optional();

/** What a run is made of besides its options. */
const spec = {
  model: [text, undefined, "a model directory, a run directory, a hub id, or tiny"],
  adapter: [text, undefined, "a LoRA adapter of the model: a directory or a hub id"],
  prompts: [text, undefined, "the file with the prompts"],
  promptColumn: [text, undefined, "column of the prompts"],
  reward: [text, undefined, "positive, negative, length, the path of a module, or a check"],
  out: [text, undefined, "the run directory"],
  evalPrompts: [text, undefined, "a file of prompts never trained on"],
  eval: [onOff, undefined, "whether held-out prompts are answered before and after"],
} as const satisfies OptionTable;

export type RunSettings = { -readonly [name in keyof typeof spec]?: z.output<(typeof spec)[name][0]> };

export interface ConfigFile {
  path: string;
  settings: RunSettings;
  /** The PPO options in it. */
  options: Readonly<Record<string, unknown>>;
  /** It is a run's own config.json: complete, so what it says follows what is given. */
  recorded: boolean;
}

/** @throws usage - a file that is no such thing, or with a value that none of these may have */
export async function readConfigFile(path: string): Promise<ConfigFile> {
  const json = await readObject(path);
  if (typeof json.model_type === "string" && json.options === undefined)
    fail("usage", {
      where: path,
      found: `the config of a model (model_type ${JSON.stringify(json.model_type)})`,
      expected: "options of a run, or the config.json of a run directory",
      fix: "name another file; a model is given with --model",
    });
  const { options } = json;
  const recorded = typeof options === "object" && options !== null && !Array.isArray(options);
  if (recorded) {
    const { model, adapter, reward, promptsPath, promptColumn, evalPrompts } = json as unknown as RunRecord;
    const said = { model, adapter, reward, prompts: promptsPath, promptColumn, evalPrompts };
    const settings = Object.fromEntries(Object.entries(said).filter(([, value]) => value !== null));
    return { path, settings: settingsOf(settings, path), options: options as Record<string, unknown>, recorded };
  }
  const entries = Object.entries(json);
  const isSetting = ([name]: [string, unknown]) => Object.hasOwn(spec, name);
  return {
    path,
    settings: settingsOf(Object.fromEntries(entries.filter(isSetting)), path),
    options: Object.fromEntries(entries.filter((entry) => !isSetting(entry))),
    recorded,
  };
}

const settingsOf = (values: Record<string, unknown>, path: string): RunSettings => {
  const defaults: OptionSource = fileSource(
    Object.fromEntries(Object.keys(spec).map((name) => [name, undefined])),
    path,
  );
  return asUsage(() => resolveOptions(spec, [defaults, fileSource(values, path)]).values);
};

/** The PPO options of a file: given, but for those of a run's own record. */
export const optionsOf = ({ options, path, recorded }: ConfigFile): OptionSource =>
  recorded ? standing(options, path) : fileSource(options, path);
