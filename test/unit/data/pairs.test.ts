/** @file Preference pairs: files, conversations, the seam of prompt and response, and what is wrong with them. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { checkedPair, encodePairs, readPairs } from "../../../src/data/pairs.ts";
import type { Tokenizer } from "../../../src/tokenizer/tokenizer.ts";
import { tokenizer } from "../../support/ppo.ts";

const directory = mkdtempSync(join(tmpdir(), "valuehead-pairs-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
const file = (name: string, text: string) => {
  writeFileSync(join(directory, name), text);
  return join(directory, name);
};
const sizes = { context: 64, contextName: "n_positions" };
const pair = { prompt: "This movie was", chosen: " great.", rejected: " bad." };

describe("reading", () => {
  test.each([
    ["a.jsonl", `${JSON.stringify({ ...pair, id: 1 })}\n`],
    ["a.json", JSON.stringify([pair])],
    ["a.csv", "prompt,chosen,rejected\nThis movie was, great., bad.\n"],
  ])("%s", async (name, text) => {
    expect(await readPairs(file(name, text))).toEqual([pair]);
  });

  const user = (content: string) => ({ role: "user", content });
  const assistant = (content: string) => ({ role: "assistant", content });
  test("conversations, with a prompt or with what both begin with", () => {
    const chat = { prompt: [user("Hi")], chosen: [assistant("Hello!")], rejected: [assistant("What?")] };
    expect(checkedPair(chat, "line 1")).toEqual(chat);
    const whole = { chosen: [user("Hi"), assistant("Hello!")], rejected: [user("Hi"), assistant("What?")] };
    expect(checkedPair(whole, "line 1")).toEqual(chat);
    expect(() => checkedPair({ chosen: [user("Hi")], rejected: [user("Ho")] }, "line 1")).toThrow(
      "line 1: found two conversations that begin differently, and no prompt",
    );
  });

  test.each<[object | string, string]>([
    [
      { prompt: "a", chosen: "b" },
      "line 3: found no rejected (there are prompt, chosen), expected a prompt with two responses",
    ],
    [{ question: "a", chosen: "b", rejected: "c" }, "line 3: found no prompt (there are question, chosen, rejected)"],
    [{ prompt: "a", chosen: "b", rejected: 3 }, "line 3, rejected: found 3, expected a text"],
    [{ prompt: "a", chosen: [], rejected: "c" }, "line 3, prompt: found"],
    ["text", "line 3: found no prompt"],
  ])("%o is refused", (row, message) => {
    expect(() => checkedPair(row, "line 3")).toThrow(message);
  });

  test("plain text, and a file with nothing in it", async () => {
    await expect(readPairs(file("a.txt", "x\n"))).rejects.toThrow('write one {"prompt": "...", "chosen": "..."');
    await expect(readPairs(file("b.jsonl", "\n"))).rejects.toThrow("found nothing in it, expected at least one pair");
  });
});

describe("as token ids", () => {
  test("prompt, response and the end of text", () => {
    const { prompts, chosen, rejected, notes } = encodePairs([pair], tokenizer, sizes);
    expect(tokenizer.decode(prompts[0])).toBe("This movie was");
    expect(tokenizer.decode(chosen[0], { skipSpecialTokens: false })).toBe(" great.<|endoftext|>");
    expect(rejected[0].at(-1)).toBe(tokenizer.eosTokenId);
    expect(notes).toEqual([]);
  });

  test("where prompt and response are one token at their seam, the prompt ends before it", () => {
    const { prompts, chosen } = encodePairs(
      [{ prompt: "This mov", chosen: "ie was", rejected: "ie" }],
      tokenizer,
      sizes,
    );
    const whole = [...prompts[0], ...chosen[0]];
    expect(whole.slice(0, -1)).toEqual(Array.from(tokenizer.encode("This movie was")));
    expect(prompts[0].length).toBeLessThan(tokenizer.encode("This mov").length + 1);
  });

  test("a response from nothing follows the end of text", () => {
    const { prompts } = encodePairs([{ ...pair, prompt: "" }], tokenizer, sizes);
    expect(Array.from(prompts[0])).toEqual([tokenizer.eosTokenId]);
  });

  test("conversations are written by the template, and what it opens for the assistant is the prompt's", () => {
    const texts: string[] = [];
    const chatting = {
      eosTokenId: 0,
      applyChatTemplate: (messages: { role: string; content: string }[], { addGenerationPrompt = false } = {}) => {
        const text = messages.map(({ role, content }) => `<${role}>${content}</>`).join("");
        texts.push(addGenerationPrompt ? `${text}<assistant>` : text);
        return { ids: Int32Array.from(texts.at(-1) as string, (c) => c.charCodeAt(0)) };
      },
    } as unknown as Tokenizer;
    const chat = {
      prompt: [{ role: "user", content: "Hi" }],
      chosen: [{ role: "assistant", content: "Hello" }],
      rejected: [{ role: "assistant", content: "No" }],
    };
    const { prompts, chosen, rejected } = encodePairs([chat], chatting, sizes);
    expect([prompts[0], chosen[0], rejected[0]].map((ids) => String.fromCharCode(...ids))).toEqual([
      "<user>Hi</><assistant>",
      "Hello</>",
      "No</>",
    ]);
  });

  test("pairs that say nothing are left out, and all of them are an error", () => {
    const same = { ...pair, rejected: pair.chosen };
    expect(encodePairs([pair, same], tokenizer, sizes).notes).toEqual([
      "1 of 2 pairs left out: chosen and rejected are the same",
    ]);
    expect(() => encodePairs([same], tokenizer, sizes)).toThrow(
      "1 pair: found the same response twice in all of them, expected pairs of a response that is preferred and another one",
    );
  });

  test("what is too long is refused, left out or cut", () => {
    const long = { ...pair, chosen: " great".repeat(80) };
    expect(() => encodePairs([long], tokenizer, sizes)).toThrow(
      /pair 1: found a prompt of 3 tokens, and responses of 8\d and 3/,
    );
    expect(encodePairs([pair, long], tokenizer, sizes, "drop").prompts).toHaveLength(1);
    const { prompts, chosen, notes } = encodePairs([long], tokenizer, sizes, "truncate");
    expect(prompts[0].length + chosen[0].length).toBe(64);
    expect(notes).toHaveLength(1);
  });
});
