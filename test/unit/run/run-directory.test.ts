/** @file Two runs in one directory, a directory that is lost while a run is at work in it, and what a resumed run compares. */
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { PPOConfig } from "../../../src/algorithms/options/ppo-options.ts";
import { pretrainRun } from "../../../src/deprecated.ts";
import type { RewardFunction } from "../../../src/experience/reward-functions.ts";
import { makeConfig } from "../../../src/families/gpt2.ts";
import { GPT2HeadWithValueModel } from "../../../src/families/index.ts";
import { writeChecksums } from "../../../src/platform/file-checksums.ts";
import { packagePath } from "../../../src/platform/files.ts";
import type { RunEvent } from "../../../src/run/events.ts";
import { run } from "../../../src/run/run.ts";
import type { RunSpec } from "../../../src/run/spec.ts";
import { runInWorker } from "../../../src/run/worker.ts";
import { loadTokenizer } from "../../../src/tokenizer/load.ts";
import { differences } from "../../../tools/small-run.ts";
import { buildCli } from "../../support/cli.ts";

const directory = mkdtempSync(join(tmpdir(), "valuehead-directory-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
const at = (...names: string[]) => join(directory, ...names);

const small: Partial<PPOConfig> = {
  steps: 4,
  batchSize: 4,
  miniBatchSize: 4,
  ppoEpochs: 1,
  maxNewTokens: 4,
  saveEvery: 2,
};
const spec = (out: string, rest: Partial<RunSpec> = {}): RunSpec => ({
  model: at("model"),
  prompts: ["This", "Two movies"],
  out: at(out),
  rewardName: "length",
  threads: 1,
  ...rest,
  config: { ...small, ...rest.config },
});
const reward: RewardFunction = (batch) => batch.map(({ response }) => response.length / 10);

/** A run to its end or error; `before` is called before the reward of each step. */
async function train(given: RunSpec, before: (step: number) => void | Promise<void> = () => {}) {
  const events: RunEvent[] = [];
  let step = 0;
  const asked: RewardFunction = async (batch) => {
    await before(++step);
    return reward(batch);
  };
  try {
    for await (const event of run(given, asked)) {
      if (event.type === "loaded") step = event.resumedAt;
      events.push(event);
    }
  } catch (error) {
    // biome-ignore lint/suspicious/noExplicitAny: a ValueheadError, or the test fails
    return { events, error: error as any };
  }
  return { events, error: undefined };
}
/** Checksums of a checkpoint as it is now. */
async function resum(checkpoint: string): Promise<void> {
  rmSync(join(checkpoint, "SHA256SUMS"));
  await writeChecksums(checkpoint);
}
const warnings = (events: RunEvent[]) => events.flatMap((e) => (e.type === "warning" ? [e.message] : []));
/** report.html is there where the page was built. */
const names = (out: string) =>
  readdirSync(at(out))
    .filter((name) => name !== "report.html")
    .sort();

beforeAll(async () => {
  const shape = { vocabSize: 8192, nEmbd: 8, nLayer: 1, nHead: 1, nPositions: 16, bosTokenId: 8191, eosTokenId: 8191 };
  for (const [name, seed] of [
    ["model", 5],
    ["other", 6],
  ] as const) {
    const model = GPT2HeadWithValueModel.fromConfig(makeConfig(shape), { threads: 1, seed });
    await model.savePretrained(at(name));
    await (await loadTokenizer(packagePath("models", "tiny"))).save(at(name));
    model.dispose();
  }
  expect((await train(spec("whole"))).error).toBeUndefined();
  expect(names("whole")).toEqual([
    "best.json",
    "checkpoint-2",
    "checkpoint-4",
    "config.json",
    "events.jsonl",
    "metrics.jsonl",
    "samples.jsonl",
    "tb",
  ]);
});

test("pretraining with an end token that the model has no row for is refused before a text is read", async () => {
  const config = { eos_token: "<|never|>" };
  const model = GPT2HeadWithValueModel.fromConfig(
    makeConfig({ vocabSize: 8192, nEmbd: 8, nLayer: 1, nHead: 1, nPositions: 16 }),
    { threads: 1 },
  );
  await model.savePretrained(at("no-end"));
  const tokenizer = packagePath("models", "tiny", "tokenizer.json");
  writeFileSync(join(at("no-end"), "tokenizer.json"), readFileSync(tokenizer));
  writeFileSync(join(at("no-end"), "tokenizer_config.json"), JSON.stringify(config));
  const events = pretrainRun({ data: [at("not-there.txt")], out: at("no-end-out"), model: at("no-end"), threads: 1 });
  await expect(events.next()).rejects.toThrow(
    "found an end-of-text token with id 8192, and a model of 8192 ids, expected one of the model's ids to put between documents",
  );
});

describe("a second run in the directory of one that is going on", () => {
  test.each([false, true])(
    "is refused at once, and the first ends with the same result (resume: %s)",
    async (resume) => {
      const out = `busy-${resume}`;
      const refused: string[] = [];
      const { error } = await train(spec(out), async (step) => {
        if (step < 2) return;
        const before = readdirSync(at(out), { recursive: true }).sort();
        const second = await train(spec(out, { resume }));
        expect(second.events).toEqual([]);
        refused.push(second.error.problem.found);
        expect(readdirSync(at(out), { recursive: true }).sort()).toEqual(before);
      });
      expect(error).toBeUndefined();
      expect(refused).toHaveLength(3);
      for (const found of refused) expect(found).toMatch(/^a run that is going on there: this very process/);
      expect(differences(at("whole"), at(out))).toEqual([]);
    },
  );

  test("a pretraining run too", async () => {
    writeFileSync(at("text.txt"), "A text about a movie that was long.\n\n".repeat(50));
    const pretraining = () =>
      pretrainRun({
        data: [at("text.txt")],
        out: at("pretrained"),
        model: at("model"),
        threads: 1,
        config: { steps: 3, sequenceLength: 8, batchSize: 2 },
      });
    let saved = 0;
    for await (const event of pretraining()) {
      if (event.type === "reading") continue; // the directory is taken with the first event
      await expect(pretraining().next()).rejects.toThrow("a run that is going on there: this very process");
      if (event.type === "checkpoint") saved++;
    }
    expect(saved).toBe(1);
    expect(names("pretrained")).not.toContain(".lock");
  });

  test("a run that ends with an error, or is left in the middle, gives the directory back", async () => {
    const { error } = await train(spec("failed", { config: { rewardRetries: 0 } }), (step) => {
      if (step === 2) throw new Error("no");
    });
    expect(error.kind).toBe("reward");
    expect(names("failed")).not.toContain(".lock");
    for await (const event of run(spec("left"), reward)) if (event.type === "step") break;
    expect(names("left")).not.toContain(".lock");
    expect((await train(spec("left", { resume: true }))).error).toBeUndefined();
    expect(differences(at("whole"), at("left"))).toEqual([]);
  });

  test("a run in a worker that is left in the middle gives the directory back too", async () => {
    buildCli();
    for await (const event of runInWorker(spec("worker"), reward)) if (event.type === "step") break;
    expect(names("worker")).not.toContain(".lock");
    expect((await train(spec("worker", { resume: true }))).error).toBeUndefined();
    expect(differences(at("whole"), at("worker"))).toEqual([]);
    // Its own lock and no other: one that is refused does not take away that of the run that is there.
    const { error } = await train(spec("worker-2"), async (step) => {
      if (step !== 2) return;
      const refused = await runInWorker(spec("worker-2"), reward)
        .next()
        .catch((error) => error);
      expect(refused.problem.found).toMatch(/^a run that is going on there/);
      expect(names("worker-2")).toContain(".lock");
    });
    expect(error).toBeUndefined();
  });

  test("a run that could not begin leaves nothing", async () => {
    const { error } = await train(spec("deep/er", { prompts: [] }));
    expect(error.kind).toBe("data");
    expect(existsSync(at("deep"))).toBe(false);
    const elsewhere = await train(spec("model"));
    expect(elsewhere.error.kind).toBe("usage");
    expect((await train(spec("model", { resume: true }))).error.problem.found).toBe("no run");
    expect(names("model")).not.toContain(".lock");
  });
});

describe("a run directory that is lost while the run goes on", () => {
  const cases: [string, (out: string) => void, RegExp][] = [
    ["renamed", (out) => renameSync(at(out), at(`${out}-moved`)), /^nothing at this path/],
    ["deleted", (out) => rmSync(at(out), { recursive: true }), /^nothing at this path$/],
    [
      "replaced by an empty one",
      (out) => {
        rmSync(at(out), { recursive: true });
        mkdirSync(at(out));
      },
      /^another directory$/,
    ],
    [
      "replaced by a copy of itself",
      (out) => {
        renameSync(at(out), at(`${out}-moved`));
        cpSync(at(`${out}-moved`), at(out), { recursive: true });
      },
      /^another directory/,
    ],
    [
      "emptied",
      (out) => {
        for (const name of names(out)) rmSync(at(out, name), { recursive: true });
      },
      /^no metrics.jsonl of this run/,
    ],
    ["whose log is gone", (out) => rmSync(at(out, "samples.jsonl")), /^no samples.jsonl of this run/],
  ];
  test.each(cases.flatMap(([what, change, found]) => [1, 3, 4].map((step) => [what, step, change, found] as const)))(
    "%s at step %i: the run ends with an error, writes nothing there, and goes on where it was saved",
    async (what, at_, change, found) => {
      const out = `lost-${what.replaceAll(" ", "-")}-${at_}`;
      let after: string[] | undefined;
      const { error } = await train(spec(out), (step) => {
        if (step !== at_) return;
        change(out);
        after = existsSync(at(out)) ? readdirSync(at(out), { recursive: true, encoding: "utf8" }).sort() : undefined;
      });
      expect(error.kind).toBe("checkpoint");
      expect(error.problem.where).toBe(at(out));
      expect(error.problem.found).toMatch(found);
      const place = at(`${out}.rescued`);
      expect(error.problem.fix).toBe(
        `the run is saved as it was after step ${at_}: go on with it in ${place} (--resume)`,
      );
      const there = existsSync(at(out))
        ? readdirSync(at(out), { recursive: true, encoding: "utf8" }).sort()
        : undefined;
      const withoutLock = (list?: string[]) => list?.filter((name) => name !== ".lock");
      expect(withoutLock(there)).toEqual(withoutLock(after));
      const resumed = await train(spec(`${out}.rescued`, { resume: true, config: { keepCheckpoints: 2 } }));
      expect(resumed.error).toBeUndefined();
      // Checkpoints of earlier steps stayed behind, and with them what was best.
      const older = (name: string) => /^checkpoint-2|best/.test(name) && at_ > 2;
      expect(
        differences(at("whole"), place).filter(
          (name) => !older(name) && !/^checkpoint-[13]/.test(name) && name !== "best.json",
        ),
      ).toEqual([]);
    },
  );

  test("that cannot be saved beside it is saved elsewhere", async () => {
    mkdirSync(at("parent"));
    const { error } = await train(spec("parent/run"), (step) => {
      if (step === 2) {
        rmSync(at("parent"), { recursive: true });
        writeFileSync(at("parent"), "");
      }
    });
    const place = /go on with it in (.*) \(--resume\)$/.exec(error.problem.fix)?.[1] as string;
    expect(readdirSync(place).sort()).toEqual([
      "checkpoint-2",
      "config.json",
      "events.jsonl",
      "metrics.jsonl",
      "samples.jsonl",
    ]);
    expect(readFileSync(join(place, "metrics.jsonl"), "utf8").split("\n")).toHaveLength(3);
    rmSync(place, { recursive: true });
  });

  test("in a pretraining run", async () => {
    const pretraining = pretrainRun({
      data: [at("text.txt")],
      out: at("gone"),
      model: at("model"),
      threads: 1,
      config: { steps: 3, sequenceLength: 8, batchSize: 2 },
    });
    let error: { problem: Record<string, string> } | undefined;
    try {
      for await (const event of pretraining)
        if (event.type === "step" && event.step === 2) rmSync(at("gone"), { recursive: true });
    } catch (thrown) {
      error = thrown as typeof error;
    }
    expect(error?.problem.fix).toBe(
      `the run is saved as it was after step 3: go on with it in ${at("gone.rescued")} (--resume)`,
    );
    expect(names("gone.rescued")).toEqual([
      "checkpoint-3",
      "config.json",
      "events.jsonl",
      "metrics.jsonl",
      "samples.jsonl",
    ]);
    expect(existsSync(at("gone"))).toBe(false);
  });
});

describe("resumed", () => {
  const copy = (out: string) => cpSync(at("whole"), at(out), { recursive: true });
  const resume = (out: string, rest: Partial<RunSpec> = {}) =>
    train(spec(out, { resume: true, ...rest, config: { steps: 5, ...rest.config } }));

  test("with nothing left to do, what a killed process left undone is done", async () => {
    copy("unpruned");
    // As it is between the last checkpoint's rename and the end of pruning.
    cpSync(at("whole", "checkpoint-2"), at("unpruned", "checkpoint-1"), { recursive: true });
    const state = JSON.parse(readFileSync(at("unpruned", "checkpoint-1", "trainer.json"), "utf8"));
    state.trainer.step = 1;
    state.rewards = [-1e6];
    writeFileSync(at("unpruned", "checkpoint-1", "trainer.json"), JSON.stringify(state));
    await resum(at("unpruned", "checkpoint-1"));
    writeFileSync(at("unpruned", "best.json"), '{"checkpoint": "checkpoint-1"}\n');
    const { events } = await train(spec("unpruned", { resume: true }));
    expect(events.find((e) => e.type === "loaded")).toMatchObject({ resumedAt: 4, best: { overSteps: 2 } });
    expect(differences(at("whole"), at("unpruned"))).toEqual([]);
  });

  test("after an error, what was kept beside its checkpoint stays until there is a new one", async () => {
    const failing = (step: number) => {
      if (step === 4) throw new Error("no");
    };
    const config = { keepCheckpoints: 1, keepBest: false, rewardRetries: 0 };
    await train(spec("kept", { config }), failing);
    const checkpoints = () => names("kept").filter((name) => name.startsWith("checkpoint"));
    expect(checkpoints()).toEqual(["checkpoint-2", "checkpoint-3"]);
    await train(spec("kept", { config, resume: true }), failing);
    expect(checkpoints()).toEqual(["checkpoint-2", "checkpoint-3"]);
    await train(spec("kept", { config, resume: true }));
    expect(checkpoints()).toEqual(["checkpoint-4"]);
  });

  const refused: [string, Partial<RunSpec>, RegExp, string][] = [
    [
      "other prompts, as many",
      { prompts: ["That", "Two movies"] },
      /^2 prompts that are not those of the run$/,
      "prompts",
    ],
    ["the prompts in another order", { prompts: ["Two movies", "This"] }, /^2 prompts that are not/, "prompts"],
    [
      "other rows",
      { prompts: [{ prompt: "This", row: { label: 1 } }, "Two movies"] },
      /^2 prompts that are not/,
      "prompts",
    ],
    ["more prompts", { prompts: ["This", "Two movies", "x"] }, /^3 prompts \(the run has 2\)$/, "prompts"],
    ["another model", { model: "other" }, /^another model to measure the KL against/, "model"],
    ["another seed", { config: { seed: 1 } }, /^seed 1 \(was 0\)$/, "options"],
    ["another batch size", { config: { batchSize: 8 } }, /^batchSize 8 \(was 4\)$/, "options"],
    ["other cuts of the prompts", { config: { promptMaxTokens: 1 } }, /^promptMaxTokens 1 \(was 0\)$/, "options"],
  ];
  test.each(refused)("with %s: refused, unless that is allowed", async (what, change, found, name) => {
    const out = `other-${what.replaceAll(" ", "-")}`;
    copy(out);
    const given = { ...change, ...(change.model ? { model: at(change.model) } : {}) };
    const { events, error } = await resume(out, given);
    expect(events).toEqual([]);
    expect(error.kind).toBe("usage");
    expect(error.problem.where).toBe(`${at(out)}, resumed after step 4`);
    expect(error.problem.found).toMatch(found);
    expect(error.problem.fix).toContain(`say that it may change: allowChange ${name}`);
    expect(differences(at("whole"), at(out))).toEqual([]);
    const others = (["prompts", "evaluation", "model", "options"] as const).filter((other) => other !== name);
    expect((await resume(out, { ...given, allowChange: others })).error?.kind).toBe("usage");
    const allowed = await resume(out, { ...given, allowChange: [name as "prompts"] });
    if (what === "another seed") expect(allowed.error.problem.fix).toContain("the seed of the interrupted run");
    else {
      expect(allowed.error).toBeUndefined();
      expect(warnings(allowed.events)[0]).toMatch(/^from here on with .*, as allowed$/);
      expect(warnings((await resume(out, { ...given, config: { ...given.config, steps: 6 } })).events)).toEqual([]); // it is what the run has now
    }
  });

  test("with another tokenizer beside the model, or in the checkpoint: refused", async () => {
    copy("retokenized");
    const path = at("retokenized", "checkpoint-4", "tokenizer_config.json");
    writeFileSync(path, readFileSync(path, "utf8").replace("{", '{"note": 1,'));
    await resum(at("retokenized", "checkpoint-4"));
    expect((await resume("retokenized")).error.problem.found).toBe("another tokenizer");
    cpSync(at("model"), at("model-2"), { recursive: true });
    const beside = at("model-2", "tokenizer_config.json");
    writeFileSync(beside, readFileSync(beside, "utf8").replace("{", '{"note": 1,'));
    copy("retokenized-2");
    expect((await resume("retokenized-2", { model: at("model-2") })).error.problem.found).toBe("another tokenizer");
  });

  test("with the same model elsewhere: nothing to say", async () => {
    cpSync(at("model"), at("model-3"), { recursive: true });
    copy("moved-model");
    expect(warnings((await resume("moved-model", { model: at("model-3") })).events)).toEqual([]);
  });

  test("a resumed run knows how held-out responses were before it began", async () => {
    const evaluation = { prompts: ["A film", "The cast"] };
    const evaluations = (events: RunEvent[]) =>
      events.flatMap((e) => (e.type === "evaluation" ? [{ ...e, samples: e.samples.length }] : []));
    const whole = await train(spec("evaluated-whole", { evaluation }));
    const begun = await train(spec("evaluated-cut", { evaluation, config: { steps: 2 } }));
    const ended = await train(spec("evaluated-cut", { evaluation, resume: true }));
    expect(evaluations(whole.events).map(({ when }) => when)).toEqual(["before", "after"]);
    expect(evaluations(ended.events)).toEqual(evaluations(whole.events));
    expect(evaluations(begun.events)[0]).toEqual(evaluations(whole.events)[0]);
    const read = (out: string) => JSON.parse(readFileSync(join(at(out), "evaluation.json"), "utf8"));
    expect(read("evaluated-cut")).toEqual(read("evaluated-whole"));
  });

  test("other evaluation prompts are refused; none or new ones are not", async () => {
    const evaluation = { prompts: ["A film"] };
    await train(spec("evaluated", { evaluation, config: { steps: 2 } }));
    expect((await resume("evaluated", { evaluation: { prompts: ["The film"] } })).error.problem.found).toBe(
      "other evaluation prompts",
    );
    expect((await resume("evaluated")).error).toBeUndefined();
    expect(
      (await resume("evaluated", { evaluation: { prompts: ["The film"] }, config: { steps: 6 } })).error.problem.found,
    ).toBe("other evaluation prompts");
    copy("evaluated-now");
    expect((await resume("evaluated-now", { evaluation })).error).toBeUndefined();
  });

  test.each([
    ["another reward", { rewardName: "positive" }, 'from here on with the reward "positive" (was "length")'],
    [
      "another learning rate",
      { config: { learningRate: 1e-3, klCoef: 0.1 } },
      "from here on with other options than before: learningRate 0.001 (was 0.0000141), klCoef 0.1 (was 0.2); the run is not the one it was begun as",
    ],
    [
      "more threads",
      { threads: 2 },
      "2 threads from here on, 1 before: sums are taken in another order, so the last bits differ from those of the run undisturbed",
    ],
    [
      "another device",
      { device: "wasm" },
      "device wasm from here on, cpu before: its kernels round otherwise, so the last bits differ from those of the run undisturbed",
    ],
  ])("with %s: a warning", async (what, change, message) => {
    const out = `told-${what.replaceAll(" ", "-")}`;
    copy(out);
    const { events, error } = await resume(out, change as Partial<RunSpec>);
    expect(error).toBeUndefined();
    expect(warnings(events)).toEqual([message]);
  });

  test("options that change nothing of what is learned change without a word; those not given stay", async () => {
    copy("quiet");
    const config = {
      steps: 5,
      saveEvery: 1,
      keepCheckpoints: 1,
      keepBest: false,
      logSamples: 0,
      rewardRetries: 7,
      rewardTimeout: 9,
      rewardConcurrency: 1,
      maxSkippedSteps: 3,
      audit: "warn",
    } as const;
    const events: RunEvent[] = [];
    for await (const event of run({ ...spec("quiet", { resume: true }), config }, reward)) events.push(event);
    expect(warnings(events)).toEqual([]);
    expect(JSON.parse(readFileSync(at("quiet", "config.json"), "utf8")).options).toMatchObject({ ...small, ...config });
  });

  test("the run's own number of threads is used again, and config.json says it", async () => {
    await train(spec("threads", { threads: 2, config: { steps: 2 } }));
    expect(JSON.parse(readFileSync(at("threads", "config.json"), "utf8")).threads).toBe(2);
    const { events } = await resume("threads", { threads: undefined });
    expect(warnings(events)).toEqual([]);
    expect(JSON.parse(readFileSync(at("threads", "checkpoint-5", "trainer.json"), "utf8")).inputs.threads).toBe(2);
  });

  test("a checkpoint from before there was a choice of devices is the CPU's", async () => {
    copy("deviceless");
    const path = at("deviceless", "checkpoint-4", "trainer.json");
    const state = JSON.parse(readFileSync(path, "utf8"));
    expect(state.inputs.device).toBe("cpu");
    delete state.inputs.device;
    writeFileSync(path, JSON.stringify(state));
    await resum(at("deviceless", "checkpoint-4"));
    const { events, error } = await resume("deviceless");
    expect(error).toBeUndefined();
    expect(warnings(events)).toEqual([]);
  });

  test("a checkpoint of 0.1.0, which does not say what it was trained with, is resumed with a warning", async () => {
    copy("old");
    const path = at("old", "checkpoint-4", "trainer.json");
    const { inputs: _, options: __, ...old } = JSON.parse(readFileSync(path, "utf8"));
    writeFileSync(path, JSON.stringify(old));
    await resum(at("old", "checkpoint-4"));
    const { events, error } = await resume("old", { prompts: ["x", "y"] });
    expect(error).toBeUndefined();
    expect(warnings(events)[0]).toMatch(/^the checkpoint is of an earlier version/);
  });
});
