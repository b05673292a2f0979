/**
 * @file Changes of the logits that a user defines, and those that depend on earlier tokens only. Each is one of two kinds:
 *
 * - *adjust*: numbers added to logits, from earlier tokens alone. Made again from the recorded tokens whenever a token is
 *   scored under other weights.
 * - *truncate*: which tokens stay. It may look at the logits, so under other weights it would choose otherwise; the choice is
 *   recorded with the token and applied as it was.
 *
 * Both must give the same answer to the same question: state of their own, a clock or unseeded chance breaks x ~ p.
 */
import { fail } from "../base/errors.ts";
import type { Adjustment, Bias, Distribution } from "../model/distribution.ts";
import type { KeptSet } from "../model/kept-set.ts";

/** Where a token is about to be drawn. */
export interface TokenContext {
  /** Token ids of the prompt. */
  readonly prompt: Int32Array;
  /** The response so far. Read it, do not keep it: the memory is used again. */
  readonly response: Int32Array;
}

/** What a truncation may look at. */
export interface TruncateInput {
  /** Adjusted and divided by the temperature, [V]. Not to be changed. */
  readonly logits: Float32Array;
  /** Ids that are still there, ascending; undefined: all. Not to be changed. */
  readonly candidates: Int32Array | undefined;
  /** Tokens of the response so far. */
  readonly step: number;
}

/** A user's change of the logits. One that says it does not depend on earlier tokens is not shown any. */
export type Transform =
  | { readonly kind: "adjust"; readonly name: string; readonly dependsOnTokens: false; bias(): Bias }
  | {
      readonly kind: "adjust";
      readonly name: string;
      readonly dependsOnTokens: true;
      /** undefined: nothing to add here. */
      bias(context: TokenContext): Bias | undefined;
    }
  | {
      readonly kind: "truncate";
      readonly name: string;
      readonly dependsOnTokens: false;
      /** Ids that stay, some of the candidates; undefined: all of them. */
      keep(input: TruncateInput): ArrayLike<number> | undefined;
    }
  | {
      readonly kind: "truncate";
      readonly name: string;
      readonly dependsOnTokens: true;
      keep(input: TruncateInput & TokenContext): ArrayLike<number> | undefined;
    };

type BiasOfTokens = Extract<Transform, { kind: "adjust"; dependsOnTokens: true }>;

/** What an {@link Adjustments} is made from. */
export interface AdjustmentOptions {
  /** Logits are divided by this. */
  temperature: number;
  /** p: the logit z of a token that prompt or response has already becomes z / p where z > 0, else z p; 1: nothing. */
  repetitionPenalty: number;
  /** Added to the logits after the penalty. */
  bias?: Bias;
  /** The user's own. Only those of kind `adjust` count here: what others keep is recorded with each token. */
  transforms?: readonly Transform[];
  /** Ids that can be drawn at all; undefined: all. */
  drawable?: KeptSet;
}

/** A recorded token: its context, and the kept set it was drawn from. */
export interface RecordedToken extends TokenContext {
  /** What could have been drawn in its place; undefined: all. */
  readonly kept: KeptSet | undefined;
}

/** Every change of the logits that depends on earlier tokens only, of one sampler. */
export class Adjustments {
  /** Logits are divided by this. */
  readonly temperature: number;
  /** p: the logit z of a token met before becomes z / p where z > 0, else z p; 1: nothing. */
  readonly repetitionPenalty: number;
  /** Ids that can be drawn at all, whatever else happens; undefined: all. */
  readonly drawable?: KeptSet;
  readonly #vocabSize: number;
  /** Biases that are the same everywhere. */
  readonly #constant: readonly Bias[];
  readonly #perToken: readonly BiasOfTokens[];

  constructor(
    { temperature, repetitionPenalty, bias, transforms = [], drawable }: AdjustmentOptions,
    vocabSize: number,
  ) {
    this.temperature = temperature;
    this.repetitionPenalty = repetitionPenalty;
    this.drawable = drawable;
    this.#vocabSize = vocabSize;
    const fixed = transforms.flatMap((t) =>
      t.kind === "adjust" && !t.dependsOnTokens ? [checkBias(t.bias(), t.name, vocabSize)] : [],
    );
    this.#constant = [...(bias ? [checkBias(bias, "bias", vocabSize)] : []), ...fixed];
    this.#perToken = transforms.filter((t): t is BiasOfTokens => t.kind === "adjust" && t.dependsOnTokens);
  }

  /** What happens to the logits of the token after this context; undefined: nothing but the temperature. */
  at(context: TokenContext): Adjustment | undefined {
    const { prompt, response } = context;
    const biases = [...this.#constant];
    for (const transform of this.#perToken) {
      const bias = transform.bias(context);
      if (bias) biases.push(checkBias(bias, transform.name, this.#vocabSize));
    }
    const penalises = this.repetitionPenalty !== 1;
    if (!penalises && biases.length === 0) return undefined;
    return { penalised: penalises ? Int32Array.from(new Set([...prompt, ...response])) : undefined, biases };
  }

  /** The distributions of recorded tokens, for whoever scores them again. */
  distribution(tokens: readonly RecordedToken[]): Distribution {
    const { temperature, repetitionPenalty, drawable } = this;
    const adjustments = tokens.map((token) => this.at(token));
    const kept = tokens.map((token) => token.kept);
    return {
      temperature,
      repetitionPenalty,
      adjustments: adjustments.some((a) => a !== undefined) ? adjustments : undefined,
      kept: kept.some((set) => set !== undefined) ? kept : undefined,
      drawable,
    };
  }
}

function checkBias(bias: Bias, where: string, vocabSize: number): Bias {
  const { ids, values } = bias;
  if (ids.length !== values.length)
    fail("usage", {
      where: `transform ${where}`,
      found: `${ids.length} ids and ${values.length} values`,
      expected: "a value for each id",
      fix: `correct what ${where} returns`,
    });
  checkIds(ids, `transform ${where}`, vocabSize);
  values.forEach((value, i) => {
    if (!Number.isFinite(value))
      fail("usage", {
        where: `transform ${where}`,
        found: `a bias of ${value} for token ${ids[i]}`,
        expected: "finite numbers",
        fix: "to forbid a token, use bannedTokens or a transform of kind truncate: what stays must be recorded",
      });
  });
  return bias;
}

/** @throws usage - an id that no text can be made of */
export function checkDrawable(ids: ArrayLike<number>, where: string, drawable: KeptSet | undefined): void {
  for (let i = 0; i < ids.length; i++)
    if (drawable?.has(ids[i]) === false)
      fail("usage", {
        where,
        found: `token ${ids[i]}, for which the tokenizer has no text`,
        expected: "ids of the tokenizer's vocabulary",
        fix: "use ids of this model's tokenizer",
      });
}

/** @throws usage - an id outside the vocabulary */
export function checkIds(ids: ArrayLike<number>, where: string, vocabSize: number): void {
  for (let i = 0; i < ids.length; i++)
    if (!(Number.isInteger(ids[i]) && ids[i] >= 0 && ids[i] < vocabSize))
      fail("usage", {
        where,
        found: `token ${ids[i]}`,
        expected: `ids from 0 to ${vocabSize - 1}`,
        fix: "use ids of this model's tokenizer",
      });
}
