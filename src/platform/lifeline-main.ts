/**
 * @file What watches over the parent of a process, in a thread of its own; see in-child.ts. An entry: imported by nothing.
 */
import { Socket } from "node:net";
import { parentPort, workerData } from "node:worker_threads";

/** Milliseconds that the process has to exit before it is killed. */
const GRACE = 200;

const end = () => {
  try {
    process.kill(-process.pid, "SIGKILL"); // with whatever it has started
  } catch {
    process.kill(process.pid, "SIGKILL"); // Windows has no groups
  }
};

const lifeline = new Socket({ fd: workerData as number, readable: true, writable: false });
lifeline.on("error", () => {});
lifeline.once("close", () => setTimeout(end, GRACE));
lifeline.resume();
parentPort?.postMessage("watching");
