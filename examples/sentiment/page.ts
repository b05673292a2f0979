/** @file The page: reward against KL for every run and for the best of n, by both judges; a table; what the models wrote. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { JudgeFacts } from "./judge.ts";
import { ALGORITHMS, type Algorithm, type BestOf, type Gain, OWN, type RunResult } from "./runs.ts";

export interface Results {
  facts: JudgeFacts;
  runs: RunResult[];
  yardstick: BestOf[];
  steps: number;
}

const COLORS: Readonly<Record<Algorithm, string>> = { ppo: "#1f6fb4", grpo: "#c2571a", rloo: "#2c8a4b" };
const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP] = [420, 300, 46, 38, 30];
const escapeHtml = (text: string) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;");
const mean = (x: readonly number[]) => x.reduce((sum, y) => sum + y, 0) / Math.max(1, x.length);
const signed = (x: number, digits: number) => `${x < 0 ? "−" : "+"}${Math.abs(x).toFixed(digits)}`;

/** A curve or a mark in a chart. */
interface Mark {
  points: [x: number, y: number][];
  color: string;
  kind: "line" | "dashed" | "dot";
}

/** Points of five steps each: single steps are noise. */
function curve({ points }: RunResult, x: (p: RunResult["points"][number]) => number, y: "judge" | "lexicon") {
  const parts = Array.from({ length: Math.ceil(points.length / 5) }, (_, i) => points.slice(5 * i, 5 * i + 5));
  return parts.map((part): [number, number] => [mean(part.map(x)), mean(part.map((p) => p[y]))]);
}

function ticks(low: number, high: number): number[] {
  const unit = 10 ** Math.floor(Math.log10((high - low) / 2 || 1));
  const gap = [1, 2, 5].map((n) => n * unit).find((n) => (high - low) / n <= 5) ?? 10 * unit;
  return Array.from(
    { length: 1 + Math.floor(high / gap) - Math.ceil(low / gap) },
    (_, i) => (Math.ceil(low / gap) + i) * gap,
  );
}

function chart(title: string, below: string, marks: readonly Mark[]): string {
  const all = marks.flatMap(({ points }) => points);
  const [xs, ys] = [all.map(([x]) => x), all.map(([, y]) => y)];
  const [x0, x1] = [Math.min(0, ...xs), Math.max(1, ...xs) * 1.04];
  const [y0, y1] = [Math.min(0, ...ys), Math.max(...ys, 0.01) * 1.05];
  const x = (value: number) => (LEFT + ((WIDTH - LEFT - 12) * (value - x0)) / (x1 - x0)).toFixed(1);
  const y = (value: number) => (HEIGHT - BOTTOM - ((HEIGHT - BOTTOM - TOP) * (value - y0)) / (y1 - y0)).toFixed(1);
  const number = (value: number) => String(Number(value.toPrecision(3)));
  const drawn = marks.map(({ points, color, kind }) =>
    kind === "dot"
      ? points.map(([a, b]) => `<circle cx="${x(a)}" cy="${y(b)}" r="4" fill="${color}" stroke="#fff"/>`).join("")
      : `<path d="M${points.map(([a, b]) => `${x(a)} ${y(b)}`).join("L")}" fill="none" stroke="${color}" stroke-width="1.6"${kind === "dashed" ? ' stroke-dasharray="5 4"' : ""}/>`,
  );
  return `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" height="${HEIGHT}" font-family="sans-serif" font-size="11" role="img"><title>${title}</title>
<text x="${LEFT}" y="16" font-size="13" font-weight="bold">${title}</text>
${ticks(y0, y1)
  .map(
    (t) =>
      `<path d="M${LEFT} ${y(t)}H${WIDTH - 12}" stroke="${t === 0 ? "#777" : "#e2e2e2"}"/><text x="${LEFT - 5}" y="${Number(y(t)) + 4}" text-anchor="end">${number(t)}</text>`,
  )
  .join("")}
${ticks(x0, x1)
  .map((t) => `<text x="${x(t)}" y="${HEIGHT - BOTTOM + 15}" text-anchor="middle">${number(t)}</text>`)
  .join("")}
