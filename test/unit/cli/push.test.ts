/** @file `valuehead push` against a hub of the test's own: what arrives, what never leaves, what is said when it fails. */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, beforeEach, expect, test } from "vitest";
import {
  buildCli,
  expectProblem,
  jsonLines,
  startValuehead,
  temporaryDirectory,
  valuehead,
  writeModel,
  writePrompts,
} from "../../support/cli.ts";
import { type FakeHub, fakeHub, TOKEN } from "../../support/hub-server.ts";

const cwd = temporaryDirectory();
let hub: FakeHub;
beforeAll(async () => {
  buildCli();
  hub = await fakeHub();
  await writeModel(join(cwd, "m"));
  writePrompts(join(cwd, "prompts.txt"), 4);
  const given = ["--model", "m", "--prompts", "prompts.txt", "--reward", "length", "--out", "run"];
  const sizes = [
    "--steps",
    "2",
    "--save-every",
    "1",
    "--batch-size",
    "2",
    "--mini-batch-size",
    "2",
    "--max-new-tokens",
    "4",
  ];
  const { status, stderr } = valuehead(cwd, "train", ...given, ...sizes, "--value-model", "separate");
  expect(status, stderr).toBe(0);
});
beforeEach(() => {
  hub.answers.clear();
  hub.requests.length = 0;
});

const push = (args: string[], more: Record<string, string> = {}) =>
  startValuehead(cwd, ["push", ...args], undefined, { more: { HF_TOKEN: TOKEN, HF_ENDPOINT: hub.url, ...more } });
