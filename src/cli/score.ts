/** @file `valuehead score`. */
import type { Command } from "commander";
import { addModelOption, addThreadsOption, collect } from "./options.ts";
import { fixed, oneLine, print, printJson } from "./output.ts";

interface ScoreFlags {
  model: string;
  text: string[];
  threads?: number;
  json?: boolean;
}

interface Token {
  id: number;
  text: string;
  /** Given the tokens before it; null for the first. */
  logprob: number | null;
  value: number;
  /** The most likely token after it. */
  greedyId: number;
  greedy: string;
}

export function define(command: Command): void {
  addModelOption(command);
  command
    .requiredOption("--text <text>", "the text to score; may be given several times", collect)
    .option("--json", "one JSON object per text and line: text, tokens");
  addThreadsOption(command);
  command.action(score);
}

async function score(flags: ScoreFlags): Promise<void> {
  const { scoreTokens } = await import("../sample/score.ts");
  const { openModel } = await import("./model.ts");
  const { model, tokenizer } = await openModel(flags.model, flags);
  for (const text of flags.text) {
    const ids = tokenizer.encode(text);
    const { logprobs, values, greedy } = await scoreTokens(model, ids);
    const texts = tokenizer.decodeEach(ids);
    const next = tokenizer.decodeEach(greedy);
    const tokens = texts.map((text, t): Token => {
      const logprob = t === 0 ? null : logprobs[t];
      return { id: ids[t], text, logprob, value: values[t], greedyId: greedy[t], greedy: next[t] };
    });
    if (flags.json) printJson({ text, tokens });
    else printTable(tokens);
  }
}

function printTable(tokens: readonly Token[]): void {
  const width = Math.max(5, ...tokens.map(({ text }) => oneLine(text).length));
  print(`   pos      id    log-prob       value  ${"token".padEnd(width)} --> greedy next`);
  tokens.forEach(({ id, text, logprob, value, greedy }, t) => {
    const numbers = [fixed(logprob, 4), fixed(value, 4)].map((x) => x.padStart(12)).join("");
    print(
      `${String(t).padStart(6)}${String(id).padStart(8)}${numbers}  ${oneLine(text).padEnd(width)} --> ${oneLine(greedy)}`,
    );
  });
}
