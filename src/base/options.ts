/**
 * @file Options from several sources, the later before the earlier: which value counts, whether it is right, and what an
 * error calls it: the way it was written.
 */
import { fail } from "./errors.ts";
import { nearest } from "./nearest.ts";
import { brief } from "./text.ts";

/** What an option may be; a zod schema is one. `description` completes "expected ...". */
export interface Values {
  safeParse(value: unknown): { success: boolean; data?: unknown };
  readonly description?: string | undefined;
}

/** Options by name: what they may be, their default, what they mean in one line. */
export type OptionTable = Readonly<Record<string, readonly [values: Values, standard: unknown, meaning: string]>>;

export interface OptionSource {
  /** By name; undefined means not given. */
  readonly values: Readonly<Record<string, unknown>>;
  /** How an error refers to the place of an option: `options, batchSize`; `--batch-size`; `c.json, "batchSize"`. */
  place(name: string): string;
  /** How an option is written in a sentence: `batchSize`, `--batch-size`, `"batchSize" in c.json`. */
  called(name: string): string;
  /** The option's name as this source writes it. */
  write(name: string): string;
  /** Nobody gave these now (defaults, a preset, an earlier run): they change where they do not fit what was given. */
  readonly yields?: boolean;
}

/** Options passed to a function. */
export const librarySource = (values: Readonly<Record<string, unknown>>, where: string): OptionSource => ({
  values,
  place: (name) => `${where}, ${name}`,
  called: (name) => name,
  write: (name) => name,
});

/** Options of a JSON file. Names are quoted, as they stand there. */
export const fileSource = (values: Readonly<Record<string, unknown>>, file: string): OptionSource => ({
  values,
  place: (name) => `${file}, ${JSON.stringify(name)}`,
  called: (name) => `${JSON.stringify(name)} in ${file}`,
  write: (name) => JSON.stringify(name),
});

/** The options of a table, and which source each came from. */
export interface Resolved {
  values: Record<string, unknown>;
  /** Index of its source, by name. */
  ranks: Record<string, number>;
}

/**
 * The value of the last source that has one, for every option.
 * @param sources the first has a value for every option: the defaults
 * @param hint    what an unknown name may mean, in words; `write` gives a name as that source writes it
 * @throws config - a name that is not in the table, or a value that is not allowed
 */
export function resolveOptions(
  table: OptionTable,
  sources: readonly OptionSource[],
  hint: (name: string, write: (name: string) => string) => string | undefined = () => undefined,
): Resolved {
  const known = Object.keys(table);
  const values: Record<string, unknown> = {};
  const ranks: Record<string, number> = {};
  for (const [rank, source] of sources.entries())
    for (const [name, value] of Object.entries(source.values)) {
      if (value === undefined) continue;
      if (!Object.hasOwn(table, name))
        fail("config", {
          where: source.place(name),
          found: "an unknown option",
          expected: `one of ${known.map(source.write).join(", ")}`,
          fix: hint(name, source.write) ?? `did you mean ${source.write(nearest(name, known))}?`,
        });
      values[name] = value;
      ranks[name] = rank;
    }
  for (const name of known) values[name] = checkOption(table, name, values[name], sources[ranks[name]]);
  return { values, ranks };
}

/** @throws config - a value that the option does not allow */
export function checkOption(table: OptionTable, name: string, value: unknown, source: OptionSource): unknown {
  const [schema, standard, meaning] = table[name];
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  return fail("config", {
    where: source.place(name),
    found: brief(value),
    expected: schema.description ?? "another value",
    fix: `correct ${source.called(name)}: ${/\(default: /.test(meaning) ? meaning : `${meaning} (default ${shown(standard)})`}`,
  });
}

/** An option's value in words: "none" for null and for empty values. */
export function shown(value: unknown): string {
  if (Array.isArray(value)) return value.join(", ") || "none";
  if (typeof value === "object" && value !== null) return Object.keys(value).length > 0 ? brief(value) : "none";
  return String(value ?? "") || "none";
}
