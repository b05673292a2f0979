/** @file Conversations as text and ids: what transformers' apply_chat_template makes of them with the templates of public models. */
import { describe, expect, test } from "vitest";
import { strftime } from "../../src/base/strftime.ts";
import { chatGolden, chatTokenizer } from "../support/chat.ts";

const now = new Date(chatGolden.now);

describe.each(chatGolden.groups)("the template of $name", (group) => {
  const tokenizer = chatTokenizer(group);

  test.each(group.cases.filter((c) => c.text !== undefined))("$name", (c) => {
    const options = { addGenerationPrompt: c.prompt, continueFinalMessage: c.open, args: c.args, now };
    const { text, ids } = tokenizer.applyChatTemplate(c.messages, options);
    expect(text).toBe(c.text);
    expect(Array.from(ids)).toEqual(c.ids);
  });

  const refused = group.cases.filter((c) => c.error !== undefined);
  if (refused.length === 0) return;
  test("refuses what transformers refuses, in the words of the template", () => {
    for (const c of refused) {
      const options = { addGenerationPrompt: c.prompt, continueFinalMessage: c.open, args: c.args, now };
      const said = /undefined|has no attribute|concatenate/.test(c.error as string) ? "" : (c.error as string);
      expect(() => tokenizer.applyChatTemplate(c.messages, options), c.name).toThrow(said);
    }
  });
});

test.each(chatGolden.dates)("the date $at in words", ({ at, text }) => {
  expect(strftime(new Date(at), chatGolden.format)).toBe(text);
});

test("a tokenizer that puts a token in front of a text puts none in front of a template's", () => {
  const group = chatGolden.groups.find(({ name }) => name === "llama3");
  const tokenizer = chatTokenizer(group as never);
  const { text, ids } = tokenizer.applyChatTemplate([{ role: "user", content: "x" }]);
  const bos = tokenizer.encode("<|begin_of_text|>", { addSpecialTokens: false })[0];
  expect(ids[0]).toBe(bos);
  expect(ids[1]).not.toBe(bos);
  expect(Array.from(tokenizer.encode(text))).toEqual([bos, ...ids]);
});
