/** @file What test files want of Node, in a worker of a tab: paths are those of the server that the page came from. */

export const fileURLToPath = (url: string | URL): string => new URL(url).pathname;

export function readFileSync(path: string | URL, encoding?: "utf8"): string | Uint8Array<ArrayBuffer> {
  const request = new XMLHttpRequest();
  request.open("GET", String(path), false);
  request.responseType = "arraybuffer"; // of a request that is waited for, only in a worker
  request.send();
  if (request.status !== 200) throw new Error(`${path}: status ${request.status}`);
  const bytes = new Uint8Array(request.response);
  return encoding ? new TextDecoder().decode(bytes) : bytes;
}
