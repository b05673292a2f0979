/** @file How many bytes of array buffers an action leaves behind. */
import v8 from "node:v8";
import vm from "node:vm";

export function bytesAllocated(action: () => void): number {
  v8.setFlagsFromString("--expose-gc");
  vm.runInNewContext("gc")(); // older garbage, freed during the action, would be counted against it
  const before = process.memoryUsage().arrayBuffers;
  action();
  return process.memoryUsage().arrayBuffers - before;
}
