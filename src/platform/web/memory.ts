/** @file How much memory a tab has. */

/** Bytes of JavaScript's heap where the browser says so. What WebAssembly and a GPU hold is not in it. */
export function residentBytes(): number {
  return (performance as { memory?: { usedJSHeapSize: number } }).memory?.usedJSHeapSize ?? 0;
}

/** ONNX Runtime's WebAssembly ends at 4 GiB, and browsers say no more than roughly how much a device has. */
export async function availableBytes(_root?: string): Promise<number> {
  const gigabytes = (navigator as { deviceMemory?: number }).deviceMemory ?? 4;
  return Math.min(4, gigabytes) * 2 ** 30;
}
