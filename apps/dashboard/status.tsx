/** @file How far a run is. */
import { duration } from "./format.ts";
import { isReport } from "./source.ts";
import { useStore } from "./store.ts";

const PHASES: Readonly<Record<string, string>> = {
  respond: "sampling",
  score: "scoring",
  update: "updating",
  evaluate: "measuring",
  reference: "asking the reference",
};

export function Status() {
  const data = useStore((s) => s.data);
  const focus = useStore((s) => s.focus);
  const progress = useStore((s) => s.progress);
  const connection = useStore((s) => s.connection);
  useStore((s) => s.revision);
  const run = data?.runs[focus];
  if (!data || !run) return null;
  const options = (run.config?.options ?? {}) as Record<string, unknown>;
  const total = typeof options.steps === "number" ? options.steps : undefined;
  const done = run.steps[run.steps.length - 1] ?? 0;
  const live = run.state === "running" && !isReport;
  const recent = (run.columns["time/total"] ?? []).slice(-5).filter((x): x is number => x !== null);
  const left =
    total && recent.length > 0 ? (recent.reduce((a, b) => a + b, 0) / recent.length) * (total - done) : undefined;
  return (
    <div class="status" aria-live="polite">
      {run.state !== "unknown" && <span class={`pill ${run.state.replace(" ", "-")}`}>{run.state}</span>}
      <span class="num">
        step {done.toLocaleString("en-US")}
        {total ? ` of ${total.toLocaleString("en-US")}` : ""}
      </span>
      {live && left !== undefined && left > 0 && <span class="num faint">{duration(left)} left</span>}
      {live && progress && connection === "open" && (
        <span class="num faint">
          {PHASES[progress.phase] ?? progress.phase} {progress.done}/{progress.total}
        </span>
      )}
      {connection === "lost" && <span class="faint">not connected: the program that served this page has ended</span>}
      {data.written && <span class="faint">report of {data.written.slice(0, 16).replace("T", " ")} UTC</span>}
      {run.thinned && <span class="faint">every {run.thinned}th step of a long run</span>}
      {total !== undefined && live && <progress max={total} value={done} aria-label="Steps taken" />}
    </div>
  );
}
