import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir, totalmem } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { availableBytes, residentBytes } from "../../../src/platform/memory.ts";

const directories: string[] = [];
afterAll(() => {
  for (const directory of directories) rmSync(directory, { recursive: true });
});

/** A root with these files. */
function root(files: Record<string, string>): string {
  const directory = mkdtempSync(join(tmpdir(), "valuehead-memory-"));
  directories.push(directory);
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(directory, path)), { recursive: true });
    writeFileSync(join(directory, path), text);
  }
  return directory;
}
const GB = 1024 ** 3;
const meminfo = { "proc/meminfo": `MemTotal: ${32 * 1024 ** 2} kB\nMemAvailable:    ${16 * 1024 ** 2} kB\n` };

it("of this machine: something, and no more than there is", async () => {
  const available = await availableBytes();
  expect(available).toBeGreaterThan(0);
  expect(available).toBeLessThanOrEqual(totalmem());
  expect(residentBytes()).toBeGreaterThan(10e6);
});

describe.runIf(process.platform === "linux")("on Linux", () => {
  it("is what the kernel calls available, without a limit", async () => {
    expect(await availableBytes(root(meminfo))).toBe(16 * GB);
    const unlimited = { "proc/self/cgroup": "0::/user\n", "sys/fs/cgroup/user/memory.max": "max\n" };
    expect(await availableBytes(root({ ...meminfo, ...unlimited }))).toBe(16 * GB);
  });

  it("is what the narrowest group leaves, page cache not counted as used", async () => {
    const group = (path: string, max: string, current: number, cache: number) => ({
      [`sys/fs/cgroup${path}/memory.max`]: `${max}\n`,
      [`sys/fs/cgroup${path}/memory.current`]: `${current}\n`,
      [`sys/fs/cgroup${path}/memory.stat`]: `anon 1\ninactive_file ${cache}\nactive_file 7\n`,
    });
    const files = { ...meminfo, "proc/self/cgroup": "0::/a/b\n", ...group("/a/b", "max", 5, 0) };
    expect(await availableBytes(root({ ...files, ...group("/a", String(4 * GB), 3 * GB, GB) }))).toBe(2 * GB);
    expect(await availableBytes(root({ ...files, ...group("/a", String(32 * GB), 3 * GB, GB) }))).toBe(16 * GB);
    expect(await availableBytes(root({ ...files, ...group("", String(GB), 2 * GB, 0) }))).toBe(0); // a container's own mount
  });

  it("reads version 1 of control groups", async () => {
    const files = {
      ...meminfo,
      "proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/docker/1\n0::/\n",
      "sys/fs/cgroup/memory/docker/1/memory.limit_in_bytes": String(2 * GB),
      "sys/fs/cgroup/memory/docker/1/memory.usage_in_bytes": String(GB),
      "sys/fs/cgroup/memory/docker/1/memory.stat": `cache 5\ntotal_inactive_file ${GB / 2}\n`,
    };
    expect(await availableBytes(root(files))).toBe(1.5 * GB);
  });
});
