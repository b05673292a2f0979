/**
 * @file A checkpoint in half the bytes: weights in fp16, all else as it is. `npm run tiny-store -- CHECKPOINT OUT [HELD-OUT]` writes
 * the model, without the trainer's state, and says how good it is on the held-out text before and after.
 */
import { copyFile, mkdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { heldOutLoss } from "../../src/algorithms/sft.ts";
import { openSafetensors, type TensorToWrite, writeSafetensors } from "../../src/checkpoint/safetensors.ts";
import { WEIGHTS_FILE } from "../../src/checkpoint/weights.ts";
import { readCorpus, tokenizeCorpus } from "../../src/data/corpus.ts";
import { loadModel } from "../../src/families/index.ts";
import { openFile, writeAtomic } from "../../src/platform/files.ts";
import { loadTokenizer } from "../../src/tokenizer/load.ts";

const [from, to, heldOut] = process.argv.slice(2);
if (from === undefined || to === undefined) {
  console.error("usage: npm run tiny-store -- CHECKPOINT OUT [HELD-OUT]");
  process.exit(1);
}

await mkdir(to, { recursive: true });
const file = await openSafetensors(await openFile(join(from, WEIGHTS_FILE)));
const tensors: TensorToWrite[] = [];
for (const [name, { shape, dtype }] of file.tensors) {
  if (dtype !== "F32") throw new Error(`${name}: ${dtype}, expected F32`);
  const data = new Float32Array(shape.reduce((a, b) => a * b, 1));
  await file.readFloat32Into(name, data);
  tensors.push({ name, shape, dtype: "F16", data });
}
await file.close();
await writeAtomic(join(to, WEIGHTS_FILE), (sink) => writeSafetensors(sink, tensors));
for (const name of ["config.json", "tokenizer.json", "tokenizer_config.json"])
  await copyFile(join(from, name), join(to, name));

for (const directory of [from, to]) {
  const { size } = await stat(join(directory, WEIGHTS_FILE));
  console.log(`${directory}: ${size} bytes${heldOut === undefined ? "" : `, ${await measured(directory, heldOut)}`}`);
}

async function measured(directory: string, text: string): Promise<string> {
  const model = await loadModel(directory);
  const { ids, documentBytes } = await tokenizeCorpus(readCorpus([text]), await loadTokenizer(directory));
  const bytes = documentBytes.reduce((a, b) => a + b, 0);
  const { loss, bitsPerByte, tokens } = await heldOutLoss(model, ids, bytes, model.sizes.context);
  return `${loss.toFixed(4)} nats a token, ${bitsPerByte.toFixed(4)} bits a byte (${tokens} tokens)`;
}
