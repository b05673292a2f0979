/** @file The page: its head, its tabs, and what the tabs show. */
import { render } from "preact";
import "uplot/dist/uPlot.min.css";
import "./style.css";
import type { RunData } from "../../src/run/page/data.ts";
import { Charts } from "./all-charts.tsx";
import { Audit } from "./audit.tsx";
import { plural } from "./format.ts";
import { Overview } from "./overview.tsx";
import { Run } from "./run.tsx";
import { Runs } from "./runs.tsx";
import { Samples } from "./samples.tsx";
import { ask, mayAsk, start, takeToken } from "./source.ts";
import { Status } from "./status.tsx";
import { getState, setState, TABS, type Tab, useStore } from "./store.ts";
import { applyTheme, Theme } from "./theme-choice.tsx";

const TITLES: Record<Tab, string> = {
  overview: "Overview",
  charts: "Charts",
  samples: "Samples",
  audit: "Audit",
  run: "Run",
};
function Controls() {
  const data = useStore((s) => s.data);
  const asked = useStore((s) => s.asked);
  useStore((s) => s.revision);
  if (!data || !mayAsk(data) || data.runs[0].state !== "running") return null;
  return (
    <div class="controls">
      <button type="button" onClick={() => void ask("save")}>
        Save now
      </button>
      <button
        type="button"
        class="danger"
        onClick={() => confirm("End the run after this step, with everything saved?") && void ask("stop")}
      >
        Stop
      </button>
      {asked && (
        <span class="faint" role="status">
          {asked}
        </span>
      )}
    </div>
  );
}

/** Zoom, cursor and smoothing for all charts: what the mouse does in them, the keyboard does here. */
function Tools() {
  const data = useStore((s) => s.data);
  const range = useStore((s) => s.range);
  const cursor = useStore((s) => s.cursor);
  const smooth = useStore((s) => s.smooth);
  const focus = useStore((s) => s.focus);
  useStore((s) => s.revision);
  const steps = data?.runs[focus]?.steps ?? [];
  if (steps.length < 2) return null;
  const [first, last] = [steps[0], steps[steps.length - 1]];
  const zoom = (from: number, to: number) => setState({ range: from < to ? [from, to] : null });
  return (
    <div class="tools">
      <label>
        Point at step <output class="num">{cursor ?? "–"}</output>
        <input
          type="range"
          min={first}
          max={last}
          value={cursor ?? last}
          onInput={(e) => setState({ cursor: Number(e.currentTarget.value) })}
        />
      </label>
      <label>
        Smoothing <output class="num">{smooth.toFixed(2)}</output>
        <input
          type="range"
          min="0"
          max="0.98"
          step="0.02"
          value={smooth}
          onInput={(e) => setState({ smooth: Number(e.currentTarget.value) })}
        />
      </label>
      <span class="zoom">
        Steps
        <input
          type="number"
          aria-label="From step"
          min={first}
          max={last}
          value={Math.ceil(range?.[0] ?? first)}
          onChange={(e) => zoom(Number(e.currentTarget.value), range?.[1] ?? last)}
        />
        –
        <input
          type="number"
          aria-label="To step"
          min={first}
          max={last}
          value={Math.floor(range?.[1] ?? last)}
          onChange={(e) => zoom(range?.[0] ?? first, Number(e.currentTarget.value))}
        />
        <button type="button" class="quiet" onClick={() => setState({ range: null, cursor: null })}>
          All
        </button>
      </span>
    </div>
  );
}

/** Whether a run has answers of its own to show and to audit; others learn from what is written. */
const drawsText = ({ config, samples, columns }: RunData): boolean =>
  samples.length > 0 || !/^(dpo|sft|reward)$/.test(String(config?.algorithm)) || "env/reward_mean" in columns;

function Page() {
  const data = useStore((s) => s.data);
  const problem = useStore((s) => s.problem);
  const tab = useStore((s) => s.tab);
  const focus = useStore((s) => s.focus);
  useStore((s) => s.revision);
  const run = data?.runs[focus];
  const tabs = TABS.filter((name) => !/^(samples|audit)$/.test(name) || !data || data.runs.some(drawsText));
  const shown = tabs.includes(tab) ? tab : "overview";
  return (
    <>
      <header>
        <div class="bar">
          <h1>
            <span class="brand">valuehead</span>{" "}
            {run && (
              <span class="run-name">{data && data.runs.length > 1 ? plural(data.runs.length, "run") : run.name}</span>
            )}
          </h1>
          <Status />
          <Controls />
          <Theme />
        </div>
        <div class="bar second">
          <nav aria-label="Parts of the page">
            {tabs.map((name) => (
              <a key={name} href={`#${name}`} aria-current={name === shown ? "page" : undefined}>
                {TITLES[name]}
              </a>
            ))}
          </nav>
          <Runs />
          <Tools />
        </div>
      </header>
      <main id="main">
        {problem && <p class="card lead bad">{problem}</p>}
        {!data && !problem && <p class="lead faint">Reading the run …</p>}
        {run && shown === "overview" && <Overview run={run} key={focus} />}
        {run && shown === "charts" && <Charts />}
        {run && shown === "samples" && <Samples run={run} place={focus} key={focus} />}
        {run && shown === "audit" && <Audit run={run} key={focus} />}
        {run && shown === "run" && <Run run={run} key={focus} />}
      </main>
    </>
  );
}

const followHash = () => {
  const named = location.hash.slice(1) as Tab;
  setState({ tab: TABS.includes(named) ? named : "overview" });
};

takeToken();
followHash();
addEventListener("hashchange", () => {
  if (!location.hash.startsWith("#token=")) return followHash();
  takeToken();
  setState({ revision: getState().revision + 1 });
});
applyTheme(getState().theme);
render(<Page />, document.getElementById("page") as HTMLElement);
void start();
