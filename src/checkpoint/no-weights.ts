/** @file A directory, or a repository on the hub, that is not a model that can be read: what it seems to be, and what to do. */
import { fail } from "../base/errors.ts";
import { shellQuote } from "../base/shell.ts";
import { isDirectory, joinPath, listDirectory, readJson } from "../platform/files.ts";

const WEIGHTS = "model.safetensors or model.safetensors.index.json";

/** The command that turns PyTorch's weight files into model.safetensors; null where there are none. */
export function conversionAdvice(dir: string, names: readonly string[]): string | null {
  const whole = names.includes("pytorch_model.bin");
  if (!whole && !names.some((name) => /^pytorch_model.*\.bin$/.test(name))) return null;
  // On the tensors themselves, not through a model class: that would drop a value head.
  const files = whole ? "[d + '/pytorch_model.bin']" : "sorted(glob.glob(glob.escape(d) + '/pytorch_model*.bin'))";
  const python =
    "import glob, torch, sys; from safetensors.torch import save_file; d = sys.argv[1]; s = {}; " +
    `[s.update(torch.load(f, map_location='cpu', weights_only=True)) for f in ${files}]; ` +
    "save_file({k: v.clone().contiguous() for k, v in s.items()}, d + '/model.safetensors', metadata={'format': 'pt'})";
  return `convert it once: python -c "${python}" ${shellQuote(dir)}`;
}

/** Whether these are the files of a PEFT adapter. */
export const isAdapter = (names: readonly string[]): boolean => names.some((name) => name.startsWith("adapter_"));

export const ADAPTER_ADVICE =
  "merge the adapter first: peft's merge_and_unload(), then save_pretrained(), the value head's tensors included";

async function refuseAdapter(dir: string, names: readonly string[], expected: string): Promise<never> {
  // Beside an adapter TRL saves the value head, and nothing else, as pytorch_model.bin.
  const head = names.includes("pytorch_model.bin")
    ? ", and a pytorch_model.bin, where TRL puts its value head alone"
    : "";
  const config = names.includes("adapter_config.json")
    ? await readJson(joinPath(dir, "adapter_config.json")).catch(() => null)
    : null;
  const base = (config as { base_model_name_or_path?: unknown } | null)?.base_model_name_or_path;
  const model = typeof base === "string" ? `its base model, ${base}` : "its base model";
  return fail("checkpoint", {
    where: dir,
    found: `a PEFT adapter without ${model}${head}`,
    expected,
    fix: ADAPTER_ADVICE,
  });
}

/** @throws checkpoint - always: a directory without config.json */
export async function noConfig(dir: string): Promise<never> {
  const names = (await isDirectory(dir)) ? await listDirectory(dir) : [];
  if (isAdapter(names)) return refuseAdapter(dir, names, `config.json and ${WEIGHTS}`);
  return fail("checkpoint", {
    where: joinPath(dir, "config.json"),
    found: "nothing at this path",
    expected: "the config.json of a GPT-2 checkpoint",
    fix: names.some((name) => /\.(safetensors|bin)$/.test(name))
      ? "copy the config.json that belongs to these weights into the directory"
      : "give a directory that a GPT-2 was saved to",
  });
}

/** @throws checkpoint - always: a directory without model.safetensors and model.safetensors.index.json */
export async function noWeights(dir: string): Promise<never> {
  if (!(await isDirectory(dir))) {
    const fix = "check the path";
    fail("checkpoint", { where: dir, found: "no such directory", expected: "a model directory", fix });
  }
  const names = await listDirectory(dir);
  // Before pytorch_model.bin, which is only TRL's value head then.
  const expected = WEIGHTS;
  if (isAdapter(names)) return refuseAdapter(dir, names, expected);
  const conversion = conversionAdvice(dir, names);
  if (conversion !== null) {
    const found = "only PyTorch's pytorch_model*.bin, which is not read";
    return fail("checkpoint", { where: dir, found, expected, fix: conversion });
  }
  const found = names.length === 0 ? "an empty directory" : `only ${names.slice(0, 8).join(", ")}`;
  return fail("checkpoint", { where: dir, found, expected, fix: "give a directory that a GPT-2 was saved to" });
}
