/** @file Runs on models whose metadata disagree: padded vocabularies, end tokens that do not exist, several end tokens. */
import { describe, expect, test } from "vitest";
import type { PPOConfig } from "../../src/algorithms/options/ppo-options.ts";
import { PPOTrainer } from "../../src/algorithms/ppo.ts";
import { type GPT2Config, makeConfig } from "../../src/families/gpt2.ts";
import { GPT2HeadWithValueModel } from "../../src/families/index.ts";
import { responseEnds } from "../../src/sample/ends.ts";
import { generate } from "../../src/sample/generate.ts";
import { Tokenizer } from "../../src/tokenizer/tokenizer.ts";
import { small } from "../support/ppo.ts";

/** Letters with holes at 4, 9 and 10; </s> is 12. The model has 16 rows. */
const vocab = { a: 0, b: 1, c: 2, d: 3, e: 5, f: 6, g: 7, h: 8, i: 11 };
const [EOS, V] = [12, 16];
const HOLES = [4, 9, 10, 13, 14, 15];
const tokenizer = Tokenizer.fromJson(
  {
    model: { type: "BPE", vocab, merges: [] },
    added_tokens: [{ id: EOS, content: "</s>", special: true } as never],
    decoder: { type: "Fuse" },
  },
  { eos_token: "</s>" },
);

/** A random model that likes ids without text best. */
function newModel(changes: Partial<GPT2Config> = {}): GPT2HeadWithValueModel {
  const shape = { vocabSize: V, nEmbd: 16, nLayer: 1, nHead: 2, nPositions: 32, bosTokenId: EOS, eosTokenId: EOS };
  const model = GPT2HeadWithValueModel.fromConfig(makeConfig({ ...shape, initializerRange: 0.3, ...changes }), {
    seed: 5,
  });
  const head = model.parameters.view("transformer.wte.weight");
  for (const id of HOLES) for (let c = 0; c < 16; c++) head[16 * id + c] *= 4;
  return model;
}

const reward = (batch: { response: string }[]) => batch.map(({ response }) => response.length);
const prompts = ["abc", "bag", "head", "f", "gib", "cab"];

async function train(model: GPT2HeadWithValueModel, config: Partial<PPOConfig>) {
  const trainer = new PPOTrainer({ model, tokenizer, reward, config: { ...small, audit: "stop", ...config } });
  const warnings: string[] = [];
  const steps = [];
  for await (const event of trainer.train(prompts)) {
    if (event.type === "warning") warnings.push(event.message);
    if (event.type === "step") steps.push(event);
  }
  return { trainer, warnings, steps };
}

describe("a vocabulary with ids that no text can be made of", () => {
  test("without the tokenizer they are drawn", async () => {
    const { responses } = await generate(newModel(), [Int32Array.of(0, 1)], { maxNewTokens: 20, eosTokenId: null });
    expect(HOLES.some((id) => responses[0].tokens.includes(id))).toBe(true);
  });

  test.each([
    { name: "as it is" },
    { name: "exact KL", klPenalty: "exact", klLog: "exact" },
    { name: "without replay of kept sets", maskReplay: false },
    { name: "truncated", topK: 5, topP: 0.9 },
    { name: "in int8", rolloutPrecision: "int8" },
    { name: "a value model of its own", valueModel: "separate" },
  ] as (Partial<PPOConfig> & { name: string })[])("training: $name", async ({ name: _, ...config }) => {
    const { trainer, steps } = await train(newModel(), config);
    expect(steps.length).toBe(2);
    expect(trainer.notes).toEqual([
      "6 of the 16 ids of the model have no text in the tokenizer: they are never drawn, and do not count when tokens are scored",
    ]);
    if (!("topK" in config) && !("rolloutPrecision" in config))
      expect(Math.abs(steps[0].metrics["ppo/mean_non_score_reward"] as number)).toBeLessThan(1e-5); // policy = reference
  });

  test("a step on responses of one's own: token ids, records, and those that cannot have been drawn", async () => {
    const trainer = new PPOTrainer({ model: newModel(), tokenizer, reward, config: { ...small, batchSize: 4 } });
    const queries = prompts.slice(0, 4).map((text) => tokenizer.encode(text));
    const { responses } = await generate(trainer.model, queries, { ...trainer.sampling(), seed: 2 });
    const tokens = responses.map((r) => r.tokens);
    await trainer.step(queries, tokens, [1, 2, 3, 4]);
    const again = (await generate(trainer.model, queries, { ...trainer.sampling(), seed: 3 })).responses;
    await trainer.step(queries, again, [1, 2, 3, 4]);
    const wrong = tokens.map((ids, b) => (b === 2 ? Int32Array.of(ids[0], 9) : ids));
    const message =
      "step, response 2, token 1: found id 9, for which the tokenizer has no text, expected ids that can be drawn. " +
      "Fix: sample with this trainer's sampling(), which leaves such ids out";
    await expect(trainer.step(queries, wrong, [1, 2, 3, 4])).rejects.toThrow(message);
    const changed = (r: (typeof again)[number]) => ({ ...r, tokens: r.tokens.map((id, t) => (t === 1 ? 9 : id)) });
    const records = again.map((r, b) => (b === 2 ? changed(r) : r));
    await expect(trainer.step(queries, records, [1, 2, 3, 4])).rejects.toThrow(message);
  });
});