<text x="${(LEFT + WIDTH - 12) / 2}" y="${HEIGHT - 6}" text-anchor="middle" fill="#555">${below}</text>
${drawn.join("\n")}</svg>`;
}

function charts({ runs, yardstick }: Results): string[] {
  const lines = (x: (p: RunResult["points"][number]) => number, y: "judge" | "lexicon"): Mark[] =>
    runs.map((run) => ({ points: curve(run, x, y), color: COLORS[run.algorithm], kind: "line" }));
  const ends = (y: "judge" | "lexicon"): Mark[] =>
    runs.map((run) => ({ points: [[run.kl.mean, run[y].after]], color: COLORS[run.algorithm], kind: "dot" }));
  const best = (y: "judge" | "lexicon"): Mark[] =>
    yardstick.length > 0 ? [{ points: yardstick.map((b) => [b.kl, b[y]]), color: "#444", kind: "dashed" }] : [];
  const kl = "KL from the start, nats per response";
  return [
    chart("The judge that was trained on", kl, [...best("judge"), ...lines((p) => p.kl, "judge"), ...ends("judge")]),
    chart("The second judge, a lexicon", kl, [
      ...best("lexicon"),
      ...lines((p) => p.kl, "lexicon"),
      ...ends("lexicon"),
    ]),
    chart(
      "The judge by responses learned from",
      "responses",
      lines((p) => 64 * p.step, "judge"),
    ),
    chart(
      "KL by responses learned from",
      "responses",
      runs.map((run) => ({
        points: run.points.map((p): [number, number] => [64 * p.step, p.kl]),
        color: COLORS[run.algorithm],
        kind: "line",
      })),
    ),
  ];
}

const KEY = `${ALGORITHMS.map((name) => `<tspan fill="${COLORS[name]}" font-weight="bold">${name.toUpperCase()}</tspan>`).join("  ")}  <tspan fill="#444">best of n (dashed)</tspan>   a line for each seed, dots: held-out openings at the end`;

const gained = ({ difference }: Gain, digits: number) =>
  `${signed(difference.mean, digits)} ± ${difference.standardError.toFixed(digits)}`;

function table({ runs }: Results): string {
  const head = [
    "",
    "seed",
    "judge before",
    "judge after",
    "gain",
    "lexicon gain",
    "KL",
    "distinct-2",
    "responses",
    "CPU s",
  ];
  const row = (cells: readonly (string | number)[], tag = "td") =>
    `<tr>${cells.map((c) => `<${tag}>${c}</${tag}>`).join("")}</tr>`;
  const of = (name: Algorithm) => runs.filter(({ algorithm }) => algorithm === name);
  const rows = ALGORITHMS.flatMap((name) => [
    ...of(name).map((r) =>
      row([
        `<b style="color:${COLORS[name]}">${name.toUpperCase()}</b>`,
        r.seed,
        r.judge.before.toFixed(2),
        r.judge.after.toFixed(2),
        gained(r.judge, 2),
        gained(r.lexicon, 3),
        `${r.kl.mean.toFixed(2)} ± ${r.kl.standardError.toFixed(2)}`,
        `${r.distinct2.before.toFixed(2)} → ${r.distinct2.after.toFixed(2)}`,
        r.samples,
        r.cpuSeconds.toFixed(0),
      ]),
    ),
    ...(of(name).length > 1
      ? [
          row(
            [
              `<i>mean</i>`,
              "",
              mean(of(name).map((r) => r.judge.before)).toFixed(2),
              mean(of(name).map((r) => r.judge.after)).toFixed(2),
              signed(mean(of(name).map((r) => r.judge.difference.mean)), 2),
              signed(mean(of(name).map((r) => r.lexicon.difference.mean)), 3),
              mean(of(name).map((r) => r.kl.mean)).toFixed(2),
              mean(of(name).map((r) => r.distinct2.after)).toFixed(2),
              "",
              mean(of(name).map((r) => r.cpuSeconds)).toFixed(0),
            ],
            "th",
          ),
        ]
      : []),
  ]);
  return `<table>${row(head, "th")}${rows.join("")}</table>`;
}

const yardstickTable = (yardstick: readonly BestOf[]) =>
  `<table><tr><th>n</th><th>KL, log n − (n − 1)/n</th><th>judge</th><th>lexicon</th></tr>${yardstick
    .map(
      (b) =>
        `<tr><td>${b.n}</td><td>${b.kl.toFixed(2)}</td><td>${b.judge.toFixed(2)}</td><td>${b.lexicon.toFixed(3)}</td></tr>`,
    )
    .join("")}</table>`;

function texts({ runs }: Results): string {
  return ALGORITHMS.flatMap((name) => runs.find(({ algorithm }) => algorithm === name) ?? [])
    .map(
      (run) =>
        `<h3 style="color:${COLORS[run.algorithm]}">${run.algorithm.toUpperCase()}, seed ${run.seed}</h3><table class="texts"><tr><th>opening</th><th>before</th><th>after</th></tr>${run.texts
          .slice(0, 5)
          .map(
            (t) => `<tr>${[t.prompt, t.before, t.after].map((text) => `<td>${escapeHtml(text)}</td>`).join("")}</tr>`,
          )
          .join("")}</table>`,
    )
    .join("");
}

/** Write sentiment.html, sentiment.svg (the curves alone) and sentiment.json; gives the page's path. */
export function writePage(out: string, results: Results): string {
  const { facts, yardstick, steps } = results;
  const drawn = charts(results);
  const key = `<svg viewBox="0 0 860 22" width="860" height="22" font-family="sans-serif" font-size="12" role="img"><title>Key</title><text x="8" y="15" xml:space="preserve">${KEY}</text></svg>`;
  const page = `<!doctype html><html lang="en"><meta charset="utf-8"><title>Sentiment: PPO, GRPO, RLOO and the best of n</title>
