/** @file Standard error, the default output. */

/** Write bytes to stderr; when its reader is slow, a Promise of its having taken them. Where the reader is gone they are dropped. */
export function writeToStderr(bytes: Uint8Array): void | Promise<void> {
  const { stderr } = process;
  if (stderr.destroyed || stderr.write(bytes)) return;
  const events = ["drain", "close", "error"];
  return new Promise((resolve) => {
    const done = () => {
      for (const event of events) stderr.off(event, done);
      resolve();
    };
    for (const event of events) stderr.on(event, done);
  });
}
