/** @file Loading a checkpoint: config.json, weights, generation_config.json, and what is new or odd about them, in words. */
import type { Engine, EngineOptions } from "../backend/engine.ts";
import { fail, ValueheadError } from "../base/errors.ts";
import { stream } from "../base/streams.ts";
import {
  GENERATION_CONFIG_FILE,
  type GenerationConfig,
  readGenerationConfig,
} from "../checkpoint/generation-config.ts";
import { type ModelFiles, tokenizerOf } from "../checkpoint/model-files.ts";
import type { AdapterConfig } from "../checkpoint/peft.ts";
import { isValueHead } from "../checkpoint/tensor-names.ts";
import { findParameters, hasOwnHead, loadParameters, openWeights, VALUE_HEAD_FILE } from "../checkpoint/weights.ts";
import { exists, joinPath, readJson } from "../platform/files.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { adapterRows, type LoRAConfig, loraConfig, moduleName } from "./adapter.ts";
import { drawableIds, drawableNotes } from "./drawable.ts";
import { type Architecture, architecture, type Family, type ModelConfig } from "./family.ts";
import type { KeptSet } from "./kept-set.ts";
import {
  initialize,
  initializeParameter,
  newParameters,
  type ParameterBuffer,
  parameterTable,
  VALUE_HEAD_NAMES,
  withAdapterRows,
} from "./parameters.ts";

/** How a model is opened: its engine, its seed, its tokenizer. */
export interface ModelOptions extends EngineOptions {
  /** Share the sessions of another model: a frozen reference model costs its weights and nothing else. */
  engine?: Engine;
  /** Seed of whatever is initialised rather than loaded, and of the value head's dropout. */
  seed?: number;
  /** Whether a model without a value head gets a new one. Default true; false: it has none, its values are 0, and none is saved. */
  makeValueHead?: boolean;
  /** What tells which ids text can be made of; default for a model that is loaded: the one in its directory. */
  tokenizer?: Pick<Tokenizer, "has">;
  /** A run trains it and nothing else is done with it: what its optimizer takes is free when the weights are. @internal */
  toTrain?: boolean;
}

/** A model as it was loaded: its weights, and what came with them. */
export interface Loaded<C extends ModelConfig> extends Architecture<C> {
  readonly parameters: ParameterBuffer;
  readonly directory?: string;
  readonly baseName?: string;
  readonly notes?: readonly string[];
  readonly valueHeadIsNew?: boolean;
  readonly generationConfig?: GenerationConfig;
  readonly drawable?: KeptSet;
}

/** A new model with random weights, as the parameter table says. */
export function newModel<C extends ModelConfig>(family: Family<C>, config: C, options: ModelOptions): Loaded<C> {
  const { seed = 0, toTrain } = options; // not in the list above: declarations would name what is internal
  const made = architecture(family, config);
  const parameters = newParameters(parameterTable(made), toTrain);
  initialize(parameters, made, seed);
  return { ...made, parameters };
}

/** Which family a config.json is of. */
export type FamilyOf<C extends ModelConfig> = (json: unknown, where: string) => Family<C>;

/** The architecture of a model, its adapter included. */
export async function readArchitecture<C extends ModelConfig>(
  files: ModelFiles,
  familyOf: FamilyOf<C>,
): Promise<Architecture<C>> {
  const path = joinPath(files.base, "config.json");
  if (!(await exists(path))) await (await noWeights()).noConfig(files.base);
  const json = await readJson(path);
  const family = familyOf(json, path);
  const base = architecture(family, family.readConfig(json, path));
  return files.adapter ? { ...base, adapter: await readAdapter(base, files, files.adapter) } : base;
}

/** What a checkpoint of this architecture holds, an adapter aside; a value head may be missing. */
const storedTable = (model: Architecture) =>
  parameterTable({ ...model, adapter: undefined }).map((p) => ({
    ...p,
    optional: VALUE_HEAD_NAMES.includes(p.name),
  }));

/** The names in a checkpoint that differ from family to family. */
const namesOf = ({ family, config }: Architecture) => ({
  prefix: family.prefix,
  embedding: family.embeddings(config)[0].name,
});

/**
 * The architecture of a model, whose weights are there with the right names, shapes and types. Reads no weights.
 * @throws checkpoint - they are not
 */
export async function checkCheckpoint<C extends ModelConfig>(
  files: ModelFiles,
  familyOf: FamilyOf<C>,
): Promise<Architecture<C>> {
  const model = await readArchitecture(files, familyOf);
  const weights = await openWeights(files.base);
  try {
    findParameters(weights, storedTable(model), namesOf(model));
  } finally {
    await weights.close();
  }
  if (model.adapter) await (await openParts(model, files)).close();
  return model;
}

/**
 * A model from its files. One without a value head gets a new one, N(0, initializerRange) with bias 0, and `notes` says so; or none,
 * if that is asked.
 * @param noted notes to begin with
 */
