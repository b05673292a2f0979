/** @file A complete, checked config of a run on prompts from some options: presets, sources, and what follows what. */
import { fail } from "../../base/errors.ts";
import {
  librarySource,
  type OptionSource,
  type OptionTable,
  type Resolved,
  resolveOptions,
  shown,
} from "../../base/options.ts";
import { defaultsOf, PPO_DEFAULTS, type PPOConfig, ppoOptions, type RolloutTrainerConfig } from "./ppo-options.ts";
import { type PresetName, presetNames, presets } from "./presets.ts";
import { adviceOn, nameHere } from "./trl-names.ts";

/**
 * A complete, checked config from some options. Defaults and the values of a preset follow what is given: with a batchSize of
 * 16 the miniBatchSize is 16 too.
 * @throws config - an unknown name (with the nearest known one), a value out of range, options that contradict each other
 */
export function ppoConfig(options?: Readonly<Partial<PPOConfig>>, where?: string): PPOConfig;
/** The same for options out of a file or a command line, which may have any name. @internal */
export function ppoConfig(options: Readonly<Record<string, unknown>>, where?: string): PPOConfig;
export function ppoConfig(options: Readonly<Record<string, unknown>> = {}, where = "options"): PPOConfig {
  return resolvePpoConfig([librarySource(options, where)]).config;
}

/** An option that was not as given: what it is now, because of which. */
export interface Followed {
  name: string;
  /** What it would have been. */
  from: unknown;
  to: unknown;
  because: string;
}

/** The config from several sources, the later before the earlier. @throws config */
export function resolvePpoConfig(sources: readonly OptionSource[]): { config: PPOConfig; followed: Followed[] } {
  const preset = sources.findLast(({ yields, values }) => !yields && values.preset !== undefined)?.values.preset;
  return resolveConfig<PPOConfig>(ppoOptions, sources, ppoPairs, presetNamed(preset));
}

/**
 * The config of a table from several sources, the later before the earlier. The values of a preset stand before what yields
 * (defaults, an earlier run) and behind what is given.
 * @param pairs options that may not fit each other
 * @throws config
 */
export function resolveConfig<C>(
  table: OptionTable,
  sources: readonly OptionSource[],
  pairs: (config: C) => readonly Pair[],
  preset: Partial<C> = {},
): { config: C; followed: Followed[] } {
  const style = sources.at(-1) ?? librarySource({}, "options");
  const standing = (values: object): OptionSource => ({ ...style, values: { ...values }, yields: true });
  const all = [
    standing(defaultsOf<object>(table)),
    ...sources.filter((source) => source.yields),
    standing(preset),
    ...sources.filter((source) => !source.yields),
  ];
  const resolved = resolveOptions(table, all, (name, write) => unknownHint(table, name, write));
  const followed = follow(resolved, all, pairs);
  return { config: resolved.values as C, followed };
}

/** The values of a preset; none for a name that is not one, which is reported like any other bad value. */
export function presetNamed(name: unknown): Partial<PPOConfig> {
  return presetNames.find((known) => known === name) ? presets[name as PresetName] : {};
}

function unknownHint(table: OptionTable, name: string, write: (name: string) => string): string | undefined {
  const here = nameHere(name, (known) => Object.hasOwn(table, known));
  return here ? `it is called ${write(here)} here: ${table[here][2]}` : adviceOn(name);
}

/** Two options that may not fit each other. */
export interface Pair<Name extends string = string> {
  /** The one that an error is about, and the other. */
  between: readonly [Name, Name];
  wrong: boolean;
  found: string;
  /** `other` is what the error calls the other one. */
  expected: (other: string) => string;
  /** What either becomes where it was not given; without a value here it stays, and the two are an error. */
  follow: { readonly [name in Name]?: unknown };
}

/** Make what yields fit what is given. @throws config - both were given */
function follow<C>(
  { values, ranks }: Resolved,
  sources: readonly OptionSource[],
  pairs: (config: C) => readonly Pair[],
): Followed[] {
  const followed: Followed[] = [];
  for (;;) {
    const pair = pairs(values as C).find(({ wrong }) => wrong);
    if (!pair) return followed;
    const { between, found, expected } = pair;
    const source = (name: string) => sources[ranks[name]];
    const [name] = between
      .filter((name) => Object.hasOwn(pair.follow, name) && (source(name).yields ?? false))
      .filter((name) => followed.every((f) => f.name !== name || pair.follow[name] !== f.to)) // it did not help
      .sort((a, b) => ranks[a] - ranks[b]);
    const [one, other] = between;
    if (name === undefined) {
      const called = source(other).called(other);
      const derived = followed.find((f) => f.name === other);
      const why = derived ? `, to fit ${source(derived.because).called(derived.because)}` : "";
      fail("config", {
        where: source(one).place(one),
        found,
        expected: expected(`${called} (${shown(values[other])}${why})`),
        fix: `change ${source(one).called(one)} or ${called}`,
      });
    }
    const because = name === one ? other : one;
    followed.push({ name, from: values[name], to: pair.follow[name], because });
    values[name] = pair.follow[name];
    ranks[name] = Math.max(ranks[name], ranks[because]); // now it stands as firmly as what it fits
  }
}

