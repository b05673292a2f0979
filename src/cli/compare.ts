/** @file `valuehead compare`. */
import type { Command } from "commander";
import { fail } from "../base/errors.ts";
import { count } from "../base/option-values.ts";
import type { OptionTable } from "../base/options.ts";
import { visible } from "../base/text.ts";
import { VERSION } from "../base/version.ts";
import type { Prompt } from "../data/prompts.ts";
import type { Architecture } from "../model/family.ts";
import type { Interval } from "../rl/compare.ts";
import type { ComparisonData } from "../run/page/compare-page.ts";
import type { Comparison, Measure } from "../ship/compare.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import {
  addEngineOptions,
  addIgnoreMemoryOption,
  addOptions,
  type ChatFlags,
  chatTable,
  PROMPT_COLUMN,
  PROMPT_FILES,
  readEngine,
  readFlags,
  readPromptsFrom,
  required,
  type SamplingFlags,
  samplingTable,
} from "./options.ts";
import {
  commandLine,
  fixed,
  megabytes,
  note,
  padEnd,
  padStart,
  print,
  printJson,
  printWrapped,
  sideBySide,
  style,
  terminalWidth,
  wrap,
} from "./output.ts";
import { Progress } from "./progress.ts";

/** Responses sampled together. */
const BATCH = 16;

const table = {
  num: [count(), 1, "responses of each model to each prompt"],
  limit: [count(0), 0, "take the first so many prompts; 0: all"],
  show: [count(0), 5, "prompts whose responses are printed beside each other"],
  ...samplingTable,
  ...chatTable,
} as const satisfies OptionTable;

interface CompareFlags {
  prompts?: string;
  promptColumn?: string;
  reward?: string;
  ignoreMemory?: boolean;
  json?: boolean;
  html?: string;
}

interface Options extends SamplingFlags, ChatFlags {
  num: number;
  limit: number;
  show: number;
}

const MODEL = "a model directory, a run directory, a hub id, or tiny";

export function define(command: Command): void {
  command
    .argument("<a>", `${MODEL}; an adapter alone is compared with its base model`)
    .argument("[b]", MODEL)
    .option("--prompts <file>", PROMPT_FILES)
    .option("--prompt-column <name>", PROMPT_COLUMN)
    .option(
      "--reward <name or module>",
      "positive, negative, length, a reward model (model:DIR, model:DIR#LABEL), or the path of a module (./reward.mjs)",
    );
  addOptions(command, table);
  command.option("--html <file>", "also write a page of it into one HTML file that opens from disk");
  command.option("--json", "everything as one JSON object: a, b, difference, kl, samples");
  addEngineOptions(command);
  addIgnoreMemoryOption(command);
  command.addHelpText(
    "after",
    `
Both get the same prompts and the same random streams; differences are paired by prompt, with 95 % intervals.
Prompts that neither has been trained on say most.`,
  );
  command.action(compareCommand);
}

async function compareCommand(a: string, b: string | undefined, flags: CompareFlags): Promise<void> {
  const options = readFlags<Options>(table, flags, await chatOf([b ?? a, a]));
  required(
    { name: "prompts", value: flags.prompts, placeholder: "FILE", expected: "a file of prompts" },
    { name: "reward", value: flags.reward, placeholder: "NAME", expected: "what judges responses" },
  );
  const engine = readEngine(flags);
  if (flags.html !== undefined) await checkPlace(flags.html);
  const { compareModels } = await import("../ship/compare.ts");
  const { openReward } = await import("../run/reward-process.ts");
  const { writeToStderr } = await import("../platform/output.ts");
  const said = (text: string) => note(`note: ${text}`);
  const all = await readPromptsFrom(flags.prompts as string, flags.promptColumn, said);
  const prompts = options.limit > 0 ? all.slice(0, options.limit) : all;
  const progress = new Progress(true);
  const rewardName = flags.reward as string;
  const { reward, close } = await openReward(rewardName, {
    loadTimeout: 0,
    onOutput: (bytes) => {
      progress.clear();
      return writeToStderr(bytes);
    },
    onNote: said,
  });
  try {
    const [first, second] = await openBoth(a, b, { ...engine, ignoreMemory: flags.ignoreMemory, options, prompts });
    const { num, stop, ...sampling } = options;
    const found = await compareModels(first, second, {
      ...{ ...only(sampling), prompts, reward, rewardName, num, stop, batchSize: BATCH },
      onProgress: ({ phase, done, total }) =>
        progress.show(done, total, phase === "kl" ? "KL" : `${phase.toUpperCase()}: ${done} of ${total} responses`),
    }).finally(progress.clear);
    const names = { a: first.name, b: second.name };
    if (flags.html !== undefined)
      await writePage(flags.html, { comparison: found, models: names, asked: askedOf(flags, options) });
    if (flags.json) printJson({ models: names, ...found });
    else printComparison(found, [first.name, second.name], options.show);
  } finally {
    await close();
  }
}

/** @throws usage - a place where no page can be written: said before anything is computed */
async function checkPlace(file: string): Promise<void> {
  const { absolutePath, isDirectory, parentDirectory } = await import("../platform/files.ts");
  const path = absolutePath(file);
  const expected = "a file to write the page into, in a directory that is there";
  if (await isDirectory(path))
    fail("usage", {
      where: "--html",
      found: `${file}, a directory`,
      expected,
      fix: "name a file: --html compare.html",
    });
  if (!(await isDirectory(parentDirectory(path))))
    fail("usage", {
      where: "--html",
      found: `${file}, and no directory ${parentDirectory(path)}`,
      expected,
      fix: "make the directory, or name another file",
    });
}

