/**
 * @file Controllers of β, the coefficient of the KL penalty.
 */
import { fail } from "../base/errors.ts";
import type { KLConfig } from "./options.ts";

/** Plain data, safe for JSON. */
export interface KLControllerState {
  /** The coefficient β, reward per nat; at least 0. */
  value: number;
}

/** What chooses β, the coefficient of the KL penalty. */
export interface KLController {
  /** The coefficient β for the next batch, reward per nat. */
  readonly value: number;
  /** `kl`: nats per response, mean over the batch (`objective/kl`); `nSteps`: responses in the batch. */
  update(kl: number, nSteps: number): void;
  /** The state to save. */
  getState(): KLControllerState;
  /**
   * Continue from a saved state.
   * @throws config - a coefficient that is negative or not finite
   */
  setState(state: KLControllerState): void;
}

/**
 * β ← β·(1 + clip(kl / target − 1, −0.2, 0.2)·nSteps / horizon).
 *
 * With 256 responses and a horizon of 10 000 the coefficient moves by at most 0.512 % per batch.
 * Source: Ziegler et al. 2019 (arXiv 1909.08593), section 2.2; huggingface/trl@v0.11.4:trl/trainer/utils.py.
 * Throws `config` for a target or horizon that is not positive, a negative coefficient, or a batch so large against the
 * horizon that β would turn negative; `numbers` when kl is NaN or infinite.
 */
export class AdaptiveKLController implements KLController {
  #value: number;
  /** The KL to keep to, nats per response. */
  readonly target: number;
  /** Responses over which β follows: the larger, the slower. */
  readonly horizon: number;

  constructor(initKlCoef: number, target: number, horizon: number) {
    this.#value = checkCoef("AdaptiveKLController", initKlCoef);
    for (const [name, x] of Object.entries({ target, horizon })) {
      if (Number.isFinite(x) && x > 0) continue;
      fail("config", {
        where: `AdaptiveKLController, ${name}`,
        found: String(x),
        expected: "a positive number",
        fix: name === "target" ? "6 nats per response is the usual target" : "10000 responses is the usual horizon",
      });
    }
    this.target = target;
    this.horizon = horizon;
  }

  /** The coefficient β for the next batch, reward per nat. */
  get value(): number {
    return this.#value;
  }

  /**
   * Move β after a batch of `nSteps` responses whose mean KL was `kl` nats per response.
   * @throws numbers - a KL that is not finite
   * @throws config - a batch so large that β would not stay positive
   */
  update(kl: number, nSteps: number): void {
    if (!Number.isFinite(kl)) {
      fail("numbers", {
        where: "AdaptiveKLController, update",
        found: `a KL of ${kl}`,
        expected: "a finite number",
        fix: "look at the log-probabilities of this batch",
      });
    }
    const error = Math.min(Math.max(kl / this.target - 1, -0.2), 0.2);
    const factor = 1 + (error * nSteps) / this.horizon;
    if (!(factor > 0)) {
      fail("config", {
        where: "AdaptiveKLController, update",
        found: `${nSteps} responses against a horizon of ${this.horizon}, a factor of ${factor}`,
        expected: "a batch below 5 horizons, so that the coefficient stays positive",
        fix: "raise the horizon",
      });
    }
    this.#value *= factor;
  }

  /** The state to save. */
  getState(): KLControllerState {
    return { value: this.#value };
  }

  /**
   * Continue from a saved state.
   * @throws config - a coefficient that is negative or not finite
   */
  setState(state: KLControllerState): void {
    this.#value = checkCoef("AdaptiveKLController, setState", state.value);
  }
}

/** β never changes. Source: huggingface/trl@v0.11.4:trl/trainer/utils.py `FixedKLController`. */
export class FixedKLController implements KLController {
  #value: number;

  constructor(klCoef: number) {
    this.#value = checkCoef("FixedKLController", klCoef);
  }

  /** The coefficient β for the next batch, reward per nat. */
  get value(): number {
    return this.#value;
  }

  /** Does nothing. */
  update(_kl: number, _nSteps: number): void {}

  /** The state to save. */
  getState(): KLControllerState {
    return { value: this.#value };
  }

  /**
   * Continue from a saved state.
   * @throws config - a coefficient that is negative or not finite
   */
  setState(state: KLControllerState): void {
    this.#value = checkCoef("FixedKLController, setState", state.value);
  }
}

/** The controller that the options ask for. */
export const klController = ({ klController, klCoef, klTarget, klHorizon }: KLConfig): KLController =>
  klController === "adaptive" ? new AdaptiveKLController(klCoef, klTarget, klHorizon) : new FixedKLController(klCoef);

function checkCoef(where: string, klCoef: number): number {
  if (Number.isFinite(klCoef) && klCoef >= 0) return klCoef;
  return fail("config", {
    where: `${where}, klCoef`,
    found: String(klCoef),
    expected: "a number of at least 0",
    fix: "0.2 is the usual start; 0 trains without a KL penalty",
  });
}
