/** @file `valuehead export`: what it writes and prints, and what it refuses. That transformers.js loads it: test/parity/transformers-js.test.ts. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { buildCli, expectProblem, jsonLines, temporaryDirectory, valuehead, writeModel } from "../../support/cli.ts";

const cwd = temporaryDirectory();
beforeAll(async () => {
  buildCli();
  await writeModel(join(cwd, "m"));
});

test("writes the directory, says what is in it and how to load it", () => {
  const { status, stdout, stderr } = valuehead(cwd, "export", "--model", "m", "--out", "a/out");
  expect(status, stderr).toBe(0);
  expect(stdout).toMatch(/^m as ONNX in a\/out\n {2}onnx\/model\.onnx {2}[\d,]+ bytes\n$/);
  expect(stderr).toContain(
    'load it in transformers.js: await pipeline("text-generation", "./a/out", { dtype: "fp32" })',
  );
  expect(readdirSync(join(cwd, "a"))).toEqual(["out"]);
  expect(readdirSync(join(cwd, "a", "out")).sort()).toEqual([
    ...["config.json", "generation_config.json", "onnx", "tokenizer.json", "tokenizer_config.json"],
  ]);
  expect(JSON.parse(readFileSync(join(cwd, "a", "out", "generation_config.json"), "utf8")).eos_token_id).toBe(8191);
});

test("--json, and both dtypes", () => {
  const { stdout } = valuehead(
    cwd,
    ...["export", "--model", "m", "--out", "both", "--json"],
    ...["--dtype", "q8", "--dtype", "fp32"],
  );
  const [{ out, files }] = jsonLines(stdout);
  expect(out).toBe("both");
  expect(files.map(({ name }: { name: string }) => name)).toEqual(["onnx/model_quantized.onnx", "onnx/model.onnx"]);
  for (const { name, bytes } of files) expect(readFileSync(join(cwd, "both", name)).length).toBe(bytes);
});

test("what is missing, taken or unknown is named, and nothing is written", () => {
  const none = valuehead(cwd, "export", "--model", "m");
  expect(none.status).toBe(2);
  expectProblem(none.stderr, "--out", "nothing: it was not given");
  writeFileSync(join(cwd, "file"), "");
  const taken = valuehead(cwd, "export", "--model", "m", "--out", "m");
  expect(taken.status).toBe(2);
  expectProblem(taken.stderr, "m", "a directory with");
  const wrong = valuehead(cwd, "export", "--model", "m", "--out", "x", "--dtype", "q5");
  expect(wrong.status).toBe(2);
  expect(wrong.stderr).toContain("fp32, q8");
  const nowhere = valuehead(cwd, "export", "--model", "./nowhere", "--out", "x");
  expect(nowhere.status).toBe(2);
  expect(existsSync(join(cwd, "x"))).toBe(false);
});
