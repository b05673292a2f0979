/** @file What to run, and what config.json says of it. */
import type { PPOConfig } from "../algorithms/options.ts";
import { fail } from "../base/errors.ts";
import type { Prompt } from "../data/prompts.ts";
import { joinPath, readJson } from "../platform/files.ts";
import { refuseWhereLocked } from "../platform/lock.ts";
import type { Changeable } from "./changeable.ts";
import { isUnwritten } from "./checkpoint.ts";
import { CONFIG_FILE } from "./logs.ts";

/** What to run. Plain data: it crosses to a worker. */
export interface RunSpec {
  /** A directory in Hugging Face layout, a hub id, or "tiny". */
  model: string;
  prompts: readonly (string | Prompt)[];
  /** The run directory. New or empty, unless `resume`. */
  out: string;
  /** A built-in name or the path of a module; here it only names the reward in errors and in config.json. */
  rewardName: string;
  config: Partial<PPOConfig>;
  /** Go on from the newest checkpoint in `out` that is not damaged. */
  resume?: boolean;
  /** What may differ from what the run was started with, when it is resumed. */
  allowChange?: readonly Changeable[];
  /** Prompts never trained on: responses to them are scored before and after. */
  evaluation?: { prompts: readonly (string | Prompt)[] };
  /** Threads of the engine. Default: those the run was started with, or the cores this process may use. */
  threads?: number;
  /** What else config.json says: where the prompts came from. */
  record?: Readonly<Record<string, unknown>>;
  /** Start although the run is expected to take more memory than there is. */
  ignoreMemory?: boolean;
}

/** What config.json of a run directory says. */
export interface RunRecord {
  model: string;
  reward: string;
  options: Partial<PPOConfig>;
  /** Whole paths, where the prompts came from files; the command line writes them. */
  promptsPath?: string | null;
  promptColumn?: string | null;
  evalPrompts?: string | null;
  /** Prompts held out of those in promptsPath. */
  heldOut?: number;
}

/** The options that config.json names; none where it does not. */
export async function recordedOptions(out: string): Promise<Partial<PPOConfig>> {
  const json = (await readJson(joinPath(out, CONFIG_FILE)).catch(() => null)) as Partial<RunRecord> | null;
  return typeof json?.options === "object" ? (json.options ?? {}) : {};
}

/** The spec of an earlier run, to resume it without saying everything again; undefined where it was not yet written. */
export async function readRunConfig(out: string): Promise<RunRecord | undefined> {
  await refuseWhereLocked(out);
  if (await isUnwritten(out)) return undefined;
  const path = joinPath(out, CONFIG_FILE);
  const json = (await readJson(path)) as Partial<RunRecord>;
  const options = typeof json?.options === "object" && json.options !== null && !Array.isArray(json.options);
  const texts = [json?.promptsPath, json?.promptColumn, json?.evalPrompts].every(
    (value) => value === undefined || value === null || typeof value === "string",
  );
  const { heldOut = 0 } = json ?? {};
  const counted = Number.isSafeInteger(heldOut) && heldOut >= 0;
  if (typeof json?.model !== "string" || typeof json.reward !== "string" || !options || !texts || !counted)
    fail("config", {
      where: path,
      found: "another kind of file",
      expected: "the config.json of a run, with model, reward and options",
      fix: "name a directory that `valuehead train` wrote",
    });
  return json as RunRecord;
}
