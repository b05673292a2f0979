/** @file An end for work that may never end by itself, such as a regular expression that somebody else wrote. */
import vm from "node:vm";

let limiter: { script: vm.Script; context: { work: () => void } } | undefined;

/**
 * The result of `work`, which is ended after so many seconds wherever it is. It must be synchronous, and must leave nothing half
 * done that matters.
 * @returns undefined - the time was up
 */
export function withinTime<T>(seconds: number, work: () => T): { result: T } | undefined {
  limiter ??= {
    script: new vm.Script("work()"),
    context: vm.createContext({ work: () => {} }) as { work: () => void },
  };
  let done: { result: T } | undefined;
  limiter.context.work = () => {
    done = { result: work() };
  };
  try {
    limiter.script.runInContext(limiter.context, { timeout: seconds * 1000 });
  } catch (error) {
    if ((error as { code?: string }).code !== "ERR_SCRIPT_EXECUTION_TIMEOUT") throw error;
  }
  return done;
}
