/** @file Text in, text out: what comes out is what generate() draws, in whole characters, as it is drawn. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { generate } from "../../../src/sample/generate.ts";
import { TextModel } from "../../../src/ship/text-model.ts";
import { Tokenizer } from "../../../src/tokenizer/tokenizer.ts";
import { root } from "../../support/cli.ts";
import { smallModel } from "../../support/families.ts";

let writer: TextModel;
beforeAll(async () => {
  writer = await TextModel.open("tiny", { threads: 1 });
});
afterAll(() => writer.dispose());

const PROMPT = "This movie was";
const greedy = { topK: 1, maxNewTokens: 16 } as const;

async function piecesOf(stream: AsyncIterable<string>): Promise<string[]> {
  const pieces: string[] = [];
  for await (const piece of stream) pieces.push(piece);
  return pieces;
}

/** What generate() draws after a prompt, as text. */
async function drawn(text: TextModel, prompt: string, options: { topK?: number; maxNewTokens: number; seed?: number }) {
  const query = text.tokenizer.encode(prompt);
  const { responses } = await generate(text.model, [query], options);
  return text.tokenizer.decodeAfter(query, responses[0].tokens, { skipSpecialTokens: true });
}

test("complete() gives the text of what generate() draws; the pieces of stream() are that text", async () => {
  const want = await drawn(writer, PROMPT, greedy);
  expect(want.length).toBeGreaterThan(20);
  expect(await writer.complete(PROMPT, greedy)).toBe(want);
  const pieces = await piecesOf(writer.stream(PROMPT, greedy));
  expect(pieces.join("")).toBe(want);
  expect(pieces.length).toBeGreaterThan(8);
  expect(await writer.complete(PROMPT, { maxNewTokens: 16, seed: 3 })).toBe(
    await drawn(writer, PROMPT, { maxNewTokens: 16, seed: 3 }),
  );
});

test("the first piece is there long before the last token is drawn", async () => {
  const timed = async (work: Promise<unknown>) => {
    const start = performance.now();
    await work;
    return performance.now() - start;
  };
  const options = { ...greedy, maxNewTokens: 100, eosTokenId: null };
  const whole = await timed(writer.complete(PROMPT, options));
  const stream = writer.stream(PROMPT, options);
  const first = await timed(stream.next());
  await stream.return();
  expect(first).toBeLessThan(whole / 3);
});

test("tokens that end in the middle of a character are held back until it is whole", async () => {
  // Random weights draw bytes of all kinds.
  const tokenizer = Tokenizer.fromJson(
    JSON.parse(readFileSync(join(root, "models", "tiny", "tokenizer.json"), "utf8")),
  );
  const model = smallModel("gpt2", { vocabSize: 8192, context: 128 }, { seed: 9, threads: 1, tokenizer });
  const bytes = Array.from({ length: 8192 }, (_, id) => id).filter((id) => !tokenizer.decode([id]).includes("\uFFFD"));
  const random = new TextModel(model, tokenizer);
  const options = { maxNewTokens: 60, bannedTokens: bytes.filter((id) => id > 300), seed: 1 };
  const text = await random.complete("é", options);
  const pieces = await piecesOf(random.stream("é", options));
  expect(pieces.join("")).toBe(text);
  expect(pieces.some((piece) => /[^\p{ASCII}]/u.test(piece))).toBe(true);
  expect(text).toMatch(/\uFFFD./); // bytes that are no character, and not only at the end
  for (const piece of pieces.slice(0, -1)) expect(piece).not.toMatch(/\uFFFD$/); // might yet become one
});

describe("stop texts", () => {
  test("end the text before them, wherever tokens end; nothing of them is ever given out", async () => {
    const want = await drawn(writer, PROMPT, greedy);
    for (const [from, to] of [
      [5, 12],
      [9, 11],
      [1, 2],
    ]) {
      const stop = want.slice(from, to);
      const pieces = await piecesOf(writer.stream(PROMPT, { ...greedy, stop: ["@@", stop] }));
      expect(pieces.join("")).toBe(want.slice(0, want.indexOf(stop)));
    }
  });

  test("that never come change nothing, be it that the text ends with their beginning", async () => {
    const want = await drawn(writer, PROMPT, greedy);
    expect(await writer.complete(PROMPT, { ...greedy, stop: [`${want.slice(-3)}@`, "@@"] })).toBe(want);
    await expect(writer.complete(PROMPT, { ...greedy, stop: ["a", ""] })).rejects.toThrow(
      "stop, text 2: found an empty text",
    );
  });
});

