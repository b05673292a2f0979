/** @file A target met or not, and a peer that is missing: what the benchmark's table says. */
import { expect, test } from "vitest";
import { judged, processorName, table, timing } from "../../../bench/report.ts";
import { Side } from "../../../bench/side.ts";

test.each([
  [{ atLeast: 1.5, unit: "x" }, ">= 1.5x", [1.49, 1.5], [false, true]],
  [{ atLeast: 0.6, unit: "%" }, ">= 60 %", [0.59, 0.6], [false, true]],
  [{ atMost: 0.7, unit: "x" }, "<= 0.7x", [0.7, 0.71], [true, false]],
  [{ atMost: 1, unit: "s" }, "< 1 s", [0.99, 1], [true, false]],
] as const)("%o", (target, text, ratios, met) => {
  ratios.forEach((ratio, i) => {
    expect(judged(ratio, target)).toEqual({ ratio, target: text, met: met[i] });
  });
});

test("a timing has the median of its rounds, and their largest memory", () => {
  const runs = [3, 1, 2, 10].map((seconds) => ({ seconds, rss: 100 - seconds }));
  expect(timing(runs)).toEqual({ seconds: [3, 1, 2, 10], median: 2.5, min: 1, max: 10, peakBytes: 99 });
  expect(timing(runs.slice(0, 3)).median).toBe(2);
});

test.each([
  ["cpu family\t: 25\nmodel\t\t: 17\nmodel name\t: AMD EPYC\n", "AMD EPYC (Zen 4)"],
  ["cpu family\t: 6\nmodel\t\t: 999\nmodel name\t: AMD EPYC\n", "AMD EPYC (family 6, model 999)"],
  ["processor\t: 0\nBogoMIPS\t: 50.00\n", "AMD EPYC"],
])("the processor is named by what the system says of it", (cpuinfo, name) => {
  expect(processorName("AMD EPYC", cpuinfo)).toBe(name);
});

test("the table says why a peer is missing", () => {
  const row = { work: "PPO step", model: "", ours: "1 s", against: "TRL", theirs: "", missing: "missing: no trl" };
  expect(table([{ ...row, target: ">= 2x" }]).split("\n")[2]).toBe(
    "| PPO step |       | 1 s       | TRL     | missing: no trl |       | >= 2x  |     |",
  );
});

test("a side that cannot start is an error with what it said", async () => {
  const script = 'console.error("Traceback"); console.error("ModuleNotFoundError: no trl"); process.exit(1)';
  await expect(Side.start(process.execPath, ["-e", script], {})).rejects.toThrow("ModuleNotFoundError: no trl");
  await expect(Side.start("/home/me/no-python", [], {})).rejects.toThrow(/^spawn no-python ENOENT$/);
});

test("a side answers line by line, and its end is an error", async () => {
  const script = `console.log('{"name":"echo"}');
    require("readline").createInterface(process.stdin).once("line", (l) => { console.log(l); process.exit(3); })`;
  const side = await Side.start(process.execPath, ["-e", script], {});
  expect(side.about).toEqual({ name: "echo" });
  expect(await side.ask({ run: "forward" })).toEqual({ run: "forward" });
  await expect(side.ask({ run: "forward" })).rejects.toThrow("it ended without a word");
  await side.stop();
});
