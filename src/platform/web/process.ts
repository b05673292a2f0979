/** @file What a browser says of the machine it runs on. */

/** Cores a page may use: threads of WebAssembly need an isolated one. */
export const availableCores = (): number =>
  globalThis.crossOriginIsolated ? Math.max(1, navigator.hardwareConcurrency ?? 1) : 1;

/** What a run was made on. Nothing in it names the machine. */
export const machine = () => ({
  browser: navigator.userAgent,
  isolated: globalThis.crossOriginIsolated === true,
  cores: navigator.hardwareConcurrency ?? 1,
  memory: ((navigator as { deviceMemory?: number }).deviceMemory ?? 0) * 2 ** 30,
});
