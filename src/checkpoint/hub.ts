/**
 * @file From what a user calls a model to a local directory: a path, or an id on the Hugging Face hub. Downloads go to the
 * cache Python's huggingface_hub uses (same places, same layout), so a model is fetched once for both.
 * @huggingface/hub has no offline mode, ignores HF_ENDPOINT and prints while it fills the cache; hence the lookup and the
 * writing here, and only its API and transfer (plain and xet) from there. It is imported when first needed.
 */
import { fail, messageOf, ValueheadError } from "../base/errors.ts";
import { sha256 } from "../platform/file-checksums.ts";
import {
  absolutePath,
  env,
  exists,
  fileSize,
  homeDirectory,
  isDirectory,
  joinPath,
  linkFile,
  makeDirectory,
  packagePath,
  parentDirectory,
  readText,
  writeAtomic,
  writeTextAtomic,
} from "../platform/files.ts";
import { tokenizerFiles } from "../tokenizer/load.ts";
import { guardedFetch, HubSilence } from "./hub-fetch.ts";
import { EMBEDDED, looksLikePath } from "./hub-id.ts";
import { conversionAdvice, pickledAdapterAdvice } from "./no-weights.ts";
import { checkpointOfRun } from "./run-checkpoints.ts";
import {
  ADAPTER_CONFIG,
  ADAPTER_WEIGHTS,
  INDEX_FILE,
  readShardIndex,
  VALUE_HEAD_FILE,
  WEIGHTS_FILE,
} from "./weights.ts";

export { EMBEDDED, looksLikePath };

/** How far the download of one file is. */
export interface DownloadProgress {
  /** Path of the file within the repository. */
  file: string;
  /** Bytes so far. */
  received: number;
  /** Bytes in all. */
  total: number;
}

/** Where {@link resolveModel} looks for a model, and how it fetches one. */
export interface ResolveOptions {
  /** Default: HF_HUB_CACHE, or `hub` in HF_HOME, or ~/.cache/huggingface/hub. */
  cacheDir?: string;
  /** Never use the network. Default: HF_HUB_OFFLINE. */
  offline?: boolean;
  /** For private and gated models. Default: HF_TOKEN. */
  token?: string;
  /** Default: HF_ENDPOINT, or https://huggingface.co. */
  endpoint?: string;
  /** Replaces the global fetch. */
  fetch?: typeof fetch;
  /** Seconds to wait for an answer, or for the next bytes of one. Default: 60; 10 where the cache has a complete copy. */
  patience?: number;
  /** Called for every piece of a file that arrives. */
  onProgress?: (progress: DownloadProgress) => void;
  /** Hears which checkpoint of a run directory was taken. */
  onNote?: (text: string) => void;
}

/** Fetched when the repository has them, with what belongs to the tokenizer; weights are chosen apart. */
const SMALL_FILES = ["config.json", "generation_config.json"];

const COMMIT = /^[0-9a-f]{40}$/;

interface Repository {
  /** The whole id, for errors. */
  id: string;
  name: string;
  revision: string;
  /** This repository's folder in the cache. */
  folder: string;
}

function parseId(id: string, cacheDir: string): Repository {
  const [, name = "", revision = "main"] = /^([^@]*)(?:@(.*))?$/s.exec(id) ?? [];
  const rightName = /^[\w.-]+(\/[\w.-]+)?$/.test(name) && name.length <= 96;
  const rightRevision = /^[\w.-]+(\/[\w.-]+)*$/.test(revision);
  if (!rightName || !rightRevision || /\.\.|--/.test(name) || revision.includes("..")) {
    fail("usage", {
      where: `model ${JSON.stringify(id)}`,
      found: "neither a directory nor a hub id",
      expected: 'a model directory, or a hub id such as "openai-community/gpt2" or "name@revision"',
      fix: "check the spelling",
    });
  }
  return { id, name, revision, folder: joinPath(cacheDir, ["models", ...name.split("/")].join("--")) };
}

function defaultCacheDir(): string {
  const home = env("HF_HOME") ?? joinPath(env("XDG_CACHE_HOME") ?? joinPath(homeDirectory(), ".cache"), "huggingface");
  return env("HF_HUB_CACHE") ?? env("HUGGINGFACE_HUB_CACHE") ?? joinPath(home, "hub");
}

/** Whether a snapshot holds a config and all its weights, or an adapter. */
async function isComplete(snapshot: string): Promise<boolean> {
  const has = (name: string) => exists(joinPath(snapshot, name));
  if (!(await has("config.json"))) return (await has(ADAPTER_CONFIG)) && (await has(ADAPTER_WEIGHTS));
  if (await has(WEIGHTS_FILE)) return true;
  if (!(await has(INDEX_FILE))) return false;
  const shards = new Set((await readShardIndex(joinPath(snapshot, INDEX_FILE))).values());
  return (await Promise.all([...shards].map(has))).every(Boolean);
}

