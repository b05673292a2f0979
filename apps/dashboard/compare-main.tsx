/** @file The page of a comparison: what differs, with its interval, how scores are spread, and texts side by side. */
import { render } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import "./style.css";
import type { Interval } from "../../src/rl/compare.ts";
import type { ComparisonData } from "../../src/run/page/compare-page.ts";
import type { ComparedResponse, Comparison, Measure } from "../../src/ship/compare.ts";
import { embedded, unpacked } from "./embedded.ts";
import { number, plural, signed } from "./format.ts";
import { Pager } from "./pager.tsx";
import { getState } from "./store.ts";
import { applyTheme, Theme } from "./theme-choice.tsx";

const ROWS: readonly (readonly [name: Measure, label: string])[] = [
  ["reward", "Reward"],
  ["length", "Length, tokens"],
  ["ended", "Ended by itself, share"],
  ["distinct1", "Distinct-1"],
  ["distinct2", "Distinct-2"],
];
const PAGE = 25;

const bounds = ({ low, high }: Interval): string =>
  Number.isFinite(low) && Number.isFinite(high) ? `[${number(low, 3)}, ${number(high, 3)}]` : "no interval";
/** Whether 0 lies outside. */
const isClear = ({ low, high }: Interval): boolean => low > 0 || high < 0;
const average = (list: readonly ComparedResponse[]): number => list.reduce((sum, r) => sum + r.reward, 0) / list.length;

interface Said {
  kind: "good" | "bad" | "info" | "warn";
  title: string;
  text: string;
}

/** What follows from the intervals, in words. */
function verdicts({ difference, kl, samples }: Comparison): Said[] {
  const { reward, length, distinct2 } = difference;
  const clear = isClear(reward);
  const said: Said[] = [
    {
      kind: !clear ? "info" : reward.mean > 0 ? "good" : "bad",
      title: clear
        ? `B scores ${reward.mean > 0 ? "higher" : "lower"} by ${number(Math.abs(reward.mean), 3)}`
        : `No clear difference in reward (${signed(reward.mean)})`,
      text: `The 95 % interval of B − A is ${bounds(reward)}, paired by prompt, over ${plural(samples.length, "prompt")}.${clear ? "" : " It holds 0: this is no evidence of a difference."}`,
    },
  ];
  if (kl)
    said.push({
      kind: "info",
      title: `B is ${number(kl.mean, 3)} nats per response away from A`,
      text: `KL(B ‖ A), 95 % interval ${bounds(kl)}: what the difference cost. Near 0 the two say the same.`,
    });
  if (isClear(length))
    said.push({
      kind: "info",
      title: `B's responses are ${length.mean > 0 ? "longer" : "shorter"} by ${number(Math.abs(length.mean), 3)} tokens`,
      text: `95 % interval ${bounds(length)}. A reward that likes long texts, or short ones, may explain a difference.`,
    });
  if (distinct2.high < 0)
    said.push({
      kind: "warn",
      title: `B is less varied (distinct-2 ${signed(distinct2.mean)})`,
      text: `95 % interval ${bounds(distinct2)}: it says more of the same to everybody. Read its texts below.`,
    });
  return said;
}

const MARKS = { bad: "✕", warn: "!", good: "✓", info: "i" };
const WORDS = { bad: "Worse", warn: "Worth a look", good: "Better", info: "For information" };

/** The interval as a bar with its mean, and 0 as a line. */
function Whisker({ interval: { mean, low, high } }: { interval: Interval }) {
  if (!Number.isFinite(low) || !Number.isFinite(high)) return null;
  const most = Math.max(Math.abs(low), Math.abs(high)) * 1.08 || 1;
  const x = (value: number) => 100 + (100 * value) / most;
  return (
    <svg
      class="whisker"
      viewBox="0 0 200 18"
      role="img"
      aria-label={`${number(mean, 3)}, from ${number(low, 3)} to ${number(high, 3)}`}
    >
      <line class="zero" x1="100" x2="100" y1="0" y2="18" />
      <line class="range" x1={x(low)} x2={x(high)} y1="9" y2="9" />
      <circle cx={x(mean)} cy="9" r="4" />
    </svg>
  );
}

