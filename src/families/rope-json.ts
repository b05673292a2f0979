/**
 * @file Rotary positions in config.json: `rope_theta` and `rope_scaling` of transformers before 5, or `rope_parameters`. Sources:
 * `convert_rope_params_to_dict` and `standardize_rope_params` in transformers' modeling_rope_utils.py.
 */
import { z } from "zod";
import { field, fieldsToJson, isObject, type JsonObject, type Refusal, wrongField } from "../checkpoint/config-json.ts";
import type { Rope } from "../nn/rotary.ts";

const ofType = <const T extends string, S extends z.ZodRawShape>(type: T, more: S) =>
  z.object({ rope_type: z.literal(type), rope_theta: field.positive, ...more });

/** What {@link withRope} makes, checked: `ropeParameters` of the config. */
export const ropeFields = {
  rope_parameters: z.discriminatedUnion(
    "rope_type",
    [
      ofType("default", {}),
      ofType("linear", { factor: field.positive }),
      ofType("llama3", {
        factor: field.positive,
        low_freq_factor: field.positive,
        high_freq_factor: field.positive,
        original_max_position_embeddings: field.size(100_000_000),
      }),
    ],
    { error: '"default", "linear" or "llama3": other scalings are not supported' },
  ),
};

/** transformers goes by the old field where there are both. */
export const ROPE_ALIASES = { rope_scaling: "rope_parameters" };

export const ropeRefusals: Readonly<Record<string, Refusal>> = {
  partial_rotary_factor: {
    harmless: (value) => value == null || value === 1,
    expected: "1: turning a part of each head is not supported",
    fix: "use a checkpoint with rotary positions in whole heads",
  },
};

/**
 * The same with all it says of rotary positions in one object, under the name that the file has for it.
 * @param json with `max_position_embeddings`
 */
export function withRope(json: JsonObject, where: string): JsonObject {
  const { rope_theta = 10_000, rope_scaling, rope_parameters, ...rest } = json;
  const name = rope_scaling ? "rope_scaling" : "rope_parameters";
  const given = (rope_scaling || rope_parameters) ?? {};
  if (!isObject(given)) wrongField(where, name, given, "an object or null");
  if (Object.values(given).some(isObject))
    wrongField(where, name, given, "one kind of rotary positions for all layers", "use another checkpoint");
  const context = rest.original_max_position_embeddings ?? given.original_max_position_embeddings;
  return {
    ...rest,
    partial_rotary_factor: given.partial_rotary_factor ?? rest.partial_rotary_factor,
    [name]: {
      rope_theta,
      ...given,
      rope_type: given.rope_type ?? given.type ?? "default",
      original_max_position_embeddings: context ?? rest.max_position_embeddings,
    },
  };
}

/** The fields of a saved config, for transformers of any version. */
export function ropeToJson(rope: Rope): JsonObject {
  const { rope_theta, ...scaling } = fieldsToJson(rope);
  return {
    rope_parameters: { rope_theta, ...scaling },
    rope_theta,
    rope_scaling: scaling.rope_type === "default" ? null : scaling,
  };
}