/** The directory of this revision in the cache, when it is there and complete. */
async function findInCache(repository: Repository): Promise<string | null> {
  let commit = repository.revision;
  if (!COMMIT.test(commit)) {
    const ref = joinPath(repository.folder, "refs", repository.revision);
    if (!(await exists(ref)) || (await isDirectory(ref))) return null;
    commit = (await readText(ref)).trim();
    if (!COMMIT.test(commit)) return null;
  }
  const snapshot = joinPath(repository.folder, "snapshots", commit);
  return (await isComplete(snapshot)) ? snapshot : null;
}

/**
 * The local directory of a model, downloading it when needed: only the config, the tokenizer and the safetensors weights,
 * or a LoRA adapter without its base.
 * Without network, what the cache holds is used. A run directory stands for its best checkpoint.
 * @param id `tiny`, a directory, or `owner/name`, `name`, either with `@revision`
 * @throws usage - neither a directory nor what can be a hub id
 * @throws checkpoint - a repository without a model, a failed download, or no complete copy while offline
 */
export async function resolveModel(id: string, options: ResolveOptions = {}): Promise<string> {
  if (await isDirectory(id)) {
    const checkpoint = await checkpointOfRun(id);
    if (checkpoint) options.onNote?.(checkpoint.note);
    return checkpoint?.path ?? id;
  }
  if (id === EMBEDDED) return packagePath("models", EMBEDDED);
  const where = `model ${JSON.stringify(id)}`;
  if (await exists(id)) {
    const fix = `give its directory: ${parentDirectory(id)}`;
    fail("usage", { where, found: "a file", expected: "a model directory or a hub id", fix });
  }
  if (id === "" || looksLikePath(id)) {
    const fix = `check the path (it means ${absolutePath(id)})`;
    fail("usage", { where, found: "no such directory", expected: "a model directory or a hub id", fix });
  }
  const repository = parseId(id, options.cacheDir ?? defaultCacheDir());
  const cached = await findInCache(repository);
  // A commit never changes; a branch may have moved since it was cached.
  if (cached !== null && COMMIT.test(repository.revision)) return cached;
  if (options.offline ?? /^(1|true|yes|on)$/i.test(env("HF_HUB_OFFLINE") ?? "")) {
    if (cached !== null) return cached;
    fail("checkpoint", {
      where,
      found: `offline mode, and no complete copy in ${repository.folder}`,
      expected: "a model directory or a model that was downloaded before",
      fix: "run once with network (and without HF_HUB_OFFLINE), or copy the model here and give its path",
    });
  }
  try {
    return await download(repository, { patience: cached === null ? 60 : 10, ...options });
  } catch (error) {
    if (cached !== null && (isNetworkError(error) || isServersFault(error))) return cached;
    return explain(error, repository, options);
  }
}

/** fetch that does not reach the server, or loses it; a broken stream arrives here as its bare message. */
const isNetworkError = (error: unknown) =>
  error instanceof HubSilence ||
  (!(error instanceof ValueheadError) && /fetch failed|terminated|network/i.test(messageOf(error)));

const statusOf = (error: unknown) => (error as { statusCode?: number } | null)?.statusCode;
const isServersFault = (error: unknown) => (statusOf(error) ?? 0) >= 500;

function explain(error: unknown, { id, name, revision }: Repository, options: ResolveOptions): never {
  const where = `model ${JSON.stringify(id)}`;
  const host = endpointOf(options) ?? HUB;
  if (isNetworkError(error)) {
    const cause = error instanceof Error ? error.cause : undefined;
    const reason =
      error instanceof HubSilence ? error.message : cause && ((cause as { code?: string }).code ?? messageOf(cause));
    const why = reason === undefined ? "" : ` (${reason})`;
    const fix = "check the network or HF_ENDPOINT, or download the model elsewhere and give its directory";
    fail(
      "checkpoint",
      { where, found: `no connection to ${host}${why}`, expected: "the hub or a local directory", fix },
      error,
    );
  }
  const status = statusOf(error);
  if (error instanceof ValueheadError) throw error;
  if (status === 401 || status === 403 || status === 404) {
    const found = `no such directory here, and status ${status} from ${host} for ${name} at revision ${revision}`;
    const expected = "a model directory, or the id of a public model";
    const fix =
      status === 403
        ? "accept the model's terms on its page and set HF_TOKEN to a token that may read it"
        : "check the spelling of id and revision; for a private or gated model set HF_TOKEN";
    fail("checkpoint", { where, found, expected, fix }, error);
  }
  const fix = "try again later, or download the model elsewhere and give its directory";
  fail(
    "checkpoint",
    { where, found: `a failed download from ${host} (${messageOf(error)})`, expected: "the files of the model", fix },
    error,
  );
}

const HUB = "https://huggingface.co";
const endpointOf = (options: ResolveOptions) => (options.endpoint ?? env("HF_ENDPOINT"))?.replace(/\/+$/, "");

type DownloadOptions = ResolveOptions & { patience: number };

async function download(repository: Repository, options: DownloadOptions): Promise<string> {
  const hubUrl = endpointOf(options) ?? HUB;
  const accessToken = options.token ?? env("HF_TOKEN");
  const guard = guardedFetch({ fetch: options.fetch, hubUrl, token: accessToken, patience: options.patience });
  try {
    return await downloadWith({ hubUrl, fetch: guard.fetch, ...(accessToken && { accessToken }) }, repository, options);
  } finally {
    guard.close();
  }
}

