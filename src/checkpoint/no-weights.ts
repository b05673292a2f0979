/** @file A directory, or a repository on the hub, that is not a model that can be read: what it seems to be, and what to do. */
import { fail } from "../base/errors.ts";
import { shellQuote } from "../base/shell.ts";
import { isDirectory, joinPath, listDirectory } from "../platform/files.ts";

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

/** The command that writes a file of PyTorch's as safetensors, in the same directory. */
export const tensorConversion = (dir: string, from: string, to: string): string =>
  `python -c "import torch, sys; from safetensors.torch import save_file; d = sys.argv[1]; ` +
  `s = torch.load(d + '/${from}', map_location='cpu', weights_only=True); ` +
  `save_file({k: v.clone().contiguous() for k, v in s.items()}, d + '/${to}', metadata={'format': 'pt'})" ${shellQuote(dir)}`;

/** What to do with an adapter that PEFT saved as a pickle; null where it did not. */
export const pickledAdapterAdvice = (dir: string, names: readonly string[]): string | null =>
  names.includes("adapter_model.bin")
    ? `convert it once: ${tensorConversion(dir, "adapter_model.bin", "adapter_model.safetensors")}`
    : null;

/** An adapter's weights without their config. */
function bareAdapter(dir: string): never {
  return fail("checkpoint", {
    where: dir,
    found: "an adapter's weights without adapter_config.json",
    expected: "both",
    fix: "copy the adapter_config.json that belongs to these weights into the directory",
  });
}

const isBareAdapter = (names: readonly string[]) =>
  names.some((name) => name.startsWith("adapter_")) && !names.includes("adapter_config.json");

/** @throws checkpoint - always: a directory without config.json */
export async function noConfig(dir: string): Promise<never> {
  const names = (await isDirectory(dir)) ? await listDirectory(dir) : [];
  if (isBareAdapter(names)) return bareAdapter(dir);
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
  const expected = WEIGHTS;
  if (isBareAdapter(names)) return bareAdapter(dir);
  const conversion = conversionAdvice(dir, names);
  if (conversion !== null) {
    const found = "only PyTorch's pytorch_model*.bin, which is not read";
    return fail("checkpoint", { where: dir, found, expected, fix: conversion });
  }
  const found = names.length === 0 ? "an empty directory" : `only ${names.slice(0, 8).join(", ")}`;
  return fail("checkpoint", { where: dir, found, expected, fix: "give a directory that a GPT-2 was saved to" });
}
