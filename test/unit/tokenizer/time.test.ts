/** @file The time a tokenizer takes grows with the length of the text, and a pattern of a hostile file is given up. */
import { Worker } from "node:worker_threads";
import { describe, expect, test, vi } from "vitest";
import { packagePath } from "../../../src/platform/files.ts";
import { loadTokenizer } from "../../../src/tokenizer/load.ts";
import { Tokenizer } from "../../../src/tokenizer/tokenizer.ts";

/** 10 seconds of patience take a fifth of one here. */
vi.mock("../../../src/platform/time-limit.ts", async (original) => {
  const { withinTime } = await original<typeof import("../../../src/platform/time-limit.ts")>();
  return { withinTime: (seconds: number, work: () => unknown) => withinTime(seconds / 50, work) };
});
const { withinTime } = await import("../../../src/platform/time-limit.ts");

const vocab = { a: 0, "!": 1 };
const bpe = { type: "BPE", vocab, merges: [], unk_token: null };
/** Takes twice as long for every further a that no ! follows. */
const DOUBLING = { Regex: "(a+)+!" };
const hostile = "a".repeat(60);

test("a chat template whose loops do not end is given up", () => {
  const loop = "{% for i in range(100000) %}";
  const chat_template = `{% if messages|length > 1 %}${loop.repeat(3)}${"{% endfor %}".repeat(3)}{% endif %}a`;
  const tokenizer = Tokenizer.fromJson({ model: bpe } as never, { chat_template });
  const message = { role: "user", content: "a" };
  expect(tokenizer.applyChatTemplate([message])).toEqual({ text: "a", ids: Int32Array.of(0) });
  expect(() => tokenizer.applyChatTemplate([message, message])).toThrow(
    "tokenizer, chat template: found a template that fails on messages (roles user, user): it takes more than 10 seconds",
  );
});

describe("a pattern that takes for ever", () => {
  const where = "somebody's tokenizer.json";
  const message =
    /^somebody's tokenizer\.json: found a regular expression that takes more than 10 seconds on a text of 60 /;
  test.each([
    ["splits", { pre_tokenizer: { type: "Split", pattern: DOUBLING, behavior: "Isolated", invert: false } }],
    [
      "replaces, inside a sequence",
      { normalizer: { type: "Sequence", normalizers: [{ type: "Replace", pattern: DOUBLING, content: "" }] } },
    ],
  ])("%s", (_, parts) => {
    const tokenizer = Tokenizer.fromJson({ model: bpe, ...parts } as never, {}, { where });
    expect(() => tokenizer.encode(hostile)).toThrow(message);
    expect([...tokenizer.encode("a".repeat(8))]).toEqual(new Array(8).fill(0)); // and goes on with others
  });

  test("replaces what is decoded", () => {
    const decoder = { type: "Replace", pattern: DOUBLING, content: "" };
    const long = { type: "BPE", vocab: { [hostile]: 0 }, merges: [], unk_token: null };
    const tokenizer = Tokenizer.fromJson({ model: long, decoder } as never, {}, { where });
    expect(() => tokenizer.decode([0])).toThrow(/takes more than 10 seconds/);
  });
});

test("withinTime ends work in a thread too, and passes on results and errors", async () => {
  expect(withinTime(500, () => 7)).toEqual({ result: 7 });
  expect(() =>
    withinTime(500, () => {
      throw new RangeError("mine");
    }),
  ).toThrow(RangeError);
  const code = `
    const vm = require("node:vm"), { parentPort } = require("node:worker_threads");
    const context = vm.createContext({ work: () => /^(a+)+$/.test("a".repeat(60) + "!") });
    try { new vm.Script("work()").runInContext(context, { timeout: 100 }); } catch (e) { parentPort.postMessage(e.code); }`;
  const worker = new Worker(code, { eval: true });
  expect(await new Promise((resolve) => worker.once("message", resolve))).toBe("ERR_SCRIPT_EXECUTION_TIMEOUT");
  await worker.terminate();
});

describe("long texts", () => {
  const texts = {
    "one word": "a".repeat(100_000),
    "spaces before a word": `${" ".repeat(100_000)}x`,
    "words and spaces": `${"a".repeat(50_000)}${" ".repeat(50_000)}!`,
    dots: ".".repeat(100_000),
    "special tokens with spaces between": "<|endoftext|>  ".repeat(8_000),
    Chinese: "\u4e2d".repeat(50_000),
    "combining marks": `e${"\u0301".repeat(50_000)}`,
  };
  test.each([
    ["byte-level", packagePath("models", "tiny")],
    ["SentencePiece", new URL("../../golden/lookalikes/abeja_gpt2-large-japanese", import.meta.url).pathname],
  ])("%s", async (_, directory) => {
    const tokenizer = await loadTokenizer(directory);
    for (const [name, text] of Object.entries(texts)) {
      const began = performance.now();
      const ids = tokenizer.encode(text);
      tokenizer.decode(ids);
      expect(performance.now() - began, name).toBeLessThan(8_000); // 14 to 19 s before, for six of the seven
    }
  });
});
