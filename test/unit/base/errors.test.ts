/** @file The one error type. */
import { expect, test } from "vitest";
import { fail, messageOf, ValueheadError } from "../../../src/base/errors.ts";

const problem = { where: "config.json, n_head", found: "5", expected: "a divisor of n_embd 768", fix: "use 12" };

function thrown(action: () => unknown): unknown {
  try {
    action();
  } catch (error) {
    return error;
  }
  throw new Error("nothing was thrown");
}

test("the message says where, found, expected and fix", () => {
  const error = thrown(() => fail("config", problem)) as ValueheadError;
  expect(error).toBeInstanceOf(ValueheadError);
  expect(error).toBeInstanceOf(Error);
  expect(error.message).toBe("config.json, n_head: found 5, expected a divisor of n_embd 768. Fix: use 12");
  expect(error.name).toBe("ValueheadError");
  expect(error.kind).toBe("config");
  expect(error.problem).toEqual(problem);
  expect(String(error)).toMatch(/^ValueheadError: config\.json/);
  expect("cause" in error).toBe(false);
});

test("what was thrown first is kept as the cause", () => {
  const cause = new TypeError("underneath");
  expect((thrown(() => fail("engine", problem, cause)) as ValueheadError).cause).toBe(cause);
  expect((thrown(() => fail("engine", problem, null)) as ValueheadError).cause).toBe(null);
});

test("the message of anything", () => {
  expect(messageOf(new Error("a"))).toBe("a");
  expect(messageOf("b")).toBe("b");
  expect(messageOf(undefined)).toBe("undefined");
  expect(messageOf({ toString: () => "c" })).toBe("c");
});