/** Options of any run on prompts that do not fit each other, and which way each could. */
export function rolloutPairs(
  c: RolloutTrainerConfig,
): readonly Pair<Exclude<keyof RolloutTrainerConfig, "numGenerations">>[] {
  const noToken = c.truncateToken === "";
  return [
    {
      between: ["miniBatchSize", "batchSize"],
      wrong: c.miniBatchSize > c.batchSize,
      found: `${c.miniBatchSize}`,
      expected: (other) => `at most ${other}`,
      follow: { miniBatchSize: c.batchSize, batchSize: c.miniBatchSize },
    },
    {
      between: ["maskReplay", "rolloutPrecision"],
      wrong: c.rolloutPrecision !== "fp32" && !c.maskReplay,
      found: "false",
      expected: (other) => `true with ${other}: importance weights are over the kept sets`,
      follow: {},
    },
    {
      between: ["maskReplay", "async"],
      wrong: c.async > 0 && !c.maskReplay,
      found: "false",
      expected: (other) => `true with ${other}: importance weights are over the kept sets`,
      follow: {},
    },
    {
      between: ["klLog", "klCoef"],
      wrong: c.klLog === "none" && c.klCoef > 0,
      found: "none",
      expected: (other) => `an estimate with ${other}: what costs is measured`,
      follow: {},
    },
    {
      between: ["minNewTokens", "stopAtEos"],
      wrong: c.minNewTokens > 0 && !c.stopAtEos,
      found: `${c.minNewTokens}`,
      expected: (other) => `0 with ${other}: there is no end of text to hold back`,
      follow: { minNewTokens: 0, stopAtEos: true },
    },
    {
      between: ["minNewTokens", "maxNewTokens"],
      wrong: c.minNewTokens > c.maxNewTokens,
      found: `${c.minNewTokens}`,
      expected: (other) => `at most ${other}`,
      follow: { minNewTokens: c.maxNewTokens, maxNewTokens: c.minNewTokens },
    },
    {
      between: ["promptMinTokens", "promptMaxTokens"],
      wrong: c.promptMinTokens > c.promptMaxTokens,
      found: `${c.promptMinTokens}`,
      expected: (other) =>
        `at most ${other}${c.promptMaxTokens === 0 ? ", where 0 leaves prompts whole: give both" : ""}`,
      follow: {
        promptMinTokens: c.promptMaxTokens,
        ...(c.promptMaxTokens > 0 && { promptMaxTokens: c.promptMinTokens }),
      },
    },
    {
      between: ["truncateAfter", "truncateToken"],
      wrong: c.truncateAfter > 0 && noToken,
      found: `${c.truncateAfter}`,
      expected: (other) => `0 without a token in ${other}`,
      follow: { truncateAfter: 0 },
    },
    {
      between: ["failScore", "truncateToken"],
      wrong: c.failScore !== null && noToken,
      found: `${c.failScore}`,
      expected: (other) => `none without a token in ${other}`,
      follow: { failScore: null },
    },
    {
      between: ["truncateAfter", "maxNewTokens"],
      wrong: !noToken && c.truncateAfter >= c.maxNewTokens,
      found: `${c.truncateAfter}`,
      expected: (other) => `less than ${other}: no response would have the token`,
      follow: { truncateAfter: c.maxNewTokens - 1, maxNewTokens: c.truncateAfter + 1 },
    },
  ];
}

/** The same of PPO. */
const ppoPairs = (c: PPOConfig): readonly Pair<keyof PPOConfig>[] => [
  {
    between: ["klHorizon", "batchSize"],
    wrong: c.klController === "adaptive" && c.batchSize >= 5 * c.klHorizon,
    found: `${c.klHorizon}`,
    expected: (other) => `more than a fifth of ${other}`,
    follow: { klHorizon: c.batchSize, batchSize: Math.max(1, Math.ceil(5 * c.klHorizon) - 1) },
  },
  ...rolloutPairs(c),
  {
    between: ["valueHeadStd", "valueHeadInit"],
    wrong: c.valueHeadStd > 0 && c.valueHeadInit !== "normal",
    found: `${c.valueHeadStd}`,
    expected: (other) => `0, or normal for ${other}`,
    follow: { valueHeadStd: 0, valueHeadInit: "normal" },
  },
  {
    between: ["whiteningScope", "miniBatchSize"],
    wrong: c.whitenAdvantages && c.whiteningScope === "minibatch" && c.miniBatchSize * c.maxNewTokens === 1,
    found: "minibatch, with minibatches of one token",
    expected: () => "batch: one advantage less its mean is 0, and nothing would be learned",
    follow: { whiteningScope: "batch" },
  },
  {
    between: ["vfCoef", "valueModel"],
    wrong: c.vfCoef === 0 && c.valueModel === "separate",
    found: "0",
    expected: (other) => `more than 0 with ${other}: nothing else trains it`,
    follow: { vfCoef: PPO_DEFAULTS.vfCoef },
  },
  {
    between: ["targetKl", "ppoEpochs"],
    wrong: c.targetKl > 0 && c.ppoEpochs === 1,
    found: `${c.targetKl}`,
    expected: (other) => `0, or more than one epoch in ${other}: there is none to leave out`,
    follow: { targetKl: 0, ppoEpochs: PPO_DEFAULTS.ppoEpochs },
  },
];
