/** @file What a report needs, and refusals of what only a server can do. */
import { fail } from "../../../base/errors.ts";

/** As base64. */
export async function gzipped(text: string): Promise<string> {
  const stream = new Blob([text]).stream().pipeThrough(new CompressionStream("gzip"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  let binary = "";
  for (let i = 0; i < bytes.length; i += 1 << 14) binary += String.fromCharCode(...bytes.subarray(i, i + (1 << 14)));
  return btoa(binary);
}

/** @throws usage - always */
export function serveLocal(): never {
  fail("usage", {
    where: "a server of pages",
    found: "a browser",
    expected: "Node",
    fix: "show the events of the run in the page",
  });
}
