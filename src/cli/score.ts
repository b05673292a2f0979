/** @file `valuehead score`. */
import type { Command } from "commander";
import { visible } from "../base/text.ts";
import type { ModelFiles } from "../checkpoint/model-files.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import {
  addEngineOptions,
  addIgnoreMemoryOption,
  addModelOption,
  addOptions,
  type ChatFlags,
  chatTable,
  collect,
  readEngine,
  readFlags,
  required,
} from "./options.ts";
import {
  type Column,
  fittingColumns,
  fixed,
  note,
  padEnd,
  padStart,
  print,
  printJson,
  shorten,
  style,
  terminalWidth,
  widthOf,
} from "./output.ts";

interface ScoreFlags {
  model?: string;
  adapter?: string;
  text?: string[];
  ignoreMemory?: boolean;
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
    .option("--text <text>", "the text to score; may be given several times", collect)
    .option("--json", "one JSON object per text and line: text, tokens; of a classifier: text, outputs");
  addOptions(command, chatTable);
  addEngineOptions(command);
  addIgnoreMemoryOption(command);
  command.action(score);
}

async function score(flags: ScoreFlags): Promise<void> {
  const given = flags.text ?? [];
  required({ name: "text", value: flags.text, placeholder: "TEXT", expected: "the text to score" });
  const engine = readEngine(flags);
  const { fetchModel } = await import("./model.ts");
  const { isClassifier } = await import("../families/classifier.ts");
  const files = await fetchModel(flags.model ?? "tiny", flags.adapter);
  if (await isClassifier(files)) return judge(flags, given, engine, files);
  const { scoreTokens } = await import("../sample/score.ts");
  const { inConversation } = await import("../data/chat.ts");
  const { openModel } = await import("./model.ts");
  const chat = readFlags<ChatFlags>(chatTable, flags);
  const idsOf = (tokenizer: Tokenizer, text: string) => {
    const { messages } = inConversation({ prompt: text, row: {} }, chat);
    if (!messages) return tokenizer.encode(text);
    return tokenizer.applyChatTemplate(messages, { addGenerationPrompt: true, args: chat.chatArgs }).ids;
  };
  const sizes = (tokenizer: Tokenizer) => ({
    rows: 1,
    length: Math.max(...given.map((text) => idsOf(tokenizer, text).length)),
  });
  const { ignoreMemory } = flags;
  const { model, tokenizer } = await openModel(flags.model, { ...engine, adapter: flags.adapter, sizes, ignoreMemory });
  for (const text of given) {
    const ids = idsOf(tokenizer, text);
    const { logprobs, values, greedy } = await scoreTokens(model, ids);
    const tokens = Array.from(ids, (id, t): Token => {
      const logprob = t === 0 ? null : logprobs[t];
      const said = tokenText(tokenizer, ids.subarray(0, t), id);
      const next = tokenText(tokenizer, ids.subarray(0, t + 1), greedy[t]);
      return { id, text: said, logprob, value: values[t], greedyId: greedy[t], greedy: next };
    });
    if (flags.json) printJson({ text, tokens });
    else printTable(tokens);
  }
}

/** What a reward model or classifier says of each text. */
async function judge(
  flags: ScoreFlags,
  texts: readonly string[],
  engine: ReturnType<typeof readEngine>,
  files: ModelFiles,
): Promise<void> {
  const { openClassifier } = await import("../families/classifier.ts");
  const { judgedIds } = await import("../experience/rewards/model-reward.ts");
  const { tokenizerOf } = await import("../checkpoint/model-files.ts");
  const { inConversation } = await import("../data/chat.ts");
  const chat = readFlags<ChatFlags>(chatTable, flags);
  const model = await openClassifier(files, engine);
  const tokenizer = await tokenizerOf(files);
  for (const text of model.notes) note(`note: ${text}`);
  const asked = texts.map((text) => inConversation({ prompt: text, row: {} }, chat).messages ?? text);
  const outputs = await model.outputs(asked.map((text) => judgedIds(text, model, tokenizer, files.directory)));
  const { labels } = model;
  texts.forEach((text, i) => {
    const row = Array.from(outputs.subarray(i * labels.length, (i + 1) * labels.length));
    if (flags.json) printJson({ text, outputs: Object.fromEntries(labels.map((label, l) => [label, row[l]])) });
    else {
      print(style.bold(shorten(visible(text), terminalWidth())));
      const width = Math.max(...labels.map(widthOf));
      // Of several labels the share of each, too: the softmax of their logits.
      const most = Math.max(...row);
      const sum = row.reduce((total, x) => total + Math.exp(x - most), 0);
      labels.forEach((label, l) => {
        const share = labels.length > 1 ? `  ${fixed(Math.exp(row[l] - most) / sum, 4)}` : "";
        print(`  ${padEnd(visible(label), width)} ${padStart(fixed(row[l], 4), 10)}${share}`);
      });
    }
  });
}

/** So many tokens before one decide how it reads: whether it has a space in front. */
const CONTEXT = 8;

/** A token as it reads after those before it; part of a character shows as U+FFFD. */
function tokenText(tokenizer: Tokenizer, before: Int32Array, id: number): string {
  return tokenizer.isByteLevel ? tokenizer.decode([id]) : tokenizer.decodeAfter(before.slice(-CONTEXT), [id]);
}

const COLUMNS: readonly (Column & { text: (token: Token, position: number) => string })[] = [
  { title: "pos", width: 6, keep: 2, text: (_, position) => String(position) },
  { title: "id", width: 8, keep: 1, text: ({ id }) => String(id) },
  { title: "log-prob", width: 12, text: ({ logprob }) => fixed(logprob, 4) },
  { title: "value", width: 12, text: ({ value }) => fixed(value, 4) },
];
/** Columns of the terminal that the texts of tokens need at least, with the arrow between them. */
const TEXTS = 32;

function printTable(tokens: readonly Token[]): void {
  const columns = fittingColumns(COLUMNS, terminalWidth() - TEXTS);
  const used = columns.reduce((sum, { width }) => sum + width, 0);
  const room = Math.floor((terminalWidth() - used - "   --> ".length) / 2);
  const width = Math.min(room, Math.max(5, ...tokens.map(({ text }) => widthOf(visible(text)))));
  const line = (cells: readonly string[], token: string, greedy: string) => {
    const numbers = cells.map((cell, c) => padStart(cell, columns[c].width)).join("");
    return `${numbers}  ${padEnd(shorten(visible(token), width), width)} --> ${shorten(visible(greedy), room)}`;
  };
  print(
    style.bold(
      line(
        columns.map(({ title }) => title),
        "token",
        "greedy next",
      ),
    ),
  );
  tokens.forEach((token, t) => {
    print(
      line(
        columns.map(({ text }) => text(token, t)),
        token.text,
        token.greedy,
      ),
    );
  });
}