async function downloadWith(
  access: { hubUrl: string; fetch: typeof fetch; accessToken?: string },
  repository: Repository,
  options: DownloadOptions,
): Promise<string> {
  const { id, name, revision, folder } = repository;
  const hub = await import("@huggingface/hub");
  const info = await hub.modelInfo({ name, revision, additionalFields: ["sha", "filePaths"], ...access });
  const available = info.filePaths;
  const where = `model ${JSON.stringify(id)}`;
  if (!COMMIT.test(info.sha)) {
    const found = `commit ${JSON.stringify(info.sha)}`;
    const fix = "check HF_ENDPOINT";
    fail("checkpoint", { where, found, expected: "a commit hash from the hub", fix });
  }
  const weights = [WEIGHTS_FILE, INDEX_FILE].find((file) => available.includes(file));
  const isModel = available.includes("config.json") && weights !== undefined;
  const isAdapter = !isModel && available.includes(ADAPTER_CONFIG);
  const wanted = isModel ? [weights] : isAdapter ? [ADAPTER_CONFIG, ADAPTER_WEIGHTS] : [];
  if (wanted.length === 0 || !wanted.every((file) => available.includes(file))) {
    const conversion = isAdapter
      ? pickledAdapterAdvice("DIRECTORY", available)
      : conversionAdvice("DIRECTORY", available);
    const found = isAdapter
      ? `${ADAPTER_CONFIG} without ${ADAPTER_WEIGHTS}`
      : available.includes("config.json")
        ? "no safetensors weights"
        : "no config.json";
    const fix = conversion === null ? "give a GPT-2 model" : `download it to a DIRECTORY and ${conversion}`;
    const expected = isAdapter ? `${ADAPTER_CONFIG} and ${ADAPTER_WEIGHTS}` : `config.json and ${WEIGHTS_FILE}`;
    fail("checkpoint", { where, found, expected, fix });
  }

  const snapshot = joinPath(folder, "snapshots", info.sha);
  const fetchFile = async (file: string): Promise<void> => {
    const path = joinPath(snapshot, file);
    if (await exists(path)) return;
    const at = { repo: name, path: file, revision: info.sha, ...access };
    const downloadInfo = await hub.fileDownloadInfo(at);
    const etag = downloadInfo?.etag.replace(/^W\/|"/g, "") ?? "";
    if (downloadInfo === null || !/^[\w-]+$/.test(etag)) {
      const fix = "try again, or download the model elsewhere and give its directory";
      fail("checkpoint", { where, found: `no ${file} at ${info.sha}`, expected: "the file its listing names", fix });
    }
    const blob = joinPath(folder, "blobs", etag);
    if ((await fileSize(blob)) !== downloadInfo.size) {
      await makeDirectory(joinPath(folder, "blobs"));
      const content = await hub.downloadFile({ ...at, downloadInfo });
      await saveStream(content as Blob, blob, file, { size: downloadInfo.size, etag }, options.onProgress);
    }
    await makeDirectory(parentDirectory(path));
    await linkFile(blob, path);
  };

  for (const file of SMALL_FILES) if (available.includes(file)) await fetchFile(file);
  for (const file of tokenizerFiles(available)) await fetchFile(file);
  if (isAdapter && available.includes(VALUE_HEAD_FILE)) await fetchFile(VALUE_HEAD_FILE);
  for (const file of wanted) await fetchFile(file);
  if (weights === INDEX_FILE) {
    const shards = await readShardIndex(joinPath(snapshot, INDEX_FILE));
    for (const shard of new Set(shards.values())) await fetchFile(shard);
  }
  if (revision !== info.sha) {
    const ref = joinPath(folder, "refs", revision);
    await makeDirectory(parentDirectory(ref));
    await writeTextAtomic(ref, info.sha);
  }
  return snapshot;
}

async function saveStream(
  content: Blob,
  path: string,
  file: string,
  { size: total, etag }: { size: number; etag: string },
  onProgress?: (progress: DownloadProgress) => void,
): Promise<void> {
  const wrong = (found: string, expected: string) =>
    fail("checkpoint", { where: `download of ${file}`, found, expected, fix: "try again" });
  await writeAtomic(path, async (sink) => {
    const reader = content.stream().getReader();
    const hash = sha256();
    let received = 0;
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        received += value.length;
        if (received > total) wrong(`more than ${total} bytes`, `${total} bytes`);
        hash.update(value);
        await sink.write(value);
        onProgress?.({ file, received, total });
      }
    } finally {
      await reader.cancel().catch(() => {});
    }
    if (received !== total) wrong(`${received} bytes, then the end`, `${total} bytes`);
    const digest = hash.digest("hex");
    if (SHA256.test(etag) && digest !== etag) wrong(`content with the SHA-256 ${digest}`, `${etag}, as its etag says`);
  });
}

/** What the etag of a large file is. */
const SHA256 = /^[0-9a-f]{64}$/;
