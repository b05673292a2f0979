import { expect, it } from "vitest";
import { limiter, settledWithin } from "../../../src/experience/patience.ts";
import { breathe } from "../../../src/platform/worker.ts";

const sleep = (milliseconds: number) => new Promise<void>((resolve) => setTimeout(resolve, milliseconds));

it("a limiter runs so many tasks at once, in order, and goes on after one that fails", async () => {
  const inTurn = limiter(2);
  let running = 0;
  let most = 0;
  const begun: number[] = [];
  const results = await Promise.allSettled(
    [20, 5, 5, 5, 5].map((milliseconds, i) =>
      inTurn(async () => {
        begun.push(i);
        most = Math.max(most, ++running);
        await sleep(milliseconds);
        running--;
        if (i === 1) throw new Error("one");
        return i;
      }),
    ),
  );
  expect(begun).toEqual([0, 1, 2, 3, 4]);
  expect(most).toBe(2);
  expect(running).toBe(0);
  expect(results.map((r) => (r.status === "fulfilled" ? r.value : r.reason.message))).toEqual([0, "one", 2, 3, 4]);
});

it("a promise settles in time, too late, or by failing", async () => {
  expect(await settledWithin(sleep(5), 10)).toBe(true);
  expect(await settledWithin(sleep(1000), 0.01)).toBe(false);
  expect(await settledWithin(Promise.reject(new Error("no")), 10)).toBe(true);
});

it("an answer that came while the thread was blocked is in time", async () => {
  const { port1, port2 } = new MessageChannel();
  const answer = new Promise<void>((resolve) => {
    port1.onmessage = () => resolve();
  });
  await breathe();
  const inTime = settledWithin(answer, 0.02);
  port2.postMessage("scores");
  for (const end = performance.now() + 60; performance.now() < end; ); // the engine at work, past the time
  expect(await inTime).toBe(true);
  port1.close();
});
