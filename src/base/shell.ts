/** @file Commands that are printed for people to run. */

/** An argument as a shell would need it. */
export function shellQuote(argument: string): string {
  return /^[\w./:@=+-]+$/.test(argument) ? argument : `'${argument.replaceAll("'", "'\\''")}'`;
}
