/**
 * @file vitest in a worker of a tab: its runner and its expectations, without the rest. Test files that are bundled with this in its
 * place run there as they are (test/browser/suites.test.ts).
 */
import {
  ASYMMETRIC_MATCHERS_OBJECT,
  chai,
  GLOBAL_EXPECT,
  JestAsymmetricMatchers,
  JestChaiExpect,
  JestExtend,
  setState,
} from "@vitest/expect";
import { startTests, type Task, type VitestRunner } from "@vitest/runner";
import { fn, spyOn } from "@vitest/spy";
import { loadModel, setBrowserFiles } from "../../src/index.ts";
import { parentDirectory } from "../../src/platform/web/paths.ts";
import { store } from "../../src/platform/web/store.ts";
import { computations, type Results } from "./computations.ts";

export { afterAll, afterEach, beforeAll, beforeEach, describe, it, onTestFinished, test } from "@vitest/runner";
export const vi = { fn, spyOn };

chai.use(JestExtend);
chai.use(JestChaiExpect);
chai.use(JestAsymmetricMatchers);
const globals = globalThis as unknown as Record<symbol, object>;
export const expect = Object.assign(chai.expect, globals[ASYMMETRIC_MATCHERS_OBJECT]);
globals[GLOBAL_EXPECT] = expect;
setState({ assertionCalls: 0, isExpectingAssertions: false }, expect as never);

setBrowserFiles({ models: "/models/", runtime: "/onnxruntime/" });

/** Put files of the server where the library looks for them, under the same paths. */
export async function keepFiles(paths: readonly string[]): Promise<void> {
  const files = await store();
  for (const path of paths) {
    await files.makeDirectory(parentDirectory(path));
    const writer = await files.create(path);
    await writer.write(new Uint8Array(await (await fetch(path)).arrayBuffer()));
    await writer.close();
  }
}

/** What became of tests: names of those that passed, and of those that failed with why. */
export interface Outcome {
  readonly passed: string[];
  readonly failed: string[];
}

function note(task: Task, above: string, outcome: Outcome): void {
  const name = `${above} ${task.name}`.trim();
  const { state, errors = [] } = task.result ?? {};
  if (state === "fail" && errors.length > 0) outcome.failed.push(`${name}: ${errors.map((e) => e.stack).join("\n")}`);
  else if (task.type === "test" && state === "pass") outcome.passed.push(name);
  if (task.type === "suite") for (const inner of task.tasks) note(inner, "filepath" in task ? "" : name, outcome);
}

/** Run those tests of a file whose names, with those of what they stand in, match. */
export async function runTests(load: () => Promise<unknown>, pattern: string): Promise<Outcome> {
  const runner: VitestRunner = {
    config: {
      root: "/",
      setupFiles: [],
      name: undefined,
      passWithNoTests: false,
      testNamePattern: new RegExp(pattern),
      allowOnly: false,
      sequence: { seed: 0, hooks: "stack", setupFiles: "list" },
      chaiConfig: undefined,
      maxConcurrency: 1,
      testTimeout: 120_000,
      hookTimeout: 120_000,
      retry: 0,
      includeTaskLocation: false,
      tags: [],
      tagsFilter: undefined,
      strictTags: false,
    },
    importFile: load,
  };
  const [file] = await startTests(["/tests"], runner);
  const outcome: Outcome = { passed: [], failed: [] };
  note(file, "", outcome);
  return outcome;
}

/** What a model computes here. */
export async function compute(directory: string, name: string): Promise<Results> {
  const model = await loadModel(directory, { threads: 1 });
  const results = await (computations.find(([known]) => known === name) as (typeof computations)[number])[1](model);
  model.dispose();
  return Object.fromEntries(Object.entries(results).map(([key, numbers]) => [key, Array.from(numbers)]));
}