export async function loadCheckpoint<C extends ModelConfig>(
  files: ModelFiles,
  familyOf: FamilyOf<C>,
  options: ModelOptions,
  noted: readonly string[],
): Promise<Loaded<C>> {
  const { seed = 0, tokenizer, makeValueHead = true, toTrain } = options;
  const { directory, base, baseName } = files;
  const notes = [...noted, ...files.notes];
  const path = joinPath(base, "config.json");
  const written = await readArchitecture(files, familyOf);
  const own = directory !== base && (await exists(joinPath(directory, GENERATION_CONFIG_FILE)));
  const generationConfig = await readGenerationConfig(own ? directory : base, written.config);
  const names = namesOf(written);
  const parts = written.adapter && (await openParts(written, files));
  const weights = await openWeights(base).catch(async (error) => {
    await parts?.close();
    throw error;
  });
  try {
    const { found: stored } = findParameters(weights, storedTable(written), names);
    // As in transformers 5: the weights are right, the config is not.
    const untied = written.config.tieWordEmbeddings && (await hasOwnHead(weights, names));
    const headless = !makeValueHead && !stored.some(([{ name }]) => name === VALUE_HEAD_NAMES[0]);
    const changes = { ...(untied && { tieWordEmbeddings: false }), ...(headless && { valueHead: false as const }) };
    const model =
      untied || headless ? architecture(written.family, { ...written.config, ...changes }, written.adapter) : written;
    const table = storedTable(model);
    const { found } = findParameters(weights, table, names); // before the memory for them is taken: a broken config may claim any size
    const plain = newParameters(parameterTable({ ...model, adapter: undefined }), toTrain && !parts);
    const wanted = table.map((p) => ({ ...p, target: plain.view(p.name) }));
    const { missing, ignored } = await loadParameters(weights, wanted, names);
    notes.push(...model.family.notes(model.config, path));
    if (untied)
      notes.push(
        `${weights.name}: lm_head.weight differs from the token embedding, so the two are not tied, whatever ${path} says`,
      );
    const [valueHead] = VALUE_HEAD_NAMES;
    const valueHeadIsNew = missing.includes(valueHead) && !parts?.valueHead;
    const named = found.find(([{ name }, stored]) => name === valueHead && !stored.name.endsWith(name));
    if (named) notes.push(`${weights.name}: ${named[1].name} was read as the value head`);
    if (missing.length > 0 && !parts?.valueHead) {
      // A bias alone is no value head.
      const made = valueHeadIsNew ? VALUE_HEAD_NAMES : missing;
      plain.table.forEach((p, i) => {
        if (made.includes(p.name)) initializeParameter(plain.view(p.name), p, model, stream(seed, "parameter", i));
      });
      const others = ignored.filter(isValueHead);
      const other = others.length > 0 ? ` (${others.join(", ")}: a value head of another form, not read)` : "";
      const place = parts ? `neither ${directory} nor ${weights.name} has` : `${weights.name} has no`;
      notes.push(
        valueHeadIsNew
          ? `${place} ${missing.join(", ")}${other}: a new value head, N(0, ${model.config.initializerRange}), was made`
          : `${weights.name} has no ${missing.join(", ")}: taken as 0`,
      );
    }
    if (ignored.length > 0)
      notes.push(`${weights.name}: not used: ${ignored.slice(0, 5).join(", ")}${ignored.length > 5 ? ", ..." : ""}`);
    const { summaryActivation } = model.config;
    if (summaryActivation !== null && summaryActivation !== "tanh")
      notes.push(`${path}: summary_activation "${summaryActivation}" is not applied: a value head knows "tanh" only`);
    const { vocabSize } = model.sizes;
    const read = tokenizer ?? (await tokenizerOf(files).catch(() => undefined)); // a model without one is still a model
    const drawable = read && drawableIds(read, vocabSize);
    notes.push(...drawableNotes(drawable, vocabSize));
    const parameters = parts ? withAdapterRows(model, plain) : plain;
    if (parts) notes.push(...(await parts.read(parameters)));
    return { ...model, parameters, directory, baseName, notes, valueHeadIsNew, generationConfig, drawable };
  } finally {
    await weights.close();
    await parts?.close();
  }
}

