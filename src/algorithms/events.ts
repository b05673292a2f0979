/** @file What a run says while it goes on. Everything that shows a run, terminal or page, reads these and nothing else. */
import type { ChatMessage } from "../base/chat-messages.ts";
import type { WorkerFacts } from "../experience/parts/parts.ts";
import type { TokenRecord } from "../experience/token-record.ts";
import type { Metrics } from "../rl/metrics.ts";

export type { Metrics };

/** The checkpoint with the highest mean reward over the steps before it, or the lowest held-out loss. */
export interface BestCheckpoint {
  /** The step it was written after. */
  step: number;
  /** Its directory. */
  path: string;
  /** Of a run with a reward: the mean of `env/reward_mean` over the last `overSteps` steps. */
  rewardMean?: number;
  /** How many steps the mean is over. */
  overSteps?: number;
  /** Of language-model training: nats per token of held-out text, measured at this step. */
  heldOutLoss?: number;
}

/** A response of a step, for people to read. */
export interface Sample extends TokenRecord {
  /** The prompt as it was given; of a conversation, what the user said last. */
  prompt: string;
  /** The conversation that was answered, its system message included; undefined: the prompt is plain text. */
  messages?: ChatMessage[];
  /** As the reward function saw it: after its prompt, without special tokens, to truncateToken where that is set. */
  response: string;
  /** `response` with its special tokens, such as an end of text. */
  responseWithSpecialTokens: string;
  /** What the reward function said, before penalties, scaling and clipping. */
  score: number;
  /** KL from the reference over the response, nats by the estimate that klLog names (k1 may be negative for one response), if it names one. */
  kl?: number;
  /** The whole response, which is learned from. */
  tokens: number[];
  /** The value head's estimate before each token; empty where nothing is learned from it. */
  values: number[];
  /** The response with the highest or the lowest score of its step. */
  picked?: "best" | "worst";
}

/** What a trainer says while it goes on. Steps count from 1; `step` is the one the event is about. */
export type TrainEvent =
  /** Where the step in progress is, for progress bars. */
  | {
      type: "progress";
      step: number;
      phase: "respond" | "score" | "update" | "evaluate" | "reference";
      done: number;
      total: number;
    }
  | { type: "step"; step: number; steps: number; metrics: Metrics; samples: Sample[] }
  | { type: "checkpoint"; step: number; directory: string; best?: BestCheckpoint }
  | { type: "warning"; step: number; message: string }
  /** Something the user has chosen and should be told of. */
  | { type: "note"; step: number; message: string }
  /** Of a step that workers took part in: who they are, and how many parts of the step the trainer answered itself. */
  | { type: "workers"; step: number; here: number; workers: WorkerFacts[] }
  /** The last event: all steps done, or stopped early after `step`. */
  | { type: "done"; step: number; interrupted: boolean; directory?: string };
