/** @file The playground: train a small model with a reward of your own, in this tab. */
import { render } from "preact";
import "uplot/dist/uPlot.min.css";
import "../dashboard/style.css";
import "./style.css";
import { messageOf } from "../../src/base/errors.ts";
import { Charts } from "../dashboard/all-charts.tsx";
import { Audit } from "../dashboard/audit.tsx";
import { Chart } from "../dashboard/chart.tsx";
import { AUDIT, ENTROPY, isShown, KL, REWARD } from "../dashboard/charts.ts";
import { BeforeAfter, Happened } from "../dashboard/overview.tsx";
import { Samples } from "../dashboard/samples.tsx";
import { Status } from "../dashboard/status.tsx";
import { getState, useStore } from "../dashboard/store.ts";
import { applyTheme, Theme } from "../dashboard/theme-choice.tsx";
import { lookAtRun, startEngine } from "./engine.ts";
import { fetchFiles, takeOffline } from "./files.ts";
import { Form } from "./form.tsx";
import { Gaps } from "./gaps.tsx";
import { Live } from "./live.tsx";
import { getPlay, setPlay, usePlay, whyNoGPU } from "./state.ts";

const VIEWS = [
  ["train", "#train", "Train"],
  ["gaps", "#exploits", "Three exploits"],
] as const;

function Results() {
  const run = useStore((s) => s.data?.runs[0]);
  useStore((s) => s.revision);
  const over = run?.evaluations.after !== undefined; // then the texts are what one wants to see
  const begun = run && (run.steps.length > 0 || run.evaluations.before || run.state === "running");
  if (!begun)
    return (
      <section class="card" aria-labelledby="how">
        <h2 id="how">What will happen</h2>
        <ol class="how">
          <li>The model continues some beginnings of film reviews, and you see how well it does before training.</li>
          <li>
            Step by step it writes {getPlay().settings.batchSize} continuations, each is scored by what you chose, and
            PPO makes the better ones likelier. Curves and texts appear here while it goes on.
          </li>
          <li>At the end it answers the first beginnings again: before and after, side by side.</li>
        </ol>
      </section>
    );
  return (
    <>
      <Status />
      {over && <BeforeAfter run={run} />}
      <Live run={run} place={0} />
      {run.steps.length > 0 && (
        <div class="charts two">
          {[REWARD, KL, AUDIT, ENTROPY]
            .filter((spec) => isShown(spec, [run]))
            .map((spec) => (
              <Chart spec={spec} key={spec.title} height={180} />
            ))}
        </div>
      )}
      {!over && <BeforeAfter run={run} />}
      <Happened run={run} />
      {run.steps.length > 0 && <More />}
    </>
  );
}

/** All of the dashboard, for who wants to know more. */
function More() {
  const run = useStore((s) => s.data?.runs[0]);
  const open = usePlay((s) => s.open);
  if (!run) return null;
  const parts = [
    ["audit", "The audit", <Audit run={run} key="audit" />],
    ["samples", "All samples", <Samples run={run} place={0} key="samples" />],
    ["charts", "All charts", <Charts key="charts" />],
  ] as const;
  return (
    <>
      {parts.map(([name, title, part]) => (
        <details
          class="more"
          key={name}
          onToggle={(e) => setPlay({ open: { ...getPlay().open, [name]: e.currentTarget.open } })}
        >
          <summary>{title}</summary>
          {open[name] && <div class="part">{part}</div>}
        </details>
      ))}
    </>
  );
}

function Page() {
  const view = usePlay((s) => s.view);
  const working = usePlay((s) => s.working);
  return (
    <>
      <header>
        <div class="bar">
          <h1>
            <span class="brand">valuehead</span> playground
          </h1>
          <nav aria-label="Parts of the page">
            {VIEWS.map(([name, hash, title]) => (
              <a key={name} href={hash} aria-current={view === name ? "page" : undefined}>
                {title}
              </a>
            ))}
          </nav>
          <Theme />
        </div>
      </header>
      <main id="main" class="playground">
        {view === "train" ? (
          <>
            <div class="intro">
              <p class="title">Teach a small language model what you like</p>
              <p class="lead">
                It continues film reviews. Say what a good continuation is, press Start, and it practises until it
                writes more of that. All of it happens in this tab: nothing leaves your computer.
              </p>
            </div>
            <Form />
            <div class="results">
              {working === "gap" ? <p class="card lead">An exploit is being shown.</p> : <Results />}
            </div>
          </>
        ) : (
          <div class="whole">
            <Gaps />
          </div>
        )}
      </main>
    </>
  );
}

/** The views are addresses. While something runs, its view stays what it is. */
function follow(): void {
  const view = location.hash === "#exploits" ? "gaps" : "train";
  if (view === getPlay().view) return;
  setPlay({ view, problem: undefined });
  if (view === "train" && getPlay().working === null) lookAtRun();
}

const RELOADED = "valuehead.isolating";

/** Everything is fetched, then the worker starts. */
async function begin(): Promise<void> {
  const answering = await takeOffline();
  // The service worker can isolate the page, which gives it threads; for that it is loaded once more.
  if (answering && !crossOriginIsolated && sessionStorage.getItem(RELOADED) === null) {
    sessionStorage.setItem(RELOADED, "yes");
    return location.reload();
  }
  void whyNoGPU().then((noGPU) => setPlay({ noGPU }));
  try {
    const kept = await fetchFiles((done, total) => setPlay({ loading: { done, total } }));
    setPlay({ loading: null, offline: kept && answering });
    startEngine();
  } catch (error) {
    setPlay({ loading: null, broken: messageOf(error) });
  }
}

addEventListener("hashchange", follow);
applyTheme(getState().theme);
render(<Page />, document.getElementById("page") as HTMLElement);
void begin();
