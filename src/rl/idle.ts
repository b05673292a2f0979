/** @file A run in which nothing can be learned looks like any other: the numbers are finite and the steps go by. Here it is noticed. */

/** What a step had to learn from, and what came of it. */
export interface StepSignals {
  /** Log-probs of the drawn tokens, only those that exist. */
  logprobs: ArrayLike<number>;
  /** Whether some response differs from another one, or answers another prompt. */
  differ: boolean;
  /** What PPO is given, one for each response, and what the reward function said. */
  scores: readonly number[];
  given: readonly number[];
  /** As the loss used them, token by token. */
  advantages: ArrayLike<number>;
  /** Whether those were whitened. */
  whitened: boolean;
  /** Where responses are compared within groups: so many in each. */
  groupSize?: number;
  learningRate: number;
  /** Of the config: a schedule may end at 0. */
  baseLearningRate: number;
  /** Mean norm of the change of the weights, and of the gradient; 0 too where no optimizer step was taken. */
  updateNorm: number;
  gradNorm: number;
  /** Minibatches left out because of ratioThreshold. */
  skipped: number;
}

/** A remark on a run: a warning, or a note of what its user has asked for. */
export interface Remark {
  type: "warning" | "note";
  message: string;
}

/** A token as likely as this had no alternative. */
const CERTAIN = -1e-6;

/** Advantages up to this are rounding. Whitening divides by √(variance + 10⁻⁸): raw ones of 10⁻⁶ become 10⁻². */
const NO_ADVANTAGE = 1e-6;
const NO_WHITENED_ADVANTAGE = 1e-2;

/** Weights that are 0 move by less than float32 can add to any other. */
const STILL = 1e-10;

/** So many equal scores are no accident. */
const MANY_SCORES = 16;

/** Follows a run and says, each thing once, why nothing is learned. */
export class IdleWatch {
  readonly #said = new Set<string>();
  /** Responses so far, while they differ and all have one score; NaN once two scores differ. */
  #equalScores = 0;
  #score = Number.NaN;
  #moved = false;

  /** What to say after a step; the first reason that applies, if it is new. */
  look(step: StepSignals): Remark | undefined {
    this.#count(step);
    this.#moved ||= step.updateNorm > STILL;
    const reasons: [name: string, remark: Remark | undefined][] = [
      ["rate", step.baseLearningRate === 0 ? { type: "note", message: NO_RATE } : undefined],
      ["choice", every(step.logprobs, (x) => x >= CERTAIN) ? warning(NO_CHOICE) : undefined],
      ["advantages", noAdvantages(step)],
      ["scores", this.#sameScores(step)],
      ["still", this.#still(step)],
    ];
    const found = reasons.find(([, remark]) => remark !== undefined);
    if (!found || this.#said.has(found[0])) return undefined;
    this.#said.add(found[0]);
    return found[1];
  }

  #count({ scores, differ }: StepSignals): void {
    if (this.#equalScores === 0) this.#score = scores[0];
    if (!scores.every((score) => score === this.#score)) this.#equalScores = Number.NaN;
    else if (differ || this.#equalScores > 0) this.#equalScores += scores.length;
  }

  #sameScores({ given }: StepSignals): Remark | undefined {
    if (!(this.#equalScores >= MANY_SCORES)) return undefined;
    const before = given.every((score) => score === given[0])
      ? "look at what the reward function returns"
      : "the reward function gave different ones: look at scoreClip, failScore and missingEosPenalty";
    return warning(
      `all ${this.#equalScores} scores so far are ${this.#score}: nothing tells a good response from a bad one, and nothing is learned from the reward; ${before}`,
    );
  }

  #still({ learningRate, gradNorm, skipped }: StepSignals): Remark | undefined {
    if (this.#moved || learningRate === 0) return undefined;
    const why =
      gradNorm > 0
        ? `changes at a learning rate of ${learningRate} are too small for float32: raise learningRate`
        : skipped > 0
          ? "every minibatch was skipped because of ratioThreshold: raise it, or lower learningRate"
          : "all gradients are 0";
    return warning(`no weight of the policy has moved so far: ${why}`);
  }
}

const warning = (message: string): Remark => ({ type: "warning", message });

function noAdvantages({ advantages, whitened, groupSize, scores, logprobs }: StepSignals): Remark | undefined {
  const limit = whitened ? NO_WHITENED_ADVANTAGE : NO_ADVANTAGE;
  if (!every(advantages, (a) => Math.abs(a) <= limit)) return undefined;
  const equal = scores.every((score) => score === scores[0]);
  const why =
    whitened && logprobs.length === 1
      ? "a single number less its mean is 0: raise batchSize, or switch whitenAdvantages off"
      : equal
        ? `all ${scores.length} scores are ${scores[0]} and there is nothing else to prefer: look at what the reward function returns`
        : groupSize !== undefined
          ? `all ${groupSize} responses to a prompt have the same score, for every prompt: prompts that are too easy or too hard tell nothing; look at what the reward function returns, or raise numGenerations`
          : "look at whitening, gamma, lambda and importanceWeightCap";
  return warning(`all advantages are 0, so the policy learns nothing: ${why}`);
}

const every = (numbers: ArrayLike<number>, holds: (x: number) => boolean) => Array.from(numbers).every(holds);

const NO_RATE = "learningRate is 0: no weight will move";

const NO_CHOICE =
  "every token had probability 1, so there was nothing to choose and nothing can be learned: raise topK, topP or temperature, lower " +
  "minP, or ban and force fewer tokens";
