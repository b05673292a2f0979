/** @file `valuehead train`: PPO, GRPO and RLOO. The other algorithms are commands of their own, named by --algorithm. */
import { type Command, Option } from "commander";
import { ALGORITHMS } from "../algorithms/algorithm.ts";
import type { RolloutTrainerConfig } from "../algorithms/options/ppo-options.ts";
import { fail } from "../base/errors.ts";
import { librarySource } from "../base/options.ts";
import { withoutSecrets } from "../distributed/connection.ts";
import { absolutePath, isDirectory, joinPath, STDIN } from "../platform/files.ts";
import type { PromptSpec, RewardedSpec, RunRecord } from "../run/spec.ts";
import { type ConfigFile, optionsOf, type RunSettings, readConfigFile } from "./config-file.ts";
import { type DashboardFlags, listen } from "./dashboard.ts";
import { interruptible } from "./interrupt.ts";
import {
  ADAPTER,
  adapterGiven,
  addEngineOptions,
  chatFlags,
  checkFlags,
  PROMPT_COLUMN,
  PROMPT_FILES,
  readEngine,
  readPromptsFrom,
  required,
} from "./options.ts";
import { note } from "./output.ts";
import {
  addAlgorithmOptions,
  type OptionSet,
  optionSet,
  type RewardedAlgorithm,
  readAlgorithmOptions,
  standing,
} from "./ppo-options.ts";
import { algorithmOf, resumedDirectory } from "./resumed.ts";
import { addRunDirectoryOptions, addTellingOptions, type RunFlags } from "./run-flags.ts";
import { addWorkersOptions, type WorkersFlags, workersOf } from "./workers-options.ts";

export const FINISHING = "finishing this step, then saving";

/** Responses shown before and after. */
const SHOWN = 4;

export interface TrainFlags extends RunSettings, RunFlags, WorkersFlags {
  out?: string;
  config?: string;
}

/** @param argv the command line, which says what the options are of */
export async function define(command: Command, argv: readonly string[] = []): Promise<void> {
  const algorithm = await algorithmOf(argv);
  if (algorithm === "sft") return (await import("./sft.ts")).define(command);
  if (algorithm === "dpo") return (await import("./dpo.ts")).define(command);
  if (algorithm === "reward") return (await import("./reward.ts")).define(command);
  const options = await optionSet(algorithm);
  command
    .addOption(
      new Option(
        "--algorithm <name>",
        "ppo, grpo and rloo learn from a reward, dpo from preference pairs, sft from text, reward trains a reward model; each has its own --help (default: ppo)",
      ).choices([...ALGORITHMS]),
    )
    .option("--model <model>", "a model directory, a run directory, a hub id, or tiny (embedded) (default: tiny)")
    .option("--adapter <adapter>", `${ADAPTER}; it is trained on`)
    .option("--prompts <file>", PROMPT_FILES)
    .option("--prompt-column <name>", PROMPT_COLUMN)
    .option(
      "--reward <name or module>",
      "positive, negative, length, a reward model (model:DIR, model:DIR#LABEL), the path of a module (./reward.mjs), or a check: regex:PATTERN, json, exact:COLUMN, combine:{...}",
    )
    .option("--config <file>", "options, model, prompts, reward and out as JSON, or a run's config.json; flags win")
    .option(
      "--eval-prompts <file>",
      "prompts not trained on, answered before and after the run (default: some of --prompts)",
    )
    .option("--no-eval", "hold out no prompts and skip the evaluation before and after");
  addRunDirectoryOptions(command);
  addTellingOptions(command);
  addEngineOptions(command);
  addWorkersOptions(command);
  addAlgorithmOptions(command, options);
  command.action((flags: TrainFlags) => train(flags, command, algorithm, options));
}

/** What a run is made of: from the flags, the --config file, the run that is resumed. */
interface Settings extends RunSettings {
  out: string;
  reward: string;
  model: string;
  prompts: string;
  /** The run in `out`, when it is resumed and has said what it is. */
  earlier?: RunRecord;
}

