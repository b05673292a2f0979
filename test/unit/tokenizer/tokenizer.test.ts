import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { checkVocabulary, loadTokenizer } from "../../../src/tokenizer/load.ts";
import { Tokenizer, type TokenizerJSON } from "../../../src/tokenizer/tokenizer.ts";

let tiny: Tokenizer;
beforeAll(async () => {
  tiny = await loadTokenizer(fileURLToPath(new URL("../../../models/tiny", import.meta.url)));
});

/** One token per letter: a = 0, b = 1, c = 2, and a padding token 3. */
function letters(config = {}, overrides: Partial<TokenizerJSON> = {}): Tokenizer {
  const byteLevel = { type: "ByteLevel", add_prefix_space: false, use_regex: true };
  const pad = {
    id: 3,
    content: "[PAD]",
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
    special: true,
  };
  return Tokenizer.fromJson(
    {
      model: { type: "BPE", vocab: { a: 0, b: 1, c: 2 }, merges: [] },
      pre_tokenizer: byteLevel,
      decoder: byteLevel,
      added_tokens: [pad],
      ...overrides,
    },
    config,
  );
}

describe("encode", () => {
  it("truncates from the right", () => {
    expect(Array.from(letters().encode("abcabc", { truncate: 4 }))).toEqual([0, 1, 2, 0]);
    expect(Array.from(letters().encode("ab", { truncate: 4 }))).toEqual([0, 1]);
    expect(Array.from(letters().encode("ab", { truncate: 0 }))).toEqual([]);
  });

  it("refuses what is not a string", () => {
    expect(() => tiny.encode(undefined as unknown as string)).toThrow("encode: found undefined, expected a string");
  });

  it("encodes half a surrogate pair as U+FFFD", () => {
    for (const text of [
      "\ud83d",
      "a\ud83d b",
      "\ude00\ude00",
      "x \ude00\ud83d!",
      "\ud83d\n\ud83d<|endoftext|>\ud83d",
    ]) {
      const wellFormed = text.replace(/[\ud800-\udfff]/gu, "\ufffd");
      expect(Array.from(tiny.encode(text)), JSON.stringify(text)).toEqual(Array.from(tiny.encode(wellFormed)));
      expect(tiny.decode(tiny.encode(text))).toBe(wellFormed);
    }
    // A whole pair is one character.
    expect(tiny.decode(tiny.encode("\ud83d\ude00"))).toBe("😀");
  });

  it("is undone by decode for any text", () => {
    const special = fc.constantFrom("<|endoftext|>", " ", "\n", "\u0085", "'s", "\ufeff", "\u0000");
    const text = fc.array(fc.oneof(fc.string({ unit: "binary" }), special)).map((parts) => parts.join(""));
    fc.assert(
      fc.property(text, (t) => tiny.decode(tiny.encode(t)) === t),
      { seed: 1, numRuns: 500 },
    );
  });
});

describe("encodeBatch", () => {
  const texts = ["ab", "", "cbaab"];

  it("pads on the left", () => {
    const batch = letters({ pad_token: "[PAD]" }).encodeBatch(texts, { paddingSide: "left" });
    expect(batch).toEqual({
      inputIds: Int32Array.of(3, 3, 3, 0, 1, 3, 3, 3, 3, 3, 2, 1, 0, 0, 1),
      attentionMask: Uint8Array.of(0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1),
      rows: 3,
      width: 5,
      lengths: Int32Array.of(2, 0, 5),
    });
  });

  it("pads on the right, with the end token when there is no padding token", () => {
    const batch = letters({ eos_token: { content: "c" } }).encodeBatch(texts, { paddingSide: "right" });
    expect(batch.inputIds).toEqual(Int32Array.of(0, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 0, 0, 1));
    expect(batch.attentionMask).toEqual(Uint8Array.of(1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1));
  });

  it("pads with 0 when there is neither", () => {
    const { inputIds } = letters().encodeBatch(["b", "bb"], { paddingSide: "right" });
    expect(inputIds).toEqual(Int32Array.of(1, 0, 1, 1));
  });

  it("truncates on either side", () => {
    const ids = (truncation: "left" | "right") =>
      letters().encodeBatch(texts, { paddingSide: "left", maxLength: 3, truncation }).inputIds;
    expect(Array.from(ids("right"))).toEqual([0, 0, 1, 0, 0, 0, 2, 1, 0]);
    expect(Array.from(ids("left"))).toEqual([0, 0, 1, 0, 0, 0, 0, 0, 1]);
  });

  it("names the row that is too long", () => {
    expect(() => letters().encodeBatch(texts, { paddingSide: "left", maxLength: 4 })).toThrow(
      "row 2: found 5 tokens, expected at most 4. Fix: shorten the text, or allow truncation",
    );
  });

  it("takes no texts at all", () => {
    expect(letters().encodeBatch([], { paddingSide: "left" })).toMatchObject({ rows: 0, width: 0 });
  });
});

