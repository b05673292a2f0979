/** @file Small pictures of a run's numbers over its steps, for the last lines in a terminal. */
import type { MetricName, Metrics } from "../rl/metrics.ts";
import { fixed, padEnd, padStart, style, terminalWidth } from "./output.ts";

/** A number that is drawn. */
export interface CurveOf {
  readonly title: string;
  readonly metric: MetricName;
  /** The axis begins at 0, or below where numbers are. */
  readonly fromZero?: boolean;
}

/** The numbers of one curve, and the steps they are of. */
export interface Curve extends Omit<CurveOf, "metric"> {
  readonly steps: readonly number[];
  readonly values: readonly number[];
}

/** Collects the numbers of curves while a run goes on. */
export class Curves {
  readonly curves: (Curve & { steps: number[]; values: number[] })[];
  readonly #metrics: readonly MetricName[];

  constructor(of: readonly CurveOf[]) {
    this.#metrics = of.map(({ metric }) => metric);
    this.curves = of.map(({ title, fromZero }) => ({ title, fromZero, steps: [], values: [] }));
  }

  add(step: number, metrics: Metrics): void {
    for (const [c, metric] of this.#metrics.entries()) {
      const value = metrics[metric];
      if (value === undefined || !Number.isFinite(value)) continue;
      this.curves[c].steps.push(step);
      this.curves[c].values.push(value);
    }
  }
}

const ROWS = 5;
/** The narrowest and the widest picture, in columns of bars. */
const [NARROWEST, WIDEST] = [24, 50];
/** Columns for the numbers at an axis, and the axis. */
const AXIS = 10;
/** Columns between two pictures. */
const GAP = 4;
const BARS = " ▁▂▃▄▅▆▇█";
const EIGHTHS = BARS.length - 1;

/** The pictures where a terminal shows them, otherwise nothing. */
export const curvesForTerminal = (curves: readonly Curve[]): string[] =>
  process.stdout.isTTY && process.env.TERM !== "dumb" ? curveLines(curves, terminalWidth()) : [];

/** The pictures beside each other where `width` columns have room for them, otherwise below each other. */
export function curveLines(curves: readonly Curve[], width: number): string[] {
  const drawn = curves.filter(({ values }) => values.length > 1);
  if (drawn.length === 0) return [];
  const part = Math.floor((width - GAP * (drawn.length - 1)) / drawn.length);
  const beside = drawn.length > 1 && part >= NARROWEST + AXIS;
  const pictures = drawn.map((curve) => picture(curve, beside ? part : width));
  if (!beside) return pictures.flatMap((lines) => ["", ...lines]);
  const across = (r: number) =>
    pictures.map((lines, p) => (p < pictures.length - 1 ? padEnd(lines[r], part + GAP) : lines[r])).join("");
  return ["", ...pictures[0].map((_, r) => across(r))];
}

/** Title, bars and steps: `ROWS` + 2 lines of at most `room` columns. */
function picture({ steps, values, title, fromZero }: Curve, room: number): string[] {
  const columns = columnsOf(values, Math.min(WIDEST, room - AXIS));
  const [low, high] = [Math.min(...columns, ...(fromZero ? [0] : [])), Math.max(...columns)];
  const [bottom, top] = [low, high].map((value) => atAxis(value, high - low));
  const labels = Math.max(bottom.length, top.length);
  const most = ROWS * EIGHTHS;
  // The lowest number still has a bar: what is not there has none.
  const heights = columns.map((v) => 1 + Math.round(high > low ? ((v - low) / (high - low)) * (most - 1) : most / 2));
  const rows = Array.from({ length: ROWS }, (_, r) => {
    const below = (ROWS - 1 - r) * EIGHTHS;
    const bars = heights.map((height) => BARS[Math.min(EIGHTHS, Math.max(0, height - below))]).join("");
    const label = r === 0 ? top : r === ROWS - 1 && bottom !== top ? bottom : "";
    return `${padStart(label, labels)} ${style.dim("│")}${style.cyan(bars)}`;
  });
  const [first, last] = [String(steps[0]), String(steps[steps.length - 1])];
  const under = first + padStart(last, Math.max(last.length + 1, columns.length - first.length));
  const indent = " ".repeat(labels + 2);
  return [`${indent}${style.bold(title)}`, ...rows, `${indent}${style.dim(under)}`];
}

/** A number in at most 8 columns, as exactly as a curve over `range` needs it. */
function atAxis(value: number, range: number): string {
  const digits = range > 0 ? Math.min(5, Math.max(0, 2 - Math.floor(Math.log10(range)))) : 3;
  const text = fixed(value, digits);
  return text.length <= AXIS - 2 ? text : value.toExponential(1);
}

/** As many numbers as there are columns: means over neighbouring steps, or each step as wide as there is room. */
function columnsOf(values: readonly number[], room: number): number[] {
  const { length } = values;
  const width = length >= room ? room : length * Math.floor(room / length);
  return Array.from({ length: width }, (_, c) => {
    const from = Math.floor((c * length) / width);
    const bin = values.slice(from, Math.max(from + 1, Math.floor(((c + 1) * length) / width)));
    return bin.reduce((sum, v) => sum + v, 0) / bin.length;
  });
}
