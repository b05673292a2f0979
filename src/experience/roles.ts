/** @file Policy, reference and value model do not share what is trained: a reference that moves along with the policy says KL 0 for ever. */
import { fail } from "../base/errors.ts";
import { checkSameVocabulary } from "../model/asked.ts";
import type { Sizes } from "../model/family.ts";
import type { CausalLMWithValueHead } from "../model/model.ts";
import { namesAbove, trainedRows } from "../model/parameters.ts";
import type { RolloutConfig } from "./options.ts";
import { keepsReference } from "./reference.ts";

/**
 * @param config its frozenLayers, of the policy, are not trained, embeddings included: only these may be shared
 * @param where  what errors call the trainer
 * @throws config - they share the memory of a parameter that is trained; another vocabulary; a policy that lacks parameters of
 *   its own
 */
export function checkRoles(
  policy: CausalLMWithValueHead,
  reference: CausalLMWithValueHead | undefined,
  config: { readonly frozenLayers: number },
  where = "PPOTrainer",
): void {
  const { frozenLayers } = config;
  const { table, buffer } = policy.parameters;
  const trained = trainedRows(table, namesAbove(policy, table, frozenLayers));
  if (trained.some(({ name }) => policy.parameters.slot(name).buffer !== buffer))
    fail("config", {
      where: `${where}, model`,
      found: "a copy that shares its first layers with another model",
      expected: "a model with weights of its own wherever it is trained",
      fix: "pass frozenCopy() without shared layers, or set frozenLayers to as many layers as are shared",
    });
  if (reference === undefined) return;
  if (!keepsReference(config))
    fail("config", {
      where: `${where}, reference`,
      found: "a reference, and klLog none",
      expected: "one of the two: with klLog none nothing is measured against it",
      fix: "leave reference out, or klLog",
    });
  checkSameVocabulary(policy.sizes, reference.sizes, "config", `${where}, reference`);
  const shared = trained.find(({ name }) => overlapsAny(policy.parameters.slot(name), reference));
  if (shared)
    fail("config", {
      where: `${where}, reference`,
      found: reference === policy ? "the model itself" : `a model that shares ${shared.name} with the policy`,
      expected: "weights that do not change while the policy is trained: else the KL is 0 for ever",
      fix: "leave reference out (a frozen copy is made), or pass model.frozenCopy()",
    });
}

/** @throws config - options that this model has no place for, or that are still to be decided */
export function checkModelOptions(
  {
    missingEosPenalty,
    frozenLayers,
    rolloutPrecision,
  }: Pick<RolloutConfig, "rolloutPrecision"> & { missingEosPenalty: number; frozenLayers: number },
  { layers }: Pick<Sizes, "layers">,
  eosTokenIds: readonly number[],
): void {
  if (rolloutPrecision === "auto")
    fail("config", {
      where: "rolloutPrecision",
      found: "auto",
      expected: "fp32 or int8: only a run measures which is quicker, before it makes its trainer",
      fix: "choose one of them, or start it with run() or `valuehead train`",
    });
  if (missingEosPenalty > 0 && eosTokenIds.length === 0)
    fail("config", {
      where: "missingEosPenalty",
      found: "a model without an end-of-text token",
      expected: "eos_token_id in the model's generation_config.json or config.json",
      fix: "set missingEosPenalty to 0",
    });
  if (frozenLayers > layers)
    fail("config", {
      where: "frozenLayers",
      found: String(frozenLayers),
      expected: `at most ${layers}, the blocks of this model`,
      fix: "lower frozenLayers",
    });
}

function overlapsAny(region: Float32Array, { parameters }: CausalLMWithValueHead): boolean {
  return parameters.table.some(({ name }) => overlaps(region, parameters.slot(name)));
}

function overlaps(a: Float32Array, b: Float32Array): boolean {
  const [startA, startB] = [a.byteOffset, b.byteOffset];
  return a.buffer === b.buffer && startA < startB + b.byteLength && startB < startA + a.byteLength;
}

/** Weights that a step is at work on, by their memory: two models may be views of the same. */
const busy = new WeakSet<ArrayBufferLike>();

/**
 * Takes the weights of a model for one step.
 * @returns what gives them back
 * @throws usage - another step on them has not ended
 */
export function takeWeights({ parameters }: CausalLMWithValueHead, where = "PPOTrainer"): () => void {
  const { buffer } = parameters;
  if (busy.has(buffer))
    fail("usage", {
      where,
      found: "a step on a model whose last step has not ended",
      expected: "one step at a time, of one trainer",
      fix: "await each step before the next; give every trainer that runs at the same time a model of its own: model.frozenCopy()",
    });
  busy.add(buffer);
  return () => busy.delete(buffer);
}

/** @throws config - a model in train mode */
export function refuseTrainMode(model: CausalLMWithValueHead, algorithm: string): void {
  if (model.training)
    fail("config", {
      where: `${algorithm}Trainer, model`,
      found: "a model in train mode",
      expected: `eval mode: ${algorithm} compares with earlier values, and with dropout the same weights do not give them again`,
      fix: "call model.eval()",
    });
}
