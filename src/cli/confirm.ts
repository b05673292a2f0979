/** @file Asking before somebody else's code is run: the reward module that a run directory, not the user, names. */
import { createInterface } from "node:readline";
import { fail } from "../base/errors.ts";
import { visible } from "../base/text.ts";
import { isRewardPath } from "../experience/reward-functions.ts";
import { commandLine } from "./output.ts";

/** Where a question is asked. */
export interface Terminal {
  input: NodeJS.ReadableStream;
  output: NodeJS.WritableStream;
}

/** The user's terminal; undefined where nobody sits there. */
function terminal(): Terminal | undefined {
  const { stdin: input, stderr: output } = process;
  return input.isTTY && output.isTTY ? { input, output } : undefined;
}

/** Whether the answer is yes; no answer is no. Ctrl-C ends the program as it does elsewhere. */
async function agrees(question: string, { input, output }: Terminal): Promise<boolean> {
  const lines = createInterface({ input, output });
  try {
    return await new Promise<boolean>((resolve) => {
      lines.on("SIGINT", () => process.kill(process.pid, "SIGINT"));
      lines.once("close", () => resolve(false));
      lines.once("line", (answer) => resolve(/^y(es)?$/i.test(answer.trim())));
      lines.setPrompt(question);
      lines.prompt();
    });
  } finally {
    lines.close();
  }
}

/**
 * The reward that the config.json of a run names. A built-in one does no harm. A module is code: it runs when the user says so, at
 * the terminal or with --reward.
 * @param from  the file that names it
 * @param typed the command line, to which the answer is added as advice
 * @param at    where to ask; undefined: nobody is there
 * @throws usage - nobody is there, or the answer was not yes
 */
export async function recordedReward(
  reward: string,
  from: string,
  typed: readonly string[] = process.argv.slice(2),
  at: Terminal | undefined = terminal(),
): Promise<string> {
  if (!isRewardPath(reward)) return reward;
  const shown = visible(reward);
  const question = `${from} names a reward module, which is a program:\n  ${shown}\nRun it? [y/N] `;
  if (at && (await agrees(question, at))) return reward;
  return fail("usage", {
    where: "--reward",
    found: `the module ${shown}, which ${from} names${at ? " and you did not agree to" : ""}`,
    expected: "your word that it may run",
    fix: `if you know the module: ${visible(commandLine(...typed, "--reward", reward))}`,
  });
}
