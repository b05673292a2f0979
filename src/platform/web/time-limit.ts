/** @file Browsers end no call from outside: what may never end belongs into a worker that can be ended. */

/** The result of `work`, without a limit. */
export function withinTime<T>(_seconds: number, work: () => T): { result: T } | undefined {
  return { result: work() };
}
