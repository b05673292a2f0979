/** @file A model as a directory that transformers.js loads: `onnx/`, configuration, tokenizer. */
import { fail } from "../base/errors.ts";
import { saveGenerationConfig } from "../checkpoint/generation-config.ts";
import { type FileInPieces, onnxFiles } from "../graph/onnx-file.ts";
import type { CausalLMWithValueHead } from "../model/model.ts";
import {
  absolutePath,
  joinPath,
  makeDirectory,
  parentDirectory,
  writeAtomic,
  writeDirectoryAtomic,
  writeTextAtomic,
} from "../platform/files.ts";
import { breathe } from "../platform/worker.ts";
import { checkVocabulary, loadTokenizer } from "../tokenizer/load.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { EXPORT_LACKS, type ExportDtype, wholeModel } from "./onnx-model.ts";

export type { ExportDtype } from "./onnx-model.ts";

/** What transformers.js calls the file for each dtype. */
const FILE_NAMES: Readonly<Record<ExportDtype, string>> = { fp32: "model.onnx", q8: "model_quantized.onnx" };

/** How a model is exported. */
export interface ExportOptions {
  /**
   * "fp32" (the default): the model as it is. "q8": its matrices and its token embedding in int8, a quarter of the size and an
   * approximation. A list: each of them, side by side.
   */
  dtype?: ExportDtype | readonly ExportDtype[];
  /** Default: the one in the directory that the model was loaded from. */
  tokenizer?: Tokenizer;
  /** Ends it; nothing of it is left. */
  signal?: AbortSignal;
  /** Hears what is being written. */
  onProgress?: (progress: ExportProgress) => void;
  /** Bytes of the largest file; what is larger is split. @internal */
  limit?: number;
}

/** How far an export is. */
export interface ExportProgress {
  /** Name of the file. */
  file: string;
  /** Bytes written, of all files. */
  written: number;
  /** Bytes of all ONNX files. */
  total: number;
}

/** A file of an export. */
export interface ExportedFile {
  /** Its path in the directory. */
  name: string;
  /** Its size. */
  bytes: number;
}

/**
 * Write a model as ONNX, as transformers.js lays it out: `pipeline("text-generation", directory)` of @huggingface/transformers
 * loads it in Node and in browsers. The directory is written whole or not at all; an adapter is merged; the value head stays behind,
 * since nothing there has a use for it. Models above 1.9 GB become several files, as browsers and protobuf want it.
 * @param directory a new or empty one
 * @returns the ONNX files
 * @throws usage - a directory that holds something
 * @throws config - no such dtype
 * @throws checkpoint - no tokenizer, or one with more tokens than the model has; a full disk and its like
 */
export async function exportOnnx(
  model: CausalLMWithValueHead,
  directory: string,
  options: ExportOptions = {},
): Promise<ExportedFile[]> {
  const dtypes = checkedDtypes(options.dtype ?? "fp32");
  const tokenizer = options.tokenizer ?? (await tokenizerOf(model));
  checkVocabulary(tokenizer, model.sizes.vocabSize, tokenizer.where);
  const plain = model.adapter ? await model.merge() : model;
  await plain.parameters.refresh();
  const exports = dtypes.map((dtype) =>
    onnxFiles(wholeModel(plain, dtype), FILE_NAMES[dtype], { lacks: EXPORT_LACKS, limit: options.limit }),
  );
  const files = exports.flat();
  const total = files.reduce((n, { bytes }) => n + bytes, 0);
  await makeDirectory(parentDirectory(absolutePath(directory)));
  await writeDirectoryAtomic(
    directory,
    async (temporary) => {
      const onnx = joinPath(temporary, "onnx");
      await makeDirectory(onnx);
      await writeFiles(onnx, files, total, options);
      await tokenizer.saveComplete(temporary);
      await writeConfigs(temporary, model, exports);
    },
    { bytes: total },
  );
  return files.map(({ name, bytes }) => ({ name: `onnx/${name}`, bytes }));
}

function checkedDtypes(given: ExportDtype | readonly ExportDtype[]): ExportDtype[] {
  const dtypes = [...new Set(typeof given === "string" ? [given] : given)];
  const wrong = dtypes.find((dtype) => !Object.hasOwn(FILE_NAMES, dtype));
  if (wrong !== undefined || dtypes.length === 0)
    fail("config", {
      where: "dtype",
      found: wrong === undefined ? "none" : JSON.stringify(wrong),
      expected: '"fp32", "q8", or a list of them',
      fix: 'take "fp32", or "q8" for a quarter of its size',
    });
  return dtypes;
}

async function tokenizerOf({ directory }: CausalLMWithValueHead): Promise<Tokenizer> {
  if (directory !== undefined) return loadTokenizer(directory);
  return fail("checkpoint", {
    where: "exportOnnx",
    found: "a model that was not loaded from a directory, and no tokenizer",
    expected: "the tokenizer it is used with: transformers.js takes text",
    fix: "pass it as options.tokenizer",
  });
}

async function writeFiles(
  directory: string,
  files: readonly FileInPieces[],
  total: number,
  { signal, onProgress }: ExportOptions,
): Promise<void> {
  let written = 0;
  for (const file of files)
    await writeAtomic(joinPath(directory, file.name), async (sink) => {
      for (const piece of file.pieces()) {
        if (signal?.aborted) throw signal.reason;
        await breathe(); // a signal is heard between two pieces
        await sink.write(piece);
        written += piece.length;
        onProgress?.({ file: file.name, written, total });
      }
    });
}

async function writeConfigs(
  directory: string,
  { family, config, generationConfig }: CausalLMWithValueHead,
  exports: readonly (readonly FileInPieces[])[],
): Promise<void> {
  const json = (name: string, value: unknown) =>
    writeTextAtomic(joinPath(directory, name), `${JSON.stringify(value, null, 2)}\n`);
  const written = family.writeConfig(config);
  const beside = exports.filter((files) => files.length > 1).map((files) => [files[0].name, files.length - 1]);
  const split = beside.length > 0 ? { use_external_data_format: Object.fromEntries(beside) } : {};
  const js = { ...(written["transformers.js_config"] as object | undefined), ...split };
  await json("config.json", { ...written, ...(Object.keys(js).length > 0 ? { "transformers.js_config": js } : {}) });
  if (generationConfig.text !== undefined) return saveGenerationConfig(directory, generationConfig);
  const { eosTokenIds } = generationConfig;
  await json("generation_config.json", {
    bos_token_id: config.bosTokenId,
    eos_token_id: eosTokenIds.length > 1 ? eosTokenIds : (eosTokenIds[0] ?? null),
    pad_token_id: config.padTokenId,
  });
}
