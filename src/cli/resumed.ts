/** @file Which run --resume means, and of which algorithm it is. */
import { ALGORITHMS, type AlgorithmName } from "../algorithms/algorithm.ts";
import { fail } from "../base/errors.ts";
import { absolutePath, isDirectory, joinPath, readJson } from "../platform/files.ts";
import type { AnyRunSpec, RunRecord } from "../run/spec.ts";
import { typedWithoutSecrets } from "./workers-options.ts";

/**
 * The run directory, and what the run in it has said, if it is resumed.
 * @param algorithm of the command
 * @throws usage - two directories, a run of another algorithm
 */
export async function resumedDirectory(
  flags: { resume?: boolean | string; out?: string },
  algorithm: AlgorithmName,
  fallback?: string,
): Promise<{ out?: string; earlier?: RunRecord }> {
  const named = typeof flags.resume === "string" ? flags.resume : undefined;
  if (named !== undefined && flags.out !== undefined && absolutePath(named) !== absolutePath(flags.out))
    fail("usage", {
      where: "--resume, --out",
      found: `two directories, ${named} and ${flags.out}`,
      expected: "one: a run goes on where it is",
      fix: `leave --out ${flags.out} out, or start a new run with --model ${named}`,
    });
  const out = flags.out ?? named ?? fallback;
  if (!flags.resume || out === undefined) return { out };
  const { readRunConfig, refuseOtherAlgorithm } = await import("../run/spec.ts");
  const earlier = await readRunConfig(out);
  if (earlier) refuseOtherAlgorithm(out, earlier, algorithm);
  return { out, earlier };
}

/** What was typed, for config.json; of a run that goes on, what was typed when it began. */
export async function typed({ out, resume }: AnyRunSpec): Promise<{ command: readonly string[] }> {
  const { recordIn } = await import("../run/spec.ts");
  const earlier = resume ? (await recordIn(out)).command : undefined;
  return { command: earlier ?? typedWithoutSecrets(process.argv.slice(2)) };
}

/** The algorithm that a command line of `train` means: the one it names, or that of the run it resumes or takes options from. */
export async function algorithmOf(argv: readonly string[]): Promise<AlgorithmName> {
  const after = (name: string) => {
    const i = argv.findIndex((word) => word === name || word.startsWith(`${name}=`));
    if (i < 0) return undefined;
    const value = argv[i].includes("=") ? argv[i].slice(name.length + 1) : argv[i + 1];
    return value === undefined || value.startsWith("--") ? "" : value;
  };
  const named = after("--algorithm");
  if (named !== undefined) return algorithmNamed(named);
  const resumed = after("--resume");
  const place = resumed === undefined ? after("--config") : resumed || after("--out");
  if (!place) return "ppo";
  const path = (await isDirectory(place)) ? joinPath(place, "config.json") : place;
  const json = (await readJson(path).catch(() => null)) as { algorithm?: unknown } | null;
  return algorithmNamed(json?.algorithm);
}

/** PPO for any other name: the command refuses it. */
const algorithmNamed = (name: unknown): AlgorithmName => ALGORITHMS.find((known) => known === name) ?? "ppo";
