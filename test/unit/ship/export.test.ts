/** @file What exportOnnx() writes beside the graph, and what it refuses. */
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fromBinary } from "@bufbuild/protobuf";
import { ModelProtoSchema } from "onnx-buf";
import { afterAll, expect, test } from "vitest";
import { type ExportProgress, exportOnnx } from "../../../src/ship/export.ts";
import { loadTokenizer } from "../../../src/tokenizer/load.ts";
import { root } from "../../support/cli.ts";
import { smallModel } from "../../support/families.ts";
import { transformersJS } from "../../support/transformers-js.ts";

const scratch = mkdtempSync(join(tmpdir(), "valuehead-export-"));
afterAll(() => rmSync(scratch, { recursive: true, force: true }));
const tiny = join(root, "models", "tiny");
const model = smallModel("qwen2", { vocabSize: 8192, context: 32 }, { seed: 3, threads: 1 });
const json = (...path: string[]) => JSON.parse(readFileSync(join(scratch, ...path), "utf8"));

/** A directory with the older pair of files for the embedded tokenizer, and a chat template in a file of its own. */
function olderTokenizer(): string {
  const directory = join(scratch, "older");
  mkdirSync(directory);
  const { model } = JSON.parse(readFileSync(join(tiny, "tokenizer.json"), "utf8"));
  writeFileSync(join(directory, "vocab.json"), JSON.stringify(model.vocab));
  const pairs = model.merges.map((pair: string | string[]) => (typeof pair === "string" ? pair : pair.join(" ")));
  writeFileSync(join(directory, "merges.txt"), ["#version: 0.2", ...pairs].join("\n"));
  writeFileSync(
    join(directory, "chat_template.jinja"),
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}",
  );
  return directory;
}

test("a tokenizer of older files becomes complete ones, chat template inside", async () => {
  const tokenizer = await loadTokenizer(olderTokenizer());
  const out = join(scratch, "complete");
  await exportOnnx(model, out, { tokenizer });
  const { AutoTokenizer } = await transformersJS();
  const js = await AutoTokenizer.from_pretrained(out);
  const text = "The film wasn't  so bad; 3 stars — ünïcode.<|endoftext|>";
  expect(Array.from(js(text).input_ids.data, Number)).toEqual([...tokenizer.encode(text)]);
  const chat = js.apply_chat_template([{ role: "user", content: "Hi" }], { tokenize: false });
  expect(chat).toBe("<user>Hi");
});

test("what is there is kept as it is", async () => {
  const out = join(scratch, "kept");
  const tokenizer = await loadTokenizer(tiny);
  await exportOnnx(model, out, { tokenizer });
  expect(readFileSync(join(out, "tokenizer.json"))).toEqual(readFileSync(join(tiny, "tokenizer.json")));
  expect(json("kept", "config.json")).toMatchObject({
    model_type: "qwen2",
    num_key_value_heads: 2,
    num_hidden_layers: 2,
  });
  expect(json("kept", "config.json")).not.toHaveProperty(["transformers.js_config"]);
});

test("progress counts to the end; the file is one graph, its embedding stored once where the head is tied to it", async () => {
  const heard: ExportProgress[] = [];
  const [file] = await exportOnnx(model, join(scratch, "told"), {
    tokenizer: await loadTokenizer(tiny),
    onProgress: (progress) => heard.push({ ...progress }),
  });
  expect(heard.at(-1)).toEqual({ file: "model.onnx", written: file.bytes, total: file.bytes });
  const bytes = readFileSync(join(scratch, "told", "onnx", "model.onnx"));
  expect(bytes.length).toBe(file.bytes);
  const { graph } = fromBinary(ModelProtoSchema, bytes);
  const large = graph?.initializer.filter(({ dims }) => dims.includes(8192n));
  expect(large?.map(({ dims }) => dims)).toEqual([[8192n, 48n]]);
  expect(
    graph?.input
      .slice(0, 4)
      .map(({ name }) => name)
      .sort(),
  ).toEqual(["attention_mask", "input_ids", "position_ids", "num_logits_to_keep"].sort());
});

test("nothing is left of an export that fails", async () => {
  const tokenizer = await loadTokenizer(tiny);
  const out = join(scratch, "failed");
  const onProgress = () => {
    throw new Error("stop");
  };
  await expect(exportOnnx(model, out, { tokenizer, onProgress })).rejects.toThrow("stop");
  expect(existsSync(out)).toBe(false);
  expect(readdirSync(scratch).filter((name) => name.startsWith("failed"))).toEqual([]);
});

test("a signal ends it, and nothing is left", async () => {
  const tokenizer = await loadTokenizer(tiny);
  const controller = new AbortController();
  const out = join(scratch, "ended");
  const heard: number[] = [];
  const onProgress = ({ written }: ExportProgress) => {
    heard.push(written);
    controller.abort();
  };
  await expect(exportOnnx(model, out, { tokenizer, signal: controller.signal, onProgress })).rejects.toThrow(
    "This operation was aborted",
  );
  expect(heard).toHaveLength(1);
  expect(readdirSync(scratch).filter((name) => name.startsWith("ended"))).toEqual([]);
});

test("what cannot be exported is refused before anything is written", async () => {
  const tokenizer = await loadTokenizer(tiny);
  const out = join(scratch, "refused");
  await expect(exportOnnx(model, out)).rejects.toThrow(
    "exportOnnx: found a model that was not loaded from a directory, and no tokenizer, expected the tokenizer it is used with",
  );
  await expect(exportOnnx(model, out, { tokenizer, dtype: "q4" as "q8" })).rejects.toThrow(
    'dtype: found "q4", expected "fp32", "q8", or a list of them',
  );
  await expect(exportOnnx(model, out, { tokenizer, dtype: [] })).rejects.toThrow("dtype: found none");
  const narrow = smallModel("gpt2", { vocabSize: 100, context: 32 }, { seed: 3, threads: 1 });
  await expect(exportOnnx(narrow, out, { tokenizer })).rejects.toThrow("tokenizer.json: found");
  expect(existsSync(out)).toBe(false);
  mkdirSync(out);
  copyFileSync(join(tiny, "config.json"), join(out, "config.json"));
  await expect(exportOnnx(model, out, { tokenizer })).rejects.toThrow("a directory with 1 entries (config.json)");
});
