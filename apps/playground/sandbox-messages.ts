/** @file What the page, the sandboxed frame and the worker in it say to each other. */

/** From the page to the frame. */
export interface Question {
  readonly id: number;
  readonly code: string;
  readonly batch: readonly unknown[];
  /** Milliseconds until the worker is ended. */
  readonly limit: number;
}

/** From the frame to its worker, after the address of the code. */
export interface Ask {
  readonly id: number;
  readonly batch: readonly unknown[];
}

/** And back. */
export type Reply = { id: number; scores: unknown } | { id: number; name: string; message: string; line?: number };
export type Verdict = Reply | { id: number; late: number };

/** Where the code puts its default export: a global of a name that nothing else has. */
export const EXPORT = "valuehead reward";
