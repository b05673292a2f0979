/** @file The three exploits: each opened, watched, and judged by the audit. */
import { GAPS } from "../../examples/exploits/gaps.ts";
import { Verdict } from "../dashboard/audit.tsx";
import { Chart } from "../dashboard/chart.tsx";
import { AUDIT, KL, REWARD } from "../dashboard/charts.ts";
import { Runs } from "../dashboard/runs.tsx";
import { useStore } from "../dashboard/store.ts";
import { openGap, stop } from "./engine.ts";
import { Live } from "./live.tsx";
import type { GapName } from "./messages.ts";
import { usePlay } from "./state.ts";

/** Steps of the run with the gap open, and as many with it closed. */
const STEPS = 10;

export function Gaps() {
  const { ready, working, stopping, gap: shown, problem } = usePlay((s) => s);
  const data = useStore((s) => s.data);
  const focus = useStore((s) => s.focus);
  useStore((s) => s.revision);
  const runs = data?.runs ?? [];
  const ours = runs.length === 2;
  const run = ours ? runs[focus] : undefined;
  return (
    <>
      <section class="card" aria-labelledby="gaps">
        <h2 id="gaps">Three ways to be fooled</h2>
        <p class="lead">
          Training works because text is scored under the very distribution it was drawn from. Where the two differ, the
          model finds the gap and earns from it: the KL from the starting model, which cannot be below zero, falls below
          zero, and the text decays. Open a gap and watch; then the same run with the gap closed. The audit tests every
          step.
        </p>
        <ol class="gaps">
          {GAPS.map(({ name, title, text }) => (
            <li key={name}>
              <h3>{title}</h3>
              <p class="faint">{text}</p>
              <button
                type="button"
                class="primary"
                disabled={!ready || working !== null}
                onClick={() => openGap(name as GapName, STEPS)}
              >
                Open this gap<span class="visually-hidden">: {title}</span>
              </button>
            </li>
          ))}
        </ol>
        {working === "train" && <p class="notice">Your own run is going on: wait for its end, or stop it first.</p>}
        {working === "gap" && (
          <div class="buttons">
            <button type="button" disabled={stopping} onClick={stop}>
              {stopping ? "Stopping after this step …" : "Stop"}
            </button>
            <span role="status" class="num">
              {runs.map(({ name, steps }) => `${name}: step ${steps.length} of ${STEPS}`).join(", ")}
            </span>
          </div>
        )}
        {problem?.about === "run" && (
          <p class="problem" role="alert">
            <b>{problem.title}.</b> {problem.text}
          </p>
        )}
      </section>
      {run && runs.some(({ steps }) => steps.length > 0) && (
        <>
          <div class="row">
            <h2>{GAPS.find(({ name }) => name === shown)?.title}</h2>
            <Runs />
          </div>
          <div class="charts three">
            {[KL, AUDIT, REWARD].map((spec) => (
              <Chart spec={spec} key={spec.title} />
            ))}
          </div>
          <Verdict run={run} key={`audit ${focus}`} />
          <Live run={run} place={focus} key={`live ${focus}`} />
        </>
      )}
    </>
  );
}
