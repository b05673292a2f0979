/** @file What is said about a wrong value of every option, as the flag, in a file and in the library: read the snapshot. */
import { describe, expect, it } from "vitest";
import { ppoConfig } from "../../../src/algorithms/options/config.ts";
import { PPO_DEFAULTS, type PPOOptionName, ppoOptions } from "../../../src/algorithms/options/ppo-options.ts";
import { sftConfig, sftOptions } from "../../../src/algorithms/options/sft-options.ts";
import { ValueheadError } from "../../../src/base/errors.ts";
import { fileSource } from "../../../src/base/options.ts";
import { readPpoOptions } from "../../../src/cli/ppo-options.ts";

const said = (work: () => unknown): string => {
  try {
    work();
  } catch (error) {
    if (error instanceof ValueheadError) return error.message;
    throw error;
  }
  return "accepted";
};

/** Too small, too large, of another type. */
function wrongValues(standard: unknown): unknown[] {
  if (typeof standard === "boolean") return ["yes", 1];
  if (Array.isArray(standard)) return [[""], [-1], "x", 3];
  if (typeof standard === "string") return ["no such name", 3];
  return [-1, 1e31, Number.NaN, Number.POSITIVE_INFINITY, 0.5, "many", [], true];
}

const names = Object.keys(ppoOptions) as PPOOptionName[];

it.each(names)(
  "%s: every wrong value is refused with what was found, what may be, and the option as it was written",
  (name) => {
    for (const value of wrongValues(PPO_DEFAULTS[name])) {
      const flag = `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
      const library = said(() => ppoConfig({ [name]: value }));
      if (library === "accepted" || library.includes("Fix: change ")) continue; // right, if not for other options
      expect(said(() => readPpoOptions({ [name]: value }))).toMatch(
        new RegExp(`^${flag}: found .*, expected (a |one |true |token |texts ).* Fix: correct ${flag}: `),
      );
      const file = said(() => readPpoOptions({}, [fileSource({ [name]: value }, "c.json")]));
      expect(file).toContain(`c.json, "${name}": found `);
      expect(file).toContain(`Fix: correct "${name}" in c.json: `);
      expect(library).not.toMatch(/expected expected|Invalid|Too (small|big)|undefined|NaN, expected .*NaN/);
    }
  },
);

describe("as a whole", () => {
  it("of PPO", () => {
    const lines = names.flatMap((name) =>
      wrongValues(PPO_DEFAULTS[name])
        .slice(0, 2)
        .map((value) => said(() => readPpoOptions({ [name]: value }))),
    );
    expect(lines.join("\n")).toMatchSnapshot();
  });

  it("of language-model training", () => {
    const lines = Object.keys(sftOptions).flatMap((name) =>
      [-1, "many"].map((value) => said(() => sftConfig({ [name]: value }))),
    );
    expect(lines.join("\n")).toMatchSnapshot();
  });
});
