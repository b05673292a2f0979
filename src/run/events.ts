/** @file What a run says while it goes on: all that is known of it outside, in one stream. */
import type { BestCheckpoint, TrainEvent } from "../algorithms/events.ts";
import type { CorpusProgress } from "../data/corpus.ts";
import type { JudgementKind } from "../data/judgements.ts";
import type { RewardSample } from "../experience/reward-functions.ts";
import type { MemoryEstimate } from "../model/memory.ts";

/**
 * An event of a run: those of the trainer, and two of the run's own. `loaded` is the first but for what is read before; `done`
 * is the last. Plain data: it crosses to a worker, and is one line of JSON.
 */
export type RunEvent =
  | TrainEvent
  /** How much text was read and tokenized so far. */
  | ({ type: "reading" } & CorpusProgress)
  | {
      type: "loaded";
      /** Weights of the model, the value head's included. */
      parameters: number;
      vocabSize: number;
      /** The model's context, tokens. */
      nPositions: number;
      /** What the run is expected to take, in bytes. */
      memory: MemoryEstimate;
      /** What to tell people about model, tokenizer and data. */
      notes: readonly string[];
      /** Steps taken before, by a run that is resumed; 0: it begins. */
      resumedAt: number;
      /** Of language-model training: of the text that is trained on, and of the text that is held out. */
      tokens?: number;
      heldOutTokens?: number;
      /** Of DPO: pairs that are learned from, and pairs that are held out. */
      pairs?: number;
      heldOutPairs?: number;
      /** Of a reward model: judgements that are learned from, judgements that are held out, and what they are. */
      judgements?: number;
      heldOutJudgements?: number;
      kind?: JudgementKind;
      /** Of a resumed run: the best checkpoint so far. */
      best?: BestCheckpoint;
    }
  | {
      type: "evaluation";
      /** Before the first step or after the last. */
      when: "before" | "after";
      /** A response to each evaluation prompt, and its score. */
      samples: (RewardSample & { score: number })[];
      /** Mean score. */
      mean: number;
      /** Of the mean: s / √n with the unbiased s. */
      standardError: number;
    };