const CHECKPOINT = join("run", "checkpoint-2");
const EXPECTED = ["README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];

test("a run's best checkpoint arrives, byte for byte, without what the trainer keeps", async () => {
  const { status, stdout, stderr } = await push(["run", "--to", "me/kind", "--private"]);
  expect(status, stderr).toBe(0);
  expect(stderr).toMatch(/note: run is a run: its best checkpoint is used, run\/checkpoint-\d/);
  expect(stdout).toContain(`${hub.url}/me/kind\n`);
  const best = (/used, (run\/checkpoint-\d)/.exec(stderr) as RegExpExecArray)[1];
  const repository = hub.repositories.get("me/kind");
  expect(repository?.visibility).toBe("private");
  expect(repository?.commits).toEqual(["Upload from valuehead"]);
  expect([...(repository?.files.keys() ?? [])].sort()).toEqual(EXPECTED);
  expect(readdirSync(join(cwd, best))).toEqual(
    expect.arrayContaining(["SHA256SUMS", "trainer.json", "trainer.safetensors", "value_model"]),
  );
  for (const [path, bytes] of repository?.files ?? [])
    if (path !== "README.md") expect(bytes.equals(readFileSync(join(cwd, best, path))), path).toBe(true);
  // The card's code opens the repository instead of the directory.
  const card = repository?.files.get("README.md")?.toString() ?? "";
  expect(card).toContain('await loadModel("me/kind")');
  expect(card).toContain("npx valuehead export --model me/kind --out onnx-model");
  expect(card).not.toContain(best);
  // The token goes to the hub's own requests, and not to where large files are stored.
  expect(hub.requests.filter(({ line }) => line.startsWith("PUT")).map(({ authorized }) => authorized)).toEqual([
    false,
  ]);
});

test("a repository that is there gets another commit; --message and --json", async () => {
  const { status, stdout, stderr } = await push([
    CHECKPOINT,
    "--to",
    "me/kind",
    "--private",
    "--message",
    "Two",
    "--json",
  ]);
  expect(status, stderr).toBe(0);
  const [json] = jsonLines(stdout);
  expect(json).toMatchObject({ directory: CHECKPOINT, to: "me/kind", url: `${hub.url}/me/kind`, created: false });
  expect(json.files.map(({ path }: { path: string }) => path)).toEqual(EXPECTED);
  expect(stderr).toContain("note: me/kind was there already: whether it is private was not changed");
  expect(hub.repositories.get("me/kind")?.commits).toEqual(["Upload from valuehead", "Two"]);
});

test("an export is pushed with its ONNX files", async () => {
  expect(valuehead(cwd, "export", "--model", "m", "--out", "onnx-m", "--dtype", "q8").status).toBe(0);
  const { status, stderr } = await push(["onnx-m", "--to", "me/js"]);
  expect(status, stderr).toBe(0);
  expect(stderr).toContain("note: onnx-m has no README.md");
  const { files } = hub.repositories.get("me/js") as { files: Map<string, Buffer> };
  expect([...files.keys()].sort()).toEqual(
    [
      "config.json",
      "generation_config.json",
      "onnx/model_quantized.onnx",
      "tokenizer.json",
      "tokenizer_config.json",
    ].sort(),
  );
  expect(files.get("onnx/model_quantized.onnx")).toEqual(
    readFileSync(join(cwd, "onnx-m", "onnx", "model_quantized.onnx")),
  );
});

test("an adapter is pushed as it is; that its base lies on this machine is said", async () => {
  mkdirSync(join(cwd, "adapter"));
  const write = (name: string, text: string) => writeFileSync(join(cwd, "adapter", name), text);
  write("adapter_config.json", JSON.stringify({ peft_type: "LORA", base_model_name_or_path: "m" }));
  for (const name of ["adapter_model.safetensors", "v_head.safetensors", "trainer.safetensors", "trainer.json"])
    write(name, name);
  const { status, stdout, stderr } = await push(["adapter", "--to", "me/adapter", "--dry-run", "--json"]);
  expect(status, stderr).toBe(0);
  expect(stderr).toContain("the adapter's base model is a directory of this machine (m): others cannot open it");
  const [{ files }] = jsonLines(stdout);
  expect(files.map(({ path }: { path: string }) => path)).toEqual([
    ...["adapter_config.json", "adapter_model.safetensors", "v_head.safetensors"],
  ]);
});

test("--dry-run lists and asks nobody; nothing needs a token for it", async () => {
  const { status, stdout } = await push([CHECKPOINT, "--to", "me/dry", "--dry-run"], { HF_TOKEN: "" });
  expect(status).toBe(0);
  expect(stdout).toMatch(
    /^Would upload \d+\.\d MB from run\/checkpoint-2 to me\/dry:\n {2}README\.md {14}[\d,]+ bytes\n/,
  );
  const [json] = jsonLines((await push([CHECKPOINT, "--to", "me/dry", "--dry-run", "--json"])).stdout);
  expect(json.files.map(({ path }: { path: string }) => path)).toEqual(EXPECTED);
  expect(hub.requests).toEqual([]);
});

test.each([
  [401, "POST /api/repos/create", "status 401 from HUB: it does not know the token"],
  [403, "POST /api/repos/create", "status 403 from HUB: the token may not write there (no)"],
  [404, "POST /api/models/me/x/preupload", "status 404 from HUB: no such user, organisation or repository"],
  [409, "POST /api/models/me/x/commit", "status 409 from HUB: the repository changed meanwhile (no)"],
  [429, "POST /api/models/me/x/preupload", "status 429 from HUB: too many requests"],
  [500, "POST /api/models/me/x/commit", "status 500 from HUB: no"],
])("status %i of %s is said", async (status, line, found) => {
  hub.repositories.delete("me/x");
  hub.answers.set(line, { status });
  const result = await push([CHECKPOINT, "--to", "me/x"]);
  expect(result.status).toBe(1);
  expectProblem(result.stderr, "upload to me/x", found.replace("HUB", hub.url));
});

test("no token, no token's form, no hub, no name, no model", async () => {
  const without = await push([CHECKPOINT, "--to", "me/x"], { HF_TOKEN: "" });
  expect(without.status).toBe(2);
  expectProblem(without.stderr, "HF_TOKEN", "nothing: it is not set");
  expectProblem(
    (await push([CHECKPOINT, "--to", "me/x"], { HF_TOKEN: "secret" })).stderr,
    "HF_TOKEN",
    "a text that does not begin with hf_",
  );
  expect(hub.requests).toEqual([]);
  const nobody = await push([CHECKPOINT, "--to", "me/x"], { HF_ENDPOINT: "http://127.0.0.1:59993" });
  expect(nobody.status).toBe(1);
  expect(nobody.stderr).toMatch(/found {5}no connection to http:\/\/127\.0\.0\.1:59993 \(\S+\)/);
  for (const name of ["mine", "a/b/c", "me/..", "me/x y"]) {
    const wrong = await push([CHECKPOINT, "--to", name]);
    expect(wrong.status).toBe(2);
    expectProblem(wrong.stderr, "repository", JSON.stringify(name));
  }
  expectProblem((await push([CHECKPOINT])).stderr, "--to", "nothing: it was not given");
  mkdirSync(join(cwd, "empty"));
  expect((await push(["empty", "--to", "me/x"])).stderr).toContain("config.json");
  mkdirSync(join(cwd, "bare"));
  writeFileSync(join(cwd, "bare", "config.json"), "{}");
  expectProblem((await push(["bare", "--to", "me/x"])).stderr, "bare", "no weights");
  rmSync(join(cwd, "bare"), { recursive: true });
});

test("Ctrl-C ends it, and nothing is published", async () => {
  hub.answers.set("POST /api/models/me/slow/preupload", "hang");
  let sent = false;
  const running = startValuehead(
    cwd,
    ["push", CHECKPOINT, "--to", "me/slow"],
    (_, child) => {
      if (sent) return;
      sent = true;
      const wait = setInterval(() => {
        if (!hub.requests.some(({ line }) => line.includes("me/slow/preupload"))) return;
        clearInterval(wait);
        child.kill("SIGINT");
      }, 20);
    },
    { more: { HF_TOKEN: TOKEN, HF_ENDPOINT: hub.url } },
  );
  const { status, stderr } = await running;
  expect(status, stderr).toBe(130);
  expect(stderr).toContain("nothing was published; push again to go on");
  expect(hub.repositories.get("me/slow")?.commits).toEqual([]);
});
