/** @file `valuehead demo`: the main job on the embedded model. */
import type { Command } from "commander";
import type { PPOConfig } from "../algorithms/options/ppo-options.ts";
import { readPrompts } from "../data/prompts.ts";
import { absolutePath, exists, isDirectory, joinPath, listDirectory, packagePath } from "../platform/files.ts";
import type { DashboardFlags } from "./dashboard.ts";
import { addEngineOptions, addModelOption, readEngine, readObject } from "./options.ts";
import { fixed, note, print, printFacts, terminalWidth, wrap } from "./output.ts";
import { addPpoOptions, readPpoOptions, standing } from "./ppo-options.ts";
import { addTellingOptions } from "./run-flags.ts";
import { printComparison, printEnd } from "./summary.ts";
import { followRun } from "./train.ts";

const REWARD = "positive";
const PROMPTS = packagePath("models", "tiny", "prompts.txt");
const HELD_OUT = packagePath("models", "tiny", "prompts-heldout.txt");

interface DemoFlags extends DashboardFlags {
  model?: string;
  maxNewTokens?: number;
  out?: string;
  json?: boolean;
  quiet?: boolean;
}

interface DemoSettings {
  /** Responses shown beside each other. */
  shown: number;
  options: Partial<PPOConfig>;
}

export async function define(command: Command): Promise<void> {
  const settings = (await readObject(packagePath("models", "tiny", "demo.json"))) as unknown as DemoSettings;
  addModelOption(command);
  command.option("--out <dir>", "the run directory (default: runs/demo-<seed>)");
  addTellingOptions(command);
  addEngineOptions(command);
  addPpoOptions(command, settings.options);
  command.action((flags: DemoFlags) => demo(flags, settings, command));
}

async function demo(flags: DemoFlags, settings: DemoSettings, command: Command): Promise<void> {
  const engine = readEngine(flags);
  // The demo's responses have one length; whoever changes it means all of it.
  const { maxNewTokens, model = "tiny" } = flags;
  const defaults = typeof maxNewTokens === "number" ? { minNewTokens: maxNewTokens } : {};
  const config = readPpoOptions(flags as unknown as Record<string, unknown>, [
    standing({ ...settings.options, ...defaults }),
  ]);
  const prompts = await readPrompts(PROMPTS);
  const heldOut = await readPrompts(HELD_OUT);
  const out = flags.out ?? (await freeDirectory(joinPath("runs", `demo-${config.seed}`)));
  if (!flags.json) introduce(config, prompts.length, heldOut.length);

  const record = { promptsPath: absolutePath(PROMPTS), evalPrompts: absolutePath(HELD_OUT) };
  const evaluation = { prompts: heldOut };
  const spec = { model, prompts, out, rewardName: REWARD, config, evaluation, ...engine, record };
  const outcome = await followRun(spec, flags, command);
  if (!flags.json) {
    printComparison(outcome, settings.shown);
    if (config.klController === "adaptive" && !outcome.interrupted)
      printFacts([
        ["KL at the end", `${fixed(outcome.metrics["objective/kl"], 2)} nats per response, target ${config.klTarget}`],
      ]);
  }
  printEnd(outcome, ["--resume", out], flags.json ? () => {} : undefined);
}

function introduce(config: PPOConfig, prompts: number, heldOut: number): void {
  const text =
    "A small GPT-2 that was trained on film reviews learns to write kinder ones. Each step it answers " +
    `${config.batchSize} of ${prompts} openings with ${config.maxNewTokens} tokens, a lexicon of ${REWARD} words scores the ` +
    "answers, and PPO makes better ones more likely; the KL penalty holds it near the model it started from, so that it goes " +
    `on writing English. ${config.steps} steps, seed ${config.seed}; ${heldOut} other openings are answered before and after.`;
  for (const line of wrap(text, Math.min(100, terminalWidth()))) print(line);
  print();
}

/** `path`, or when that holds something `path-2`, `path-3`, ... */
async function freeDirectory(path: string): Promise<string> {
  const taken = async (name: string) =>
    (await exists(name)) && (!(await isDirectory(name)) || (await listDirectory(name)).length > 0);
  let name = path;
  for (let n = 2; await taken(name); n++) name = `${path}-${n}`;
  if (name !== path) note(`${path} is not empty; using ${name}`);
  return name;
}