describe("decode", () => {
  it("leaves spaces before punctuation alone", () => {
    const text = "it 's good . is n't it ?  Yes , ' quite '";
    expect(tiny.decode(tiny.encode(text))).toBe(text);
  });

  it("names the position of an id outside the vocabulary", () => {
    expect(() => tiny.decode([5, 8192])).toThrow(
      "decode, position 1: found token id 8192, expected an id of the tokenizer's vocabulary (0 to 8191). " +
        "Fix: use the tokenizer the ids were made with",
    );
    for (const id of [-1, 1.5, Number.NaN]) {
      expect(() => tiny.decode([id])).toThrow(`decode, position 0: found token id ${id}`);
      expect(() => tiny.decodeEach([1, 2, id])).toThrow("decode, position 2");
      expect(() => tiny.createStream().push(id)).toThrow(`found token id ${id}`);
    }
  });

  it("gives an empty text for no ids", () => {
    expect(tiny.decode([])).toBe("");
    expect(tiny.decode(new Int32Array(0), { skipSpecialTokens: true })).toBe("");
    expect(tiny.decodeEach([])).toEqual([]);
  });
});

describe("createStream", () => {
  it("never splits a character", () => {
    const ids = tiny.encode("中😀é");
    const stream = tiny.createStream();
    const pieces = Array.from(ids, (id) => stream.push(id));
    expect(pieces.filter((piece) => piece !== "")).toEqual(["中", "😀", "é"]);
    expect(ids.length).toBeGreaterThan(3);
    expect(stream.end()).toBe("");
  });

  it("gives an unfinished character at the end as U+FFFD, and starts afresh", () => {
    const ids = tiny.encode("a😀");
    const stream = tiny.createStream();
    expect(Array.from(ids.slice(0, -1), (id) => stream.push(id)).join("")).toBe("a");
    expect(stream.end()).toBe("\ufffd");
    expect(stream.push(tiny.encode("b")[0])).toBe("b");
  });

  it("gives a real U+FFFD with the token after it", () => {
    const stream = tiny.createStream();
    const text = "x\ufffdy";
    const pieces = Array.from(tiny.encode(text), (id) => stream.push(id));
    expect(pieces.join("")).toBe(text);
  });

  it("keeps the spaces of a tokenizer that joins words", () => {
    const tokenizer = Tokenizer.fromJson({
      model: {
        type: "WordPiece",
        vocab: { "[UNK]": 0, hello: 1, wor: 2, "##ld": 3 },
        unk_token: "[UNK]",
        continuing_subword_prefix: "##",
      } as never,
      pre_tokenizer: { type: "BertPreTokenizer" },
      decoder: { type: "WordPiece", prefix: "##", cleanup: false } as never,
    });
    expect(tokenizer.isByteLevel).toBe(false);
    expect(Array.from(tokenizer.encode("hello world"))).toEqual([1, 2, 3]);
    const stream = tokenizer.createStream();
    expect([1, 2, 3].map((id) => stream.push(id))).toEqual(["hello", " wor", "ld"]);
  });
});

