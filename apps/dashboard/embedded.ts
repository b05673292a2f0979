/** @file The data that a page carries in itself. */

/** Gzipped, in base64; undefined: the page is served, and asks for it. */
export const embedded = document.getElementById("data")?.textContent ?? undefined;

/** As it was before it was packed. */
export async function unpacked<T>(base64: string): Promise<T> {
  const bytes = Uint8Array.from(atob(base64.trim()), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}
