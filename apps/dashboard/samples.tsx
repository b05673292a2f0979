/** @file The table of samples: sorted, searched, and the distribution of their scores. */
import { useMemo, useState } from "preact/hooks";
import type { RunData, SampleRow } from "../../src/run/page/data.ts";
import { number, plural } from "./format.ts";
import { Groups, groupsOfSamples, hasGroups } from "./groups.tsx";
import { Lens } from "./lens.tsx";
import { Pager } from "./pager.tsx";
import { setState, useStore } from "./store.ts";

const PAGE = 50;
const GROUPS_PER_PAGE = 20;
const COLUMNS = [
  { name: "step", label: "Step" },
  { name: "score", label: "Score" },
  { name: "kl", label: "KL" },
  { name: "advantage", label: "Advantage" },
  { name: "length", label: "Tokens" },
] as const;
type SortBy = (typeof COLUMNS)[number]["name"];

const compare = (a: number | null, b: number | null): number => {
  if (a === null || b === null) return a === b ? 0 : a === null ? 1 : -1; // what is unknown comes last
  return a - b;
};

/** Scores of the samples in view, in bins; a bin is chosen with a click. */
function Histogram({ rows }: { rows: readonly SampleRow[] }) {
  const scores = rows.map(({ score }) => score).filter((x): x is number => x !== null);
  if (scores.length < 2) return null;
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];
  for (const x of scores) {
    low = Math.min(low, x);
    high = Math.max(high, x);
  }
  const bins = new Array(24).fill(0);
  for (const x of scores) bins[Math.min(23, Math.floor((24 * (x - low)) / (high - low || 1)))]++;
  const most = Math.max(...bins);
  const width = (high - low) / 24;
  return (
    <figure class="histogram">
      <figcaption class="faint">Scores of {plural(scores.length, "response")} in the table</figcaption>
      <svg
        viewBox="0 0 240 56"
        preserveAspectRatio="none"
        role="img"
        aria-label={`From ${number(low, 3)} to ${number(high, 3)}; most are near ${number(low + width * (bins.indexOf(most) + 0.5), 3)}`}
      >
        {bins.map((n, i) => (
          <rect key={i} x={i * 10 + 0.5} width={9} y={56 - (54 * n) / most} height={(54 * n) / most}>
            <title>{`${number(low + i * width, 3)} to ${number(low + (i + 1) * width, 3)}: ${n}`}</title>
          </rect>
        ))}
      </svg>
      <div class="row num faint small-text">
        <span>{number(low, 3)}</span>
        <span>{number(high, 3)}</span>
      </div>
    </figure>
  );
}

export function Samples({ run, place }: { run: RunData; place: number }) {
  const revision = useStore((s) => s.revision);
  const lens = useStore((s) => s.lens);
  const range = useStore((s) => s.range);
  const [words, setWords] = useState("");
  const grouped = hasGroups(run);
  const [kind, setKind] = useState<"all" | "groups" | "best" | "worst">(grouped ? "groups" : "all");
  const [sort, setSort] = useState<{ by: SortBy; down: boolean }>({ by: "step", down: true });
  const [page, setPage] = useState(0);
  const matching = useMemo(() => {
    const wanted = words.trim().toLowerCase();
    const rows: { sample: SampleRow; index: number }[] = [];
    run.samples.forEach((sample, index) => {
      if (range && (sample.step < range[0] || sample.step > range[1])) return;
      if (kind !== "all" && kind !== "groups" && sample.picked !== kind) return;
      if (
        wanted &&
        !sample.response.toLowerCase().includes(wanted) &&
        !run.prompts[sample.prompt].toLowerCase().includes(wanted)
      )
        return;
      rows.push({ sample, index });
    });
    return rows;
  }, [run, revision, words, kind, range]);
  const found = useMemo(() => {
    const sign = sort.down ? -1 : 1;
    return [...matching].sort((a, b) => {
      const [x, y] = [a.sample[sort.by], b.sample[sort.by]];
      return (x === null || y === null ? compare(x, y) : sign * (x - y)) || sign * (a.index - b.index);
    });
  }, [matching, sort]);
  const groups = useMemo(() => (kind === "groups" ? groupsOfSamples(matching) : []), [matching, kind]);
  const perPage = kind === "groups" ? GROUPS_PER_PAGE : PAGE;
  const pages = Math.max(1, Math.ceil((kind === "groups" ? groups : found).length / perPage));
  const at = Math.min(page, pages - 1);
  const shown = found.slice(at * PAGE, (at + 1) * PAGE);
  const open = lens?.run === place ? lens.index : undefined;
  if (run.samples.length === 0)
    return <p class="card lead">No samples were written down: logSamples is 0, or the algorithm draws none.</p>;
  return (
    <div class={`samples${open === undefined ? "" : " open"}`}>
      <section class="card" aria-label="Samples">
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
            <span class="visually-hidden">Which samples</span>
            <select value={kind} onChange={(e) => (setKind(e.currentTarget.value as typeof kind), setPage(0))}>
              {grouped && <option value="groups">side by side, by group</option>}
              <option value="all">all samples</option>
              <option value="best">best of each step</option>
              <option value="worst">worst of each step</option>
            </select>
          </label>
          <span class="faint num" aria-live="polite">
            {plural(found.length, "sample")}
            {range && `, steps ${Math.ceil(range[0])} to ${Math.floor(range[1])}`}
          </span>
        </div>
        <Histogram rows={found.map(({ sample }) => sample)} />
        {kind === "groups" ? (
          <Groups run={run} place={place} groups={groups.slice(at * perPage, (at + 1) * perPage)} open={open} />
        ) : (
          <div class="scroll" tabIndex={0} role="region" aria-label="Table of samples">
            <table class="grid">
              <thead>
                <tr>
                  {COLUMNS.map(({ name, label }) => (
                    <th
                      scope="col"
                      key={name}
                      aria-sort={sort.by === name ? (sort.down ? "descending" : "ascending") : "none"}
                    >
                      <button
                        type="button"
                        class="plain"
                        onClick={() => (setSort({ by: name, down: sort.by === name ? !sort.down : true }), setPage(0))}
                      >
                        {label} <span aria-hidden="true">{sort.by === name ? (sort.down ? "↓" : "↑") : ""}</span>
                      </button>
                    </th>
                  ))}
                  <th scope="col" class="wide">
                    Prompt and response
                  </th>
                </tr>
              </thead>
              <tbody>
                {shown.map(({ sample, index }) => (
                  <tr
                    key={index}
                    class={index === open ? "on" : ""}
                    onClick={() => setState({ lens: { run: place, index } })}
                  >
                    <td class="num">{sample.step}</td>
                    <td class="num">{number(sample.score, 3)}</td>
                    <td class="num">{number(sample.kl, 3)}</td>
                    <td class="num">{number(sample.advantage, 3)}</td>
                    <td class="num">{sample.length}</td>
                    <td class="wide">
                      <button type="button" class="plain open">
                        <span class="prompt">{run.prompts[sample.prompt]}</span>
                        <span>{sample.response || <i class="faint">(nothing)</i>}</span>
                        {sample.picked && <span class={`tag ${sample.picked}`}>{sample.picked}</span>}
                      </button>
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
        <Pager at={at} pages={pages} go={setPage} />
      </section>
      {open !== undefined && <Lens run={run} place={place} index={open} />}
    </div>
  );
}
