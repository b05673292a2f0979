/** @file What options may be: the kinds of values that tables of options name, each with the words that complete "expected ...". */
import { z } from "zod";

/** Far beyond what any option means, and far within what fp32 holds. */
export const LARGEST = 1e30;

/** More than anything that is counted here. */
const MOST = 1e9;
export const count = (min = 1, max = MOST) =>
  z.number().int().min(min).max(max).describe(`a whole number from ${min} to ${max}`);
export const positive = z.number().gt(0).max(LARGEST).describe("a number above 0, at most 1e30");
export const notNegative = z.number().min(0).max(LARGEST).describe("a number, 0 or more, at most 1e30");
export const share = z.number().min(0).max(1).describe("a number from 0 to 1");
/** Of a running mean: 1 would never let anything in. */
export const decay = z.number().min(0).lt(1).describe("a number from 0 to below 1");
export const choice = <const T extends readonly string[]>(names: T) =>
  z.enum(names).describe(`one of ${names.join(", ")}`);
export const text = z.string().describe("a text");
export const variables = z.record(z.string(), z.unknown()).describe("a JSON object");
export const onOff = z.boolean().describe("true or false");

type Row = readonly [values: z.ZodType, standard: unknown, meaning: string];

/** The options of a table: by name, of the type that the table allows. */
export type OptionsOf<T extends Readonly<Record<string, Row>>> = { -readonly [K in keyof T]: z.infer<T[K][0]> };
