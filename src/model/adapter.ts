/**
 * @file LoRA (Hu et al. 2021, arXiv:2106.09685, section 4.1): a matrix W stays as it is, and W + s B A is what multiplies, with A
 * [r, in] and B [out, r] trained. The rows of an adapter are parameters like all others; products.ts multiplies by them, or merges them. Names and
 * meaning of options: PEFT's LoraConfig.
 */
import { describe } from "../base/describe.ts";
import { fail } from "../base/errors.ts";

/** What of a model is adapted, and how. */
export interface LoRAConfig {
  /** r, the inner size of B A; a whole number from 1. */
  readonly rank: number;
  /** s is alpha / r, or alpha / sqrt(r) with `rankStabilized`. */
  readonly alpha: number;
  /**
   * Which matrices of the blocks: all of them; those whose name, or the end of it after a dot, is in the list; or those whose whole
   * name a regular expression matches. A name is that of the weight without `.weight`: `transformer.h.0.attn.c_attn`.
   */
  readonly targets: "all-linear" | string | readonly string[];
  /** s = alpha / sqrt(r) (Kalajdzievski 2023, arXiv:2312.03732). */
  readonly rankStabilized: boolean;
  /** Blocks that are adapted, counted from 0; undefined: all. */
  readonly layers?: readonly number[];
  /** Names, or ends of names, that are left out although `targets` has them; a string is a regular expression. */
  readonly excluded?: string | readonly string[];
  /** Another rank for some names, or ends of names (PEFT's rank_pattern: regular expressions for the end of a name). */
  readonly rankPattern?: Readonly<Record<string, number>>;
  /** Another alpha for some. */
  readonly alphaPattern?: Readonly<Record<string, number>>;
}

/** Those of TRL's ModelConfig for rank and alpha; every matrix of the blocks. */
export const LORA_DEFAULTS: LoRAConfig = { rank: 16, alpha: 32, targets: "all-linear", rankStabilized: false };

/**
 * A complete config, checked.
 * @param where what errors call it
 * @throws config - a rank that is no whole number from 1, an alpha that is not a positive number, targets of another kind
 */
export function loraConfig(partial: Partial<LoRAConfig> = {}, where = "addAdapter"): LoRAConfig {
  const known = [...Object.keys(LORA_DEFAULTS), "layers", "excluded", "rankPattern", "alphaPattern"];
  const unknown = Object.keys(partial).find((name) => !known.includes(name));
  const wrong = (name: string, found: unknown, expected: string): never =>
    fail("config", { where: `${where}, ${name}`, found: describe(found), expected, fix: `correct ${name}` });
  if (unknown !== undefined)
    fail("config", {
      where: `${where}, ${unknown}`,
      found: "an unknown option",
      expected: `one of ${known.join(", ")}`,
      fix: "correct its name",
    });
  const given = Object.fromEntries(Object.entries(partial).filter(([, value]) => value !== undefined));
  const config: LoRAConfig = { ...LORA_DEFAULTS, ...given };
  const isRank = (value: unknown) => Number.isSafeInteger(value) && Number(value) >= 1;
  const isAlpha = (value: unknown) => Number.isFinite(value) && Number(value) > 0;
  const isNames = (value: unknown) =>
    (typeof value === "string" && value !== "" && isRegExp(value)) ||
    (Array.isArray(value) && value.length > 0 && value.every((name) => typeof name === "string" && name !== ""));
  if (!isRank(config.rank)) wrong("rank", config.rank, "a whole number from 1");
  if (!isAlpha(config.alpha)) wrong("alpha", config.alpha, "a number above 0");
  const names = "a list of names, or a regular expression as a string";
  if (!isNames(config.targets)) wrong("targets", config.targets, `"all-linear", ${names}`);
  if (config.excluded !== undefined && !isNames(config.excluded)) wrong("excluded", config.excluded, names);
  if (typeof config.rankStabilized !== "boolean") wrong("rankStabilized", config.rankStabilized, "true or false");
  const { layers } = config;
  if (layers !== undefined && !(Array.isArray(layers) && layers.length > 0 && layers.every(isLayer)))
    wrong("layers", layers, "a list of blocks, counted from 0");
  for (const [name, isRight, what] of [
    ["rankPattern", isRank, "whole numbers from 1"],
    ["alphaPattern", isAlpha, "numbers above 0"],
  ] as const)
    for (const [pattern, value] of Object.entries(config[name] ?? {})) {
      if (!isRight(value)) wrong(`${name}, ${pattern}`, value, what);
      if (!isRegExp(pattern)) wrong(`${name}, ${pattern}`, pattern, "a name, or a regular expression for one");
    }
  return config;
}

const isLayer = (layer: unknown) => Number.isSafeInteger(layer) && Number(layer) >= 0;

