/** @file Prompts with responses: files, what of them is learned, and what is wrong with them. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { type Corpus, heldOut, tokenizeCorpus } from "../../../src/data/corpus.ts";
import { checkedResponse, encodeResponse, readResponses } from "../../../src/data/responses.ts";
import { tokenizer } from "../../support/ppo.ts";

const directory = mkdtempSync(join(tmpdir(), "valuehead-responses-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
const file = (name: string, text: string) => {
  writeFileSync(join(directory, name), text);
  return join(directory, name);
};
const all = async (...paths: string[]) => {
  const rows = [];
  for await (const row of readResponses(paths)) rows.push(row);
  return rows;
};
const user = (content: string) => ({ role: "user", content });
const assistant = (content: string) => ({ role: "assistant", content });

test("files of texts and of conversations", async () => {
  const text = { prompt: "2 + 2 =", response: " 4" };
  const chat = { prompt: [user("Hi")], response: [assistant("Hello")] };
  expect(
    await all(
      file("a.jsonl", `${JSON.stringify({ ...text, id: 1 })}\n`),
      file("b.csv", "prompt,completion\n2 + 2 =, 4\n"),
    ),
  ).toEqual([text, text]);
  expect(await all(file("c.json", JSON.stringify([{ messages: [user("Hi"), assistant("Hello")] }])))).toEqual([chat]);
  await expect(all(file("d.txt", "x"))).rejects.toThrow(
    "found plain text, expected rows with the columns prompt and response",
  );
});

test.each<[unknown, string]>([
  [{ prompt: "a" }, "line 3: found no response (there are prompt), expected a prompt with its response"],
  [{ response: "a" }, "line 3: found no prompt (there are response)"],
  [{ prompt: "a", response: 4 }, "line 3, response: found 4, expected a text"],
  [
    { messages: [user("Hi")] },
    "line 3, messages: found one message, expected a conversation that ends with the assistant's answer",
  ],
  [{ messages: [assistant("a"), user("b")] }, "found a last message of the user"],
])("%o is refused", (row, message) => expect(() => checkedResponse(row, "line 3")).toThrow(message));

describe("a corpus of them", () => {
  const rows = [
    { prompt: "This movie was", response: " great." },
    { prompt: "It is", response: " a bore, and long." },
    { prompt: "", response: "Well." },
  ];

  test("learns the responses with their ends, and nothing of the prompts", async () => {
    const { ids, learned, documentEnds, documentBytes } = await tokenizeCorpus(rows, tokenizer);
    const pieces = rows.map((_, i) => {
      const [from, to] = [documentEnds[i - 1] ?? 0, documentEnds[i]];
      const part = (is: number) =>
        tokenizer.decode(
          Int32Array.from(ids.subarray(from, to)).filter((__, t) => learned?.[from + t] === is),
          { skipSpecialTokens: false },
        );
      return [part(0), part(1)];
    });
    expect(pieces).toEqual(rows.map(({ prompt, response }) => [prompt, `${response}<|endoftext|>`]));
    expect(documentBytes).toEqual(rows.map(({ response }) => response.length));
    expect(encodeResponse(rows[0], tokenizer).begin).toBe(tokenizer.encode("This movie was").length);
  });

  test("keeps what is learned when documents are set aside", async () => {
    const corpus = await tokenizeCorpus(rows, tokenizer);
    const parts = heldOut(corpus, 0.3, 1);
    const count = ({ learned = new Uint8Array() }: Corpus) => learned.reduce((a, b) => a + b, 0);
    expect(count(parts.train) + count(parts.heldOut)).toBe(count(corpus));
    for (const { ids, learned } of [parts.train, parts.heldOut]) expect(learned?.length).toBe(ids.length);
    expect((await tokenizeCorpus(["text"], tokenizer)).learned).toBeUndefined();
  });
});
