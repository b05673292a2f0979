/** @file Every field of trainer.json, with values that no trainer writes there. */
import { expect, test } from "vitest";
import type { z } from "zod";
import { checkedTrainerState, problemOf } from "../../../src/algorithms/trainer-state.ts";
import { ppoCheckpoint } from "../../../src/run/checkpoint-state.ts";

const sum = "0123456789abcdef".repeat(4);
const state: z.infer<typeof ppoCheckpoint> = {
  trainer: {
    step: 3,
    kl: { value: 0.2 },
    prompts: { count: 6, seed: 0, epoch: 1, position: 2 },
    scores: { mean: 0.5, variance: 1, count: 24 },
    skippedUpdates: 0,
    audit: { steps: 3, logs: { higher: -1.5 } },
  },
  optimizerStep: 12,
  rewards: [0.1, -3],
  inputs: {
    prompts: sum,
    promptCount: 6,
    evaluation: sum,
    reference: sum,
    tokenizer: sum,
    reward: "length",
    rewardFile: sum,
    threads: 2,
  },
  options: { steps: 3 },
  keepOlder: true,
};
const strange = [1.5, -1, Number.NaN, Number.POSITIVE_INFINITY, 1e300, "3", "", true, false, null, [], {}, [1, 2]];

/** What a field may be of these: told by what it means, not by the schema. */
const legal: Record<string, unknown[]> = {
  "trainer.kl.value": [1.5, 1e300],
  "trainer.scores.mean": [1.5, -1, 1e300],
  "trainer.scores.variance": [1.5, 1e300],
  "rewards.0": [1.5, -1, 1e300],
  "rewards.1": [1.5, -1, 1e300],
  rewards: [[], [1, 2]],
  "trainer.audit.logs": [{}],
  "trainer.audit.logs.higher": [1.5, -1, 1e300, null],
  "inputs.reward": ["3", ""],
  options: [{}],
  keepOlder: [true],
};
/** Left out, the state is still one. */
const optional = [
  "inputs.reference", // a run with klLog none has none
  "trainer.prompts",
  "trainer.scores",
  "trainer.skippedUpdates",
  "trainer.audit",
  "trainer.audit.logs.higher",
  "inputs",
  "inputs.evaluation",
  "inputs.rewardFile",
  "options",
  "keepOlder",
];

type Path = (string | number)[];
function* paths(value: unknown, path: Path = []): Generator<Path> {
  if (path.length > 0) yield path;
  if (typeof value !== "object" || value === null || path[0] === "options") return;
  for (const key of Object.keys(value))
    yield* paths(value[key as never], [...path, Array.isArray(value) ? Number(key) : key]);
}
function changed(
  path: Path,
  change: (parent: Record<string | number, unknown>, key: string | number) => void,
): unknown {
  const copy = structuredClone(state);
  let parent = copy as unknown as Record<string | number, unknown>;
  for (const key of path.slice(0, -1)) parent = parent[key] as typeof parent;
  change(parent, path.at(-1) as string);
  return copy;
}

test("the state itself is one", () => expect(problemOf(ppoCheckpoint, state)).toBeUndefined());

const all = [...paths(state)].map((path) => [path.join("."), path] as const);
test("all fields are tried", () => expect(all.length).toBe(33));

test.each(all)("%s: any value that it cannot have is refused by name", (name, path) => {
  for (const value of strange) {
    const problem = problemOf(
      ppoCheckpoint,
      changed(path, (parent, key) => (parent[key] = value)),
    );
    const fine = (legal[name] ?? []).some(
      (x) =>
        Object.is(x, value) || (typeof x === "object" && x !== null && JSON.stringify(x) === JSON.stringify(value)),
    );
    if (fine) expect(problem, `${name} = ${String(value)}`).toBeUndefined();
    else expect(problem ?? "nothing wrong", `${name} = ${String(value)}`).toContain(name);
  }
});

test.each(all.filter(([name]) => !/\d$/.test(name)))("%s: left out, or under another name", (name, path) => {
  const without = problemOf(
    ppoCheckpoint,
    changed(path, (parent, key) => delete parent[key]),
  );
  if (optional.includes(name)) expect(without).toBeUndefined();
  else expect(without).toContain(name);
  if (name === "trainer.audit.logs.higher") return; // alternatives have any name
  const renamed = changed(path, (parent, key) => (parent[`${key}s`] = parent[key]));
  expect(problemOf(ppoCheckpoint, renamed)).toContain(`${path.at(-1)}s`);
});

test("what cannot be together", () => {
  const beyond = changed(["trainer", "prompts", "position"], (parent, key) => (parent[key] = 7));
  expect(problemOf(ppoCheckpoint, beyond)).toBe("trainer.prompts.position: found 7 (a position of at most count)");
});

test.each([[undefined], [null], [3], ["{}"], [[]], [{}]])("no state at all: %s", (data) =>
  expect(problemOf(ppoCheckpoint, data)).toBeDefined(),
);

test("setState refuses it in the same words", () => {
  const bad = { ...state.trainer, step: 1.5 };
  expect(() => checkedTrainerState(bad)).toThrow(
    /PPOTrainer, setState: found step: found 1.5 \(.*\), expected what getState\(\) returned/,
  );
});
