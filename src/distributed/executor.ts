/** @file What a worker needs for the tasks of a run: policy, reference, tokenizer and options, and how it answers a part with them. */
import { learningOf, passSizes, policyLossOf, samplingAs } from "../algorithms/asking.ts";
import { Learner, type PartGradient } from "../algorithms/learner.ts";
import type { RolloutTrainerConfig } from "../algorithms/options/ppo-options.ts";
import type { Device } from "../backend/devices.ts";
import { locate, tokenizerOf } from "../checkpoint/model-files.ts";
import { ask } from "../experience/ask.ts";
import { decodingForm } from "../experience/collect.ts";
import { experience } from "../experience/experience.ts";
import { truncateOptions } from "../experience/options.ts";
import { drawPart, samplesOf } from "../experience/parts/parts.ts";
import { limiter } from "../experience/patience.ts";
import { keepsReference, scoreReference, wantsExactKlAtOnce } from "../experience/reference.ts";
import type { RewardFunction } from "../experience/reward-functions.ts";
import { computeScores } from "../experience/score.ts";
import { openModel } from "../families/index.ts";
import type { LoRAConfig } from "../model/adapter.ts";
import { drawableIds } from "../model/drawable.ts";
import type { CausalLMWithValueHead } from "../model/model.ts";
import { responseEnds } from "../sample/ends.ts";
import { decodingWeights } from "../sample/precision.ts";
import { samplingOptions } from "../sample/token-sampler.ts";
import { Adjustments } from "../sample/transforms.ts";
import type { DecodingWeights } from "../sample/weights.ts";
import { fetchBase } from "./base-model.ts";
import type { Connection } from "./connection.ts";
import type { GradientTask } from "./gradient-messages.ts";
import type { Job, Task } from "./messages.ts";
import { WeightsReceiver } from "./weights.ts";

/** What computes, and where models are kept. */
export interface ExecutorOptions {
  /** Default: as many as the trainer has, which gives the same bits. */
  threads?: number;
  device?: Device;
  cache?: string;
}

/** Models and options of a run, ready for its tasks. */
export class TaskExecutor {
  readonly #connection: Connection;
  readonly #job: Job;
  readonly #model: CausalLMWithValueHead;
  readonly #reference: CausalLMWithValueHead | undefined;
  readonly #receiver: WeightsReceiver;
  readonly #sampling: ReturnType<typeof samplingAs>;
  readonly #adjustments: Adjustments;
  readonly #reader: Parameters<typeof samplesOf>[0]["reader"];
  readonly #config: RolloutTrainerConfig;
  readonly #judging: ReturnType<typeof limiter>;
  #weights?: { key: string; made: DecodingWeights };
  #learner?: Learner;

  private constructor(
    connection: Connection,
    job: Job,
    { model, reference }: { model: CausalLMWithValueHead; reference?: CausalLMWithValueHead },
    tokenizer: Awaited<ReturnType<typeof tokenizerOf>>,
  ) {
    this.#connection = connection;
    this.#job = job;
    this.#model = model;
    this.#reference = reference;
    this.#receiver = new WeightsReceiver(model);
    const config = job.config as unknown as RolloutTrainerConfig;
    this.#config = config;
    this.#sampling = {
      ...samplingAs(config, tokenizer, responseEnds(model, tokenizer).ids),
      drawable: drawableIds(tokenizer, model.sizes.vocabSize),
    };
    this.#adjustments = new Adjustments(samplingOptions(this.#sampling), model.sizes.vocabSize);
    this.#reader = { tokenizer, truncation: truncateOptions(config, tokenizer) };
    this.#judging = limiter(config.rewardConcurrency);
  }

  static async set(
    connection: Connection,
    job: Job,
    options: ExecutorOptions,
    onFile: (file: string, done: number, total: number) => void,
  ): Promise<TaskExecutor> {
    const directory = await fetchBase(connection, job, onFile, options.cache);
    const files = await locate(directory);
    const tokenizer = await tokenizerOf(files);
    const threads = options.threads ?? job.threads;
    const device = options.device ?? (job.device as Device);
    const opened = await openModel(files, { makeValueHead: job.values, tokenizer, threads, device });
    if (job.adapter) opened.addAdapter(job.adapter as Partial<LoRAConfig>);
    const models = !keepsReference(job.config)
      ? { model: opened }
      : job.adapter
        ? { model: opened, reference: opened.withoutAdapter() }
        : { model: opened.frozenCopy(job.sharedLayers), reference: opened };
    return new TaskExecutor(connection, job, models, tokenizer);
  }

  /** A part's responses, what the reference says of them, and what a reward function is shown. */
  async draw({ part, version, rows }: Task) {
    await this.#receiver.load(this.#connection, this.#job.run, version);
    const responder = { model: this.#model, sampling: this.#sampling, reader: this.#reader };
    const { copies } = part;
    const form = decodingForm(this.#config, this.#sampling, rows, copies);
    const rollout = await drawPart(responder, part, this.#decoding(version, form));
    const data = experience([rollout], this.#config.maskReplay);
    const passes = { ...passSizes(this.#config), adjustments: this.#adjustments };
    const [asked, exact] = [this.#reference, wantsExactKlAtOnce(this.#config)];
    const reference = asked && (await scoreReference(this.#model, asked, data, passes, exact));
    return { answer: { data, reference }, samples: samplesOf(responder, part, data.responses) };
  }

  /** The gradient of a microbatch, by itself. */
  async gradient({ version, data, inputs }: GradientTask): Promise<PartGradient> {
    await this.#receiver.load(this.#connection, this.#job.run, version);
    const { algorithm } = this.#job;
    this.#learner ??= new Learner(this.#model, learningOf(this.#config, algorithm === "ppo"));
    const { asked } = ask(data, Array.from(data.responses.keys()), this.#model.sizes.context, this.#adjustments);
    return this.#learner.gradient(asked, policyLossOf(algorithm, this.#config), inputs);
  }

  /** The weights in the form they are drawn with, made once for each version. */
  #decoding(version: string, form: ReturnType<typeof decodingForm>): DecodingWeights {
    const key = `${version} ${form.rows}`;
    if (this.#weights?.key !== key) {
      this.#weights?.made.release();
      this.#weights = { key, made: decodingWeights(this.#model, form) };
    }
    return this.#weights.made;
  }

  judge(reward: RewardFunction, samples: ReturnType<typeof samplesOf>): Promise<number[]> {
    const { rewardTimeout, rewardRetries } = this.#config;
    const { name } = this.#job.reward;
    return this.#judging(() => computeScores(reward, samples, name, { rewardTimeout, rewardRetries }));
  }

  dispose(): void {
    this.#weights?.made.release();
    this.#model.dispose();
  }
}
