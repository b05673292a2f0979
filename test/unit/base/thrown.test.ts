/** @file What was thrown, in words and as plain data. The errors of the network are real ones. */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { messageOf, ValueheadError } from "../../../src/base/errors.ts";
import {
  isProgrammingError,
  placeOf,
  placesIn,
  plainError,
  reviveError,
  whatWasThrown,
  whereAndWhy,
} from "../../../src/base/thrown.ts";

/** There and back, as a message between processes goes. */
const sent = (thrown: unknown) => reviveError(structuredClone(plainError(thrown)));
const thrownBy = async (work: () => unknown): Promise<unknown> => {
  try {
    await work();
  } catch (error) {
    return error;
  }
  throw new Error("nothing was thrown");
};
const here = fileURLToPath(import.meta.url);

describe("where", () => {
  it("is the innermost call outside of Node and of installed packages", () => {
    const stack = [
      "Error: x",
      "    at node:internal/deps/undici/undici:14976:13",
      "    at JSON.parse (<anonymous>)",
      "    at Object.f (/home/a b/node_modules/lib/index.js:1:2)",
      "    at async Promise.all (index 0)",
      "    at async score (file:///home/a%20b/reward.mjs?v=1:30:4)",
      "    at C:\\work\\reward.cjs:5:6",
    ].join("\n");
    expect(placesIn(stack)).toEqual([
      "/home/a b/node_modules/lib/index.js:1:2",
      "/home/a b/reward.mjs:30:4",
      "C:\\work\\reward.cjs:5:6",
    ]);
    expect(placeOf({ stack })).toBe("/home/a b/reward.mjs:30:4");
    expect(placeOf({ stack: stack.split("\n").slice(0, 4).join("\n") })).toBe(
      "/home/a b/node_modules/lib/index.js:1:2",
    );
    expect(placeOf({ stack: "Error: x" })).toBeUndefined();
  });

  it("is what stands above the stack of a syntax error", () => {
    const stack = "file:///a/b.mjs:2\nconst = 1;\n      ^\nSyntaxError: x\n    at f (file:///a/other.mjs:9:9)";
    expect(placeOf({ stack })).toBe("/a/b.mjs:2");
  });

  it("is here for an error of here", () => {
    expect(placeOf(new Error("x"))).toMatch(`${here}:`);
  });
});

describe("what", () => {
  it("names the kind of error, its cause and where both were thrown, on one line", () => {
    const cause = Object.assign(new Error("refused\nby\u001b[31m peer"), { stack: "Error\n    at f (/c.mjs:7:8)" });
    const error = Object.assign(new TypeError("no x", { cause }), { stack: "TypeError\n    at f (/r.mjs:1:2)" });
    expect(whatWasThrown(error)).toBe("TypeError: no x");
    expect(whereAndWhy(error)).toBe(" at /r.mjs:1:2, caused by refused by\\u001b[31m peer at /c.mjs:7:8");
    expect(whatWasThrown(new Error("plain"))).toBe("plain");
  });

  it("has words for what is no error, for what has no message, and for what cannot be read", () => {
    expect(whatWasThrown("busy")).toBe('what was thrown is no Error but the string "busy"');
    expect(whatWasThrown({ status: 503 })).toBe('what was thrown is no Error but the object {"status":503}');
    expect(whatWasThrown(undefined)).toBe("what was thrown is no Error but undefined");
    const circle: Record<string, unknown> = {};
    circle.itself = circle;
    expect(whatWasThrown(circle)).toBe("what was thrown is no Error but an object");
    expect(whatWasThrown(new AggregateError([new Error("a"), new Error("b")]))).toBe("AggregateError: a; b");
    const hostile = Object.defineProperty(new Error("x"), "message", {
      get() {
        throw new Error("y");
      },
    });
    expect(whatWasThrown(hostile)).toBe("Error");
    expect(whatWasThrown(new Error("m".repeat(9999)))).toHaveLength(500);
    expect(messageOf(Object.create(null))).toBe("an object without text");
  });

  it("ends where causes go round in a circle", () => {
    const error = new Error("round");
    error.cause = error;
    expect(whereAndWhy(error).match(/caused by round/g)).toHaveLength(5);
    expect(sent(error).message).toBe("round");
  });
});