/** What an adapter_config.json means for this base. */
async function readAdapter(
  base: Architecture,
  { directory, baseName }: ModelFiles,
  { where, settings, base: namedBase }: AdapterConfig,
): Promise<LoRAConfig> {
  const table = parameterTable(base);
  const matrices = table.filter(({ matrix }) => matrix).map(({ name, layer }) => ({ name: moduleName(name), layer }));
  const { layersPattern, ...given } = settings;
  const ends = (name: string, target: string) => name === target || name.endsWith(`.${target}`);
  let { targets = await modulesOf(directory, base), layers } = given;
  if (Array.isArray(targets)) {
    const list: readonly string[] = targets;
    const other = table.find(({ name, matrix }) => !matrix && list.some((target) => ends(moduleName(name), target)));
    if (other)
      fail("config", {
        where: `${where}, target_modules`,
        found: `${moduleName(other.name)}, which is no matrix of a block`,
        expected: "matrices of the blocks: adapters of embeddings, heads and norms are not supported",
        fix: "merge the adapter in PEFT (merge_and_unload()) and give the merged model",
      });
    // As in PEFT, a list may name what other models have, and layers are no concern of what is named in full.
    const there = list.filter((target) => matrices.some(({ name }) => ends(name, target)));
    targets = there.length > 0 ? there : list;
    const inFull = layers && matrices.filter(({ name }) => list.includes(name));
    if (inFull && inFull.length > 0) {
      const picked = matrices.filter(
        ({ name, layer }) =>
          list.includes(name) || (there.some((target) => ends(name, target)) && layers?.includes(layer as number)),
      );
      [targets, layers] = [picked.map(({ name }) => name), undefined];
    }
  }
  const inList = (pattern: string) => new RegExp(`^(?:|.*?\\.)${pattern}\\.\\d+\\.`).test(matrices[0].name);
  if (layers && layersPattern && !layersPattern.some(inList))
    fail("config", {
      where: `${where}, layers_pattern`,
      found: JSON.stringify(layersPattern),
      expected: `a name that ${matrices[0].name} has in front of its number`,
      fix: "correct layers_pattern, or leave it out",
    });
  try {
    const config = loraConfig({ ...given, targets, layers }, where);
    adapterRows(table, config);
    return config;
  } catch (error) {
    if (!(error instanceof ValueheadError)) throw error;
    const { problem } = error;
    const fix = `${problem.fix}, or give the base model that the adapter was trained on`;
    const of = namedBase === undefined || namedBase === baseName ? "" : `: it names ${namedBase}`;
    const place = problem.where.replace(/^adapter, targets$/, `${where}, target_modules`);
    const named = place.replace(/^adapter, layers$/, `${where}, layers_to_transform`);
    return fail(error.kind, { ...problem, where: named, fix: `${fix}${of}` }, error);
  }
}

/** A page loads these where there is an adapter, or a file is missing. */
const adapterWeights = () => import("../checkpoint/adapter-weights.ts");
const noWeights = () => import("../checkpoint/no-weights.ts");

async function modulesOf(directory: string, { family }: Architecture): Promise<string[]> {
  const { modulesIn, openAdapter } = await adapterWeights();
  const weights = await openAdapter(directory, family.prefix);
  await weights.close();
  return modulesIn(weights);
}

/** An adapter's tensors, found to be those that the model has rows for. */
interface Parts {
  /** Whether there is a value head for the model beside them. */
  readonly valueHead: boolean;
  /** Into the rows of the adapter and the value head; returns notes. */
  read(parameters: ParameterBuffer): Promise<string[]>;
  close(): Promise<void>;
}

async function openParts(model: Architecture, { directory, baseName, adapter }: ModelFiles): Promise<Parts> {
  const { prefix } = model.family;
  const { findAdapter, findValueHead, openAdapter } = await adapterWeights();
  const weights = await openAdapter(directory, prefix);
  try {
    const table = parameterTable(model);
    const matrices = table.filter(({ matrix }) => matrix).map(({ name }) => moduleName(name));
    const rows = table.filter(({ adapts }) => adapts);
    const found = findAdapter(weights, rows, { prefix, matrices, base: baseName, named: adapter?.base });
    const heads = table.filter(({ name }) => VALUE_HEAD_NAMES.includes(name));
    const valueHead = heads.length > 0 ? findValueHead(weights, heads) : undefined;
    const notes = [
      ...(weights.valueHead.size > 0 && !valueHead
        ? [`${directory}: not used: ${[...weights.valueHead.keys()].join(", ")}, a value head of another form`]
        : []),
      ...(!valueHead && (await exists(joinPath(directory, "pytorch_model.bin")))
        ? [
            `${directory}: pytorch_model.bin, where TRL puts the value head, is not read; to have it, convert it once: ` +
              (await noWeights()).tensorConversion(directory, "pytorch_model.bin", VALUE_HEAD_FILE),
          ]
        : []),
    ];
    return {
      valueHead: valueHead !== undefined,
      close: weights.close,
      async read(parameters) {
        for (const [{ name }, { file, name: stored }] of found)
          await file.readFloat32Into(stored, parameters.view(name));
        for (const [i, { file, name }] of (valueHead ?? []).entries())
          await file.readFloat32Into(name, parameters.view(heads[i].name));
        return notes;
      },
    };
  } catch (error) {
    await weights.close();
    throw error;
  }
}

/** Read the adapter and value head of a directory into a model's own: of the same architecture, on the same base. */
export async function loadAdapterInto(model: Architecture & { parameters: ParameterBuffer }, directory: string) {
  const parts = await openParts(model, { directory, base: directory, baseName: directory, notes: [] });
  try {
    await parts.read(model.parameters);
  } finally {
    await parts.close();
  }
}
