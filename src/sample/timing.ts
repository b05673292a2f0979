/** @file How long sampling takes in either precision, measured: which of them is quicker depends on the processor and on the model. */
import type { CausalLMWithValueHead } from "../model/model.ts";
import { Decoder } from "./decoder.ts";
import { decodingCopy, type Precision } from "./precision.ts";
import { fitsInt8 } from "./quantized-weights.ts";

/** Responses that are to be sampled. */
export interface SamplingWork {
  /** Token ids of each prompt. */
  readonly prompts: readonly Int32Array[];
  readonly responses: number;
  /** Responses sampled together. */
  readonly together: number;
  /** Responses to each prompt, one after another. */
  readonly copies?: number;
  /** Tokens of each response, at most. */
  readonly tokens: number;
  /** How often all that is done with a copy that is made once. Default 1. */
  readonly times?: number;
}

/** Seconds of responses that are sampled together. */
export interface SamplingCost {
  /** Making the weights that are sampled from. */
  readonly copy: number;
  /** Whether that is done once for a whole run. */
  readonly once: boolean;
  /** Reading the prompts. */
  readonly prompts: number;
  /** A token more of each response. */
  readonly token: number;
}

/** Work is done so often, or so long (seconds), and the quickest counts: whatever else goes on makes it slower, nothing makes it quicker. */
const TRIES = 5;
const ENOUGH = 0.25;

/** Seconds of some work at its quickest. It is done more than once where it is short. */
export async function quickest(work: () => Promise<unknown>, tries = TRIES): Promise<number> {
  let [least, all] = [Number.POSITIVE_INFINITY, 0];
  for (let i = 0; i < tries && all < ENOUGH; i++) {
    const start = performance.now();
    await work();
    const seconds = (performance.now() - start) / 1000;
    least = Math.min(least, seconds);
    all += seconds;
  }
  return least;
}

/**
 * What sampling costs in a precision. Nothing is drawn: the last token of each prompt comes again and again.
 * @param prompts of the responses that are sampled together
 */
async function samplingCost(
  model: CausalLMWithValueHead,
  precision: Precision,
  prompts: readonly Int32Array[],
  tokens: number,
): Promise<SamplingCost> {
  const { make, once } = decodingCopy(model, { precision, rows: prompts.length, steps: tokens });
  const [first] = prompts;
  if (precision === "int8") await model.parameters.refresh();
  const start = performance.now();
  const weights = make();
  const small = new Decoder(model, 1, 1, weights);
  const large = new Decoder(model, prompts.length, Math.max(...prompts.map((p) => p.length)) + tokens, weights);
  try {
    const one = () => small.prefill([first.subarray(0, 1)]);
    await one(); // what is compiled is ready then
    const made = (performance.now() - start) / 1000;
    const copy = Math.max(0, made - (await quickest(one)));
    const read = await quickest(() => large.prefill(prompts));
    const next = Int32Array.from(prompts, (ids) => ids[ids.length - 1]);
    const steps = Math.min(TRIES, tokens - 1);
    return { copy, once, prompts: read, token: steps > 0 ? await quickest(() => large.step(next), steps) : 0 };
  } finally {
    small.release();
    large.release();
    weights.release();
  }
}

/** Prompts of responses that are sampled together, from all over the list. */
export function promptsTogether({ prompts, responses, together, copies = 1 }: SamplingWork): Int32Array[] {
  const rows = Math.min(responses, together);
  const asked = Math.ceil(rows / copies);
  return Array.from({ length: rows }, (_, i) => prompts[Math.floor((Math.floor(i / copies) * prompts.length) / asked)]);
}

/** What sampling costs in each precision; int8 undefined: the model cannot be sampled from in it, and nothing is measured. */
export interface SamplingCosts {
  readonly fp32: SamplingCost;
  readonly int8: SamplingCost;
}

export async function samplingCosts(
  model: CausalLMWithValueHead,
  work: SamplingWork,
): Promise<SamplingCosts | undefined> {
  if (!fitsInt8(model.sizes)) return undefined;
  const prompts = promptsTogether(work);
  const fp32 = await samplingCost(model, "fp32", prompts, work.tokens);
  return { fp32, int8: await samplingCost(model, "int8", prompts, work.tokens) };
}

/** A precision, why it is the one, and the seconds that the work takes in each; undefined: there is no choice. */
export interface ChosenPrecision {
  readonly precision: Precision;
  readonly why: string;
  readonly seconds?: Readonly<Record<Precision, number>>;
}

/** int8 is another policy, near to the model: it has to take this much of the time of fp32, at most. */
const WORTH = 0.9;

/**
 * The precision that takes less time for some work.
 * @param second seconds that int8 takes beside sampling
 */
export function choosePrecision(
  costs: SamplingCosts | undefined,
  { responses, together, tokens, times = 1 }: SamplingWork,
  second = 0,
): ChosenPrecision {
  if (!costs) return { precision: "fp32", why: "fp32, for in int8 the heads of a model must be a multiple of 8 wide" };
  const all = ({ copy, once, prompts, token }: SamplingCost) =>
    copy / (once ? times : 1) + Math.ceil(responses / together) * (prompts + (tokens - 1) * token);
  const seconds = { fp32: all(costs.fp32), int8: all(costs.int8) + second };
  const precision = seconds.int8 <= WORTH * seconds.fp32 ? "int8" : "fp32";
  const beside = [
    `${shown(costs.int8.copy)} s the copy${costs.int8.once && times > 1 ? ", made once" : ""}`,
    ...(second > 0 ? [`${shown(second)} s another pass in fp32`] : []),
  ];
  const why =
    `${precision}, as measured now: ${responses} x ${tokens} tokens take ${shown(seconds.fp32)} s in fp32 and ` +
    `${shown(seconds.int8)} s in int8 (${beside.join(", ")}), which must save a tenth`;
  return { precision, why, seconds };
}

const shown = (seconds: number): string => String(Number(seconds.toPrecision(2)));