function Numbers({ found }: { found: Comparison }) {
  const { a, b, difference, kl } = found;
  return (
    <section class="card" aria-labelledby="numbers">
      <h2 id="numbers">In numbers</h2>
      <div class="scroll" tabIndex={0} role="region" aria-label="Measures of both">
        <table class="grid measures">
          <thead>
            <tr>
              <th scope="col">Mean</th>
              <th scope="col">A</th>
              <th scope="col">B</th>
              <th scope="col">B − A</th>
              <th scope="col">95 % interval</th>
              <th scope="col" aria-label="As a picture" />
            </tr>
          </thead>
          <tbody>
            {ROWS.map(([name, label]) => (
              <tr key={name}>
                <th scope="row">{label}</th>
                <td class="num" data-a={name}>
                  {number(a[name].mean)}
                </td>
                <td class="num" data-b={name}>
                  {number(b[name].mean)}
                </td>
                <td class="num" data-difference={name}>
                  {signed(difference[name].mean, 4)}
                </td>
                <td class="num">{bounds(difference[name])}</td>
                <td>
                  <Whisker interval={difference[name]} />
                </td>
              </tr>
            ))}
            <tr>
              <th scope="row">KL(B ‖ A), nats per response</th>
              <td />
              <td />
              <td class="num" data-difference="kl">
                {kl ? number(kl.mean) : "none: different vocabularies"}
              </td>
              <td class="num">{kl ? bounds(kl) : ""}</td>
              <td>{kl && <Whisker interval={kl} />}</td>
            </tr>
          </tbody>
        </table>
      </div>
    </section>
  );
}

const BINS = 24;

function binned(values: readonly number[], low: number, high: number): number[] {
  const bins = new Array<number>(BINS).fill(0);
  for (const x of values) bins[Math.min(BINS - 1, Math.floor((BINS * (x - low)) / (high - low || 1)))]++;
  return bins;
}

/** Several lists of numbers in the same bins, one behind the other. */
function Histogram({
  title,
  lists,
  zero,
}: {
  title: string;
  lists: { label: string; place: number; values: number[] }[];
  zero?: boolean;
}) {
  const all = lists.flatMap(({ values }) => values);
  const low = all.reduce((a, x) => Math.min(a, x), Number.POSITIVE_INFINITY);
  const high = all.reduce((a, x) => Math.max(a, x), Number.NEGATIVE_INFINITY);
  const bins = lists.map(({ values }) => binned(values, low, high));
  const most = Math.max(...bins.flat());
  const wide = (240 - 4) / BINS;
  const at0 = ((0 - low) / (high - low || 1)) * 236 + 2;
  return (
    <figure class="chart">
      <figcaption>
        <h3>{title}</h3>
      </figcaption>
      <div class="legend">
        {lists.map(({ label, place }) => (
          <span class="key" key={label}>
            <i class={`swatch s${place}`} /> <span class="label">{label}</span>
          </span>
        ))}
      </div>
      <svg
        class="bars"
        viewBox="0 0 240 90"
        preserveAspectRatio="none"
        role="img"
        aria-label={`${title}: from ${number(low, 3)} to ${number(high, 3)}`}
      >
        {bins.map((counts, l) =>
          counts.map((n, i) => (
            <rect
              key={`${l} ${i}`}
              class={`s${lists[l].place}`}
              x={2 + i * wide + (l * wide) / lists.length}
              width={wide / lists.length - 0.4}
              y={90 - (88 * n) / most}
              height={(88 * n) / most}
            >
              <title>{`${lists[l].label}, ${number(low + (i * (high - low)) / BINS, 3)} to ${number(low + ((i + 1) * (high - low)) / BINS, 3)}: ${n}`}</title>
            </rect>
          )),
        )}
        {zero && low < 0 && high > 0 && <line class="zero" x1={at0} x2={at0} y1="0" y2="90" />}
      </svg>
      <div class="row num faint small-text">
        <span>{number(low, 3)}</span>
        {zero && low < 0 && high > 0 && <span>dashed: 0</span>}
        <span>{number(high, 3)}</span>
      </div>
    </figure>
  );
}

interface Row {
  place: number;
  prompt: string;
  a: ComparedResponse[];
  b: ComparedResponse[];
  change: number;
}

function Answer({ response, label }: { response: ComparedResponse; label: string }) {
  return (
    <div class="answer">
      <span class="row small-text">
        <b class="num">{number(response.reward, 3)}</b>
        <span class="faint num">
          {label}, {plural(response.length, "token")}
          {response.ended ? "" : ", cut off"}
        </span>
      </span>
      <span>{response.text || <i class="faint">(nothing)</i>}</span>
    </div>
  );
}