/** What the page says of how it was asked. */
const askedOf = ({ prompts, reward }: CompareFlags, { show: _, limit, ...options }: Options) => ({
  prompts,
  ...(limit > 0 && { limit }),
  reward,
  ...options,
});

async function writePage(file: string, found: Pick<ComparisonData, "comparison" | "models" | "asked">): Promise<void> {
  const { writeComparison } = await import("../run/page/compare-page.ts");
  const command = commandLine(...process.argv.slice(2));
  const bytes = await writeComparison(file, { version: VERSION, written: new Date().toISOString(), ...found, command });
  note(`${file}  ${megabytes(bytes)}`);
}

/** How the first of these that is a run, or a checkpoint of one, made conversations of its prompts: the default here. */
async function chatOf(models: readonly string[]): Promise<Partial<ChatFlags>> {
  const { recordIn } = await import("../run/spec.ts");
  const { parentDirectory } = await import("../platform/files.ts");
  for (const place of models.flatMap((model) => [model, parentDirectory(model)])) {
    const options = (await recordIn(place)).options as Partial<ChatFlags> | undefined;
    if (!options) continue;
    return Object.fromEntries(Object.keys(chatTable).map((name) => [name, options[name as keyof ChatFlags]]));
  }
  return {};
}

const only = ({ limit: _, show: __, ...sampling }: Omit<Options, "num" | "stop">) => sampling;

interface Opening {
  ignoreMemory?: boolean;
  options: Options;
  prompts: readonly Prompt[];
}

/** Both models on one engine. An adapter alone stands for itself and its base. */
async function openBoth(a: string, b: string | undefined, { options, prompts, ...how }: Opening) {
  const { openModel } = await import("./model.ts");
  const { encodePrompts } = await import("../data/encode.ts");
  const sizes = (tokenizer: Tokenizer, { sizes: { context } }: Architecture) => {
    const whole = { ...options, maxNewTokens: 1 };
    const { ids } = encodePrompts(prompts, tokenizer, { context: Number.POSITIVE_INFINITY }, whole);
    const longest = Math.max(...ids.map(({ length }) => length)) + options.maxNewTokens;
    return { rows: Math.min(BATCH, prompts.length * options.num), length: Math.min(context, longest) };
  };
  const first = { ...(await openModel(a, { ...how, sizes })), name: a };
  if (b !== undefined) {
    const second = { ...(await openModel(b, { ...how, engine: first.model.engine, sizes })), name: b };
    return [first, second] as const;
  }
  const { model } = first;
  if (model.adapter)
    return [{ ...first, model: model.withoutAdapter(), name: `${a} without its adapter` }, first] as const;
  return fail("usage", {
    where: "compare",
    found: `${a} alone, which is no adapter`,
    expected: "two models, or an adapter, which is compared with its base",
    fix: "name the other model behind it",
  });
}

const ROWS: readonly (readonly [Measure, string, number])[] = [
  ["reward", "reward", 3],
  ["length", "length, tokens", 1],
  ["ended", "ended by itself", 3],
  ["distinct1", "distinct-1", 3],
  ["distinct2", "distinct-2", 3],
];

const range = ({ low, high }: Interval, digits: number) =>
  Number.isFinite(low) ? ` [${fixed(low, digits)}, ${fixed(high, digits)}]` : "";

function printComparison(
  { a, b, difference, kl, samples }: Comparison,
  names: readonly [string, string],
  show: number,
): void {
  const width = terminalWidth();
  print(`A  ${visible(names[0])}\nB  ${visible(names[1])}`);
  if (show > 0) print(`\n${style.bold(sideBySide("A", "B", width)[0])}`);
  const apart = Math.max(1, Math.floor(samples.length / Math.max(1, show)));
  for (let n = 0; n < Math.min(show, samples.length); n++) {
    const sample = samples[n * apart];
    print("-".repeat(width));
    for (const line of wrap(visible(sample.prompt.replace(/\s+/g, " ")), width)) print(style.cyan(line));
    sample.a.forEach((one, i) => {
      const [left, right] = [one, sample.b[i]].map((r) => `[${fixed(r.reward, 2)}] ...${r.text}`);
      for (const line of sideBySide(left, right, width)) print(line);
    });
  }
  if (show > 0) print("-".repeat(width));
  print();
  const cells = ROWS.map(([name, title, digits]) => [
    title,
    fixed(a[name].mean, digits),
    fixed(b[name].mean, digits),
    `${fixed(difference[name].mean, digits)}${range(difference[name], digits)}`,
  ]);
  const rows = [["", "A", "B", "B - A, 95 % interval"], ...cells];
  const widths = [0, 1, 2].map((i) => Math.max(...rows.map((row) => row[i].length)));
  rows.forEach((row, i) => {
    const line = `${padEnd(row[0], widths[0])}  ${padStart(row[1], widths[1])}  ${padStart(row[2], widths[2])}  ${row[3]}`;
    print(i === 0 ? style.bold(line) : line);
  });
  if (kl) print(`KL(B || A) of responses, nats: ${fixed(kl.mean, 3)}${range(kl, 3)}`);
  else print("KL: none, the two have different vocabularies");
  const num = samples[0].a.length;
  printWrapped(
    `${samples.length} prompts, ${num} ${num === 1 ? "response" : "responses"} each; intervals over prompts, differences paired by prompt. distinct-n: different n-grams of words in all responses, divided by all.`,
  );
}