describe("what ends a response", () => {
  const ends = (eosTokenId: GPT2Config["eosTokenId"], eosOfTokenizer: number | null = EOS) =>
    responseEnds(newModel({ eosTokenId }), {
      eosTokenId: eosOfTokenizer,
      has: (id) => tokenizer.has(id),
      decode: (ids) => tokenizer.decode(ids),
    });

  test.each<[GPT2Config["eosTokenId"], number[], string[]]>([
    [EOS, [EOS], []],
    [[2, EOS], [2, EOS], []],
    [2, [2], [`responses end with "c" (2), eos_token_id of the model, not with the tokenizer's "</s>" (12)`]],
    [
      50256,
      [EOS],
      [`eos_token_id 50256 is no token of this model and tokenizer: responses end with the tokenizer's "</s>" (12)`],
    ],
    [
      13,
      [EOS],
      [`eos_token_id 13 is no token of this model and tokenizer: responses end with the tokenizer's "</s>" (12)`],
    ],
    [[13, EOS], [EOS], [`eos_token_id 13 is no token of this model and tokenizer: only "</s>" (12) ends a response`]],
    [
      null,
      [],
      [
        `nothing ends a response before its maximum length: the model has no eos_token_id; to end them with the tokenizer's "</s>" (12), set eos_token_id in its config.json`,
      ],
    ],
  ])("eos_token_id %j", (eosTokenId, ids, notes) => {
    expect(ends(eosTokenId)).toEqual({ ids, notes });
  });

  test("nothing, where the tokenizer has no end of text either", () => {
    expect(ends(null, null)).toEqual({
      ids: [],
      notes: ["nothing ends a response before its maximum length: the model has no eos_token_id"],
    });
    expect(ends(50256, null).notes).toEqual([
      "nothing ends a response before its maximum length: eos_token_id 50256 is no token of this model and tokenizer",
    ]);
    expect(ends(EOS, null)).toEqual({ ids: [EOS], notes: [] });
  });

  test.each([50256, [50256, EOS]])(
    "training with eos_token_id %j ends responses, penalises others, passes the audit",
    async (eosTokenId) => {
      const config = {
        minNewTokens: 2,
        missingEosPenalty: 100,
        maxNewTokens: 20,
        steps: 1,
        batchSize: 12,
        logSamples: 12,
      };
      const { trainer, steps } = await train(newModel({ eosTokenId }), config);
      expect(trainer.eosTokenIds).toEqual([EOS]);
      expect(trainer.notes[0]).toMatch(/^eos_token_id 50256 is no token/);
      expect(trainer.sampling().eosTokenId).toEqual([EOS]);
      expect(steps[0].metrics["ppo/mean_scores"]).toBeGreaterThan(20 - 100); // some ended: they were not penalised
    },
  );

  test("several: any ends a response, none is drawn before the minimum, all count for the penalty and the audit", async () => {
    const model = newModel({ eosTokenId: [2, EOS, 7] });
    const trainer = new PPOTrainer({
      model,
      tokenizer,
      reward,
      config: { ...small, batchSize: 40, minNewTokens: 3, maxNewTokens: 12, missingEosPenalty: 100, audit: "stop" },
    });
    const queries = Array.from({ length: 40 }, (_, i) => tokenizer.encode(prompts[i % 6]));
    const { responses } = await generate(model, queries, { ...trainer.sampling(), seed: 1 });
    const last = responses.filter((r) => r.finished).map((r) => r.tokens.at(-1));
    expect(new Set(last)).toEqual(new Set([2, EOS, 7]));
    for (const { tokens, finished } of responses) {
      const first = tokens.findIndex((id) => [2, EOS, 7].includes(id));
      expect(first).toBe(finished ? tokens.length - 1 : -1);
      expect(finished ? tokens.length >= 4 : tokens.length === 12).toBe(true);
    }
    const { metrics } = await trainer.step(
      queries,
      responses,
      queries.map(() => 0),
    );
    const unfinished = responses.filter((r) => !r.finished).length;
    expect(metrics["ppo/mean_scores"]).toBeCloseTo((-100 * unfinished) / 40, 4);

    const another = new PPOTrainer({ model, tokenizer, reward, config: { ...small, batchSize: 4 } });
    const padded = [Int32Array.of(0, 1, 3, 7, EOS), Int32Array.of(0), Int32Array.of(0), Int32Array.of(0)];
    await expect(another.step(queries.slice(0, 4), padded, [0, 0, 0, 0])).rejects.toThrow(/after the end of text/);
  });

  test("an eosTokenId asked of generate that is outside the vocabulary is an error", async () => {
    const asked = generate(newModel(), [Int32Array.of(0)], { maxNewTokens: 2, eosTokenId: [EOS, 99] });
    await expect(asked).rejects.toThrow("eosTokenId: found token 99, expected ids from 0 to 15");
  });
});