describe("vocabulary", () => {
  it("counts added tokens, and finds the named ones", () => {
    expect(letters().vocabSize).toBe(4);
    expect(letters().eosTokenId).toBe(null);
    expect(letters({ eos_token: "b", pad_token: { content: "[PAD]" } })).toMatchObject({
      eosTokenId: 1,
      padTokenId: 3,
    });
    expect(letters({ eos_token: null, pad_token: null })).toMatchObject({ eosTokenId: null, padTokenId: null });
  });

  it("may be smaller than the model's, not larger", () => {
    checkVocabulary(tiny, 8192, "model");
    checkVocabulary(tiny, 8256, "model");
    expect(() => checkVocabulary(tiny, 8191, "some/model")).toThrow(
      /^some\/model: found a vocabulary of 8191 in the model and 8192 in the tokenizer \(.*tokenizer\.json\), expected/,
    );
  });

  it.each([
    [{ model: undefined as never }, "tokenizer: found no model.vocab"],
    [{ model: { type: "BPE", vocab: { a: 0 } } }, "tokenizer: found a BPE model without model.merges"],
    [{ model: { type: "BPE", vocab: {}, merges: [] }, added_tokens: [] }, "tokenizer: found an empty vocabulary"],
    [
      { model: { type: "BPE", vocab: { a: -1 }, merges: [] } },
      'found id -1 for token "a", expected a whole number from 0',
    ],
    [
      { decoder: { type: "Nonsense" } },
      "tokenizer: found a tokenizer that cannot be built (Unknown Decoder type: Nonsense)",
    ],
  ])("refuses a broken tokenizer.json: %j", (overrides, message) => {
    expect(() => letters({}, overrides)).toThrow(message);
  });

  it("adds a token that is configured but not in the vocabulary, and says so", () => {
    // transformers 5.24: len(tokenizer) 5, pad_token_id 4, tokenizer("a<pad>b")["input_ids"] [0, 4, 1].
    const tokenizer = letters({ pad_token: "<pad>" });
    expect(tokenizer).toMatchObject({ vocabSize: 5, rows: 4, padTokenId: 4 });
    expect(Array.from(tokenizer.encode("a<pad>b"))).toEqual([0, 4, 1]);
    expect(tokenizer.decode([0, 4, 1])).toBe("a<pad>b");
    expect(tokenizer.decode([0, 4, 1], { skipSpecialTokens: true })).toBe("ab");
    expect(tokenizer.notes).toEqual([
      'tokenizer: "<pad>" is configured but not in the vocabulary; it was added with id 4, as transformers does. A model ' +
        "without a row for it never draws it, and refuses a text that holds it.",
    ]);
    // The model needs no row for it; padding, which no one reads, is an id that has one.
    checkVocabulary(tokenizer, 4, "model");
    expect(Array.from(tokenizer.encodeBatch(["a", "bc"], { paddingSide: "right" }).inputIds)).toEqual([0, 0, 1, 2]);
    expect(letters({ pad_token: "[PAD]" }).notes).toEqual([]);
  });

  it.each([
    [{ added_tokens_decoder: { 7: null } }, {}],
    [{ additional_special_tokens: [3] }, {}],
    [{}, { normalizer: { type: "Replace" } }],
    [{}, { pre_tokenizer: { type: "Split", pattern: { Regex: "(" }, behavior: "Isolated" } }],
    [
      {},
      {
        post_processor: { type: "TemplateProcessing", single: [{ SpecialToken: { id: "[CLS]" } }], special_tokens: {} },
      },
    ],
    [{}, { model: { type: "BPE", vocab: { a: 0 }, merges: ["a b"] } }],
    [{}, { model: { type: "BPE", vocab: { a: 0 }, merges: [5] as never } }],
  ])("says of damaged files %j %j where they are", (config, overrides) => {
    const build = () => letters(config as never, overrides as never).encode("a");
    expect(build).toThrow(
      expect.objectContaining({ kind: "checkpoint", message: expect.stringMatching(/^tokenizer/) }),
    );
  });

  it("says that a character has no token", () => {
    const words = letters(
      {},
      { model: { type: "WordLevel", vocab: { a: 0 }, unk_token: "[UNK]" }, pre_tokenizer: null },
    );
    expect(() => words.encode("b")).toThrow(
      'tokenizer: found a tokenizer that cannot be used (unk_token "[UNK]" is not in the vocabulary)',
    );
  });

  it("names a setting that is no token", () => {
    expect(() => letters({ eos_token: 3 as never })).toThrow(
      "tokenizer, eos_token: found 3, expected a token: a string, or an object with content",
    );
  });
});
