/** @file Workers on other machines: what each did, how fast, and what went wrong. */
import type { WorkerFacts } from "../../src/experience/parts/parts.ts";
import type { LoggedEvent, RunData } from "../../src/run/page/data.ts";
import { duration, number, plural } from "./format.ts";

interface WorkersEvent extends LoggedEvent {
  readonly here: number;
  readonly workers: readonly WorkerFacts[];
}

/** Steps that the throughput is about: the last ones, for workers come and go. */
const RECENT = 20;

const STATES = { ready: "at work", gone: "gone", refused: "refused" } as const;

/** Those of the trainer's last start: its sums began anew then. */
export function workersEvents({ events }: Pick<RunData, "events">): WorkersEvent[] {
  const started = events.findLastIndex(({ type }) => type === "loaded");
  return events.slice(started + 1).filter((event): event is WorkersEvent => event.type === "workers");
}

const responsesOf = ({ workers }: WorkersEvent) => workers.reduce((n, { responses }) => n + responses, 0);

/** Responses a second over the last steps, as the log's times say; undefined: one step alone says nothing. */
export function throughput(said: readonly WorkersEvent[]): number | undefined {
  const recent = said.slice(-RECENT - 1);
  if (recent.length < 2) return undefined;
  const [first, last] = [recent[0], recent[recent.length - 1]];
  const seconds = (Date.parse(last.time) - Date.parse(first.time)) / 1000;
  return seconds > 0 ? (responsesOf(last) - responsesOf(first)) / seconds : undefined;
}

export function Workers({ run }: { run: RunData }) {
  const said = workersEvents(run);
  const last = said.at(-1);
  if (!last) return null;
  const rate = throughput(said);
  const here = said.reduce((n, event) => n + event.here, 0);
  const atWork = last.workers.filter(({ state }) => state === "ready").length;
  return (
    <section class="card" aria-labelledby="workers">
      <h2 id="workers">Workers</h2>
      <p class="lead">
        {plural(atWork, "worker")} at work at step {last.step}
        {rate !== undefined && `; ${number(rate, 3)} responses a second over the last steps`}
        {here > 0 && `; ${plural(here, "part")} of steps done by the trainer itself, for nobody else did them in time`}.
      </p>
      <div class="scroll" tabIndex={0} role="region" aria-label="What each worker did">
        <table class="grid">
          <thead>
            <tr>
              <th scope="col">Worker</th>
              <th scope="col">State</th>
              <th scope="col">Tasks</th>
              <th scope="col">Responses</th>
              <th scope="col">Time of a task</th>
              <th scope="col">of it computing</th>
              <th scope="col">Late</th>
              <th scope="col">Failed</th>
            </tr>
          </thead>
          <tbody>
            {last.workers.map(({ name, state, why, tasks, responses, seconds, busy, late, failed }) => (
              <tr key={name}>
                <th scope="row">{name}</th>
                <td>{why === undefined ? STATES[state] : `${STATES[state]}: ${why}`}</td>
                <td class="num">{tasks}</td>
                <td class="num">{responses}</td>
                <td class="num">{tasks > 0 ? duration(seconds / tasks) : "–"}</td>
                <td class="num">{tasks > 0 ? duration(busy / tasks) : "–"}</td>
                <td class="num">{late}</td>
                <td class="num">{failed}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}
