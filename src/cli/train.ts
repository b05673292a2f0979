/** @file `valuehead train`. */
import type { Command } from "commander";
import { fail } from "../base/errors.ts";
import { absolutePath, isDirectory } from "../runtime/files.ts";
import type { RunSpec } from "../train/run.ts";
import { interruptible } from "./interrupt.ts";
import { addThreadsOption, PROMPT_COLUMN, PROMPT_FILES } from "./options.ts";
import { note } from "./output.ts";
import { addPpoOptions, readPpoOptions } from "./ppo-options.ts";

export const FINISHING = "finishing this step, then saving";

export interface TrainFlags {
  model?: string;
  prompts?: string;
  promptColumn?: string;
  reward?: string;
  out?: string;
  config?: string;
  resume?: boolean;
  evalPrompts?: string;
  threads?: number;
  ignoreMemory?: boolean;
  json?: boolean;
  quiet?: boolean;
}

export function define(command: Command): void {
  command
    .option("--model <model>", "a model directory, a hub id, or tiny (embedded) (default: tiny)")
    .requiredOption("--prompts <file>", PROMPT_FILES)
    .option("--prompt-column <name>", PROMPT_COLUMN)
    .option("--reward <name or module>", "positive, negative, length, or the path of a module (./reward.mjs)")
    .requiredOption("--out <dir>", "the run directory: new or empty, or that of the run to resume")
    .option("--config <file>", "PPO options as JSON; flags go before it")
    .option("--resume", "go on from the newest checkpoint in --out, with the options of that run unless given anew")
    .option("--eval-prompts <file>", "prompts never trained on: mean reward before and after")
    .option("--ignore-memory", "start although the run is expected to take more memory than there is")
    .option("--json", "one JSON object per event and line on stdout, nothing else there")
    .option("--quiet", "no progress bar and no table");
  addThreadsOption(command);
  addPpoOptions(command);
  command.action(train);
}

async function train(flags: TrainFlags): Promise<void> {
  const { readRunConfig } = await import("../train/run.ts");
  const { readPrompts } = await import("../data/prompts.ts");
  const { resume, promptColumn: column, threads, ignoreMemory } = flags;
  const out = flags.out as string;
  const earlier = resume ? await readRunConfig(out) : undefined;
  const reward = flags.reward ?? earlier?.reward;
  if (reward === undefined)
    fail("usage", {
      where: "--reward",
      found: "no reward",
      expected: "positive, negative, length or the path of a module",
      fix: "add --reward NAME",
    });
  const config = await readPpoOptions(flags as Record<string, unknown>, flags.config, earlier?.options);
  const read = (path: string) => readPrompts(path, { column, onNote: (text) => note(`note: ${text}`) });
  const prompts = await read(flags.prompts as string);
  const evaluation = flags.evalPrompts ? { prompts: await read(flags.evalPrompts) } : undefined;
  const model = flags.model ?? earlier?.model ?? "tiny";
  const spec = { model, prompts, out, rewardName: reward, config, resume, evaluation, threads, ignoreMemory };

  const resumeFlags = ["--out", out, "--prompts", flags.prompts as string];
  if (column !== undefined) resumeFlags.push("--prompt-column", column);
  if (flags.evalPrompts) resumeFlags.push("--eval-prompts", flags.evalPrompts);
  const outcome = await followRun(spec, flags);
  const { printComparison, printEnd } = await import("./summary.ts");
  if (!flags.json) printComparison(outcome, 0);
  printEnd(outcome, resumeFlags, flags.json ? () => {} : undefined);
}

/** Run in a worker and show it. Model and reward are made independent of the working directory, so that any can resume. */
export async function followRun(spec: RunSpec, flags: { json?: boolean; quiet?: boolean }) {
  const { ppoConfig } = await import("../train/config.ts");
  const { isRewardPath } = await import("../train/rewards.ts");
  const { openReward } = await import("../run/reward-process.ts");
  const { runInWorker } = await import("../run/worker.ts");
  const { writeToStderr } = await import("../runtime/output.ts");
  const { fetchModel } = await import("./model.ts");
  const { RunView } = await import("./run-view.ts");
  const { steps, batchSize, rewardTimeout } = ppoConfig(spec.config);
  const rewardName = isRewardPath(spec.rewardName) ? absolutePath(spec.rewardName) : spec.rewardName;
  const view = new RunView({ ...flags, out: spec.out, steps, batchSize });
  const { reward, close } = await openReward(spec.rewardName, {
    loadTimeout: rewardTimeout,
    onOutput: (bytes) => {
      view.progress.clear();
      return writeToStderr(bytes);
    },
    onNote: (message) => note(`note: ${message}`),
  });
  try {
    await fetchModel(spec.model);
    const model = (await isDirectory(spec.model)) ? absolutePath(spec.model) : spec.model;
    return await interruptible(
      FINISHING,
      (signal) => view.follow(runInWorker({ ...spec, model, rewardName }, reward, { signal })),
      view.progress.clear,
    );
  } finally {
    await close();
  }
}
