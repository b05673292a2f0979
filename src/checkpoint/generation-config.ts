/**
 * @file generation_config.json, which says how text is generated from a model. Read here: what ends a text. Its sampling
 * settings (temperature, top_p, ...) are kept and saved, never applied: what is drawn from is what the caller asks for.
 */
import { z } from "zod";
import { fail } from "../base/errors.ts";
import { exists, joinPath, readJson, readText, writeTextAtomic } from "../platform/files.ts";
import { type EosTokenId, endTokens, field } from "./config-json.ts";

export const GENERATION_CONFIG_FILE = "generation_config.json";

const schema = z.object({ eos_token_id: field.eosTokenId.nullish() }, { error: "a JSON object" });

/** What config.json says. */
interface Ends {
  readonly eosTokenId: EosTokenId;
}

/** What a model says about generating text. */
export interface GenerationConfig {
  /** Every token that ends a text, each once; empty: none does. */
  readonly eosTokenIds: readonly number[];
  /** The file, to be saved as it was read; undefined: there is none. */
  readonly text?: string;
}

/** Of a model without a generation_config.json. */
export const generationFromConfig = ({ eosTokenId }: Ends): GenerationConfig => ({
  eosTokenIds: endTokens(eosTokenId),
});

/**
 * What the model in a directory says: `eos_token_id` of generation_config.json, or else of config.json. (In transformers a
 * generation_config.json without one means that nothing ends a text.)
 * @throws config - a file that is not what its name says
 */
export async function readGenerationConfig(directory: string, config: Ends): Promise<GenerationConfig> {
  const path = joinPath(directory, GENERATION_CONFIG_FILE);
  if (!(await exists(path))) return generationFromConfig(config);
  const json = await readJson(path);
  const parsed = schema.safeParse(json);
  if (!parsed.success) {
    const [{ path: field, message }] = parsed.error.issues;
    const value = field.length > 0 ? (json as Record<string, unknown>).eos_token_id : json;
    const found = JSON.stringify(value).slice(0, 80);
    fail("config", {
      where: path,
      found: field.length > 0 ? `eos_token_id = ${found}` : found,
      expected: message,
      fix: `correct the file, or remove it: config.json then says what ends a text`,
    });
  }
  return {
    eosTokenIds: endTokens(parsed.data.eos_token_id ?? config.eosTokenId),
    text: await readText(path),
  };
}

/** Write the file as it was read. */
export async function saveGenerationConfig(directory: string, { text }: GenerationConfig): Promise<void> {
  if (text !== undefined) await writeTextAtomic(joinPath(directory, GENERATION_CONFIG_FILE), text);
}
