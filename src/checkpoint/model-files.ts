/** @file Where the files of a model lie: in one directory, or in that of an adapter and that of its base. */
import { fail, ValueheadError } from "../base/errors.ts";
import { shellQuote } from "../base/shell.ts";
import { absolutePath, baseName, exists, isDirectory, joinPath, listDirectory } from "../platform/files.ts";
import { loadTokenizer as readTokenizer, tokenizerFiles } from "../tokenizer/load.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { EMBEDDED, looksLikePath, type ResolveOptions, resolveModel } from "./hub.ts";
import type { AdapterConfig } from "./peft.ts";
import { ADAPTER_CONFIG, isWhole } from "./weights.ts";

/** How a model is found. */
export interface LocateOptions extends ResolveOptions {
  /** A LoRA adapter for the model, in PEFT's layout: a directory, a run directory or a hub id. Default: none but the model's own. */
  adapter?: string;
}

/** Where the files of a model lie. */
export interface ModelFiles {
  /** Of the model as it was asked for: the adapter's, where there is one. */
  readonly directory: string;
  /** Of config.json and the weights. */
  readonly base: string;
  /** How the base can be found again: a hub id, or a whole path. */
  readonly baseName: string;
  readonly adapter?: AdapterConfig;
  readonly notes: readonly string[];
}

/**
 * The directories of a model, downloaded when needed. An adapter's base is the one that is given, or the one that its
 * adapter_config.json names.
 * @param id a directory, a run directory, a hub id or `tiny`; with `adapter`, that of the base
 * @throws usage - an id that names nothing
 * @throws config, checkpoint - an adapter that is not supported, or whose base is not to be found
 */
export async function locate(id: string, { adapter, ...options }: LocateOptions = {}): Promise<ModelFiles> {
  const directory = await resolveModel(adapter ?? id, options);
  const names = await listDirectory(directory);
  const whole = async (notes: readonly string[] = []) => {
    return { directory, base: directory, baseName: await nameOf(id, directory), notes };
  };
  if (!names.includes(ADAPTER_CONFIG)) {
    if (adapter === undefined) return whole();
    return fail("checkpoint", {
      where: `adapter ${adapter}`,
      found: `no ${ADAPTER_CONFIG} in ${directory}`,
      expected: "a LoRA adapter as PEFT saves it",
      fix: "give the directory of the adapter, or give this one as the model",
    });
  }
  const { readAdapterConfig } = await import("./peft.ts"); // a page loads it where there is an adapter
  if (adapter === undefined && isWhole(names)) {
    const config = await readAdapterConfig(directory).catch(() => undefined);
    if (config?.base !== undefined && (await directoryOf(config.base, directory)) === absolutePath(directory))
      return { ...(await whole(config.notes)), adapter: config };
    // As before adapters were read: a merged model is often saved beside its adapter.
    return whole([`${directory}: the model's own weights are used, and not the adapter beside them`]);
  }
  const config = await readAdapterConfig(directory);
  const [base, baseName] =
    adapter === undefined ? await namedBase(directory, config, options) : await givenBase(id, options);
  if (!isWhole(await listDirectory(base)) && (await exists(joinPath(base, ADAPTER_CONFIG))))
    fail("checkpoint", {
      where: adapter === undefined ? config.where : `model ${id}`,
      found: `an adapter as the base model: ${base}`,
      expected: "a whole model",
      fix: `merge that one first: valuehead merge --model ${shellQuote(base)} --out MERGED`,
    });
  const other =
    config.base !== undefined && lastOf(config.base) !== lastOf(baseName)
      ? [`${config.where} names the base model ${config.base}; the adapter is used on ${baseName}`]
      : [];
  return { directory, base, baseName, adapter: config, notes: [...config.notes, ...other] };
}

const lastOf = (name: string) => baseName(name.replace(/@.*$/, "")).toLowerCase();

/** A hub id as it is, or a whole path. */
const nameOf = async (id: string, directory: string) => ((await isDirectory(id)) ? absolutePath(directory) : id);

async function givenBase(id: string, options: ResolveOptions): Promise<[directory: string, name: string]> {
  const directory = await resolveModel(id, options);
  return [directory, await nameOf(id, directory)];
}

/** The directory that a name in an adapter_config.json means, from here as in PEFT or from where the adapter is. */
async function directoryOf(base: string, adapter: string): Promise<string | undefined> {
  for (const path of [base, joinPath(adapter, base)]) if (await isDirectory(path)) return absolutePath(path);
  return undefined;
}

/** Where a hub's models were found: asked once for each, for a model is looked at several times before it is read. */
const found = new Map<string, string>();

async function namedBase(
  adapter: string,
  { base, where }: AdapterConfig,
  options: ResolveOptions,
): Promise<[directory: string, name: string]> {
  const fix = `give it: --model BASE --adapter ${shellQuote(adapter)}, or loadModel(BASE, { adapter })`;
  const expected = "the base model's directory or hub id";
  if (base === undefined) return fail("checkpoint", { where, found: "no base_model_name_or_path", expected, fix });
  const local = await directoryOf(base, adapter);
  if (local !== undefined) {
    const directory = await resolveModel(local, options);
    return [directory, absolutePath(directory)];
  }
  if (base !== EMBEDDED && looksLikePath(base))
    return fail("checkpoint", {
      where,
      found: `base_model_name_or_path = ${JSON.stringify(base)}, and no such directory here`,
      expected,
      fix,
    });
  const key = JSON.stringify([base, options.cacheDir, options.endpoint]);
  try {
    const known = found.get(key);
    const directory = known !== undefined && (await isDirectory(known)) ? known : await resolveModel(base, options);
    found.set(key, directory);
    return [directory, base];
  } catch (error) {
    if (!(error instanceof ValueheadError)) throw error;
    const { problem } = error;
    return fail(
      error.kind,
      { ...problem, where: `${where}, base_model_name_or_path: ${problem.where}`, fix: `${problem.fix}; or ${fix}` },
      error,
    );
  }
}

/**
 * The tokenizer of a model: the one in its directory, or for an adapter without one that of its base.
 * @param id a directory; with `adapter`, that of the base or its hub id
 * @throws checkpoint - no tokenizer, or one that cannot be read
 */
export async function loadTokenizer(id: string, options: LocateOptions = {}): Promise<Tokenizer> {
  const isPlace = options.adapter !== undefined || (await isDirectory(id));
  return isPlace ? tokenizerOf(await locate(id, options)) : readTokenizer(id); // which says what is missing
}

/** The same where the files are known. */
export async function tokenizerOf({ directory, base }: Pick<ModelFiles, "directory" | "base">): Promise<Tokenizer> {
  const own = base === directory || tokenizerFiles(await listDirectory(directory)).length > 0;
  return readTokenizer(own ? directory : base);
}
