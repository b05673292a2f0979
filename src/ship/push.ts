/**
 * @file Uploading a checkpoint to the Hugging Face hub: which of its files, and what can go wrong. The transfer is @huggingface/hub's,
 * which is imported when it is needed.
 */
import { fail, messageOf, ValueheadError } from "../base/errors.ts";
import { noConfig } from "../checkpoint/no-weights.ts";
import {
  env,
  exists,
  fileSize,
  fileUrl,
  isDirectory,
  joinPath,
  listDirectory,
  readJson,
  readText,
} from "../platform/files.ts";
import { tokenizerFiles } from "../tokenizer/load.ts";
import { CARD_FILE, cardFor } from "./card.ts";

/** A file to upload. */
export interface UploadFile {
  /** Its path in the directory and in the repository. */
  path: string;
  /** Its size. */
  bytes: number;
}

/** How far an upload is. */
export interface PushProgress {
  /** Path of the file that is being read or sent. */
  file: string;
  /** Reading it for its checksum comes first; small files go with the commit, without progress. */
  state: "hashing" | "uploading";
  /** Of this file, from 0 to 1. */
  progress: number;
}

/** How {@link push} uploads. */
export interface PushOptions {
  /** A new repository is private. One that exists stays as it is. */
  private?: boolean;
  /** The title of the commit. Default: "Upload from valuehead". */
  message?: string;
  /** Default: HF_TOKEN. */
  token?: string;
  /** Default: HF_ENDPOINT, or https://huggingface.co. */
  endpoint?: string;
  /** Replaces the global fetch. */
  fetch?: typeof fetch;
  /** Ends the upload. Nothing of it shows in the repository before its last request, the commit. */
  signal?: AbortSignal;
  /** Called for files that are stored apart from the commit: weights. */
  onProgress?: (progress: PushProgress) => void;
}

/** What {@link push} did. */
export interface Pushed {
  /** The page of the repository. */
  url: string;
  /** Whether the repository is new. */
  created: boolean;
  /** What was uploaded. */
  files: UploadFile[];
}

