/** @file Small charts of runs as SVG, for pages that are read by day and by night. */

export interface Line {
  readonly name: string;
  /** A run that is well is drawn calmly, one that is not in red. */
  readonly kind: "good" | "bad";
  /** One for each step, from step 1 on, or for each {@link Chart.every} steps. */
  readonly values: readonly number[];
}

export interface Chart {
  readonly title: string;
  readonly lines: readonly Line[];
  /** Level lines with a name: a target, a bound. */
  readonly levels?: readonly { value: number; name: string }[];
  /** Numbers beyond are cut off. */
  readonly low?: number;
  readonly high?: number;
  /** Steps that one value stands for. Default 1. */
  readonly every?: number;
}

const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [350, 230, 46, 10, 48, 26];
const STYLE = `
text{font:12px system-ui,sans-serif;fill:#374151}.title{font-size:13px;font-weight:600;fill:#111827}
.card{fill:#fff;stroke:#d1d5db}.grid{stroke:#e5e7eb}.zero{stroke:#9ca3af}.level{stroke:#6b7280;stroke-dasharray:4 3}
path{fill:none;stroke-width:2;stroke-linejoin:round}.good{stroke:#1d6fb8}.bad{stroke:#c8321f}text.good{fill:#1d6fb8;stroke:none}text.bad{fill:#c8321f;stroke:none}
@media(prefers-color-scheme:dark){text{fill:#c9d1d9}.title{fill:#f0f3f6}.card{fill:#161b22;stroke:#30363d}.grid{stroke:#262c36}.zero{stroke:#6e7681}.level{stroke:#8b949e}
.good{stroke:#58a6ff}.bad{stroke:#ff7b6b}text.good{fill:#58a6ff}text.bad{fill:#ff7b6b}}`;

const escaped = (text: string) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const short = (value: number) => `${Number(value.toPrecision(3))}`.replace("-", "−");

/** Round numbers between two others, four or five of them. */
function ticks(low: number, high: number): number[] {
  const raw = (high - low) / 5 || 1;
  const unit = 10 ** Math.floor(Math.log10(raw));
  const gap = [1, 2, 5, 10].map((n) => n * unit).find((n) => n >= raw) as number;
  const first = Math.ceil(low / gap - 1e-9);
  return Array.from({ length: Math.floor(high / gap + 1e-9) - first + 1 }, (_, i) =>
    Number(((first + i) * gap).toPrecision(6)),
  );
}

/** One chart as the text of an SVG file. */
export function chartSVG({ title, lines, levels = [], low: least, high: most, every = 1 }: Chart): string {
  const values = [...lines.flatMap((line) => line.values), ...levels.map(({ value }) => value)];
  const low = least ?? Math.min(0, ...values);
  const high = most ?? Math.max(...values);
  const last = Math.max(...lines.map((line) => line.values.length));
  const x = (step: number) => (LEFT + ((WIDTH - LEFT - RIGHT) * (step - 1)) / (last - 1)).toFixed(1);
  const y = (value: number) =>
    (
      HEIGHT -
      BOTTOM -
      ((HEIGHT - BOTTOM - TOP) * (Math.min(high, Math.max(low, value)) - low)) / (high - low || 1)
    ).toFixed(1);
  const across = (value: number, kind: string) =>
    `<path class="${kind}" style="stroke-width:1" d="M${LEFT} ${y(value)}H${WIDTH - RIGHT}"/>`;
  let at = LEFT;
  const key = lines.map(({ name, kind }) => {
    const text = `<text class="${kind}" x="${at}" y="37">${escaped(name)}</text>`;
    at += 8 * name.length + 14;
    return text;
  });
  const parts = [
    `<rect class="card" x=".5" y=".5" width="${WIDTH - 1}" height="${HEIGHT - 1}" rx="6"/>`,
    `<text class="title" x="12" y="20">${escaped(title)}</text>`,
    ...key,
    ...ticks(low, high).flatMap((value) => [
      across(value, value === 0 ? "zero" : "grid"),
      `<text x="${LEFT - 6}" y="${Number(y(value)) + 4}" text-anchor="end">${short(value)}</text>`,
    ]),
    ...levels.flatMap(({ value, name }) => [
      across(value, "level"),
      `<text x="${LEFT + 4}" y="${Number(y(value)) - 4}">${escaped(name)}</text>`,
    ]),
    ...lines.map(
      ({ kind, values }) => `<path class="${kind}" d="M${values.map((v, i) => `${x(i + 1)} ${y(v)}`).join("L")}"/>`,
    ),
    `<text x="${LEFT}" y="${HEIGHT - 8}">step ${every}</text><text x="${WIDTH - RIGHT}" y="${HEIGHT - 8}" text-anchor="end">${last * every}</text>`,
  ];
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" height="${HEIGHT}" role="img" aria-label="${escaped(title)}"><style>${STYLE}</style>${parts.join("\n")}</svg>\n`;
}