function isRegExp(text: string): boolean {
  try {
    new RegExp(text);
    return true;
  } catch {
    return false;
  }
}

/** Which part of an adapter a parameter is, and s where it counts. */
export interface Adapts {
  /** A is [r, in], B is [out, r]. */
  readonly part: "A" | "B";
  /** s, the factor on B A. */
  readonly scaling: number;
}

/** What an adapter needs to know of a matrix. */
export interface Adaptable {
  readonly name: string;
  readonly layer?: number;
  readonly short: string;
  readonly shape: readonly number[];
  readonly axes: readonly string[];
  readonly matrix?: "in,out" | "out,in";
}

/** A row of an adapter, but for its place in memory. */
export type AdapterRow = Omit<Adaptable, "matrix"> & {
  readonly init: "kaiming" | "zeros";
  readonly decay: boolean;
  readonly adapts: Adapts;
};

/** `attn.c_attn.weight` -> `attn.c_attn.lora_A.weight`: the name of a matrix's part. */
export const adapterName = (weight: string, part: "A" | "B"): string => `${moduleName(weight)}.lora_${part}.weight`;

/** A weight's name without `.weight`: what targets are matched against. */
export const moduleName = (weight: string): string => weight.replace(/\.weight$/, "");

/**
 * The rows of an adapter: A and B of every matrix that it adapts, in the order of the table.
 * @param rows all parameters of the model
 * @throws config - targets or layers that match nothing
 */
export function adapterRows(rows: readonly Adaptable[], config: LoRAConfig): AdapterRow[] {
  const matrices = rows.filter(({ matrix }) => matrix);
  const blocks = matrices.reduce((most, { layer = 0 }) => Math.max(most, layer + 1), 0);
  const beyond = config.layers?.find((layer) => layer >= blocks);
  if (beyond !== undefined)
    fail("config", {
      where: "adapter, layers",
      found: `block ${beyond}`,
      expected: `0 to ${blocks - 1}: the model has ${blocks} blocks`,
      fix: "name blocks that there are",
    });
  const isWanted = ({ name, layer }: Adaptable) =>
    matches(moduleName(name), config.targets) &&
    !(config.excluded !== undefined && matches(moduleName(name), config.excluded)) &&
    (config.layers === undefined || config.layers.includes(layer as number));
  const adapted = matrices.filter(isWanted);
  const kinds = [...new Set(matrices.map(({ short }) => moduleName(short)))];
  const unmatched = Array.isArray(config.targets)
    ? config.targets.find((target) => !matrices.some(({ name }) => matches(moduleName(name), [target])))
    : undefined;
  if (adapted.length === 0 || unmatched !== undefined)
    fail("config", {
      where: "adapter, targets",
      found: `${JSON.stringify(unmatched ?? config.targets)}, which ${adapted.length === 0 && unmatched === undefined ? "leaves nothing to adapt" : "matches no matrix of a block"}`,
      expected: `"all-linear", or some of ${kinds.join(", ")}`,
      fix: "correct targets",
    });
  return adapted.flatMap((row) => rowsOf(row, config));
}

function rowsOf({ name, layer, short, shape, axes, matrix }: Adaptable, config: LoRAConfig): AdapterRow[] {
  const module = moduleName(name);
  const rank = patternFor(module, config.rankPattern) ?? config.rank;
  const alpha = patternFor(module, config.alphaPattern) ?? config.alpha;
  const scaling = alpha / (config.rankStabilized ? Math.sqrt(rank) : rank);
  const [from, to] = matrix === "in,out" ? [0, 1] : [1, 0];
  const row = (part: "A" | "B"): Omit<AdapterRow, "shape" | "axes" | "init"> => ({
    name: adapterName(name, part),
    layer,
    short: adapterName(short, part),
    decay: true,
    adapts: { part, scaling },
  });
  return [
    { ...row("A"), shape: [rank, shape[from]], axes: ["r", axes[from]], init: "kaiming" },
    { ...row("B"), shape: [shape[to], rank], axes: [axes[to], "r"], init: "zeros" },
  ];
}

/** As PEFT matches names: a string is a regular expression for the whole of it, a list has names or their ends after a dot. */
function matches(module: string, targets: string | readonly string[]): boolean {
  if (targets === "all-linear") return true;
  if (typeof targets === "string") return new RegExp(`^(?:${targets})$`).test(module);
  return targets.some((target) => module === target || module.endsWith(`.${target}`));
}

/** As PEFT finds a module's own rank: the first pattern that ends its name, after a dot or from the beginning. */
function patternFor(module: string, patterns: Readonly<Record<string, number>> = {}): number | undefined {
  const found = Object.keys(patterns).find((pattern) => new RegExp(`^(?:.*\\.)?(?:${pattern})$`).test(module));
  return found === undefined ? undefined : patterns[found];
}
