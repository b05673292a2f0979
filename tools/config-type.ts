/**
 * @file The type PPOConfig as source text, from the table of options in src/algorithms/options/ppo-options.ts: TypeScript shows documentation
 * where a field is declared, and a type inferred from schemas declares none. test/api writes it and compares.
 */
import { z } from "zod";

type Row = readonly [schema: z.ZodType, standard: unknown, meaning: string];

interface JsonSchema {
  type?: string | string[];
  enum?: string[];
  anyOf?: JsonSchema[];
  items?: JsonSchema;
  minimum?: number;
  exclusiveMinimum?: number;
  maximum?: number;
}

const WIDTH = 120;

function typeOf(schema: JsonSchema): string {
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(" | ");
  if (schema.items) return `${typeOf(schema.items)}[]`;
  return [schema.type ?? "unknown"]
    .flat()
    .map((type) => (type === "integer" ? "number" : type === "object" ? "Record<string, unknown>" : type))
    .join(" | ");
}

/** What the type does not say: "A whole number, at least 1." */
function limitsOf({ type, minimum, exclusiveMinimum, maximum = Number.POSITIVE_INFINITY }: JsonSchema): string {
  const limits = [
    minimum !== undefined && `at least ${minimum}`,
    exclusiveMinimum !== undefined && `more than ${exclusiveMinimum}`,
    maximum < Number.MAX_SAFE_INTEGER && `at most ${maximum}`,
  ].filter((text) => text !== false);
  if (type !== "integer" && type !== "number") return "";
  const kind = type === "integer" ? "a whole number" : limits.length > 0 ? "a number" : "";
  return kind && ` ${kind[0].toUpperCase()}${kind.slice(1)}${limits.length > 0 ? `, ${limits.join(" and ")}` : ""}.`;
}

function wrapped(text: string, indent: string): string {
  if (`${indent}/** ${text} */`.length <= WIDTH) return `${indent}/** ${text} */`;
  const lines = [""];
  for (const word of text.split(" ")) {
    const line = lines[lines.length - 1];
    if (`${indent} * ${line} ${word}`.length > WIDTH) lines.push(word);
    else lines[lines.length - 1] = line === "" ? word : `${line} ${word}`;
  }
  return [`${indent}/**`, ...lines.map((line) => `${indent} * ${line}`), `${indent} */`].join("\n");
}

export function configType(table: Readonly<Record<string, Row>>): string {
  const fields = Object.entries(table).map(([name, [schema, standard, meaning]]) => {
    const json = z.toJSONSchema(schema) as JsonSchema;
    const start = /^\S+:/.test(meaning) ? meaning[0] : meaning[0].toUpperCase(); // "int8: ..." names a value
    const sentence = `${start}${meaning.slice(1)}.${limitsOf(json)}`;
    const doc = `${sentence.replace("....", "...")} Default: ${JSON.stringify(standard)}.`;
    return `${wrapped(doc, "  ")}\n  ${name}: ${typeOf(json)};`;
  });
  return `/**
 * @file The type of a PPO config. Written by \`npm run api\` from the table in options.ts: change that, and run it.
 */

/** Every option of a PPO run. */
export type PPOConfig = {
${fields.join("\n")}
};
`;
}
