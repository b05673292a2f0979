/** @file Loading a checkpoint: config.json, weights, generation_config.json, and what is new or odd about them, in words. */
import { stream } from "../base/streams.ts";
import { readGenerationConfig } from "../checkpoint/generation-config.ts";
import { noConfig } from "../checkpoint/no-weights.ts";
import { isValueHead } from "../checkpoint/tensor-names.ts";
import { findParameters, hasOwnHead, loadParameters, openWeights } from "../checkpoint/weights.ts";
import { exists, joinPath, readJson } from "../platform/files.ts";
import { drawableIds, drawableIdsOf, drawableNotes } from "./drawable.ts";
import { type Architecture, architecture, type Family, type ModelConfig } from "./family.ts";
import type { Loaded, ModelOptions } from "./model.ts";
import { initializeParameter, ParameterBuffer, parameterTable, VALUE_HEAD_NAMES } from "./parameters.ts";

/** Which family a config.json is of. */
export type FamilyOf<C extends ModelConfig> = (json: unknown, where: string) => Family<C>;

/** The architecture of the model in a directory. */
export async function readArchitecture<C extends ModelConfig>(
  directory: string,
  familyOf: FamilyOf<C>,
): Promise<Architecture<C>> {
  const path = joinPath(directory, "config.json");
  if (!(await exists(path))) await noConfig(directory);
  const json = await readJson(path);
  const family = familyOf(json, path);
  return architecture(family, family.readConfig(json, path));
}

/** What a checkpoint of this architecture holds; a value head may be missing. */
const storedTable = (model: Architecture) =>
  parameterTable(model).map((p) => ({ ...p, optional: VALUE_HEAD_NAMES.includes(p.name) }));

/** The names in a checkpoint that differ from family to family. */
const namesOf = ({ family, config }: Architecture) => ({
  prefix: family.prefix,
  embedding: family.embeddings(config)[0].name,
});

/**
 * The architecture of the model in a directory, whose weights are there with the right names, shapes and types. Reads no weights.
 * @throws checkpoint - they are not
 */
export async function checkCheckpoint<C extends ModelConfig>(
  directory: string,
  familyOf: FamilyOf<C>,
): Promise<Architecture<C>> {
  const model = await readArchitecture(directory, familyOf);
  const weights = await openWeights(directory);
  try {
    findParameters(weights, storedTable(model), namesOf(model));
    return model;
  } finally {
    await weights.close();
  }
}

/**
 * The model in a directory. One without a value head gets a new one, N(0, initializerRange) with bias 0, and `notes` says so; or none,
 * if that is asked.
 * @param noted notes to begin with
 */
export async function loadCheckpoint<C extends ModelConfig>(
  directory: string,
  familyOf: FamilyOf<C>,
  { seed = 0, tokenizer, makeValueHead = true }: ModelOptions,
  noted: readonly string[],
): Promise<Loaded<C>> {
  const notes = [...noted];
  const path = joinPath(directory, "config.json");
  const written = await readArchitecture(directory, familyOf);
  const generationConfig = await readGenerationConfig(directory, written.config);
  const names = namesOf(written);
  const weights = await openWeights(directory);
  try {
    const { found: stored } = findParameters(weights, storedTable(written), names);
    // As in transformers 5: the weights are right, the config is not.
    const untied = written.config.tieWordEmbeddings && (await hasOwnHead(weights, names));
    const headless = !makeValueHead && !stored.some(([{ name }]) => name === VALUE_HEAD_NAMES[0]);
    const changes = { ...(untied && { tieWordEmbeddings: false }), ...(headless && { valueHead: false as const }) };
    const model = untied || headless ? architecture(written.family, { ...written.config, ...changes }) : written;
    const table = storedTable(model);
    const { found } = findParameters(weights, table, names); // before the memory for them is taken: a broken config may claim any size
    const parameters = new ParameterBuffer(parameterTable(model));
    const wanted = table.map((p) => ({ ...p, target: parameters.view(p.name) }));
    const { missing, ignored } = await loadParameters(weights, wanted, names);
    notes.push(...model.family.notes(model.config, path));
    if (untied)
      notes.push(
        `${weights.name}: lm_head.weight differs from the token embedding, so the two are not tied, whatever ${path} says`,
      );
    const [valueHead] = VALUE_HEAD_NAMES;
    const valueHeadIsNew = missing.includes(valueHead);
    const named = found.find(([{ name }, stored]) => name === valueHead && !stored.name.endsWith(name));
    if (named) notes.push(`${weights.name}: ${named[1].name} was read as the value head`);
    if (missing.length > 0) {
      // A bias alone is no value head.
      const made = valueHeadIsNew ? VALUE_HEAD_NAMES : missing;
      parameters.table.forEach((p, i) => {
        if (made.includes(p.name)) initializeParameter(parameters.view(p.name), p, model, stream(seed, "parameter", i));
      });
      const others = ignored.filter(isValueHead);
      const other = others.length > 0 ? ` (${others.join(", ")}: a value head of another form, not read)` : "";
      notes.push(
        valueHeadIsNew
          ? `${weights.name} has no ${missing.join(", ")}${other}: a new value head, N(0, ${model.config.initializerRange}), was made`
          : `${weights.name} has no ${missing.join(", ")}: taken as 0`,
      );
    }
    if (ignored.length > 0)
      notes.push(`${weights.name}: not used: ${ignored.slice(0, 5).join(", ")}${ignored.length > 5 ? ", ..." : ""}`);
    const { summaryActivation } = model.config;
    if (summaryActivation !== null && summaryActivation !== "tanh")
      notes.push(`${path}: summary_activation "${summaryActivation}" is not applied: a value head knows "tanh" only`);
    const { vocabSize } = model.sizes;
    const drawable = tokenizer ? drawableIds(tokenizer, vocabSize) : await drawableIdsOf(directory, vocabSize);
    notes.push(...drawableNotes(drawable, vocabSize));
    return { ...model, parameters, directory, notes, valueHeadIsNew, generationConfig, drawable };
  } finally {
    await weights.close();
  }
}
