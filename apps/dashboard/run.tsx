/** @file What the run is: how to make it again, where it ran, its options, and everything it said. */
import { useState } from "preact/hooks";
import type { RunData } from "../../src/run/page/data.ts";
import { bytes } from "./format.ts";
import { useStore } from "./store.ts";

const quote = (word: string) => (/^[\w./:@=+-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

function Command({ label, text }: { label: string; text: string }) {
  const [copied, setCopied] = useState(false);
  const copy = () => navigator.clipboard?.writeText(text).then(() => setCopied(true));
  return (
    <div class="command">
      <div class="row">
        <h3>{label}</h3>
        <button type="button" class="quiet" onClick={copy}>
          {copied ? "Copied" : "Copy"}
        </button>
      </div>
      <pre tabIndex={0}>{text}</pre>
    </div>
  );
}

const shown = (value: unknown): string =>
  value === null || value === "" ? "none" : typeof value === "string" ? value : JSON.stringify(value);

function Table({ entries, label }: { entries: readonly (readonly [string, unknown])[]; label: string }) {
  return (
    <table class="pairs" aria-label={label}>
      <tbody>
        {entries.map(([name, value]) => (
          <tr key={name}>
            <th scope="row">{name}</th>
            <td class="num">{shown(value)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

export function Run({ run }: { run: RunData }) {
  useStore((s) => s.revision);
  const {
    options = {},
    environment = {},
    command,
    ...rest
  } = (run.config ?? {}) as Record<string, Record<string, unknown>>;
  const typed = Array.isArray(command)
    ? ["valuehead", ...command.map((word) => quote(String(word)))].join(" ")
    : undefined;
  const machine = Object.entries(environment).map(
    ([name, value]) => [name, name === "memory" ? bytes(Number(value)) : value] as const,
  );
  return (
    <div class="columns">
      <section class="card" aria-labelledby="again">
        <h2 id="again">To make it again</h2>
        {run.command ? (
          <Command label="The same run: options, seed and threads as recorded" text={run.command} />
        ) : (
          <p class="faint">
            config.json does not say enough for a command: its data came from stdin or from code, or there is none.
          </p>
        )}
        {typed && <Command label="What was typed" text={typed} />}
        <p class="faint">
          Run directory <code>{run.directory}</code>
        </p>
        <h2>Environment</h2>
        {machine.length > 0 ? <Table entries={machine} label="Environment" /> : <p class="faint">Not recorded.</p>}
        <h2>Model and data</h2>
        <Table entries={Object.entries(rest)} label="Model and data" />
      </section>
      <section class="card" aria-labelledby="options">
        <h2 id="options">Options</h2>
        <Table entries={Object.entries(options)} label="Options" />
      </section>
      <section class="card whole" aria-labelledby="log">
        <h2 id="log">What the run said</h2>
        <ol class="log">
          {run.events
            .filter(({ type }) => type !== "workers")
            .map((event, i) => (
              <li key={i} class={event.type}>
                <time class="num faint">{event.time?.replace("T", " ").replace(/\.\d+Z$/, "")}</time>{" "}
                <b>{event.type}</b>
                {event.step !== undefined && <span class="num faint"> step {event.step}</span>}{" "}
                <span>{said(event)}</span>
              </li>
            ))}
        </ol>
        {run.events.length === 0 && <p class="faint">Nothing was logged: a run of an earlier version.</p>}
      </section>
    </div>
  );
}

function said(event: Readonly<Record<string, unknown>>): string {
  if (typeof event.message === "string") return event.message;
  if (event.type === "error") return `${event.where}: found ${event.found}, expected ${event.expected}. ${event.fix}`;
  if (event.type === "loaded")
    return [
      `${Number(event.parameters).toLocaleString("en-US")} parameters`,
      ...(event.resumedAt ? [`resumed after step ${event.resumedAt}`] : []),
      ...(Array.isArray(event.notes) ? event.notes.map(String) : []),
    ].join("; ");
  if (event.type === "evaluation")
    return `held-out mean score ${event.when} training: ${Number(event.mean).toFixed(3)}`;
  return typeof event.directory === "string" ? event.directory : "";
}
