/** @file Sampling and scoring go on at the same time, and what goes wrong in scoring costs no more than it must. */
import { afterAll, describe, expect, it } from "vitest";
import type { TrainEvent } from "../../../src/algorithms/events.ts";
import { ppoConfig } from "../../../src/algorithms/options/config.ts";
import type { PPOConfig } from "../../../src/algorithms/options/ppo-options.ts";
import { encodePrompts } from "../../../src/data/encode.ts";
import { type Responses, respondAndScore } from "../../../src/experience/collect.ts";
import type { RewardFunction } from "../../../src/experience/reward-functions.ts";
import { makeConfig } from "../../../src/families/gpt2.ts";
import { GPT2HeadWithValueModel } from "../../../src/families/index.ts";
import { packagePath } from "../../../src/platform/files.ts";
import { loadTokenizer } from "../../../src/tokenizer/load.ts";

const tokenizer = await loadTokenizer(packagePath("models", "tiny"));
const model = GPT2HeadWithValueModel.fromConfig(
  makeConfig({ vocabSize: 8192, nEmbd: 32, nLayer: 2, nHead: 4, nInner: 64, nPositions: 48, eosTokenId: 8191 }),
  { threads: 1, seed: 5 },
);
afterAll(() => model.dispose());

const rows = Array.from({ length: 8 }, (_, id) => ({ prompt: `Film number ${id}`, row: { id } }));
const { prompts, ids } = encodePrompts(rows, tokenizer, model.config, { maxNewTokens: 10 });
const sleep = (milliseconds: number) => new Promise<void>((resolve) => setTimeout(resolve, milliseconds));

async function answer(
  reward: RewardFunction,
  options: Partial<PPOConfig> = {},
  heard: (e: TrainEvent) => void = () => {},
) {
  const config = ppoConfig({ rolloutBatchSize: 2, maxNewTokens: 10, minNewTokens: 10, ...options });
  const sampling = { ...config, stop: undefined };
  const reader = { tokenizer, truncation: { truncateToken: null, truncateAfter: 0 } };
  const responder = { model, reader, reward, rewardName: "mine", config, sampling };
  const events = respondAndScore(responder, prompts, ids, { step: 7, streamOf: (i: number) => 100 + i });
  for (;;) {
    const next = await events.next();
    if (next.done) return next.value;
    heard(next.value);
  }
}
const scoresOf = (batch: Parameters<RewardFunction>[0]) => batch.map(({ row }) => row.id as number);
const texts = ({ samples }: Responses) => samples.map((sample) => sample.text);

it("gives every sample its row, and scores in the order of the prompts, whichever answer comes first", async () => {
  let calls = 0;
  const { samples, scores } = await answer(async (batch) => {
    await sleep(20 - 5 * calls++);
    return scoresOf(batch);
  });
  expect(scores).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  samples.forEach((sample, i) => {
    expect(sample).toMatchObject({ ...rows[i], text: sample.prompt + sample.response });
  });
});

it("an asynchronous reward on the same thread is done before the next part is sampled", async () => {
  const log: string[] = [];
  const reward: RewardFunction = async (batch) => {
    const name = batch[0].prompt.at(-1);
    log.push(`ask ${name}`);
    await sleep(1);
    log.push(`scored ${name}`);
    return scoresOf(batch);
  };
  await answer(reward, { rolloutBatchSize: 4 }, (event) => {
    if (event.type === "progress" && event.phase === "respond") log.push(`sampled ${event.done}`);
  });
  expect(log).toEqual(["ask 0", "sampled 4", "scored 0", "ask 4", "sampled 8", "scored 4"]);
});

describe("rewardConcurrency", () => {
  it.each([1, 2, 4])("%i calls at once at most", async (rewardConcurrency) => {
    let running = 0;
    let most = 0;
    const reward: RewardFunction = async (batch) => {
      most = Math.max(most, ++running);
      for (let waited = 0; most < rewardConcurrency && waited < 5000; waited += 10) await sleep(10); // for the others
      await sleep(50); // for one too many
      running--;
      return scoresOf(batch);
    };
    await answer(reward, { rewardConcurrency });
    expect(most).toBe(rewardConcurrency);
  });
});

describe("a reward that throws", () => {
  it("once is called again with the same samples; the batch is as if nothing had been", async () => {
    const undisturbed = await answer(scoresOf);
    const warnings: TrainEvent[] = [];
    const seen: string[] = [];
    const stumbling: RewardFunction = async (batch) => {
      seen.push(batch[0].text);
      if (seen.length === 2) throw new Error("busy");
      return scoresOf(batch);
    };
    const result = await answer(stumbling, {}, (event) => {
      if (event.type === "warning") warnings.push(event);
    });
    expect(texts(result)).toEqual(texts(undisturbed));
    expect(result.scores).toEqual(undisturbed.scores);
    expect(seen).toHaveLength(5);
    expect(seen[4]).toBe(seen[1]);
    expect(warnings).toEqual([
      {
        type: "warning",
        step: 7,
        message: expect.stringMatching(
          /^reward mine: busy at .*collect\.test\.ts:\d+:\d+; call 1 of 3, the next in 1 s$/,
        ),
      },
    ]);
  });

  it("for good ends the sampling and starts no further call", async () => {
    let calls = 0;
    let sampled = 0;
    const broken: RewardFunction = async () => {
      calls++;
      throw new Error("no key");
    };
    const hear = (event: TrainEvent) => {
      if (event.type === "progress") sampled = event.done;
    };
    await expect(answer(broken, { rewardRetries: 0, rewardConcurrency: 1 }, hear)).rejects.toThrow(
      /^reward mine: found an exception \(no key\) at .*collect\.test\.ts:\d+:\d+, with 2 samples, the first: prompt "Film number 0", response "/,
    );
    expect(calls).toBe(1);
    expect(sampled).toBeLessThan(8);
  });
});
