/** @file One chart: smoothed and raw curves of every run in view, one cursor and one zoom over all charts. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import uPlot from "uplot";
import type { Num, RunData } from "../../src/run/page/data.ts";
import { type ChartSpec, formatOf, isLabelled, meaningOf } from "./charts.ts";
import { badSteps } from "./findings.ts";
import { number } from "./format.ts";
import { getState, setState, subscribe, useStore } from "./store.ts";
import { colours, withAlpha } from "./theme.ts";

/** Of a curve in the chart. */
interface Curve {
  readonly label: string;
  readonly run: number;
  readonly place: number;
  readonly colour: string;
  readonly raw: Num[];
}

/** Exponential moving average, corrected for where it begins; gaps stay gaps. */
export function smoothed(values: readonly Num[], weight: number): Num[] {
  let [sum, norm] = [0, 0];
  return values.map((x) => {
    if (x === null) return null;
    sum = weight * sum + (1 - weight) * x;
    norm = weight * norm + (1 - weight);
    return sum / norm;
  });
}

/** Steps of all runs, and a function that puts a run's column there. */
function aligned(runs: readonly RunData[]): {
  steps: number[];
  place: (run: RunData, column: readonly Num[]) => Num[];
} {
  if (runs.length === 1) return { steps: runs[0].steps, place: (_, column) => column as Num[] };
  const steps = [...new Set(runs.flatMap((run) => run.steps))].sort((a, b) => a - b);
  const at = new Map(steps.map((step, i) => [step, i]));
  return {
    steps,
    place: (run, column) => {
      const placed: Num[] = new Array(steps.length).fill(null);
      run.steps.forEach((step, i) => {
        placed[at.get(step) as number] = column[i] ?? null;
      });
      return placed;
    },
  };
}

/** A line that is the same at every step, or a metric. */
function linesOf(
  spec: ChartSpec,
  runs: readonly RunData[],
  steps: readonly number[],
): { label: string; values: Num[] }[] {
  return (spec.lines ?? []).flatMap((line) => {
    if ("at" in line) return [{ label: line.label, values: steps.map(() => line.at) }];
    if ("metric" in line) {
      const bound = runs[0]?.columns[line.metric]?.findLast((x) => x !== null);
      return typeof bound === "number"
        ? [{ label: `${line.label} ${number(bound, 3)}`, values: steps.map(() => bound) }]
        : [];
    }
    const options = runs[0]?.config?.options as Record<string, unknown> | undefined;
    const value = options?.[line.option];
    if (typeof value !== "number" || options?.klController !== "adaptive") return [];
    return [{ label: `${line.label} ${number(value, 3)}`, values: steps.map(() => value) }];
  });
}

interface Props {
  readonly spec: ChartSpec;
  readonly height?: number;
}

/** The runs that are shown, with their places. */
export const shownRuns = (runs: readonly RunData[], hidden: readonly number[]) =>
  runs.map((run, place) => ({ run, place })).filter(({ place }) => !hidden.includes(place));

