/**
 * @file A GPU for tests: the machine's own, or SwiftShader, which computes on the CPU and comes with Chromium together with a Vulkan
 * loader. Import this before anything opens a GPU.
 */
import { existsSync } from "node:fs";
import { constants } from "node:os";
import { Engine } from "../../src/backend/engine.ts";

/** Folders that hold libvulkan.so.1 and SwiftShader. */
const PLACES = ["/usr/lib/chromium", "/usr/lib/chromium-browser", "/opt/google/chrome"];
const place = PLACES.find((folder) => existsSync(`${folder}/vk_swiftshader_icd.json`));

/** What a process must have in its environment to find it; empty: nothing is needed, or nothing there. */
export const gpuEnvironment: Readonly<Record<string, string>> =
  place && process.platform === "linux" && process.env.VALUEHEAD_GPU !== "own"
    ? { VK_ICD_FILENAMES: `${place}/vk_swiftshader_icd.json`, LD_LIBRARY_PATH: place }
    : {};

/** glibc's: what was loaded stays. */
const RTLD_NODELETE = 0x1000;

/** LD_LIBRARY_PATH counts only when a process starts; a library that is loaded already is found by its name. */
function prepare(): void {
  const { VK_ICD_FILENAMES, LD_LIBRARY_PATH } = gpuEnvironment;
  if (VK_ICD_FILENAMES === undefined) return;
  process.env.VK_ICD_FILENAMES = VK_ICD_FILENAMES;
  const library = `${LD_LIBRARY_PATH}/libvulkan.so.1`;
  try {
    process.dlopen({ exports: {} }, library, constants.dlopen.RTLD_NOW | RTLD_NODELETE);
  } catch {
    // It is no module of Node's, which is known.
  }
}

function findGPU(): boolean {
  prepare();
  try {
    new Engine({ device: "webgpu", threads: 1 });
    return true;
  } catch (error) {
    console.log(`Left out: tests on a GPU in Node. ${(error as Error).message}`);
    return false;
  }
}

/** Whether there is one; where there is none, tests that need it say so. */
export const hasGPU = findGPU();
