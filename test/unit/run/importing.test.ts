/** @file Importing the package does nothing but import it, wherever that happens; and it can be required. */
import { type SpawnSyncReturns, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { buildCli, root } from "../../support/cli.ts";

// Inside the repository the name "valuehead" means the repository itself, compiled, as package.json exports it.
mkdirSync(join(root, ".cache"), { recursive: true });
const folder = mkdtempSync(join(root, ".cache", "importing-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
beforeAll(buildCli);

const write = (name: string, source: string) => {
  writeFileSync(join(folder, name), source);
  return join(folder, name);
};
function node(...args: string[]): SpawnSyncReturns<string> {
  const done = spawnSync(process.execPath, args, { cwd: folder, encoding: "utf8", timeout: 120_000 });
  expect(done.status, done.stdout + done.stderr).toBe(0);
  return done;
}

/** Data that runInWorker would send: a run that could begin at once. */
const RUN = {
  model: "tiny",
  prompts: ["This movie was"],
  out: join(folder, "out"),
  rewardName: "positive",
  threads: 1,
  config: { steps: 1, batchSize: 1, miniBatchSize: 1, maxNewTokens: 1 },
};

/** What a module could leave behind, as text. */
const TRACES = `
  const builtIn = [Object, Function, Array, String, Number, Promise, Map, Set, Error, Float32Array, Uint8Array, Date, RegExp];
  export const traces = () => JSON.stringify({
    listeners: process.eventNames().map((name) => [String(name), process.listenerCount(name)]),
    // zod keeps its registry in two globals of its own name, on purpose: one for all copies of it.
    globals: Object.getOwnPropertyNames(globalThis).filter((name) => !name.startsWith("__zod_")),
    builtIn: builtIn.map((x) => [Object.getOwnPropertyNames(x), Object.getOwnPropertyNames(x.prototype)]),
    environment: { ...process.env },
    folder: process.cwd(),
    exitCode: process.exitCode,
    stackLimit: Error.stackTraceLimit,
    waitingFor: process.getActiveResourcesInfo().filter((what) => !/FSReq|^CloseReq|Immediate|TTY|Pipe/.test(what)),
  }, null, 1);`;

test("in the main thread it leaves no listener, no global, no setting, and the process ends by itself", () => {
  write("traces.mjs", TRACES);
  const program = write(
    "main.mjs",
    `import { traces } from "./traces.mjs";
     const before = traces();
     await import("valuehead");
     console.log(JSON.stringify([before, traces()]));`,
  );
  const { stdout, stderr } = node(program);
  const [before, after] = JSON.parse(stdout);
  expect(after).toBe(before);
  expect(stderr).toBe("");
});

test("in a worker thread it takes no message, sends none and starts no run, whatever workerData is", () => {
  const worker = write(
    "thread.mjs",
    `import { parentPort } from "node:worker_threads";
     await import("valuehead");
     parentPort.on("message", (m) => (m.type === "end" ? parentPort.close() : parentPort.postMessage({ echo: m })));
     parentPort.postMessage("ready");`,
  );
  const program = write(
    "starts-thread.mjs",
    `import { Worker } from "node:worker_threads";
     const worker = new Worker(${JSON.stringify(worker)}, { workerData: ${JSON.stringify(RUN)} });
     const heard = [];
     worker.on("message", (m) => {
       heard.push(m);
       if (m === "ready") for (const type of ["stop", "scores", "failed"]) worker.postMessage({ type, id: 1 });
       if (heard.length === 4) worker.postMessage({ type: "end" });
     });
     worker.on("exit", (code) => console.log(JSON.stringify({ code, heard })));`,
  );
  const { stdout } = node(program);
  const echo = ["stop", "scores", "failed"].map((type) => ({ echo: { type, id: 1 } }));
  expect(JSON.parse(stdout)).toEqual({ code: 0, heard: ["ready", ...echo] });
  expect(existsSync(RUN.out)).toBe(false);
});

test.each([
  [
    "cluster.fork",
    `import cluster from "node:cluster"; cluster.setupPrimary({ exec: CHILD }); const child = cluster.fork();`,
  ],
  ["fork", `import { fork } from "node:child_process"; const child = fork(CHILD);`],
])("in a child process of %s it takes no message and sends none", (_, start) => {
  const child = write(
    "child.mjs",
    `await import("valuehead");
     process.on("message", (m) => (m.type === "end" ? process.disconnect() : process.send({ echo: m })));
     process.send("ready");`,
  );
  const program = write(
    "starts-child.mjs",
    `${start.replace("CHILD", JSON.stringify(child))}
     const heard = [];
     child.on("message", (m) => {
       heard.push(m);
       if (m === "ready") child.send({ type: "stop", spec: ${JSON.stringify(RUN)} });
       else child.send({ type: "end" });
     });
     child.on("exit", (code) => console.log(JSON.stringify({ code, heard })));`,
  );
  const { stdout } = node(program);
  expect(JSON.parse(stdout)).toEqual({ code: 0, heard: ["ready", { echo: { type: "stop", spec: RUN } }] });
  expect(existsSync(RUN.out)).toBe(false);
});

test("under vitest --pool=threads it leaves the pool alone", () => {
  write(
    "threads.test.mjs",
    `import { expect, test } from "vitest";
     import { isMainThread } from "node:worker_threads";
     import { VERSION } from "valuehead";
     test("imported", () => { expect(isMainThread).toBe(false); expect(VERSION).toMatch(/^\\d/); });`,
  );
  write("vitest.config.mjs", `export default { test: { include: ["*.test.mjs"], pool: "threads" } };`);
  const vitest = join(root, "node_modules", "vitest", "vitest.mjs");
  expect(node(vitest, "run", "--root", folder, "--config", join(folder, "vitest.config.mjs")).stdout).toContain(
    "1 passed",
  );
});

test("runInWorker starts its thread under flags that are not for it", () => {
  const source = `
    import { runInWorker } from "valuehead";
    console.log("program");
    for await (const event of runInWorker(${JSON.stringify(RUN)}, (batch) => batch.map(() => 0)))
      if (!["progress", "warning"].includes(event.type)) console.log(event.type);`;
  const expected = "program\nloaded\nstep\ncheckpoint\ndone\n";
  expect(node("--input-type=module", "--eval", source).stdout).toBe(expected);
  rmSync(RUN.out, { recursive: true });
  write("empty.mjs", "");
  expect(node("--import", write("preloaded.mjs", source), "empty.mjs").stdout).toBe(expected);
});

/** Those of the library: what is for browsers is an entry of a page or of its worker, and programs have files of their own. */
const modules = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, encoding: "utf8" }).filter(
    (name) => /(?<!-main)\.js$/.test(name) && !/^(browser|dashboard|playground|programs)[\\/]/.test(name),
  );

test("require() loads the package and each of its modules but the entries: none awaits at its top level", () => {
  const paths = modules(join(root, "dist")).map((name) => join(root, "dist", name));
  expect(paths.length).toBeGreaterThan(100);
  const program = write(
    "requires.cjs",
    `const failed = {};
     for (const name of ["valuehead", ...${JSON.stringify(paths)}]) {
       try { require(name); } catch (error) { failed[name] = error.code ?? error.message; }
     }
     console.log(JSON.stringify({ failed, exports: Object.keys(require("valuehead")).length }));`,
  );
  const { failed, exports } = JSON.parse(node(program).stdout);
  expect(failed).toEqual({});
  expect(exports).toBeGreaterThan(30);
});