<style>body{font:14px/1.45 sans-serif;max-width:900px;margin:24px auto;padding:0 12px;color:#222}table{border-collapse:collapse;margin:8px 0 16px}td,th{padding:3px 9px 3px 0;text-align:left;vertical-align:top;border-bottom:1px solid #e5e5e5;font-size:13px}.texts td{font-size:12px}svg{max-width:100%}</style>
<h1>Sentiment: PPO, GRPO, RLOO and the best of n</h1>
<p>The embedded model goes on with openings of film reviews and learns to please a judge: itself, trained on labelled reviews
(${facts.pieces.toLocaleString("en-US")} pieces of 8 to 80 tokens; right in ${(100 * facts.accuracyOnPieces).toFixed(1)} % of ${facts.heldOutPieces.toLocaleString("en-US")} held-out
pieces and ${(100 * facts.accuracyOnReviews).toFixed(1)} % of ${facts.heldOutReviews.toLocaleString("en-US")} whole held-out reviews). The score is its logit of “positive”. A second judge, the AFINN lexicon, took no
part. ${steps} steps of 64 responses of 20 tokens; coefficients of the KL: PPO and RLOO ${OWN.ppo.klCoef} in the reward, GRPO ${OWN.grpo.klCoef} in the loss.</p>
<p>${key}</p>
<div>${drawn.join("")}</div>
<h2>At the end, on held-out openings</h2>
${table(results)}
<h2>The best of n</h2>
<p>No weight is changed: n responses are sampled and the judge chooses one.</p>
${yardstickTable(yardstick)}
<h2>What they write</h2>
${texts(results)}
</html>
`;
  const path = join(out, "sentiment.html");
  writeFileSync(path, page);
  const placed = drawn.map((svg, i) =>
    svg.replace("<svg ", `<svg x="${(i % 2) * (WIDTH + 10)}" y="${28 + Math.floor(i / 2) * (HEIGHT + 10)}" `),
  );
  writeFileSync(
    join(out, "sentiment.svg"),
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${2 * WIDTH + 10} ${2 * HEIGHT + 48}" font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/><text x="8" y="18" xml:space="preserve">${KEY}</text>${placed.join("")}</svg>\n`,
  );
  writeFileSync(join(out, "sentiment.json"), `${JSON.stringify(results)}\n`);
  return path;
}
