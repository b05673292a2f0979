/** @file How much memory there is, and how much this process has. */
import { readFile } from "node:fs/promises";
import { freemem, platform, totalmem } from "node:os";
import { join } from "node:path";

/** Resident memory of this process, in bytes. */
export const residentBytes = (): number => process.memoryUsage.rss();

/**
 * Bytes this process could still take without others being swapped out or itself being killed. On Linux what the kernel calls
 * available, or what the narrowest of its control groups leaves (a container's limit); page cache counts as available. On
 * Windows free memory; macOS does not say, so there it is all there is.
 * @param root where /proc and /sys are; for tests
 */
export async function availableBytes(root = "/"): Promise<number> {
  if (platform() !== "linux") return platform() === "win32" ? freemem() : totalmem();
  const text = (path: string) => readFile(join(root, path), "utf8").catch(() => "");
  const kilobytes = /^MemAvailable:\s+(\d+) kB/m.exec(await text("proc/meminfo"))?.[1];
  const limits = [kilobytes === undefined ? freemem() : 1024 * Number(kilobytes)];
  for (const line of (await text("proc/self/cgroup")).split("\n")) {
    const [, controllers, path] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? [];
    if (path === undefined || !(controllers === "" || controllers.split(",").includes("memory"))) continue;
    const [mount, limitFile, usageFile, cache] =
      controllers === ""
        ? ["sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"]
        : ["sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"];
    // A group is bound by those above it. Inside a container the path may be the host's, and the mount itself is the group.
    const names = path.split("/").filter(Boolean);
    for (let depth = names.length; depth >= 0; depth--) {
      const group = join(mount, ...names.slice(0, depth));
      const limit = Number((await text(join(group, limitFile))).trim() || "max"); // NaN: no limit
      if (!Number.isFinite(limit)) continue;
      const used = Number(await text(join(group, usageFile)));
      const stat = await text(join(group, "memory.stat"));
      const reclaimable = Number(new RegExp(`^${cache} (\\d+)`, "m").exec(stat)?.[1] ?? 0);
      limits.push(Math.max(0, limit - Math.max(0, used - reclaimable)));
    }
  }
  return Math.min(...limits);
}
