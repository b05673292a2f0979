/** @file `valuehead push`. */
import type { Command } from "commander";
import { required } from "./options.ts";
import { megabytes, note, print, printFacts, printJson, thousands } from "./output.ts";
import { Progress } from "./progress.ts";

interface PushFlags {
  to?: string;
  private?: boolean;
  dryRun?: boolean;
  message?: string;
  json?: boolean;
}

export function define(command: Command): void {
  command
    .argument("<directory>", "a checkpoint, a run directory (its best checkpoint), or what `valuehead export` wrote")
    .option("--to <user/name>", "the repository; it is made where there is none")
    .option("--private", "a new repository is private (default: what the hub does for you, which is public for most)")
    .option("--dry-run", "list what would be uploaded, and upload nothing")
    .option("--message <text>", "title of the commit (default: Upload from valuehead)")
    .option("--json", "files and address as one JSON object");
  command.addHelpText(
    "after",
    `
HF_TOKEN is an access token that may write; HF_ENDPOINT another hub than https://huggingface.co.
Uploaded are configuration, weights, tokenizer, model card and ONNX files: no optimizer state, no logs.`,
  );
  command.action(pushCommand);
}

async function pushCommand(directory: string, flags: PushFlags): Promise<void> {
  required({ name: "to", value: flags.to, placeholder: "USER/NAME", expected: "a repository of the hub, USER/NAME" });
  const to = flags.to as string;
  const { checkRepository, push, uploadList, uploadNotes } = await import("../ship/push.ts");
  const { checkpointOfRun } = await import("../checkpoint/run-checkpoints.ts");
  const { isDirectory } = await import("../platform/files.ts");
  const { INTERRUPTED, interruptible } = await import("./interrupt.ts");
  checkRepository(to);
  const checkpoint = (await isDirectory(directory)) ? await checkpointOfRun(directory) : undefined;
  if (checkpoint) note(`note: ${checkpoint.note}`);
  const from = checkpoint?.path ?? directory;
  const files = await uploadList(from);
  const total = files.reduce((n, { bytes }) => n + bytes, 0);
  for (const text of await uploadNotes(from, files)) note(`note: ${text}`);
  if (!flags.json) {
    print(`${flags.dryRun ? "Would upload" : "Uploading"} ${megabytes(total)} from ${from} to ${to}:`);
    printFacts(files.map(({ path, bytes }) => [path, `${thousands(bytes)} bytes`]));
  }
  if (flags.dryRun) {
    if (flags.json) printJson({ directory: from, to, dryRun: true, files });
    return;
  }
  const progress = new Progress(true);
  let ended = false;
  const pushed = await interruptible(
    "ending the upload; the repository stays as it is",
    async (signal) => {
      signal.addEventListener("abort", () => {
        ended = true;
      });
      return push(from, to, {
        private: flags.private,
        message: flags.message,
        signal,
        onProgress: ({ file, state, progress: part }) =>
          progress.show(Math.round(part * 100), 100, `${state === "hashing" ? "reading" : "sending"} ${file}`),
      });
    },
    progress.clear,
  )
    .catch((error) => {
      if (!ended) throw error;
    })
    .finally(progress.clear);
  if (!pushed) {
    process.exitCode = INTERRUPTED;
    return note("nothing was published; push again to go on");
  }
  const { url, created } = pushed;
  if (flags.private && !created) note(`note: ${to} was there already: whether it is private was not changed`);
  if (flags.json) printJson({ directory: from, to, url, created, files });
  else print(url);
}
