/** @file The layer rule holds for src/, and its check sees what breaks it. */
import { readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { LAYERS, layerProblems } from "../../tools/check-layers.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));

test("src/ keeps to its layers", () => {
  const paths = readdirSync(`${root}src`, { recursive: true, encoding: "utf8" })
    .map((p) => `src/${p.replaceAll("\\", "/")}`)
    .filter((p) => p.endsWith(".ts"));
  expect(paths).toContain("src/graph/ops/linear.ts");
  expect(layerProblems(new Map(paths.map((p) => [p, readFileSync(root + p, "utf8")])))).toEqual([]);
});

const check = (files: Record<string, string>) => layerProblems(new Map(Object.entries(files)));

test("imports from above and from the own folder are fine, packages too", () => {
  const problems = check({
    "src/base/errors.ts": "export const a = 1;",
    "src/graph/tensor.ts": 'import { a } from "../base/errors.ts";\nimport { create } from "@bufbuild/protobuf";',
    "src/graph/onnx.ts": 'import type { T } from "./tensor.ts";',
    "src/platform/files.ts": 'import os from "node:os";',
    "src/backend/ort-node.ts": 'const x = require("onnxruntime-node");',
    "src/index.ts": 'export * from "./graph/onnx.ts";',
    "src/cli/main.ts": 'import { run } from "../index.ts";\nimport fs from "node:fs";',
  });
  expect(problems).toEqual([]);
});

test.each([
  ["import", 'import { a } from "../model/model.ts";'],
  ["import of a type", 'import type { A } from "../model/model.ts";'],
  ["import over several lines", 'import {\n  a,\n  b,\n} from "../model/model.ts";'],
  ["import for its effects", 'import "../model/model.ts";'],
  ["dynamic import", 'const m = await import("../model/model.ts");'],
  ["import() in a type", 'let m: import("../model/model.ts").Model;'],
  ["re-export", "export * from '../model/model.ts';"],
  [
    "import that a comment hides a part of",
    'import { a /* not "./x.ts" */ } from "../model/model.ts"; // from "./y.ts"',
  ],
])("a folder that imports one below it is found: %s", (_, source) => {
  const problems = check({ "src/graph/onnx.ts": `\n${source}`, "src/model/model.ts": "" });
  expect(problems).toEqual([
    `src/graph/onnx.ts:${1 + source.split("\n").length}: graph imports src/model/model.ts, but model comes after graph`,
  ]);
});

test.each(LAYERS.flatMap((from, i) => LAYERS.slice(i + 1).map((to) => [from, to])))(
  "%s may not import %s",
  (from, to) => {
    const file = (layer: string) => (layer === "index" ? "src/index.ts" : `src/${layer}/a.ts`);
    const target = `${from === "index" ? "./" : "../"}${to === "index" ? "index.ts" : `${to}/a.ts`}`;
    expect(check({ [file(from)]: `import "${target}";`, [file(to)]: "" })).toHaveLength(1);
  },
);

test("Node and ONNX Runtime outside their rooms are found", () => {
  const source = 'import fs from "node:fs";\nimport { Tensor } from "onnxruntime-common";\nimport("onnxruntime-node");';
  expect(check({ "src/rl/kl.ts": source })).toEqual([
    "src/rl/kl.ts:1: imports node:fs, which only platform and cli may",
    "src/rl/kl.ts:2: imports onnxruntime-common, which only backend may",
    "src/rl/kl.ts:3: imports onnxruntime-node, which only backend may",
  ]);
});

test("an import of what a thread starts with is found", () => {
  const files = { "src/run/worker-main.ts": 'import "./worker.ts";', "src/run/worker.ts": "" };
  expect(check(files)).toEqual([]);
  expect(check({ ...files, "src/index.ts": 'import "./run/worker-main.ts";' })).toEqual([
    "src/index.ts:1: imports src/run/worker-main.ts, which a thread or process starts with",
  ]);
});

test("comments are not imports, and a string with // in it hides none", () => {
  const source = [
    '// import fs from "node:fs";',
    '/* from "node:fs" */',
    'const url = "https://example.org"; import os from "node:os";',
  ].join("\n");
  expect(check({ "src/rl/kl.ts": source })).toEqual([
    "src/rl/kl.ts:3: imports node:os, which only platform and cli may",
  ]);
});

test("circles are found, but between operations", () => {
  const circle = (folder: string) => ({
    [`${folder}/a.ts`]: 'import "./b.ts";',
    [`${folder}/b.ts`]: 'import "./c.ts";',
    [`${folder}/c.ts`]: 'import "./a.ts";',
  });
  expect(check(circle("src/rl"))).toEqual([
    "src/rl/a.ts -> src/rl/b.ts -> src/rl/c.ts -> src/rl/a.ts: files import each other in a circle",
  ]);
  expect(check(circle("src/graph/ops"))).toEqual([]);
  // One file outside is enough, even beside a circle of operations that is allowed.
  const mixed = {
    "src/graph/ops/a.ts": 'import "./b.ts";\nimport "../tensor.ts";',
    "src/graph/ops/b.ts": 'import "./a.ts";',
    "src/graph/tensor.ts": 'import "./ops/b.ts";',
  };
  expect(check(mixed)).toEqual([
    "src/graph/tensor.ts -> src/graph/ops/b.ts -> src/graph/ops/a.ts -> src/graph/tensor.ts: " +
      "files import each other in a circle",
  ]);
  expect(check({ "src/rl/a.ts": 'import "./a.ts";' })).toHaveLength(1);
});

test("a new folder, a missing file and a way out of src/ are found", () => {
  const source = 'import "../base/gone.ts";\nimport "../../test/support/run.ts";';
  expect(check({ "src/attic/old.ts": source })).toEqual([
    "src/attic/old.ts: attic is not a known folder of src/",
    "src/attic/old.ts:1: imports ../base/gone.ts, which does not exist",
    "src/attic/old.ts:2: imports ../../test/support/run.ts, which is outside src/",
  ]);
});