export function Chart({ spec, height = 190 }: Props) {
  const runs = useStore((s) => s.data?.runs ?? []);
  const hidden = useStore((s) => s.hidden);
  const revision = useStore((s) => s.revision);
  const smooth = useStore((s) => s.smooth);
  const focus = useStore((s) => s.focus);
  const theme = useStore((s) => s.theme);
  const [dark, setDark] = useState(() => matchMedia("(prefers-color-scheme: dark)").matches);
  const [explained, setExplained] = useState(false);
  const place = useRef<HTMLDivElement>(null);
  const numbers = useRef<(HTMLElement | null)[]>([]);
  const at = useRef<HTMLElement>(null);
  const format = formatOf(spec);

  useEffect(() => {
    const query = matchMedia("(prefers-color-scheme: dark)");
    const change = () => setDark(query.matches);
    query.addEventListener("change", change);
    return () => query.removeEventListener("change", change);
  }, []);

  const drawn = useMemo(() => {
    const shown = shownRuns(runs, hidden);
    const palette = colours();
    const { steps, place: placed } = aligned(shown.map(({ run }) => run));
    const several = shown.length > 1;
    // Of several runs one curve each: with one run in view there are all.
    const lead = spec.series.find(({ metric }) => metric === spec.lead)?.metric;
    const drawnSeries = (run: RunData) => {
      const there = spec.series.filter(({ metric }) => run.columns[metric]?.some((x) => x !== null));
      return several ? [there.find(({ metric }) => metric === lead) ?? there[0]].filter(Boolean) : there;
    };
    const curves: Curve[] = shown.flatMap(({ run, place: runPlace }) =>
      drawnSeries(run).map(({ metric, label }, _, all) => {
        const i = spec.series.findIndex((series) => series.metric === metric);
        const colour = palette.series[(all.length === 1 ? runPlace : i) % palette.series.length];
        const called = spec.series.length > 1 ? `${run.name}, ${label}` : run.name;
        return {
          label: several ? called : label,
          run: runPlace,
          place: i,
          colour,
          raw: placed(run, run.columns[metric]),
        };
      }),
    );
    const bands = shown.flatMap(({ run, place: runPlace }) => {
      const { band } = spec;
      const first = run.columns[spec.series[0].metric];
      if (!band || !first) return [];
      const error = "error" in band ? run.columns[band.error] : undefined;
      const times = "error" in band ? band.times : 0;
      const around = (sign: number) =>
        first.map((x, i) =>
          x === null || !error || error[i] === null ? null : x + sign * times * (error[i] as number),
        );
      const [low, high] = "error" in band ? [around(-1), around(1)] : [run.columns[band.low], run.columns[band.high]];
      if (!low || !high || ("error" in band && !error)) return [];
      return [
        {
          low: placed(run, low),
          high: placed(run, high),
          colour: palette.series[several ? runPlace % palette.series.length : 0],
        },
      ];
    });
    return {
      steps,
      curves,
      bands,
      lines: linesOf(
        spec,
        shown.map(({ run }) => run),
        steps,
      ),
      palette,
    };
  }, [runs, hidden, revision, spec, theme, dark]);

  const data = useMemo<uPlot.AlignedData>(() => {
    const { steps, curves, bands, lines } = drawn;
    const one = (values: readonly Num[]) => values as number[];
    return [
      steps,
      ...bands.flatMap(({ high, low }) => [one(high), one(low)]),
      ...lines.map(({ values }) => one(values)),
      ...curves.flatMap(({ raw }) => (smooth > 0 ? [one(raw), one(smoothed(raw, smooth))] : [one(raw)])),
    ];
  }, [drawn, smooth]);

  // The shape of the chart: it is made anew only when that changes.
  const shape = JSON.stringify([
    drawn.curves.map(({ label, colour }) => [label, colour]),
    drawn.bands.length,
    drawn.lines.map(({ label }) => label),
    smooth > 0,
    theme,
    dark,
    focus,
  ]);
  const plot = useRef<uPlot | null>(null);
  const marks = useRef<readonly number[]>([]);
  marks.current = runs[focus] ? badSteps(runs[focus]) : [];

  const tell = (idx: number | null | undefined) => {
    const { curves, steps } = drawnNow.current;
    const i = idx ?? steps.length - 1;
    curves.forEach(({ raw }, c) => {
      const element = numbers.current[c];
      const value = idx === null || idx === undefined ? raw.findLast((x) => x !== null) : raw[i];
      if (element) element.textContent = format(value);
    });
    if (at.current) at.current.textContent = idx === null || idx === undefined ? "" : `step ${steps[i]}`;
  };
  const drawnNow = useRef(drawn);
  drawnNow.current = drawn;

  useEffect(() => {
    const element = place.current;
    if (!element) return;
    const { curves, bands, lines, palette } = drawn;
    const axis = {
      stroke: palette.muted,
      grid: { stroke: palette.grid, width: 1 },
      ticks: { show: false },
      font: "11px ui-sans-serif, system-ui, sans-serif",
    };
    const quiet = { points: { show: false }, spanGaps: true };
    const options: uPlot.Options = {
      width: Math.max(200, element.clientWidth),
      height,
      legend: { show: false },
      padding: [8, 8, 0, 0],
      scales: {
        x: {
          time: false,
          range: (u, min, max) =>
            (getState().range?.slice() as [number, number]) ?? (u.data[0].length > 1 ? [min, max] : [min - 1, max + 1]),
        },
        y: { range: (_, low, high) => (low === high ? around(low) : uPlot.rangeNum(low, high, 0.1, true)) },
      },
      cursor: {
        y: false,
        drag: { x: true, y: false, setScale: false },
        points: { size: 6 },
        bind: { dblclick: () => () => (setState({ range: null }), null) },
        sync: { key: "steps", filters: { pub: (type) => type === "mousemove" || type === "mouseleave" } },
      },
      axes: [
        {
          ...axis,
          size: 24,
          gap: 4,
          values: (_, ticks) => ticks.map((t) => (Number.isInteger(t) ? t.toLocaleString("en-US") : "")),
        },
        {
          ...axis,
          size: 52,
          gap: 4,
          space: 36,
          values: (_, ticks) => ticks.map((t) => (t === null ? "" : spec.format ? format(t) : compact(t))),
        },
      ],
      series: [
        {},
        ...bands.flatMap(() => [
          { ...quiet, width: 0, stroke: "transparent" },
          { ...quiet, width: 0, stroke: "transparent" },
        ]),
        ...lines.map(() => ({ ...quiet, stroke: palette.line, width: 1, dash: [5, 4] })),
        ...curves.flatMap(({ colour }) => {
          const strong = { ...quiet, stroke: colour, width: 1.75 };
          return smooth > 0 ? [{ ...quiet, stroke: withAlpha(colour, 0.28), width: 1 }, strong] : [strong];
        }),
      ],
      bands: bands.map(({ colour }, i) => ({ series: [1 + 2 * i, 2 + 2 * i], fill: withAlpha(colour, 0.13) })),
      hooks: {
        draw: [(u) => markSteps(u, marks.current, palette.bad)],
        setSelect: [
          (u) => {
            const { left, width } = u.select;
            if (width < 4) return;
            const range = [u.posToVal(left, "x"), u.posToVal(left + width, "x")] as const;
            u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
            setState({ range });
          },
        ],
        setCursor: [(u) => tell(u.cursor.left !== undefined && u.cursor.left >= 0 ? u.cursor.idx : null)],
      },
    };
    const made = new uPlot(options, data, element);
    plot.current = made;
    tell(null);
    const sized = new ResizeObserver(() => made.setSize({ width: Math.max(200, element.clientWidth), height }));
    sized.observe(element);
    let { range, cursor } = getState();
    const follow = subscribe(() => {
      const now = getState();
      if (now.range !== range) {
        range = now.range;
        made.setData(made.data, true);
      }
      if (now.cursor !== cursor) {
        cursor = now.cursor;
        const to = cursor === null ? { left: -10, top: -10 } : { left: made.valToPos(cursor, "x"), top: 10 };
        (made.setCursor as (to: { left: number; top: number }, tell: boolean, others: boolean) => void)(
          to,
          true,
          false,
        );
      }
    });
    return () => {
      follow();
      sized.disconnect();
      made.destroy();
    };
  }, [shape, height]);

  useEffect(() => {
    plot.current?.setData(data, true);
    tell(null);
  }, [data]);

  const meanings = spec.series
    .filter(({ metric }) => runs.some(({ columns }) => columns[metric]))
    .map(({ metric, label }) => ({ metric, label, meaning: meaningOf(metric) }));
  const summary = drawn.curves
    .map(
      ({ label, raw }) =>
        `${label}: ${format(raw.find((x) => x !== null))} at first, ${format(raw.findLast((x) => x !== null))} at last`,
    )
    .join("; ");
  return (
    <figure class="chart">
      <figcaption>
        <h3>
          {spec.title}
          {spec.unit && <span class="unit">{spec.unit}</span>}
        </h3>
        <button
          type="button"
          class="quiet small"
          aria-expanded={explained}
          aria-label={`What is ${spec.title}?`}
          onClick={() => setExplained(!explained)}
        >
          ?
        </button>
      </figcaption>
      <div class="legend">
        {drawn.curves.map(({ label, colour }, c) => (
          <span class="key" key={label + c}>
            <i style={{ background: colour }} />
            {(drawn.curves.length > 1 || runs.length > 1 || isLabelled(spec)) && <span class="label">{label}</span>}
            <b
              class="num"
              data-metric={spec.series[drawn.curves[c].place].metric}
              data-run={drawn.curves[c].run}
              ref={(e) => {
                numbers.current[c] = e;
              }}
            />
          </span>
        ))}
        {drawn.bands.length > 0 && spec.band && <span class="key faint">{spec.band.label}</span>}
        {drawn.lines.map(({ label }) => (
          <span class="key faint dashed" key={label}>
            {label}
          </span>
        ))}
        <span class="at num" ref={at} />
      </div>
      {explained && (
        <dl class="meanings">
          {meanings.map(({ metric, label, meaning }) => (
            <div key={metric}>
              <dt>
                {label} <code>{metric}</code>
              </dt>
              <dd>{meaning || "a number of the run's own"}</dd>
            </div>
          ))}
        </dl>
      )}
      <div
        class="plot"
        ref={place}
        role="img"
        aria-label={`${spec.title}. ${summary}`}
        style={{ height: `${height}px` }}
      />
    </figure>
  );
}

/** What is shown of a curve that never moves. */
const around = (x: number | null): [number, number] =>
  x === null || x === 0 ? [0, 1] : [x - 0.1 * Math.abs(x), x + 0.1 * Math.abs(x)];

/** For axes: short, the same number of digits throughout. */
function compact(x: number): string {
  if (x !== 0 && (Math.abs(x) >= 1e5 || Math.abs(x) < 1e-3))
    return x.toExponential(0).replace("e+", "e").replace("-", "−");
  return String(Number(x.toPrecision(6))).replace("-", "−");
}

/** A line down the chart at each of some steps. */
function markSteps(u: uPlot, steps: readonly number[], colour: string): void {
  const { ctx, bbox } = u;
  ctx.save();
  ctx.strokeStyle = colour;
  ctx.lineWidth = devicePixelRatio;
  ctx.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio]);
  for (const step of steps) {
    const x = Math.round(u.valToPos(step, "x", true)) + 0.5;
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
  }
  ctx.restore();
}
