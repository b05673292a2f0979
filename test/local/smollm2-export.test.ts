/**
 * @file SmolLM2-135M-Instruct exported: transformers.js says what the model says here. Only where VALUEHEAD_SMOLLM2 names its directory.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { exportOnnx } from "../../src/ship/export.ts";
import { TextModel } from "../../src/ship/text-model.ts";
import { leftPadded, transformersJS } from "../support/transformers-js.ts";

const directory = process.env.VALUEHEAD_SMOLLM2;
if (!directory) process.stdout.write("SmolLM2 exported: not run, VALUEHEAD_SMOLLM2 names no directory\n");

test.runIf(directory)("logits to 1e-3 in fp32; the same answer, in q8 too", async () => {
  const out = join(mkdtempSync(join(tmpdir(), "valuehead-smollm2-")), "onnx");
  try {
    const writer = await TextModel.open(directory as string);
    await exportOnnx(writer.model, out, { tokenizer: writer.tokenizer, dtype: ["fp32", "q8"] });
    const { AutoModelForCausalLM, pipeline } = await transformersJS();
    const rows = ["The sea is", "Gravity is one of the four"].map((text) => writer.tokenizer.encode(text));
    const js = await AutoModelForCausalLM.from_pretrained(out, { dtype: "fp32" });
    const { logits } = await js(await leftPadded(rows));
    await js.dispose();
    const [, T, V] = logits.dims;
    for (const [b, row] of rows.entries()) {
      const want = (await writer.model.forward({ inputIds: [row] })).logits.data.subarray((row.length - 1) * V);
      const got = (logits.data as Float32Array).subarray((b * T + T - 1) * V, (b + 1) * T * V);
      for (let v = 0; v < V; v++)
        if (!(Math.abs(got[v] - want[v]) < 1e-3)) expect.fail(`row ${b}, token ${v}: ${got[v]}, here ${want[v]}`);
    }
    const messages = [{ role: "user", content: "Name three fruits." }];
    const ours = await writer.complete(messages, { topK: 1, maxNewTokens: 40 });
    for (const dtype of ["fp32", "q8"]) {
      const write = await pipeline("text-generation", out, { dtype });
      const [{ generated_text }] = await write(messages, { max_new_tokens: 40, do_sample: false });
      expect((generated_text as unknown as { content: string }[]).at(-1)?.content, dtype).toBe(ours);
      await write.dispose();
    }
  } finally {
    rmSync(out, { recursive: true, force: true });
  }
});