describe("as plain data", () => {
  it("name, message, stack, code and causes come back", () => {
    class Busy extends Error {
      override name = "Busy";
      code = "E_BUSY";
    }
    const error = new Busy("later", { cause: new RangeError("deep", { cause: "a word" }) });
    const back = sent(error);
    expect(back).toBeInstanceOf(Error);
    expect(back).toMatchObject({ name: "Busy", message: "later", stack: error.stack, code: "E_BUSY" });
    expect(back.cause).toMatchObject({ name: "RangeError", message: "deep" });
    expect((back.cause as Error).cause).toMatchObject({
      message: 'what was thrown is no Error but the string "a word"',
    });
    expect(whereAndWhy(back)).toBe(whereAndWhy(error));
  });

  it("an error of this library stays one", () => {
    const problem = { where: "a", found: "b", expected: "c", fix: "d" };
    const error = new ValueheadError("reward", problem, { cause: new Error("why"), transient: true });
    const back = sent(error) as ValueheadError;
    expect(back).toBeInstanceOf(ValueheadError);
    expect(back).toMatchObject({ kind: "reward", problem, transient: true, message: error.message });
    expect(back.cause).toMatchObject({ message: "why" });
  });
});

describe("faults of the program", () => {
  it("are TypeErrors and their like, also from elsewhere and from subclasses", async () => {
    class Mine extends TypeError {
      override name = "Mine";
    }
    const assert = await import("node:assert");
    const faults = [
      await thrownBy(() => (undefined as unknown as { x: number }).x),
      await thrownBy(() => JSON.parse("{")),
      await thrownBy(() => new Array(-1)),
      await thrownBy(() => decodeURIComponent("%")),
      await thrownBy(() => assert.equal(1, 2)),
      await thrownBy(() =>
        import("./no-such-module.ts" as string).catch((e) => {
          throw Object.assign(new Error(String(e)), { code: "ERR_MODULE_NOT_FOUND" });
        }),
      ),
      new ReferenceError("x is not defined"),
      new Mine("x"),
    ];
    for (const fault of faults) {
      expect(isProgrammingError(fault), String(fault)).toBe(true);
      expect(isProgrammingError(sent(fault)), String(fault)).toBe(true);
    }
    for (const accident of [new Error("busy"), "text", undefined, new DOMException("t", "TimeoutError")]) {
      expect(isProgrammingError(accident)).toBe(false);
      expect(isProgrammingError(sent(accident))).toBe(false);
    }
  });

  describe("are not what fetch() makes of a network", () => {
    const server = createServer((request, response) => {
      if (request.url === "/page") return response.end("<html>");
      response.writeHead(200, { "content-length": 100 }).write("x");
      return setTimeout(() => response.destroy(), 20);
    });
    let at = "";
    beforeAll(async () => {
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
      at = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    });
    afterAll(() => void server.close());

    it.each([
      ["a refused connection", async () => fetch((await closedPort()).toString())],
      ["an answer that is cut off", async () => (await fetch(`${at}/cut`)).text()],
      ["an error page where JSON was expected", async () => (await fetch(`${at}/page`)).json()],
      ["a time-out", () => fetch(`${at}/page`, { signal: AbortSignal.timeout(0) })],
    ])("%s", async (_, work) => {
      const error = await thrownBy(work);
      expect(isProgrammingError(error), String(error)).toBe(false);
      expect(isProgrammingError(sent(error))).toBe(false);
    });

    it("but an address that is none is a fault", async () => {
      expect(isProgrammingError(await thrownBy(() => fetch("nowhere")))).toBe(true);
    });
  });
});

/** An address where nothing listens. */
async function closedPort(): Promise<URL> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return new URL(`http://127.0.0.1:${port}/`);
}
