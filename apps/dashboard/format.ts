/** @file Numbers and words for people. */

/** Four digits that count: 0.01234, 12.34, 1,234, 1.23e-6. */
export function number(x: number | null | undefined, digits = 4): string {
  if (x === null || x === undefined || !Number.isFinite(x)) return "–";
  if (x === 0) return "0";
  const size = Math.abs(x);
  if (size >= 1e6 || size < 1e-4)
    return x
      .toExponential(digits - 2)
      .replace("-", "−")
      .replace("e+", "e")
      .replace("e-", "e−");
  const decimals = Math.max(0, Math.min(6, digits - 1 - Math.floor(Math.log10(size))));
  return x
    .toLocaleString("en-US", { minimumFractionDigits: Math.min(decimals, 2), maximumFractionDigits: decimals })
    .replace("-", "−");
}

/** With its sign. */
export const signed = (x: number, digits = 3): string => (x > 0 ? `+${number(x, digits)}` : number(x, digits));

export const withError = (mean: number, error: number | null, digits = 3): string =>
  error === null ? number(mean, digits) : `${number(mean, digits)} ± ${number(error, 2)}`;

export function bytes(x: number | null): string {
  if (x === null) return "–";
  return x >= 1e9 ? `${(x / 1e9).toFixed(2)} GB` : `${(x / 1e6).toFixed(0)} MB`;
}

/** 1h 02m, 3m 04s, 5s */
export function duration(seconds: number): string {
  const s = Math.round(seconds);
  const two = (n: number) => String(n).padStart(2, "0");
  if (s >= 3600) return `${Math.floor(s / 3600)}h ${two(Math.floor((s % 3600) / 60))}m`;
  return s >= 60 ? `${Math.floor(s / 60)}m ${two(s % 60)}s` : `${seconds < 10 ? number(seconds, 2) : s}s`;
}

export const plural = (n: number, one: string, many = `${one}s`): string =>
  `${n.toLocaleString("en-US")} ${n === 1 ? one : many}`;

/** What cannot be seen is made visible: line breaks and the like in a token. */
export const visiblePiece = (piece: string): string =>
  piece === "" ? "·" : piece.replace(/\r?\n/g, "⏎").replace(/\t/g, "⇥");