test("whoever stops reading ends it, and so does a signal; the model can be used again", async () => {
  const want = await drawn(writer, PROMPT, greedy);
  for await (const _ of writer.stream(PROMPT, { ...greedy, maxNewTokens: 100 })) break;
  const controller = new AbortController();
  let text = "";
  for await (const piece of writer.stream(PROMPT, { topK: 1, maxNewTokens: 100, signal: controller.signal })) {
    text += piece;
    controller.abort();
  }
  const whole = await drawn(writer, PROMPT, { topK: 1, maxNewTokens: 100 });
  expect(whole.startsWith(text)).toBe(true);
  expect(text.length).toBeLessThan(whole.length / 2);
  expect(await writer.complete(PROMPT, greedy)).toBe(want);
});

test("without a length it fills what the context has room for, up to 256 tokens", async () => {
  const tokenizer = writer.tokenizer;
  const model = smallModel("qwen2", { vocabSize: 8192, context: 20 }, { seed: 2, threads: 1, tokenizer });
  const text = new TextModel(model, tokenizer);
  const query = tokenizer.encode(PROMPT);
  expect(await text.complete(PROMPT, { topK: 1 })).toBe(
    await drawn(text, PROMPT, { topK: 1, maxNewTokens: 20 - query.length }),
  );
  await expect(text.complete(PROMPT.repeat(20))).rejects.toThrow("expected at most 19: the context of 20 less 1");
});

describe("conversations", () => {
  const template =
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}";
  const chat = () => {
    const json = JSON.parse(readFileSync(join(root, "models", "tiny", "tokenizer.json"), "utf8"));
    return new TextModel(writer.model, Tokenizer.fromJson(json, { chat_template: template }));
  };

  test("are answered: by the template, with the beginning of an answer", async () => {
    const said = "[user]Was it good?\n[assistant]";
    expect(await chat().complete([{ role: "user", content: "Was it good?" }], greedy)).toBe(
      await drawn(writer, said, greedy),
    );
    const system = `[system]Be brief.\n${said}`;
    const answered = await chat().complete([{ role: "user", content: "Was it good?" }], {
      ...greedy,
      system: "Be brief.",
    });
    expect(answered).toBe(await drawn(writer, system, greedy));
  });

  test("of a model without a template are refused", async () => {
    await expect(writer.complete([{ role: "user", content: "Hi" }], greedy)).rejects.toThrow("chat template");
  });
});

describe("score", () => {
  /** log p of ids[from ...], from the logits of forward(). */
  async function logprobOf(ids: number[], from: number): Promise<number> {
    const { logits } = await writer.model.forward({ inputIds: [ids] });
    const V = writer.model.sizes.vocabSize;
    let sum = 0;
    for (let t = from; t < ids.length; t++) {
      const row = Array.from(logits.data.subarray((t - 1) * V, t * V));
      const top = Math.max(...row);
      sum += row[ids[t]] - top - Math.log(row.reduce((s, x) => s + Math.exp(x - top), 0));
    }
    return sum;
  }

  test("of a text, and of an answer to a prompt", async () => {
    const ids = [...writer.tokenizer.encode(PROMPT)];
    const more = [...writer.tokenizer.encode(" very good.")];
    const alone = await writer.score(PROMPT);
    expect(alone.tokens).toBe(ids.length - 1);
    expect(alone.logprob).toBeCloseTo(await logprobOf(ids, 1), 3);
    const answer = await writer.score(" very good.", PROMPT);
    expect(answer.tokens).toBe(more.length);
    expect(answer.logprob).toBeCloseTo(await logprobOf([...ids, ...more], ids.length), 3);
    expect(answer.perplexity).toBeCloseTo(Math.exp(-answer.logprob / more.length), 9);
    const worse = await writer.score(" xylophone.", PROMPT);
    expect(worse.perplexity).toBeGreaterThan(answer.perplexity);
  });

  test("of nothing is refused", async () => {
    await expect(writer.score("")).rejects.toThrow("score: found a text of 0 tokens, expected at least two");
    await expect(writer.score("", PROMPT)).rejects.toThrow("score: found an empty answer");
  });
});
