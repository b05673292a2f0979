/** @file Questions to the model, checked before anything is computed: tokens, the rows that are asked, and their distributions. */
import { describe, isList } from "../base/describe.ts";
import { fail } from "../base/errors.ts";
import { type IdList, readIds } from "../base/token-ids.ts";
import { sights } from "./attend.ts";
import type { Tokens } from "./body.ts";
import type { Distribution } from "./distribution.ts";
import type { Sizes } from "./family.ts";
import { KeptSet } from "./kept-set.ts";

/** Tokens whose distribution is asked for: `rows[i]` is the position (b T + t) that predicts `ids[i]`. */
export interface AskedTokens {
  /** Ids [B, T] row-major, right-padded to T; where a row holds several sequences, with the place of each token in its own, [B, T]. */
  readonly tokens: { readonly ids: IdList; readonly B: number; readonly T: number; readonly positions?: Int32Array };
  /** [R] */
  readonly rows: ArrayLike<number>;
  /** [R] */
  readonly ids: IdList;
  /** What the tokens were, or would be, drawn from; its arrays are [R]. */
  readonly distribution: Distribution;
}

/** What questions are checked against. */
export type Limits = Pick<Sizes, "vocabSize" | "context" | "contextName">;

/**
 * Token ids [B, T] as int32.
 * @throws input - ids outside the vocabulary, a length outside the context, not B times T ids, positions that do not count
 */
export function readTokens(
  { vocabSize, context, contextName }: Limits,
  { ids, B, T, positions }: AskedTokens["tokens"],
): Tokens {
  for (const [name, size] of Object.entries({ B, T }))
    if (!(Number.isInteger(size) && size > 0))
      wrong(
        `token ids, ${name}`,
        describe(size),
        "a whole number from 1",
        "pass B sequences of T tokens, B and T from 1",
      );
  if (isList(ids) && ids.length !== B * T) wrong("token ids", `${ids.length} ids`, `${B} x ${T}`, "pass B times T ids");
  if (positions) checkPositions(positions, B, T);
  const longest = positions ? 1 + positions.reduce((most, at) => Math.max(most, at), 0) : T;
  if (longest > context)
    wrong(
      "token ids",
      `sequences of ${longest} tokens`,
      `at most ${context} (${contextName})`,
      "shorten the prompts or the responses",
    );
  const place = (i: number) => `token ids, row ${Math.floor(i / T)}, position ${i % T}`;
  return { ids: readIds(ids, { where: "token ids", vocabSize, place }), B, T, ...(positions && { positions }) };
}

/** @throws input - positions that neither count on, begin at 0 nor branch off from tokens there are, or not one for each token */
function checkPositions(positions: Int32Array, B: number, T: number): void {
  if (positions.length !== B * T)
    wrong("positions", `${positions.length} positions`, `${B} x ${T}`, "pass one for each token");
  const bad = sights(positions, T).length;
  if (bad < positions.length)
    wrong(
      `positions, row ${Math.floor(bad / T)}, position ${bad % T}`,
      String(positions[bad]),
      bad % T === 0
        ? "0"
        : `${positions[bad - 1] + 1}, 0 where another sequence begins, or a place of this one to branch off from`,
      "count the tokens of each sequence from 0",
    );
}

/**
 * A question to a model of these sizes.
 * @throws input - as {@link readTokens}; rows that are not positions of the tokens, not one id, adjustment or kept set per row, a
 *   temperature that is not above 0
 */
export function readAsked(sizes: Limits, { tokens: given, rows, ids, distribution }: AskedTokens) {
  const tokens = readTokens(sizes, given);
  const positions = tokens.B * tokens.T;
  const checked = {
    tokens,
    rows: readIds(rows, {
      where: "asked rows",
      vocabSize: positions,
      fixEmpty: "ask about some tokens",
      fixId: "a row is b T + t, the position before the token that is asked",
    }),
    ids: readIds(ids, { where: "asked ids", vocabSize: sizes.vocabSize, fixEmpty: "ask about some tokens" }),
    distribution,
  };
  const R = checked.rows.length;
  const perRow = {
    "asked ids": ids,
    "distribution, kept": distribution?.kept,
    "distribution, adjustments": distribution?.adjustments,
  };
  for (const [name, list] of Object.entries(perRow))
    if (list !== undefined && list.length !== R)
      wrong(name, `${list.length} for ${R} rows`, "one for each row", "pass what belongs to the same tokens");
  const temperature = distribution?.temperature;
  if (!(Number.isFinite(temperature) && temperature > 0))
    wrong(
      "distribution, temperature",
      describe(temperature),
      "a number above 0",
      "1 asks for the model's own distribution",
    );
  const stray = distribution.kept?.findIndex((set) => set !== undefined && !(set instanceof KeptSet)) ?? -1;
  if (stray >= 0)
    wrong(
      `distribution, kept, row ${stray}`,
      describe(distribution.kept?.[stray]),
      "a KeptSet or undefined",
      "pass KeptSet.of(ids, vocabSize), or what generate returned",
    );
  return checked;
}

/**
 * Log-probs of the same tokens under two models mean something only where the ids are the same tokens.
 * @param kind  of the error: an argument (`input`) or an option (`config`)
 * @param where what the error calls the reference
 */
export function checkSameVocabulary(
  policy: Pick<Sizes, "vocabSize">,
  reference: Pick<Sizes, "vocabSize">,
  kind: "input" | "config",
  where: string,
): void {
  if (reference.vocabSize === policy.vocabSize) return;
  fail(kind, {
    where,
    found: `a vocabulary of ${reference.vocabSize}`,
    expected: `${policy.vocabSize}, as the policy's`,
    fix: "use a reference with the same tokenizer",
  });
}

function wrong(where: string, found: string, expected: string, fix: string): never {
  return fail("input", { where, found, expected, fix });
}
