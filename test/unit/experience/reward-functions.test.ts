import { getEventListeners } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { ValueheadError } from "../../../src/base/errors.ts";
import { placeOf } from "../../../src/base/thrown.ts";
import {
  builtInRewards,
  lengthReward,
  type RewardFunction,
  resolveReward,
} from "../../../src/experience/reward-functions.ts";
import { sentiment } from "../../../src/experience/rewards/sentiment.ts";
import { checkScores, computeScores } from "../../../src/experience/score.ts";
import { testSample } from "../../support/samples.ts";

const directory = mkdtempSync(join(tmpdir(), "valuehead-rewards-"));
afterAll(() => rmSync(directory, { recursive: true }));
const write = (name: string, source: string) => {
  const path = join(directory, name);
  writeFileSync(path, source);
  return path;
};
const samples = (...responses: string[]) =>
  responses.map((response) => testSample({ prompt: "An awful start,", response }));
const problemOf = async (call: () => unknown): Promise<ValueheadError> => {
  try {
    await call();
  } catch (error) {
    if (error instanceof ValueheadError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
};

describe("built-in rewards", () => {
  it("positive and negative judge the response alone", () => {
    const batch = samples(" but a good end", " and a bad end");
    expect(builtInRewards.positive(batch)).toEqual([sentiment("but a good end", 1), sentiment("and a bad end", 1)]);
    expect(builtInRewards.negative(batch)).toEqual([sentiment("but a good end", -1), sentiment("and a bad end", -1)]);
  });

  it("length: 1 at 20 words, 0 at none and at 40, negative beyond", () => {
    const words = (n: number) => " word".repeat(n);
    expect(builtInRewards.length(samples(words(20), "", words(40), words(10), words(60)))).toEqual([1, 0, 0, 0.5, -1]);
    expect(lengthReward(5)(samples(words(4)))).toEqual([0.8]);
    expect(() => lengthReward(0)).toThrow("lengthReward, target: found 0, expected a positive number of words");
  });
});

describe("resolveReward", () => {
  it("finds built-in rewards by name", async () => {
    expect(await resolveReward("negative")).toBe(builtInRewards.negative);
  });

  it("names the nearest reward for an unknown one", async () => {
    const error = await problemOf(() => resolveReward("postive"));
    expect(error.kind).toBe("usage");
    expect(error.message).toBe(
      'reward: found "postive", expected positive, negative, length, a reward model (model:DIR), the path of a module (./reward.mjs), or regex:PATTERN, ' +
        'json or json:KEY,KEY, exact or exact:COLUMN, combine:{"exact": 1, "json": 0.2}. ' +
        "Fix: did you mean positive?",
    );
    expect((await problemOf(() => resolveReward("lenght"))).problem.fix).toBe("did you mean length?");
    expect((await problemOf(() => resolveReward("toxicity"))).problem.fix).toBe(
      "choose one of the names or give a path",
    );
    expect((await problemOf(() => resolveReward("toString"))).kind).toBe("usage");
  });

  it("loads a module by path, absolute or relative to the working directory", async () => {
    const path = write("ok.mjs", "export default async (batch) => batch.map(({ response }) => response.length);");
    for (const given of [path, relative(process.cwd(), path)]) {
      const reward = await resolveReward(given);
      expect(await computeScores(reward, samples("abc", ""), given)).toEqual([3, 0]);
    }
  });

  it("a CommonJS module, compiled from `export default` or written as module.exports", async () => {
    const compiled =
      'Object.defineProperty(exports, "__esModule", { value: true });\nexports.default = (b) => b.map(() => 5);';
    for (const source of [
      compiled,
      "exports.default = (b) => b.map(() => 5);",
      "module.exports = (b) => b.map(() => 5);",
    ]) {
      const path = write(`common${source.length}.cjs`, source);
      expect(await computeScores(await resolveReward(path), samples("a"), path)).toEqual([5]);
    }
  });

  it("a missing module", async () => {
    const error = await problemOf(() => resolveReward("./no/such/reward.mjs"));
    expect(error.kind).toBe("usage");
    expect(error.message).toBe(
      "./no/such/reward.mjs: found nothing at this path, expected a JavaScript or TypeScript module. " +
        "Fix: check the path; it is relative to the working directory",
    );
  });

  it("a module without a default function", async () => {
    const named = write("named.mjs", "export const reward = () => [];");
    expect((await problemOf(() => resolveReward(named))).message).toContain(
      "found no default function among the exports (reward), expected a default export (batch) => number[]",
    );
    const empty = write("empty.mjs", "");
    expect((await problemOf(() => resolveReward(empty))).problem.found).toBe("no exports");
  });

  it("a module that throws while it loads", async () => {
    const path = write("broken.mjs", "throw new Error('no lexicon');");
    const error = await problemOf(() => resolveReward(path));
    expect(error.kind).toBe("reward");
    expect(error.problem.where).toBe(path);
    expect(error.problem.found).toBe(`an error while the module loaded (no lexicon) at ${path}:1:7`);
    expect(error.cause).toMatchObject({ message: "no lexicon" });
  });
});

describe("computeScores and checkScores", () => {
  const two = samples(" good", " bad");
  const found = async (scores: unknown) => (await problemOf(() => checkScores(scores, two, "mine"))).problem;

  it("returns good scores", async () => {
    expect(await computeScores(() => [1, -2], two, "mine")).toEqual([1, -2]);
  });

  it("a reward that throws, at once or later, keeps the cause", async () => {
    const cause = new TypeError("text is undefined");
    const now = () => {
      throw cause;
    };
    for (const reward of [now, async () => now()]) {
      const error = await problemOf(() => computeScores(reward, two, "./mine.mjs"));
      expect(error.kind).toBe("reward");
      expect(error.message).toBe(
        `reward ./mine.mjs: found an exception (TypeError: text is undefined) at ${placeOf(cause)}, with 2 samples, the first: ` +
          'prompt "An awful start,", response " good", expected 2 scores. ' +
          "Fix: correct the reward function; it is called with an array of { prompt, response, text, tokens, row, ... }",
      );
      expect(error.cause).toBe(cause);
    }
  });

  describe("a reward that fails", () => {
    const failing = (times: number, error = new Error("busy")) => {
      let calls = 0;
      const reward = async () => {
        if (++calls <= times) throw error;
        return [1, 2];
      };
      return { reward, calls: () => calls };
    };

    it("is called again, after a second, and says so", async () => {
      const messages: string[] = [];
      const { reward, calls } = failing(1);
      const start = performance.now();
      const options = { rewardRetries: 2, onRetry: (message: string) => messages.push(message) };
      expect(await computeScores(reward, two, "mine", options)).toEqual([1, 2]);
      expect(calls()).toBe(2);
      expect(performance.now() - start).toBeGreaterThan(950);
      expect(messages).toEqual([expect.stringMatching(/^reward mine: busy at .*; call 1 of 3, the next in 1 s$/)]);
    });

    it("is final after the last repetition, or when the others have failed", async () => {
      const { reward, calls } = failing(9);
      const error = await problemOf(() => computeScores(reward, two, "mine", { rewardRetries: 1 }));
      expect(calls()).toBe(2);
      expect(error.message).toMatch(
        /reward mine: found an exception \(busy\) at .*:\d+, in each of 2 calls with 2 samples/,
      );

      const others = new AbortController();
      const stopped = problemOf(() => computeScores(reward, two, "mine", { rewardRetries: 9, signal: others.signal }));
      setTimeout(() => others.abort(), 10);
      expect((await stopped).problem.found).toMatch(/an exception \(busy\) at .*, with 2 samples/);
      expect(calls()).toBe(3);
    });

    it("is not called again for a fault of the program, but for one of the network", async () => {
      for (const error of [new TypeError("x"), new ReferenceError("x"), new RangeError("x"), new SyntaxError("x")]) {
        const { reward, calls } = failing(9, error);
        await problemOf(() => computeScores(reward, two, "mine", { rewardRetries: 3 }));
        expect(calls(), error.name).toBe(1);
      }
      const refused = Object.assign(new Error("connect"), { code: "ECONNREFUSED" });
      const { reward, calls } = failing(1, new TypeError("fetch failed", { cause: refused }));
      expect(await computeScores(reward, two, "mine", { rewardRetries: 1 })).toEqual([1, 2]);
      expect(calls()).toBe(2);
    });

    it("is told when nobody waits for it any more, and leaves no listener behind", async () => {
      const others = new AbortController();
      const seen: AbortSignal[] = [];
      const never: RewardFunction = (_, { signal } = {}) => {
        if (signal) seen.push(signal);
        return new Promise(() => {});
      };
      await problemOf(() => computeScores(never, two, "mine", { rewardTimeout: 0.01, signal: others.signal }));
      expect(seen[0].aborted).toBe(true);
      await computeScores(() => [1, 2], two, "mine", { signal: others.signal });
      const { reward } = failing(1);
      await computeScores(reward, two, "mine", { rewardRetries: 1, signal: others.signal });
      expect(getEventListeners(others.signal, "abort")).toEqual([]);
    });

    it("is not called again for what it returned", async () => {
      let calls = 0;
      const reward = () => [++calls];
      await problemOf(() => computeScores(reward, two, "mine", { rewardRetries: 3 }));
      expect(calls).toBe(1);
    });

    it("by taking too long", async () => {
      let calls = 0;
      const reward = () => new Promise<number[]>((resolve) => setTimeout(resolve, 200, [++calls, 2]));
      const error = await problemOf(() => computeScores(reward, two, "mine", { rewardTimeout: 0.02 }));
      expect(error.message).toBe(
        'reward mine: found no answer within 0.02 seconds with 2 samples, the first: prompt "An awful start,", ' +
          'response " good", expected 2 scores. Fix: raise rewardTimeout, or lower rolloutBatchSize for smaller calls',
      );
      expect(await computeScores(reward, two, "mine", { rewardTimeout: 10 })).toEqual([2, 2]);
    });
  });

  it("not an array", async () => {
    expect(await found(undefined)).toMatchObject({
      where: "reward mine",
      found: "undefined",
      expected: "an array of 2 numbers",
    });
    expect((await found(3)).found).toBe("3");
    expect((await found(new Map())).found).toBe("a Map");
    expect((await found({ scores: [1, 2] })).found).toBe("an Object");
    expect((await found("high")).found).toBe('the string "high"');
  });

  it("too few and too many", async () => {
    expect(await found([1])).toMatchObject({ found: "1 scores", expected: "2, one per sample" });
    expect((await found([1, 2, 3])).found).toBe("3 scores");
  });

  it("a score that is no finite number, with the text it belongs to", async () => {
    const nan = await problemOf(() => checkScores([1, Number.NaN], two, "mine"));
    expect(nan.kind).toBe("reward");
    expect(nan.message).toBe(
      'reward mine, score 1 of 2, for prompt "An awful start,", response " bad": found NaN, expected a finite number. ' +
        "Fix: look for a division by zero, a logarithm of 0 or a missing return for such a text",
    );
    expect((await found([Number.NEGATIVE_INFINITY, 1])).found).toBe("-Infinity");
    expect((await found([1, "2"])).found).toBe('the string "2"');
    expect((await found([null, 2])).found).toBe("null");
    expect((await found([1, [2]])).found).toBe("an Array");
    expect((await found([1, 2n])).found).toBe("the BigInt 2n");
  });

  it("shortens a long text", async () => {
    const error = await problemOf(() => checkScores([Number.NaN], samples("x".repeat(500)), "mine"));
    expect(error.problem.where.length).toBeLessThan(170);
    expect(error.problem.where).toMatch(/x…"$/);
  });
});
