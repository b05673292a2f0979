/** @file The command that makes a run again, from its config.json. */
import { shellQuote } from "../../base/shell.ts";
import { absolutePath, joinPath } from "../../platform/files.ts";

type Json = Readonly<Record<string, unknown>>;

/**
 * Threads too, for other sums have other last bits.
 * @returns undefined where config.json does not say enough: what the run learned from came from stdin or from code
 */
export function commandOf(directory: string, config: Json): string | undefined {
  const { algorithm = "ppo", threads, options } = config;
  const found = typeof options === "object" ? dataOf(config) : undefined;
  if (!found) return undefined;
  const path = absolutePath(directory);
  return [
    ...["valuehead", "train", ...(algorithm === "ppo" ? [] : ["--algorithm", String(algorithm)])],
    ...["--config", joinPath(path, "config.json"), ...found, "--out", `${path}-again`],
    ...(typeof threads === "number" ? ["--threads", String(threads)] : []),
  ]
    .map(shellQuote)
    .join(" ");
}

/** The flags for what --config does not take from a config.json: of what learns from prompts, none. */
function dataOf(config: Json): string[] | undefined {
  const { algorithm = "ppo", promptsPath, data, responses } = config;
  const one = (flag: string, name: string): string[] => {
    const value = config[name];
    return typeof value === "string" ? [flag, value] : [];
  };
  const several = (flag: string, name: string) => {
    const list = config[name];
    return Array.isArray(list) && list.length > 0 ? [flag, ...list.map(String)] : [];
  };
  const fraction = config.heldOutFraction ? ["--held-out-fraction", String(config.heldOutFraction)] : [];
  const learned = [...one("--model", "model"), ...one("--adapter", "adapter")];
  for (const [name, path, heldOut] of [
    ["dpo", "pairsPath", "heldOutPairs"],
    ["reward", "judgementsPath", "heldOutJudgements"],
  ])
    if (algorithm === name) {
      const found = one("--data", path);
      return found.length > 0 ? [...learned, ...found, ...one("--held-out", heldOut), ...fraction] : undefined;
    }
  if (algorithm === "sft")
    return Array.isArray(data)
      ? [
          ...[...learned, ...one("--tokenizer", "tokenizer"), ...several("--data", "data")],
          ...(responses ? ["--responses"] : one("--column", "column")),
          ...[...several("--held-out", "heldOutData"), ...fraction],
        ]
      : undefined;
  return typeof promptsPath === "string" ? [] : undefined;
}