/** Of a model and of an adapter. What a trainer keeps for itself (trainer.json, moments, checksums, logs) is no part of it. */
const FILES = ["config.json", "generation_config.json", CARD_FILE, "adapter_config.json"];
const WEIGHTS = /^((model|adapter_model|v_head)(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json)$/;
const ONNX = /^model(_quantized)?\.onnx(_data(_\d+)?)?$/;

/**
 * The files of a model directory that {@link push} uploads: configuration, weights, tokenizer, model card, ONNX. Nothing else that may
 * lie there: no optimizer state, no logs, no checksums.
 * @throws checkpoint - no such directory, or no model in it
 */
export async function uploadList(directory: string): Promise<UploadFile[]> {
  const names = (await isDirectory(directory)) ? await listDirectory(directory) : [];
  if (!names.includes("config.json") && !names.includes("adapter_config.json")) await noConfig(directory);
  const inside = async (folder: string) =>
    names.includes(folder) ? (await listDirectory(joinPath(directory, folder))).map((name) => `${folder}/${name}`) : [];
  const onnx = (await inside("onnx")).filter((path) => ONNX.test(path.slice("onnx/".length)));
  const tokenizer = tokenizerFiles([...names, ...(await inside("additional_chat_templates"))]);
  const weights = names.filter((name) => WEIGHTS.test(name));
  if (weights.length + onnx.length === 0)
    fail("checkpoint", {
      where: directory,
      found: "no weights",
      expected: "a checkpoint of a run, a model directory, or what `valuehead export` wrote",
      fix: "name such a directory",
    });
  const paths = [...names.filter((name) => FILES.includes(name)), ...weights, ...tokenizer, ...onnx].sort();
  return Promise.all(paths.map(async (path) => ({ path, bytes: (await fileSize(joinPath(directory, path))) ?? 0 })));
}

/** What others will miss in these files, in words. */
export async function uploadNotes(directory: string, files: readonly UploadFile[]): Promise<string[]> {
  const has = (name: string) => files.some(({ path }) => path === name);
  const notes = has(CARD_FILE) ? [] : [`${directory} has no ${CARD_FILE}: the repository will have no model card`];
  if (!has("adapter_config.json")) return notes;
  const config = (await readJson(joinPath(directory, "adapter_config.json"))) as Record<string, unknown> | null;
  const base = config?.base_model_name_or_path;
  const isHere = typeof base === "string" && (/^([./~]|[A-Za-z]:)/.test(base) || (await isDirectory(base)));
  if (isHere)
    notes.push(
      `the adapter's base model is a directory of this machine (${base}): others cannot open it; push the base too and name it as base_model_name_or_path in adapter_config.json, or push a merged model`,
    );
  return notes;
}

/** @throws usage - nothing that the hub would take for the name of a repository */
export function checkRepository(name: string): void {
  if (/^[\w-][\w.-]*\/[\w-][\w.-]*$/.test(name) && name.length <= 96 && !/\.\.|--/.test(name)) return;
  fail("usage", {
    where: "repository",
    found: JSON.stringify(name),
    expected: "USER/NAME: letters, digits, -, _ and . on both sides of one slash",
    fix: "name your user or organisation and the repository: me/my-model",
  });
}

/** @throws usage - no token, or one that is none */
function tokenFor(given: string | undefined): string {
  const token = given ?? env("HF_TOKEN");
  if (token?.startsWith("hf_")) return token;
  return fail("usage", {
    where: "HF_TOKEN",
    found: token ? "a text that does not begin with hf_" : "nothing: it is not set",
    expected: "an access token of the hub that may write",
    fix: "make one on the hub's page of access tokens (settings/tokens) and set it: export HF_TOKEN=hf_...",
  });
}

const HUB = "https://huggingface.co";

/**
 * Upload a model directory, as one commit, into a repository of the Hugging Face hub, which is made where there is none. In the model card the
 * code opens the repository then, not the directory.
 * @param repository `USER/NAME`
 * @throws usage - no token, no such name
 * @throws checkpoint - no model in the directory; the hub refuses, cannot be reached, or the upload was ended
 */
export async function push(directory: string, repository: string, options: PushOptions = {}): Promise<Pushed> {
  checkRepository(repository);
  const files = await uploadList(directory);
  const accessToken = tokenFor(options.token);
  const hubUrl = (options.endpoint ?? env("HF_ENDPOINT") ?? HUB).replace(/\/+$/, "");
  const { signal, onProgress } = options;
  const hub = await import("@huggingface/hub");
  const access = { repo: { type: "model" as const, name: repository }, accessToken, hubUrl, fetch: options.fetch };
  const operations = await Promise.all(
    files.map(async ({ path }) => ({
      operation: "addOrUpdate" as const,
      path,
      content: path === CARD_FILE ? await cardBlob(directory, repository) : fileUrl(joinPath(directory, path)),
    })),
  );
  try {
    signal?.throwIfAborted();
    const visibility = options.private ? ("private" as const) : undefined;
    const created = await hub.createRepo({ ...access, visibility }).then(
      () => true,
      (error) => {
        if (statusOf(error) === 409) return false; // it is there already
        throw error;
      },
    );
    const title = options.message ?? "Upload from valuehead";
    const events = hub.commitIter({ ...access, operations, title, abortSignal: signal });
    for await (const event of events)
      if (event.event === "fileProgress" && event.state !== "error")
        onProgress?.({ file: event.path, state: event.state, progress: event.progress });
    return { url: `${hubUrl}/${repository}`, created, files };
  } catch (error) {
    return explain(error, { repository, hubUrl, ended: signal?.aborted ?? false });
  }
}

async function cardBlob(directory: string, repository: string): Promise<Blob> {
  const path = joinPath(directory, CARD_FILE);
  return new Blob([(await exists(path)) ? cardFor(await readText(path), repository) : ""]);
}

const statusOf = (error: unknown) => (error as { statusCode?: number } | null)?.statusCode;

function explain(
  error: unknown,
  { repository, hubUrl, ended }: { repository: string; hubUrl: string; ended: boolean },
): never {
  if (error instanceof ValueheadError) throw error;
  const where = `upload to ${repository}`;
  const status = statusOf(error);
  const expected = "a repository that this token may write to";
  const said = messageOf(error).split(". URL:")[0];
  const refused = (found: string, fix: string) => fail("checkpoint", { where, found, expected, fix }, error);
  if (ended) refused("the upload was ended before its commit", "push again: what was sent is not sent twice");
  if (status === 401)
    refused(`status 401 from ${hubUrl}: it does not know the token`, "set HF_TOKEN to a token that is still valid");
  if (status === 403)
    refused(
      `status 403 from ${hubUrl}: the token may not write there (${said})`,
      "take a token with the permission to write, and your own user or an organisation you are in",
    );
  if (status === 404)
    refused(`status 404 from ${hubUrl}: no such user, organisation or repository`, "check the spelling of USER/NAME");
  if (status === 409 || status === 412)
    refused(`status ${status} from ${hubUrl}: the repository changed meanwhile (${said})`, "push again");
  if (status === 429) refused(`status 429 from ${hubUrl}: too many requests`, "push again in some minutes");
  if (status !== undefined) refused(`status ${status} from ${hubUrl}: ${said}`, "push again later");
  const cause = error instanceof Error ? error.cause : undefined;
  const why = (cause as { code?: string } | undefined)?.code ?? said;
  return refused(`no connection to ${hubUrl} (${why})`, "check the network or HF_ENDPOINT");
}
