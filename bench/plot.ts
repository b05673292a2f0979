/** @file The curves as a picture: one panel for each axis and kind of work, both scales logarithmic. */
import { AXIS_NAMES, type Axis, BASE, type CurvePoint, KIND_NAMES, KINDS, predictedSeconds, WORKS } from "./curves.ts";
import type { Limits } from "./report.ts";

const PANEL = { width: 250, height: 210, left: 46, right: 14, top: 30, bottom: 36 };
const MARGIN = 16;
const HEADER = 54;
const COLORS = { ink: "#222", faint: "#d8d8d8", ours: "#c0392b", limit: "#2471a3" };
const TITLES = {
  train: "training step, s",
  lora: "LoRA 8 training step, s",
  decode: "decoding pass, ms",
};

/** What stays the same where another axis is followed. */
function baseOf({ kind, work }: CurvePoint): string {
  const { layers, width } = KINDS[kind].base;
  const { batch, length } = BASE[work];
  return `${layers} layers of ${width}, ${work === "decode" ? `${batch} x (8 + ${length})` : `${batch} x ${length}`}`;
}

export function curvesSvg(points: readonly CurvePoint[], limits: Limits, caption: string): string {
  const axes = AXIS_NAMES.filter((axis) => points.some((p) => p.axis === axis));
  const rows = KIND_NAMES.flatMap((kind) =>
    WORKS.map((work) => points.filter((p) => p.kind === kind && p.work === work)),
  );
  const there = rows.filter((row) => row.length > 0);
  const width = 2 * MARGIN + axes.length * PANEL.width;
  const height = HEADER + there.length * PANEL.height + MARGIN;
  const panels = there.flatMap((points, row) =>
    axes.map((axis, column) => {
      const own = points.filter((p) => p.axis === axis).sort((a, b) => a.at - b.at);
      return `<g transform="translate(${MARGIN + column * PANEL.width} ${HEADER + row * PANEL.height})">${panel(own, limits, axis)}</g>`;
    }),
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" font-family="sans-serif" font-size="11" fill="${COLORS.ink}">
<rect width="100%" height="100%" fill="#fff"/>
<text x="${MARGIN}" y="22" font-size="14">How cost grows: measured, and what the machine's limits leave</text>
<circle cx="${MARGIN + 4}" cy="38" r="3" fill="${COLORS.ours}"/><text x="${MARGIN + 12}" y="42">valuehead</text>
<path d="M${MARGIN + 80} 38h20" stroke="${COLORS.limit}" stroke-width="1.5"/><text x="${MARGIN + 106}" y="42">arithmetic at the limits</text>
<text x="${width - MARGIN}" y="42" text-anchor="end">${escapeXml(caption)}</text>
${panels.join("\n")}
</svg>
`;
}

function panel(points: readonly CurvePoint[], limits: Limits, axis: Axis): string {
  const { width, height, left, right, top, bottom } = PANEL;
  const { kind, work } = points[0];
  const unit = work === "decode" ? 1000 : 1;
  const measured = points.map((p) => ({ at: p.at, y: unit * Math.min(...p.seconds) }));
  const predicted = points.map((p) => ({ at: p.at, y: unit * predictedSeconds(p, limits) }));
  const ys = [...measured, ...predicted].map(({ y }) => y);
  const ticks = steps(Math.min(...ys), Math.max(...ys));
  const x = logScale(points[0].at, points.at(-1)!.at, left, width - right);
  const y = logScale(ticks[0], ticks.at(-1)!, height - bottom, top);
  const place = (p: { at: number; y: number }) => `${x(p.at).toFixed(1)} ${y(p.y).toFixed(1)}`;
  const shares = points.map((p) => predictedSeconds(p, limits) / Math.min(...p.seconds));
  const percent = (share: number) => (100 * share).toFixed(0);
  const parts = [
    `<text x="${left}" y="${top - 16}">${kind}: ${TITLES[work]}</text>`,
    `<text x="${left}" y="${top - 4}" fill="#666" font-size="9">${baseOf(points[0])}; ${percent(Math.min(...shares))}-${percent(Math.max(...shares))} % of limit</text>`,
    ...ticks.flatMap((t) => [
      `<path d="M${left} ${y(t).toFixed(1)}H${width - right}" stroke="${COLORS.faint}"/>`,
      `<text x="${left - 5}" y="${(y(t) + 4).toFixed(1)}" text-anchor="end">${t}</text>`,
    ]),
    ...points.map(
      (p) => `<text x="${x(p.at).toFixed(1)}" y="${height - bottom + 14}" text-anchor="middle">${p.at}</text>`,
    ),
    `<text x="${(left + width - right) / 2}" y="${height - bottom + 28}" text-anchor="middle">${axis}</text>`,
    `<path d="M${predicted.map(place).join("L")}" fill="none" stroke="${COLORS.limit}" stroke-width="1.5"/>`,
    ...measured.map(
      (m) => `<circle cx="${x(m.at).toFixed(1)}" cy="${y(m.y).toFixed(1)}" r="3" fill="${COLORS.ours}"/>`,
    ),
  ];
  return parts.join("\n");
}

/** 1, 2, 5, 10, ... that enclose the range; in tens when that would be many. */
function steps(low: number, high: number): number[] {
  const all = Array.from({ length: 30 }, (_, i) => [1, 2, 5][i % 3] * 10 ** (Math.floor(i / 3) - 4));
  const first = Math.max(
    0,
    all.findLastIndex((t) => t <= low),
  );
  const last = all.findIndex((t) => t >= high);
  return all.slice(first, last + 1).map((t) => Number(t.toPrecision(1)));
}

function logScale(from: number, to: number, start: number, end: number): (value: number) => number {
  const span = Math.log(to / from) || 1;
  return (value) => start + ((end - start) * Math.log(value / from)) / span;
}

const escapeXml = (text: string) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;");
