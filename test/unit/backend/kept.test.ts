/** @file What a backend keeps is sent when the host has changed it and read when the host asks, and at no other time. */
import { beforeEach, expect, test } from "vitest";
import { Engine } from "../../../src/backend/engine.ts";
import { OrtNode } from "../../../src/backend/ort-node.ts";
import { add } from "../../../src/graph/ops/index.ts";
import { input } from "../../../src/graph/tensor.ts";
import { ParameterBuffer, parameterTable } from "../../../src/model/parameters.ts";
import { hidden } from "../../support/backends.ts";
import { gpt2Of } from "../../support/gpt2.ts";

/** What went to the backend and back. */
let log: string[] = [];
function keepingEngine(): Engine {
  const backend = hidden(new OrtNode({ threads: 1 }), true);
  return Engine.over({
    ...backend,
    write: (to, from) => {
      log.push(`sent ${from.join()}`);
      return backend.write(to, from);
    },
    read: async (from, to) => {
      await backend.read(from, to);
      log.push(`read ${to.join()}`);
    },
    free: () => log.push("freed"),
  });
}
beforeEach(() => {
  log = [];
});

const x = (name: string) => input(name, { N: 2 });
const SUM = { name: "sum", outputs: { y: add(x("a"), x("b")) } };

test("a kept array goes there once, comes back when it is asked for, and goes there again when the host has changed it", async () => {
  const engine = keepingEngine();
  const [a, other, y] = [Float32Array.of(1, 2), Float32Array.of(10, 20), new Float32Array(2)];
  engine.kept?.keep([a]);
  await engine.run(SUM, { a, b: other }, { y });
  await engine.run(SUM, { a, b: other }, { y });
  expect([...y]).toEqual([11, 22]);
  expect(log).toEqual(["sent 1,2"]); // what is not kept is given as it is
  await engine.run(SUM, { a, b: other }, { y: a });
  await engine.run(SUM, { a, b: other }, { y: a });
  expect([...a]).toEqual([1, 2]); // as it was
  expect(engine.kept?.isStale(a)).toBe(true);
  await engine.kept?.refresh([a, other]);
  await engine.kept?.refresh([a, other]);
  expect([...a]).toEqual([21, 42]);
  a[0] = 5;
  engine.kept?.changed(a);
  const compiled = await engine.compile(SUM);
  await compiled.run({ a, b: other }, { y });
  expect([...y]).toEqual([15, 62]);
  expect(log).toEqual(["sent 1,2", "read 21,42", "sent 5,42"]);
  engine.dispose();
  expect(log.pop()).toBe("freed");
  await engine.run(SUM, { a, b: other }, { y });
  expect(log.pop()).toBe("sent 5,42"); // after dispose as before
});

test("on the host's memory nothing is kept", () => {
  expect(new Engine({ threads: 1 }).kept).toBeUndefined();
});

test("parameters are read after refresh, and not before; a view that is taken may be changed", async () => {
  const engine = keepingEngine();
  const config = { vocabSize: 2, nPositions: 1, nEmbd: 2, nLayer: 1, nHead: 1 };
  const table = parameterTable(gpt2Of(config));
  const parameters = new ParameterBuffer(table);
  const copy = new ParameterBuffer(table, parameters, []); // a frozen copy's
  for (const buffer of [parameters, copy]) buffer.keepIn(engine);
  const name = "transformer.ln_f.weight";
  parameters.view(name).set([1, 2]);
  const [a, b] = [parameters.slot(name), Float32Array.of(1, 1)];
  await engine.run(SUM, { a, b }, { y: a });
  for (const of of [parameters, copy]) {
    const stale = [() => of.view(name), () => of.numbers(name), () => (of === copy ? of.view(name) : of.data)];
    for (const read of stale)
      expect(read).toThrow(
        "parameter transformer.ln_f.weight: found numbers that were changed on the GPU since the host read them, expected the " +
          "host's copy to be up to date before it is used. Fix: await model.parameters.refresh() first",
      );
  }
  expect(parameters.view("transformer.ln_f.bias")).toHaveLength(2);
  await copy.refresh();
  expect([...parameters.numbers(name)]).toEqual([2, 3]);
  await engine.run(SUM, { a, b }, { y: b });
  expect(log).toEqual(["sent 1,2", "read 2,3"]);
  parameters.view(name)[0] = 7;
  await engine.run(SUM, { a, b: Float32Array.of(0, 0) }, { y: b });
  expect([...b]).toEqual([7, 3]);
});
