/** @file The model card of a run's checkpoint: what config.json and the last step say, in words that may be published. */
import { VERSION } from "../base/version.ts";
import { EMBEDDED } from "../checkpoint/hub.ts";
import { baseName, isDirectory, joinPath, parentDirectory, relativePath } from "../platform/files.ts";
import { modelCard } from "../ship/card.ts";
import type { RunRecord } from "./spec.ts";

/** What a card is made of, beside the checkpoint's own place. */
export interface CardSources {
  /** What config.json of the run says. */
  record: Readonly<Record<string, unknown>>;
  algorithm: string;
  /** Options as they are, and as they are when nothing is said. */
  options: object;
  defaults: object;
  /** Of the last step, if there was one since the run was started or resumed. */
  metrics: Readonly<Record<string, number>>;
  adapter: boolean;
}

/** Options that say nothing about the model. */
const HOUSEKEEPING = ["steps", "saveEvery", "keepCheckpoints", "keepBest", "logSamples", "preset", "evalEvery"];

/** The card of the checkpoint of `step` in the run directory `out`. Folders of the machine are not named. */
export async function runCard(out: string, step: number, sources: CardSources): Promise<string> {
  const { record, algorithm, options, defaults, metrics, adapter } = sources;
  const said = record as Partial<RunRecord> & { prompts?: number };
  const asked = said.model ?? null;
  const isHere = asked !== null && (await isDirectory(asked));
  const normal = defaults as Readonly<Record<string, unknown>>;
  const changed = Object.entries(options).filter(
    ([name, value]) => !HOUSEKEEPING.includes(name) && JSON.stringify(value) !== JSON.stringify(normal[name]),
  );
  return modelCard({
    id: nearPath(joinPath(out, `checkpoint-${step}`)),
    algorithm,
    step,
    baseModel: asked === null || !isHere ? asked : lastParts(asked),
    onHub: asked !== null && !isHere && asked !== EMBEDDED,
    data: dataOf(said),
    reward: said.reward === undefined ? undefined : baseName(said.reward),
    options: Object.fromEntries(changed),
    labels: said.labels,
    messages: said.conversations ? exampleOf(options as { system?: string }) : undefined,
    metrics,
    adapter,
    version: VERSION,
  });
}

/** A conversation as the run had them. */
const exampleOf = ({ system = "" }: { system?: string }) => [
  ...(system === "" ? [] : [{ role: "system", content: system }]),
  { role: "user", content: "Hello" },
];

/** From where the command was typed; of a directory elsewhere, its name. */
function nearPath(path: string): string {
  const near = relativePath(path);
  return near.startsWith("..") || near.startsWith("/") || /^[A-Za-z]:/.test(near) ? baseName(path) : near;
}

/** `kind/checkpoint-20`: of a path, what says most. */
const lastParts = (path: string) => joinPath(baseName(parentDirectory(path)), baseName(path)).replaceAll("\\", "/");

function dataOf(record: Partial<RunRecord> & { prompts?: number }): string[] {
  const files = (paths: readonly (string | null | undefined)[]) =>
    paths.flatMap((path) => (path ? [`\`${baseName(path)}\``] : [])).join(", ");
  const { prompts, promptsPath, data, pairsPath, judgementsPath, conversations } = record;
  const named = files([promptsPath, pairsPath, judgementsPath, ...(data ?? [])]);
  const counted = prompts === undefined ? "" : `${prompts} prompts${conversations ? " (conversations)" : ""}`;
  const words = [counted, named && (counted ? `from ${named}` : named)].filter(Boolean).join(" ");
  return words ? [words] : [];
}
