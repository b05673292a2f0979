/** @file What a command wrote to a terminal, as SVG: letters as text, bars of curves as rectangles, so that they meet in any font. */
import stringWidth from "string-width";

interface Piece {
  readonly text: string;
  readonly classes: string;
}

const ESCAPE = "\u001b";
const SGR = new RegExp(`${ESCAPE}\\[([\\d;]*)m`);
const ON: Readonly<Record<string, string>> = { 1: "bold", 2: "dim", 31: "red", 32: "green", 33: "yellow", 36: "cyan" };
const OFF: Readonly<Record<string, readonly string[]>> = {
  22: ["bold", "dim"],
  39: ["red", "green", "yellow", "cyan"],
};

/** Pieces of a line between changes of colour. */
function pieces(line: string): Piece[] {
  const on = new Set<string>();
  const found: Piece[] = [];
  for (const [i, part] of line.split(SGR).entries()) {
    if (i % 2 === 0) {
      if (part) found.push({ text: part, classes: [...on].join(" ") });
      continue;
    }
    for (const code of part.split(";")) {
      if (code === "" || code === "0") on.clear();
      else if (ON[code]) on.add(ON[code]);
      else for (const name of OFF[code] ?? []) on.delete(name);
    }
  }
  return found;
}

/** What `script` caught, line by line, without its own first and last line. */
export const capturedLines = (text: string): string[] =>
  text
    .split(/\r?\n/)
    .filter((line) => !/^Script (started|done)/.test(line))
    .map((line) => line.replace(/\r/g, ""));

const [ADVANCE, LINE, PAD, BASE] = [8, 18, 14, 13];
const BARS = " ▁▂▃▄▅▆▇█";
const STYLE = `
text{font:13.3px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;fill:#d6deeb;white-space:pre}
.card{fill:#0d1420}.bold{font-weight:700;fill:#fff}.dim{opacity:.6}.red{fill:#ff7b6b}.green{fill:#7ee0a1}.yellow{fill:#f2cc60}.cyan{fill:#6cc5f0}`;
const escaped = (text: string) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

/** Lines with the colours a terminal shows, `columns` wide. */
export function terminalSVG(lines: readonly string[], columns: number, title: string): string {
  const [width, height] = [2 * PAD + ADVANCE * columns, 2 * PAD + LINE * lines.length];
  const parts = lines.flatMap((line, row) => {
    let column = 0;
    return pieces(line).flatMap(({ text, classes }) => {
      const [x, y] = [PAD + ADVANCE * column, PAD + LINE * row];
      const cells = stringWidth(text);
      column += cells;
      if (/^[ ▁▂▃▄▅▆▇█]+$/.test(text)) return bars(text, x, y, classes);
      if (text.trim() === "") return [];
      const lead = text.length - text.trimStart().length; // leading blanks are collapsed by some viewers
      const shown = text.trim();
      const length = ADVANCE * stringWidth(shown);
      const at = `x="${x + ADVANCE * lead}" y="${y + BASE}" textLength="${length}"`;
      return [`<text${classes && ` class="${classes}"`} ${at}>${escaped(shown)}</text>`];
    });
  });
  const card = `<rect class="card" width="${width}" height="${height}" rx="8"/>`;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" aria-label="${escaped(title)}"><style>${STYLE}</style>${card}\n${parts.join("\n")}</svg>\n`;
}

/** Bars beside each other of one height are one rectangle. */
function bars(text: string, x: number, y: number, classes: string): string[] {
  const found: string[] = [];
  for (let from = 0; from < text.length; ) {
    let to = from + 1;
    while (text[to] === text[from]) to++;
    const tall = (LINE * BARS.indexOf(text[from])) / 8;
    const box = `x="${x + ADVANCE * from}" y="${(y + LINE - tall).toFixed(2)}" width="${ADVANCE * (to - from)}" height="${tall.toFixed(2)}"`;
    if (tall > 0) found.push(`<rect class="${classes}" ${box}/>`);
    from = to;
  }
  return found;
}