function Texts({ rows }: { rows: readonly Row[] }) {
  const [words, setWords] = useState("");
  const [order, setOrder] = useState<"given" | "gain" | "loss">("gain");
  const [page, setPage] = useState(0);
  const found = useMemo(() => {
    const wanted = words.trim().toLowerCase();
    const says = ({ prompt, a, b }: Row) =>
      [prompt, ...[...a, ...b].map(({ text }) => text)].some((text) => text.toLowerCase().includes(wanted));
    const sign = { given: 0, gain: -1, loss: 1 }[order];
    return rows.filter(says).sort((x, y) => sign * (x.change - y.change) || x.place - y.place);
  }, [rows, words, order]);
  const pages = Math.max(1, Math.ceil(found.length / PAGE));
  const at = Math.min(page, pages - 1);
  return (
    <section class="card" aria-labelledby="texts">
      <h2 id="texts">Side by side</h2>
      <div class="filters">
        <label class="search">
          <span class="visually-hidden">Search prompts and responses</span>
          <input
            type="search"
            placeholder="Search prompts and responses"
            value={words}
            onInput={(e) => (setWords(e.currentTarget.value), setPage(0))}
          />
        </label>
        <label>
          <span class="visually-hidden">Order</span>
          <select value={order} onChange={(e) => (setOrder(e.currentTarget.value as typeof order), setPage(0))}>
            <option value="gain">largest gains of B first</option>
            <option value="loss">largest losses of B first</option>
            <option value="given">as the prompts were given</option>
          </select>
        </label>
        <span class="faint num" aria-live="polite">
          {plural(found.length, "prompt")}
        </span>
      </div>
      <ol class="pairs-of-texts">
        {found.slice(at * PAGE, (at + 1) * PAGE).map(({ place, prompt, a, b, change }) => (
          <li key={place}>
            <h3>
              <span class="prompt">{prompt}</span>{" "}
              <span class={`num tag ${change > 0 ? "best" : change < 0 ? "worst" : ""}`}>B − A {signed(change)}</span>
            </h3>
            <div class="two-texts">
              <div>
                {a.map((response, i) => (
                  <Answer response={response} label="A" key={i} />
                ))}
              </div>
              <div>
                {b.map((response, i) => (
                  <Answer response={response} label="B" key={i} />
                ))}
              </div>
            </div>
          </li>
        ))}
      </ol>
      <Pager at={at} pages={pages} go={setPage} />
    </section>
  );
}

function Page() {
  const [data, setData] = useState<ComparisonData>();
  const [problem, setProblem] = useState<string>();
  useEffect(() => {
    unpacked<ComparisonData>(embedded ?? "").then(setData, (error) =>
      setProblem(`The data could not be read: ${error}`),
    );
  }, []);
  const rows = useMemo(
    () =>
      (data?.comparison.samples ?? []).map(
        ({ prompt, a, b }, place): Row => ({ place, prompt, a, b, change: average(b) - average(a) }),
      ),
    [data],
  );
  if (!data)
    return (
      <main id="main">
        <p class="lead faint">{problem ?? "Reading …"}</p>
      </main>
    );
  const { comparison, models, written, asked, command } = data;
  const rewards = (of: "a" | "b") => comparison.samples.flatMap((sample) => sample[of].map(({ reward }) => reward));
  const changes = rows.map(({ change }) => change);
  const count = (test: (x: number) => boolean) => changes.filter(test).length;
  return (
    <>
      <header>
        <div class="bar">
          <h1>
            <span class="brand">valuehead</span> <span class="run-name">compare</span>
          </h1>
          <div class="status">
            <span>
              <i class="swatch s0" /> A <b>{models.a}</b>
            </span>
            <span>
              <i class="swatch s1" /> B <b>{models.b}</b>
            </span>
            <span class="faint">{written.slice(0, 16).replace("T", " ")} UTC</span>
          </div>
          <Theme />
        </div>
      </header>
      <main id="main">
        <section class="card" aria-labelledby="verdict">
          <h2 id="verdict">What differs</h2>
          <ul class="findings">
            {verdicts(comparison).map(({ kind, title, text }) => (
              <li class={`finding ${kind}`} key={title}>
                <span class="mark" role="img" aria-label={WORDS[kind]}>
                  {MARKS[kind]}
                </span>
                <div>
                  <h3>{title}</h3>
                  <p>{text}</p>
                </div>
              </li>
            ))}
          </ul>
        </section>
        <Numbers found={comparison} />
        <div class="charts two">
          <Histogram
            title="Rewards of all responses"
            lists={[
              { label: "A", place: 0, values: rewards("a") },
              { label: "B", place: 1, values: rewards("b") },
            ]}
          />
          <Histogram
            title={`B − A by prompt: better ${count((x) => x > 0)}, equal ${count((x) => x === 0)}, worse ${count((x) => x < 0)}`}
            lists={[{ label: "difference of the mean rewards", place: 2, values: changes }]}
            zero
          />
        </div>
        <Texts rows={rows} />
        <section class="card" aria-labelledby="how">
          <h2 id="how">How it was asked</h2>
          <p class="faint">
            Both got the same prompts and the same random streams. Intervals are at 95 %, over prompts; differences are
            paired by prompt. distinct-n is the number of different n-grams of words in all responses, divided by all.
          </p>
          <table class="pairs" aria-label="Options">
            <tbody>
              {Object.entries(asked).map(([name, value]) => (
                <tr key={name}>
                  <th scope="row">{name}</th>
                  <td class="num">
                    {value === "" || value === null
                      ? "none"
                      : typeof value === "string"
                        ? value
                        : JSON.stringify(value)}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
          {command && <pre tabIndex={0}>{command}</pre>}
        </section>
      </main>
    </>
  );
}

applyTheme(getState().theme);
render(<Page />, document.getElementById("page") as HTMLElement);