async function train(
  flags: TrainFlags,
  command: Command,
  algorithm: RewardedAlgorithm,
  options: OptionSet<RolloutTrainerConfig>,
): Promise<void> {
  const engine = readEngine(flags);
  const workers = workersOf(flags);
  checkFlags(options.table, flags);
  const file = flags.config === undefined ? undefined : await readConfigFile(flags.config);
  const settings = await readSettings(flags, file, algorithm);
  const { out, reward, model, adapter } = settings;
  const say = (text: string) => flags.quiet || note(`note: ${text}`);
  const config = readConfig(flags, settings, file, options, say);
  const prompts = await readAllPrompts(settings, config, say);
  const data = {
    model,
    ...adapterGiven(adapter),
    out,
    rewardName: reward,
    ...engine,
    ...prompts,
    resume: Boolean(flags.resume),
  };
  const spec = { algorithm, config, ...data } as RewardedSpec;
  if (flags.ignoreMemory) spec.ignoreMemory = true;
  if (workers) spec.workers = workers;
  if (flags.allowChange) spec.allowChange = flags.allowChange;

  const outcome = await followRun(spec, flags, command);
  const { printComparison, printEnd } = await import("./summary.ts");
  if (!flags.json) printComparison(outcome, SHOWN);
  const { isRewardPath } = await import("../experience/reward-functions.ts");
  const from = settings.prompts === STDIN ? ["--prompts", STDIN] : [];
  if (isRewardPath(reward)) from.push("--reward", reward); // --resume runs no module without a word
  if (workers) from.push("--workers", withoutSecrets(workers.server));
  const isChat = prompts.prompts.some((prompt) => typeof prompt === "object" && "messages" in prompt);
  const chat = chatFlags(config, isChat);
  printEnd(outcome, ["--resume", out, ...from], flags.json ? () => {} : undefined, chat);
}

async function readSettings(
  flags: TrainFlags,
  file: ConfigFile | undefined,
  algorithm: RewardedAlgorithm,
): Promise<Settings> {
  const given = { ...file?.settings, ...Object.fromEntries(Object.entries(flags).filter(([, v]) => v !== undefined)) };
  const settings: RunSettings = { ...given, eval: flags.eval === false ? false : (file?.settings.eval ?? true) };
  const { out, earlier } = await resumedDirectory(flags, algorithm, file?.settings.out);
  const reward = await namedReward(flags, file, earlier, out);
  const prompts = settings.prompts ?? earlier?.promptsPath ?? undefined;
  if (earlier && prompts === undefined)
    fail("usage", {
      where: "--prompts",
      found: `no path in ${joinPath(out ?? "", "config.json")}: they came from stdin, or an older version wrote it`,
      expected: "the prompts that the run began with",
      fix: "add --prompts FILE",
    });
  required(
    { name: "prompts", value: prompts, placeholder: "FILE", expected: PROMPT_FILES },
    { name: "reward", value: reward, placeholder: "NAME", expected: REWARDS },
    { name: "out", value: out, placeholder: "DIR", expected: "the directory that the run is written to" },
  );
  return {
    ...settings,
    out: out as string,
    reward: reward as string,
    prompts: prompts as string,
    model: settings.model ?? earlier?.model ?? "tiny",
    adapter: settings.adapter ?? earlier?.adapter ?? undefined,
    promptColumn: settings.promptColumn ?? earlier?.promptColumn ?? undefined,
    evalPrompts: settings.evalPrompts ?? earlier?.evalPrompts ?? undefined,
    earlier,
  };
}

/** What was typed runs, and what a file of the user's own names; what a run wrote down is asked about first. */
async function namedReward(
  flags: TrainFlags,
  file: ConfigFile | undefined,
  earlier: RunRecord | undefined,
  out: string | undefined,
): Promise<string | undefined> {
  const { recordedReward } = await import("./confirm.ts");
  const named = flags.reward ?? file?.settings.reward;
  if (flags.reward === undefined && named !== undefined && file?.recorded) return recordedReward(named, file.path);
  if (named !== undefined || earlier === undefined) return named;
  return earlier.reward === undefined ? undefined : recordedReward(earlier.reward, joinPath(out ?? "", "config.json"));
}

const REWARDS =
  "positive, negative, length, a reward model (model:DIR), the path of a module, or a check (regex:, json, exact, combine:)";

/** Flags over the file over the run that is resumed. */
function readConfig(
  flags: TrainFlags,
  { out, earlier }: Settings,
  file: ConfigFile | undefined,
  options: OptionSet<RolloutTrainerConfig>,
  onNote: (text: string) => void,
): RolloutTrainerConfig {
  const sources = [
    ...(earlier ? [standing(earlier.options, joinPath(out, "config.json"))] : []),
    ...(file ? [optionsOf(file)] : []),
  ];
  return readAlgorithmOptions(options, flags as Record<string, unknown>, sources, onNote);
}

