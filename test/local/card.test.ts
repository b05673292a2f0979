/** @file The Python in a model card, run as it stands. Only where VALUEHEAD_PYTHON names a Python with torch and transformers. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { modelCard } from "../../src/ship/card.ts";
import { TextModel } from "../../src/ship/text-model.ts";

const python = process.env.VALUEHEAD_PYTHON;
if (!python) process.stdout.write("Python in model cards: not run, VALUEHEAD_PYTHON names no Python\n");

test.runIf(python)("transformers writes what the model writes here", async () => {
  const id = mkdtempSync(join(tmpdir(), "valuehead-card-"));
  try {
    const writer = await TextModel.open("tiny", { threads: 1 });
    await writer.model.savePretrained(id);
    await writer.tokenizer.save(id);
    const card = modelCard({
      ...{ id, algorithm: "ppo", step: 1, baseModel: "tiny", onHub: false, data: [], reward: "positive" },
      ...{ options: {}, metrics: {}, adapter: false, version: "1" },
    });
    const [, code] = /```python\n([\s\S]*?)```/.exec(card) as RegExpExecArray;
    const printed = execFileSync(python as string, ["-c", code], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "ignore"],
    });
    const ours = await writer.complete("Hello", { topK: 1, maxNewTokens: 20 });
    expect(printed.replaceAll("<|endoftext|>", "").trimEnd()).toBe(`Hello${ours}`);
  } finally {
    rmSync(id, { recursive: true, force: true });
  }
});
