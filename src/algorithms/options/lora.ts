/** @file LoRA as options of an algorithm: what they say of an adapter, and a model that is given it before it is trained. */
import { z } from "zod";
import { fail, ValueheadError } from "../../base/errors.ts";
import { choice, count, onOff, positive } from "../../base/option-values.ts";
import { LORA_DEFAULTS, type LoRAConfig, loraConfig } from "../../model/adapter.ts";
import type { Architecture, ModelConfig } from "../../model/family.ts";
import type { CausalLMWithValueHead } from "../../model/model.ts";
import { parameterTable } from "../../model/parameters.ts";
import type { PPOConfig } from "./config-type.ts";

const LAYERS = /^(\d{1,6}(-\d{1,6})?(,\d{1,6}(-\d{1,6})?)*)?$/;

/** What is trained in place of the weights. */
export const loraTable = {
  lora: [
    count(0, 65_536),
    0,
    "train a low-rank adapter of this rank (LoRA) and leave the weights alone; 0: train the weights",
  ],
  loraAlpha: [positive, 32, "the adapter counts alpha / rank"],
  loraTargets: [
    z.string().min(1).describe("a text: all-linear, names of matrices, or a regular expression"),
    "all-linear",
    "matrices with an adapter: all-linear, names with commas between them (q_proj,v_proj), or a regular expression for whole names",
  ],
  loraLayers: [
    z.string().regex(LAYERS).describe("a text with numbers of blocks, such as 0-3,6, or an empty one"),
    "",
    "blocks with an adapter, counted from 0, such as 0-3,6; empty: all",
  ],
  loraRankStabilized: [onOff, false, "the adapter counts alpha / sqrt(rank)"],
  basePrecision: [
    choice(["fp32", "int8"]),
    "fp32",
    "under an adapter, the matrices of the blocks as they are, or held in int8, a quarter of their memory; the reference is the same base",
  ],
} as const;

/** The options of {@link loraTable}. */
export type LoRAOptions = Pick<
  PPOConfig,
  "lora" | "loraAlpha" | "loraTargets" | "loraLayers" | "loraRankStabilized" | "basePrecision"
>;

/** The adapter that options ask for; undefined: none. */
export function askedAdapter(options: LoRAOptions): LoRAConfig | undefined {
  const { lora, loraAlpha, loraTargets, loraLayers, loraRankStabilized } = options;
  if (lora === 0) return undefined;
  return loraConfig(
    {
      rank: lora,
      alpha: loraAlpha,
      targets: targetsOf(loraTargets),
      layers: layersOf(loraLayers),
      rankStabilized: loraRankStabilized,
    },
    "lora",
  );
}

/** Names have letters, digits, underscores and dots. */
function targetsOf(text: string): string | readonly string[] {
  if (text === "all-linear" || !/^[\w.,\s]+$/.test(text)) return text;
  return text.split(/[,\s]+/).filter((name) => name !== "");
}

function layersOf(text: string): number[] | undefined {
  if (text === "") return undefined;
  const layers = text.split(",").flatMap((part) => {
    const [from, to = from] = part.split("-").map(Number);
    return Array.from({ length: Math.max(0, to - from + 1) }, (_, i) => from + i);
  });
  return [...new Set(layers)].sort((a, b) => a - b);
}

/**
 * A model's architecture with the adapter that options ask for, or the one it has, and the base held as they say.
 * @throws config - the model has no such matrices or blocks; no adapter, and a base that is not in fp32
 */
export function withAskedAdapter<C extends ModelConfig>(
  { family, config, sizes, adapter }: Architecture<C>,
  options: LoRAOptions,
): Architecture<C> {
  return inOptions(() => {
    const { basePrecision } = options;
    const adapted = { family, config, sizes, adapter: adapter ?? askedAdapter(options), basePrecision };
    checkBase(adapted, options);
    parameterTable(adapted);
    return adapted;
  });
}

function checkBase({ adapter }: Pick<Architecture, "adapter">, { basePrecision }: LoRAOptions): void {
  if (adapter || basePrecision === "fp32") return;
  fail("config", {
    where: "basePrecision",
    found: `${basePrecision}, and no adapter`,
    expected: "an adapter on top: weights in int8 are not trained",
    fix: `add lora (lora ${LORA_DEFAULTS.rank}), or leave basePrecision out`,
  });
}

/**
 * @param where   what errors call the model
 * @param resumed it is a checkpoint of a run that goes on: of what that began with, whatever may change
 * @throws usage - an adapter is asked for on top of the one that the model has; another one than the checkpoint's
 */
export function checkAdapters(
  { adapter }: Pick<Architecture, "adapter">,
  { lora }: LoRAOptions,
  where: string,
  resumed: boolean,
): void {
  if (lora === 0 || (resumed && lora === adapter?.rank)) return;
  const has = adapter ? `an adapter of rank ${adapter.rank}` : "a model without an adapter";
  if (resumed)
    fail("usage", {
      where: "lora",
      found: `${lora}, and in ${where} ${has}`,
      expected: "what the run began with",
      fix: `give lora ${adapter?.rank ?? 0}, or start another run from that checkpoint`,
    });
  if (adapter)
    fail("usage", {
      where: "lora",
      found: `${lora}, and in ${where} ${has}`,
      expected: "a model without one, or no lora: the adapter it has is trained on",
      fix: "leave lora out, or merge the adapter first (valuehead merge)",
    });
}

/**
 * Give a model the adapter that options ask for, unless it has one, and hold its base as they say.
 * @throws config - as {@link withAskedAdapter}
 */
export function addAskedAdapter(model: CausalLMWithValueHead, options: LoRAOptions & { seed: number }): void {
  const adapter = askedAdapter(options);
  if (adapter && !model.adapter) inOptions(() => model.addAdapter(adapter, options.seed));
  checkBase(model, options);
  if (options.basePrecision === "int8") model.roundBase();
}

/** What is wrong with an adapter, under the names of the options. */
function inOptions<T>(make: () => T): T {
  try {
    return make();
  } catch (error) {
    if (!(error instanceof ValueheadError)) throw error;
    const name = /, (targets|layers|rank|alpha)$/.exec(error.problem.where)?.[1];
    if (name === undefined) throw error;
    const option = name === "rank" ? "lora" : `lora${name[0].toUpperCase()}${name.slice(1)}`;
    return fail(error.kind, { ...error.problem, where: option, fix: `correct ${option}` }, error);
  }
}

/** What is trained of a model with an adapter, for people. */
export function adapterNote({ adapter, basePrecision, parameters: { table } }: CausalLMWithValueHead): string[] {
  if (!adapter) return [];
  const count = (rows: typeof table) => rows.reduce((n, { start, end }) => n + end - start, 0).toLocaleString("en-US");
  const own = table.filter(({ name, adapts }) => adapts || name.startsWith("v_head."));
  const matrices = table.filter(({ adapts }) => adapts?.part === "A").length;
  return [
    `LoRA: ${count(own)} of ${count(table)} numbers are trained, an adapter of ${matrices} matrices and the value head`,
    ...(basePrecision === "int8" ? [INT8_BASE] : []),
  ];
}

const INT8_BASE =
  "the base is held in int8: policy and reference are that base, and what is trained fits it best; merged into the base in fp32 the " +
  "adapter gives a model that differs by the rounding";