/** The prompts to train on, those held out, and what config.json has to say for --resume to find both again. */
async function readAllPrompts(
  settings: Settings,
  config: Pick<RolloutTrainerConfig, "seed">,
  onNote: (text: string) => void,
): Promise<Pick<PromptSpec, "prompts" | "evaluation" | "record">> {
  const { earlier, evalPrompts, promptColumn, prompts: promptsPath } = settings;
  if (promptsPath === STDIN && evalPrompts === STDIN)
    fail("usage", {
      where: "--prompts, --eval-prompts",
      found: "stdin (-) for both",
      expected: "one of them from stdin",
      fix: "write one of them to a file",
    });
  const all = await readPromptsFrom(promptsPath, promptColumn, onNote);
  const { heldOutCount, holdOut } = await import("../data/held-out.ts");
  const asked = settings.eval !== false;
  // A run that is resumed trains on what it began with, whatever is asked now.
  const heldOut = earlier ? (earlier.heldOut ?? 0) : asked && evalPrompts === undefined ? heldOutCount(all) : 0;
  const parts = holdOut(all, heldOut, config.seed);
  if (heldOut > 0 && asked && evalPrompts === undefined)
    onNote(
      `${heldOut} of ${all.length} prompts are held out: answered before and after, never trained on (--no-eval: none)`,
    );
  const file =
    asked && evalPrompts !== undefined ? await readPromptsFrom(evalPrompts, promptColumn, onNote) : undefined;
  const evaluated = file ?? (asked && heldOut > 0 ? parts.heldOut : undefined);
  const recorded = (name: string | undefined) => (name === undefined || name === STDIN ? null : absolutePath(name));
  return {
    prompts: parts.training,
    evaluation: evaluated && { prompts: evaluated },
    record: {
      promptsPath: recorded(promptsPath),
      promptColumn: promptColumn ?? null,
      evalPrompts: asked ? recorded(evalPrompts) : null,
      heldOut,
    },
  };
}

/** A reward model's directory as a whole path, and that of a run as the checkpoint that it means today. */
async function placedReward(name: string): Promise<string> {
  const { isModelReward, namedModel } = await import("../experience/rewards/model-reward.ts");
  if (!isModelReward(name)) return name;
  const { fetchModel } = await import("./model.ts");
  const { form, id, label } = namedModel(name);
  if (!(await isDirectory(id))) return name;
  const directory = form === "onnx" ? id : (await fetchModel(id)).directory;
  return `${form}:${absolutePath(directory)}${label === undefined ? "" : `#${label}`}`;
}

/** Run in a worker and show it. Model and reward are made independent of the working directory, so that any can resume. */
export async function followRun(
  spec: RewardedSpec,
  flags: DashboardFlags & { json?: boolean; quiet?: boolean },
  command: Command,
) {
  const { resolve } = await optionSet(spec.algorithm ?? "ppo");
  const { isRewardPath } = await import("../experience/reward-functions.ts");
  const { openReward } = await import("../run/reward-process.ts");
  const { runInWorker } = await import("../run/worker.ts");
  const { writeToStderr } = await import("../platform/output.ts");
  const { meantModel } = await import("./model.ts");
  const { groupDisplay, ppoDisplay, RunView } = await import("./run-view.ts");
  const { steps, batchSize, rewardTimeout } = resolve([librarySource({ ...spec.config }, "options")]).config;
  const display = (spec.algorithm ?? "ppo") === "ppo" ? ppoDisplay : groupDisplay;
  const rewardName = isRewardPath(spec.rewardName)
    ? absolutePath(spec.rewardName)
    : await placedReward(spec.rewardName);
  const view = new RunView({ ...flags, display: display(batchSize), out: spec.out, steps, command });
  const { reward, close } = await openReward(isRewardPath(spec.rewardName) ? spec.rewardName : rewardName, {
    loadTimeout: rewardTimeout,
    onOutput: (bytes) => {
      view.progress.clear();
      return writeToStderr(bytes);
    },
    onNote: (message) => note(`note: ${message}`),
  });
  try {
    const model = await meantModel(spec);
    const { record, ...listening } = await listen(spec, flags, view);
    await interruptible(
      FINISHING,
      async (signal) => {
        const asked = { ...spec, ...model, rewardName, record } as RewardedSpec;
        const events = runInWorker(asked, reward, { signal, ...listening });
        for await (const _ of events); // the view hears them
      },
      view.progress.clear,
    );
    return view.outcome;
  } finally {
    await close();
  }
}
