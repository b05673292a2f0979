/** @file The device webgpu from the command line, with a GPU and without. */
import { spawnSync } from "node:child_process";
import { expect, test, vi } from "vitest";
import { Engine } from "../../../src/backend/engine.ts";
import { loadNative } from "../../../src/backend/ort-node.ts";
import { buildCli, root } from "../../support/cli.ts";
import { gpuEnvironment, hasGPU } from "../../support/gpu.ts";

const run = (environment: Readonly<Record<string, string>>, ...args: string[]) =>
  spawnSync(process.execPath, ["bin/valuehead.js", ...args], {
    cwd: root,
    encoding: "utf8",
    env: { ...process.env, ...environment },
  });
/** No Vulkan driver is where this says. */
const NONE = { VK_ICD_FILENAMES: "/nowhere/none.json", VK_DRIVER_FILES: "/nowhere/none.json" };

// biome-ignore lint/suspicious/noExplicitAny: JSON
const devices = (environment: Readonly<Record<string, string>>): any[] => {
  const { stdout, stderr } = run(environment, "info", "--model", "tiny", "--json");
  expect(stderr).toBe("");
  return JSON.parse(stdout).devices;
};

test.skipIf(process.platform !== "linux")(
  "without a GPU: what is missing and what to install, here and in info",
  () => {
    buildCli();
    const { status, stderr } = run(NONE, "score", "--model", "tiny", "--text", "A film", "--device", "webgpu");
    expect(status).toBe(1);
    expect(stderr).toContain('device "webgpu"');
    expect(stderr).toContain("no GPU that WebGPU can use");
    expect(stderr.replaceAll(/\s+/g, " ")).toContain("apt-get install libvulkan1");
    const [cpu, , webgpu] = devices(NONE);
    expect(cpu).toEqual({ name: "cpu", usable: true });
    expect(webgpu).toMatchObject({ name: "webgpu", usable: false });
    expect(webgpu.why).toContain("apt-get install libvulkan1");
  },
);

test.skipIf(!hasGPU)("with a GPU: a text is scored as on the CPU, and info says that it can be used", () => {
  buildCli();
  expect(devices(gpuEnvironment)[2]).toEqual({ name: "webgpu", usable: true });
  const [want, got] = ["cpu", "webgpu"].map((device) => {
    const { stdout, stderr } = run(
      gpuEnvironment,
      "score",
      "--model",
      "tiny",
      "--text",
      "A film",
      "--device",
      device,
      "--json",
    );
    expect(stderr).toBe("");
    return JSON.parse(stdout.split("\n")[0]).tokens as { logprob: number | null }[];
  });
  expect(got).toHaveLength(want.length);
  for (const [i, { logprob }] of want.entries())
    if (logprob !== null) expect(Math.abs((got[i].logprob as number) - logprob)).toBeLessThan(1e-4);
});

test("on a platform whose onnxruntime-node has no WebGPU", async () => {
  const { binding } = loadNative();
  const spy = vi.spyOn(binding, "listSupportedBackends").mockReturnValue([{ name: "cpu" }]);
  vi.resetModules(); // a GPU that was opened is kept
  try {
    const runtime = await import("../../../src/backend/webgpu-runtime.ts");
    expect(() => runtime.openGPU()).toThrow(
      /onnxruntime-node for \w+ \w+, which is built without WebGPU.*Fix: use a browser/,
    );
  } finally {
    spy.mockRestore();
  }
  expect(new Engine({ threads: 1 }).device).toBe("cpu");
});
