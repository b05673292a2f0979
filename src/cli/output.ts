/** @file Text for terminals: lines, numbers, tables, columns. */

/** A line on stdout: results. */
export function print(line = ""): void {
  process.stdout.write(`${line}\n`);
}

/** A JSON object on one line of stdout. Numbers JSON has no word for (NaN, Infinity) become null. */
export function printJson(value: unknown): void {
  print(JSON.stringify(value));
}

/** A line on stderr: anything that is not a result. */
export function note(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** Columns of text that fit on the terminal. */
export const terminalWidth = (): number => Math.max(60, Math.min(process.stdout.columns ?? 100, 160));

/** `1.234`, or `-` for a number that is not there. */
export function fixed(value: number | null | undefined, digits: number): string {
  if (value === undefined || value === null || Number.isNaN(value)) return "-";
  return value.toFixed(digits).replace(/^-(0(\.0*)?)$/, "$1"); // no -0.000
}

/** `0.123 ± 0.004`; without a standard error (one number only) just the mean. */
export function withError({ mean, standardError }: { mean: number; standardError: number }): string {
  return Number.isFinite(standardError) ? `${mean.toFixed(3)} ± ${standardError.toFixed(3)}` : mean.toFixed(3);
}

/** `1h 02m`, `3m 04s`, `5s`. */
export function duration(seconds: number): string {
  const s = Math.round(seconds);
  const two = (n: number) => String(n).padStart(2, "0");
  if (s >= 3600) return `${Math.floor(s / 3600)}h ${two(Math.floor((s % 3600) / 60))}m`;
  return s >= 60 ? `${Math.floor(s / 60)}m ${two(s % 60)}s` : `${s}s`;
}

/** `20.3 MB`, in powers of 1000. */
export function megabytes(bytes: number): string {
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(2)} GB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

export const thousands = (n: number): string => n.toLocaleString("en-US");

/** Line breaks, tabs and other control characters made visible, so that a token or text stays on its line. */
export function oneLine(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  return text.replace(/[\u0000-\u001f\u007f]/g, (c) => JSON.stringify(c).slice(1, -1));
}

/** Cut to `width` characters, the last one an ellipsis. */
export function shorten(text: string, width: number): string {
  const characters = Array.from(text);
  return characters.length <= width ? text : `${characters.slice(0, width - 1).join("")}…`;
}

/** Words in lines of at most `width` characters; a longer word is cut. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(/\s+/).filter(Boolean)) {
    let rest = word;
    if (line && line.length + 1 + rest.length > width) {
      lines.push(line);
      line = "";
    }
    for (; rest.length > width; rest = rest.slice(width)) lines.push(rest.slice(0, width));
    line = line ? `${line} ${rest}` : rest;
  }
  return line || lines.length === 0 ? [...lines, line] : lines;
}

/** Two texts beside each other. */
export function sideBySide(left: string, right: string, width: number): string[] {
  const half = Math.floor((width - 3) / 2);
  const [a, b] = [wrap(left, half), wrap(right, half)];
  return Array.from({ length: Math.max(a.length, b.length) }, (_, i) =>
    `${(a[i] ?? "").padEnd(half)} | ${b[i] ?? ""}`.trimEnd(),
  );
}

/** Names and values in two columns. */
export function printFacts(facts: readonly (readonly [string, string])[]): void {
  const width = Math.max(...facts.map(([name]) => name.length));
  for (const [name, value] of facts) print(`  ${name.padEnd(width)}  ${value}`);
}

/** An argument as a shell would need it. */
export function shellQuote(argument: string): string {
  return /^[\w./:@=+-]+$/.test(argument) ? argument : `'${argument.replaceAll("'", "'\\''")}'`;
}

export const commandLine = (...parts: readonly string[]): string => ["valuehead", ...parts.map(shellQuote)].join(" ");
