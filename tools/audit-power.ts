/**
 * @file How soon does the audit notice text that was not sampled as it is scored? Steps of PPO on the embedded model, given token ids
 * alone, until the test martingale reaches its bound; beside it the tests of 0.1.0, which counted standard errors and had no bound.
 * `npm run audit-power`, or with seeds: `npm run audit-power -- 5`.
 */

import type { Metrics } from "../src/algorithms/events.ts";
import type { PPOConfig } from "../src/algorithms/options/ppo-options.ts";
import { PPOTrainer } from "../src/algorithms/ppo.ts";
import { askInParts } from "../src/experience/ask.ts";
import { givenExperience } from "../src/experience/given.ts";
import { builtInRewards } from "../src/experience/reward-functions.ts";
import { GPT2HeadWithValueModel } from "../src/families/index.ts";
import { type GenerateOptions, generate } from "../src/sample/generate.ts";
import { samplingOptions } from "../src/sample/token-sampler.ts";
import { Adjustments } from "../src/sample/transforms.ts";
import { loadTokenizer } from "../src/tokenizer/load.ts";

const [seeds = 3] = process.argv.slice(2).map(Number);
const STEPS = 30;
const NEW_TOKENS = 16;
const tiny = "models/tiny";
const tokenizer = await loadTokenizer(tiny);
const eos = tokenizer.eosTokenId as number;
/** The last words of a review: the model ends the text soon after them, or writes on. */
const PROMPTS = ["I recommend it.", "Highly recommended.", "Don't waste your time.", "Not worth seeing."];

interface Case {
  name: string;
  sampling: Partial<GenerateOptions>;
  config?: Partial<PPOConfig>;
  pads?: boolean;
}

const CASES: readonly Case[] = [
  { name: "top-k 50", sampling: { topK: 50 } },
  { name: "top-p 0.95", sampling: { topP: 0.95 } },
  { name: "top-p 0.5", sampling: { topP: 0.5 } },
  { name: "temperature 0.9", sampling: { temperature: 0.9 } },
  { name: "temperature 1.1", sampling: { temperature: 1.1 } },
  { name: "greedy", sampling: { topK: 1 } },
  { name: "minimum length", sampling: { minNewTokens: NEW_TOKENS } },
  { name: "padding", sampling: {}, pads: true },
  { name: "padding, stopAtEos off", sampling: {}, config: { stopAtEos: false }, pads: true },
];

/** The tests of 0.1.0 on token ids: mean surprise within 5.2 standard errors, Chernoff's bound of the ends, KL within 4. */
class OldAudit {
  excess = 0;
  squares = 0;
  ends = 0;
  expectedEnds = 0;

  async found(model: GPT2HeadWithValueModel, queries: Int32Array[], responses: Int32Array[]): Promise<boolean> {
    const plain = new Adjustments(samplingOptions({}), model.config.vocabSize);
    const passes = { adjustments: plain, partSize: 32 };
    const { data, draws } = await givenExperience(model, queries, responses, passes, true);
    this.ends += draws?.ends ?? 0;
    this.expectedEnds += draws?.expectedEnds ?? 0;
    for (const { asked } of askInParts(data, passes, model.config.nPositions)) {
      const { logprobs, entropies } = await model.score(asked, ["logprobs", "entropies"]);
      logprobs.forEach((logprob, i) => {
        this.excess += -logprob - entropies[i];
        this.squares += (-logprob - entropies[i]) ** 2;
      });
    }
    const logChance =
      this.ends - this.expectedEnds + (this.ends > 0 ? this.ends * Math.log(this.expectedEnds / this.ends) : 0);
    return logChance < Math.log(1e-7) || Math.abs(this.excess / Math.sqrt(this.squares)) > 5.2;
  }
}

/** 32 and more responses: Student's bound of 0.1.0 was then within 10 % of 4. */
const oldKl = (m: Metrics) => (m["objective/kl_k1"] as number) < -4 * (m["objective/kl_k1_stderr"] as number) - 1e-3;

async function stepsUntil({ sampling, config, pads }: Case, rows: number, seed: number) {
  const model = await GPT2HeadWithValueModel.fromPretrained(tiny, { threads: 2, seed });
  const sizes = { batchSize: rows, miniBatchSize: rows, ppoEpochs: 1, maxNewTokens: NEW_TOKENS, learningRate: 1e-4 };
  const trainer = new PPOTrainer({
    model,
    tokenizer,
    reward: builtInRewards.length,
    config: { ...sizes, ...config, seed, audit: "warn" },
  });
  const queries = Array.from({ length: rows }, (_, i) => tokenizer.encode(PROMPTS[i % PROMPTS.length]));
  const old = new OldAudit();
  const found: { before?: number; now?: number; identity?: number } = {};
  for (let step = 1; step <= STEPS && !(found.before && found.now); step++) {
    const streams = queries.map((_, i) => step * rows + i);
    const { responses } = await generate(model, queries, { maxNewTokens: NEW_TOKENS, seed, streams, ...sampling });
    const given = responses.map(({ tokens }) => {
      const padded = new Int32Array(NEW_TOKENS).fill(eos);
      padded.set(tokens);
      return pads ? padded : tokens;
    });
    const foundBefore = await old.found(model, queries, given);
    const { metrics, warnings } = await trainer.step(
      queries,
      given,
      responses.map((r) => r.tokens.length / NEW_TOKENS),
    );
    if (foundBefore || oldKl(metrics)) found.before ??= step;
    if (warnings.some((w) => w.includes("log M") || w.includes("after the end of text"))) found.now ??= step;
  }
  model.dispose();
  return found;
}

const shown = (steps: (number | undefined)[]) => steps.map((s) => s ?? `> ${STEPS}`).join(", ");
console.log(
  `| how the tokens were sampled | responses a step | 0.1.0: steps, ${seeds} seeds | now |\n|---|---|---|---|`,
);
for (const rows of [64, 8])
  for (const gap of CASES) {
    const found = [];
    for (let seed = 0; seed < seeds; seed++) found.push(await stepsUntil(gap, rows, seed));
    console.log(`| ${gap.name} | ${rows} | ${shown(found.map((f) => f.before))} | ${shown(found.map((f) => f.now))} |`);
  }
