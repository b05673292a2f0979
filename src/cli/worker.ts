/** @file `valuehead worker`: this machine answers prompts for runs elsewhere. */
import type { Command } from "commander";
import type { WorkerEvent, WorkerOptions } from "../distributed/worker.ts";
import { absolutePath } from "../platform/files.ts";
import { interruptible } from "./interrupt.ts";
import { addEngineOptions, readEngine, required } from "./options.ts";
import { megabytes, note, print, printJson } from "./output.ts";
import { Progress } from "./progress.ts";
import { addServerOptions, type ServerFlags, serverOf } from "./workers-options.ts";

interface WorkerFlags extends ServerFlags {
  server?: string;
  run?: string;
  reward?: string;
  json?: boolean;
  quiet?: boolean;
}

const EXAMPLES = `
Start a server once (nats-server -js), train with --workers nats://HOST:4222, and this on any number of machines. A worker
needs no model and no prompts: what it lacks comes through the server. It may be stopped at any time; Ctrl-C finishes its tasks.`;

export function define(command: Command): void {
  command
    .option("--server <url>", "the NATS server that the run names with --workers: nats://HOST:4222")
    .option("--run <name>", "work for this run only (default: the one that was started last, then the next)")
    .option(
      "--reward <module>",
      "a copy of the run's reward module (default: rewards with a name are judged here, modules by the trainer)",
    )
    .option("--json", "print one JSON object per event, one per line, and nothing else on stdout")
    .option("--quiet", "do not print a line for each task");
  addEngineOptions(command);
  addServerOptions(command);
  command.addHelpText("after", EXAMPLES);
  command.action((flags: WorkerFlags) => serve(flags));
}

async function serve(flags: WorkerFlags): Promise<void> {
  required({
    name: "server",
    value: flags.server,
    placeholder: "nats://HOST:4222",
    expected: "the server that the run names with --workers",
  });
  const server = serverOf("--server", flags.server as string, flags);
  const engine = readEngine(flags);
  const { work } = await import("../distributed/worker.ts");
  const { reward, close } = await judge(flags.reward);
  const progress = new Progress(!flags.quiet && !flags.json);
  try {
    await interruptible(
      "finishing the tasks that were taken",
      (signal) => {
        const options: WorkerOptions = { ...server, ...engine, run: flags.run, reward, signal };
        return work(options, (event) => (flags.json ? printJson(event) : show(event, progress, flags.quiet ?? false)));
      },
      () => progress.clear(),
    );
  } finally {
    progress.clear();
    await close();
  }
}

/** The reward that was given, in a process of its own. */
async function judge(path: string | undefined): Promise<Pick<WorkerOptions, "reward"> & { close(): Promise<void> }> {
  if (path === undefined) return { close: async () => {} };
  const { openReward } = await import("../run/reward-process.ts");
  const { sumOfRewardFile } = await import("../run/inputs.ts");
  const { writeToStderr } = await import("../platform/output.ts");
  const opened = await openReward(path, {
    onOutput: writeToStderr,
    onNote: (message) => note(`note: ${message}`),
  });
  const file = await sumOfRewardFile(absolutePath(path));
  return { reward: { name: path, judge: opened.reward, ...(file && { file }) }, close: opened.close };
}

function show(event: WorkerEvent, progress: Progress, quiet: boolean): void {
  if (event.type === "loading") {
    const { done, total, file } = event;
    progress.show(done, total, file, `${megabytes(done)} of ${megabytes(total)}`);
    return;
  }
  progress.clear();
  if (event.type === "note") note(`note: ${event.message}`);
  else if (event.type === "warning") note(`warning: ${event.message}`);
  else if (event.type === "waiting") note("waiting for a run");
  else if (event.type === "joined")
    note(
      `working for run ${event.run}: ${event.algorithm} on ${event.model}${event.judges ? "" : "; the trainer judges"}`,
    );
  else if (event.type === "left") note(`run ${event.run}: ${event.why}`);
  else if (event.type === "gradient" && !quiet)
    print(
      `step ${event.step}, minibatch ${event.update + 1}, microbatch ${event.microbatch + 1}: the gradient of ${event.responses} responses in ${event.busy.toFixed(1)} s`,
    );
  else if (event.type === "task" && !quiet)
    print(
      `step ${event.step}, part ${event.part + 1}: ${event.responses} responses in ${event.seconds.toFixed(1)} s, ${event.busy.toFixed(1)} s of it computing`,
    );
}
