/**
 * @file The commands in our advice that need Python, run as they are printed. Only where VALUEHEAD_PYTHON names a Python with
 * torch, transformers and safetensors (and sentencepiece, for tokenizers).
 */
import { execFileSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ValueheadError } from "../../src/base/errors.ts";
import { GPT2HeadWithValueModel } from "../../src/families/index.ts";
import { loadTokenizer } from "../../src/tokenizer/load.ts";
import { goldenPath } from "../support/golden.ts";

const python = process.env.VALUEHEAD_PYTHON;
if (!python) process.stdout.write("commands in Python: not run, VALUEHEAD_PYTHON names no Python\n");

/** The name holds what a shell would take for its own. */
const AWKWARD = `it's "my" $HOME model`;

describe.runIf(python)("commands in our advice", () => {
  const scratch = mkdtempSync(join(tmpdir(), "valuehead-advice-"));
  beforeAll(() => {
    mkdirSync(join(scratch, "bin"));
    writeFileSync(join(scratch, "bin", "python"), `#!/bin/sh\nexec "${python}" "$@"\n`, { mode: 0o755 });
  });
  afterAll(() => rmSync(scratch, { recursive: true, force: true }));

  const runPython = (script: string, ...args: string[]) => execFileSync(python as string, ["-c", script, ...args]);
  /** What the `fix` of an error says to run, run by a shell. */
  function follow(error: unknown): void {
    expect(error).toBeInstanceOf(ValueheadError);
    const { fix } = (error as ValueheadError).problem;
    const command = fix.slice(fix.indexOf("python -c"));
    execFileSync("sh", ["-c", command], { env: { ...process.env, PATH: `${scratch}/bin:${process.env.PATH}` } });
  }

  test.each([1, 2, 12])("pytorch_model.bin in %i pieces keeps the value head of a TRL checkpoint", async (pieces) => {
    const source = goldenPath("checkpoints/trl");
    const directory = join(scratch, `${pieces} ${AWKWARD}`);
    mkdirSync(directory);
    copyFileSync(join(source, "config.json"), join(directory, "config.json"));
    runPython(
      `import sys, torch, json
from safetensors.torch import load_file
s, d, n = load_file(sys.argv[1] + '/model.safetensors'), sys.argv[2], int(sys.argv[3])
names = ['pytorch_model.bin'] if n == 1 else [f'pytorch_model-{i + 1:05d}-of-{n:05d}.bin' for i in range(n)]
for i, name in enumerate(names):
    torch.save({k: v for j, (k, v) in enumerate(s.items()) if j % n == i}, d + '/' + name)
if n > 1:
    json.dump({'weight_map': {k: names[j % n] for j, k in enumerate(s)}}, open(d + '/pytorch_model.bin.index.json', 'w'))`,
      source,
      directory,
      String(pieces),
    );
    follow(await GPT2HeadWithValueModel.fromPretrained(directory).catch((error) => error));
    const [converted, original] = [
      await GPT2HeadWithValueModel.fromPretrained(directory, { threads: 1 }),
      await GPT2HeadWithValueModel.fromPretrained(source, { threads: 1 }),
    ];
    expect(converted.valueHeadIsNew).toBe(false);
    expect(converted.notes).toEqual(original.notes);
    expect(converted.parameters.data).toEqual(original.parameters.data);
  });

  test("a tokenizer that is a SentencePiece model alone becomes a tokenizer.json", async () => {
    const directory = join(scratch, `tokenizer ${AWKWARD}`);
    mkdirSync(directory);
    const source = goldenPath("lookalikes/rinna_japanese-gpt2-small");
    for (const name of readdirSync(source)) copyFileSync(join(source, name), join(directory, name));
    follow(await loadTokenizer(directory).catch((error) => error));
    const tokenizer = await loadTokenizer(directory);
    const text = "こんにちは、に は。";
    const ids = `import sys, json; from transformers import AutoTokenizer as T
print(json.dumps(T.from_pretrained(sys.argv[1])(sys.argv[2])["input_ids"]))`;
    expect([...tokenizer.encode(text)]).toEqual(JSON.parse(String(runPython(ids, directory, text))));
  });
});
