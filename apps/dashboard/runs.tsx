/** @file The runs on the page: whose curves are shown, and which of them everything else is about. */
import { setState, useStore } from "./store.ts";

export function Runs() {
  const data = useStore((s) => s.data);
  const focus = useStore((s) => s.focus);
  const hidden = useStore((s) => s.hidden);
  if (!data || data.runs.length < 2) return null;
  return (
    <fieldset class="runs">
      <legend class="visually-hidden">Runs</legend>
      {data.runs.map((run, i) => (
        <span class={`run-chip${i === focus ? " on" : ""}`} key={run.directory}>
          <label title="Show its curves">
            <input
              type="checkbox"
              checked={!hidden.includes(i)}
              onChange={() => setState({ hidden: hidden.includes(i) ? hidden.filter((h) => h !== i) : [...hidden, i] })}
            />
            <i class={`swatch s${i % 8}`} />
            <span class="visually-hidden">curves of {run.name}</span>
          </label>
          <button
            type="button"
            class="plain"
            aria-pressed={i === focus}
            onClick={() => setState({ focus: i, lens: null })}
          >
            {run.name}
          </button>
        </span>
      ))}
    </fieldset>
  );
}
