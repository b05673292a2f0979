/** @file A response under the lens: token by token, coloured by one of its numbers. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { Num, RunData, SampleDetail, SampleRow } from "../../src/run/page/data.ts";
import { number, visiblePiece } from "./format.ts";
import { hasGroups } from "./groups.tsx";
import { sampleDetail } from "./source.ts";
import { setState } from "./store.ts";
import { heat } from "./theme.ts";

type Values = readonly Num[] | undefined;

interface Measure {
  readonly name: string;
  readonly label: string;
  readonly meaning: string;
  readonly of: (detail: SampleDetail) => Values;
  /** The value without colour, when it is not the middle of what there is. */
  readonly middle?: number;
}

const minus = (a: Values, b: Values): Values =>
  a && b
    ? a.map((x, i) => (x === null || b[i] === null || b[i] === undefined ? null : x - (b[i] as number)))
    : undefined;

export const MEASURES: readonly Measure[] = [
  {
    name: "kl",
    label: "KL to the reference",
    meaning: "log π − log π of the starting model: above 0 the token became likelier in training",
    of: (d) => minus(d.logprobs, d.refLogprobs),
    middle: 0,
  },
  {
    name: "logprob",
    label: "Log-prob",
    meaning: "log-probability of the token when it was drawn, nats: 0 is certain",
    of: (d) => d.logprobs,
    middle: 0,
  },
  {
    name: "value",
    label: "Value",
    meaning: "what the value head expected before the token",
    of: (d) => d.values,
    middle: 0,
  },
  {
    name: "reward",
    label: "Reward",
    meaning: "the KL part of the token's reward; the last token has the score too",
    of: (d) => d.rewards,
    middle: 0,
  },
  {
    name: "advantage",
    label: "Advantage",
    meaning: "above 0 the token was made likelier by the step, below 0 less likely",
    of: (d) => d.advantages,
    middle: 0,
  },
  {
    name: "ratio",
    label: "Ratio",
    meaning: "π / π old when the last epoch came to the token: how far the step had moved it by then",
    of: (d) => d.ratios,
    middle: 1,
  },
];

const range = (values: Values): [number, number] => {
  const numbers = (values ?? []).filter((x): x is number => x !== null);
  return numbers.length > 0 ? [Math.min(...numbers), Math.max(...numbers)] : [0, 0];
};

/** The tokens of a response, coloured by one of their numbers, and the numbers of one token. */
export function Tokens({ detail }: { detail: SampleDetail }) {
  const [by, setBy] = useState("kl");
  const [token, setToken] = useState(0);
  const tokens = useRef<HTMLDivElement>(null);
  useEffect(() => setToken(0), [detail]);
  const pieces = detail.pieces ?? [];
  const available = MEASURES.filter(({ of }) => of(detail)?.some((x) => x !== null));
  const measure = available.find(({ name }) => name === by) ?? available[0];
  const values = measure?.of(detail);
  const [low, high] = range(values);
  const middle = measure?.middle ?? (low + high) / 2;
  const scale = Math.max(Math.abs(low - middle), Math.abs(high - middle)) || 1;

  const move = (event: KeyboardEvent) => {
    const by = { ArrowRight: 1, ArrowLeft: -1, Home: -1e9, End: 1e9 }[event.key];
    if (by === undefined) return;
    event.preventDefault();
    const next = Math.max(0, Math.min(pieces.length - 1, token + by));
    setToken(next);
    (tokens.current?.querySelectorAll("button")[next] as HTMLElement | undefined)?.focus();
  };
  return (
    <>
      <fieldset class="choices">
        <legend>Coloured by</legend>
        {available.map(({ name, label }) => (
          <label key={name}>
            <input type="radio" name="measure" checked={measure?.name === name} onChange={() => setBy(name)} /> {label}
          </label>
        ))}
      </fieldset>
      <p class="faint small-text">
        {measure?.meaning}.{" "}
        <span class="scale num">
          <i style={{ background: heat(middle - scale, middle - scale, middle, middle + scale) }}>
            {number(middle - scale, 2)}
          </i>{" "}
          <i>{number(middle, 2)}</i>{" "}
          <i style={{ background: heat(middle + scale, middle - scale, middle, middle + scale) }}>
            {number(middle + scale, 2)}
          </i>
        </span>
      </p>
      <div
        class="tokens"
        ref={tokens}
        onKeyDown={move}
        role="group"
        aria-label="Tokens of the response; arrow keys move"
      >
        <span class="prompt">{(detail.promptPieces ?? [detail.prompt]).join("")}</span>
        {pieces.map((piece, t) => (
          <button
            type="button"
            key={t}
            class={`token${t === token ? " on" : ""}${/\n/.test(piece) ? " breaks" : ""}`}
            style={{ background: heat(values?.[t], middle - scale, middle, middle + scale) }}
            tabIndex={t === token ? 0 : -1}
            aria-label={`${piece.trim() || "blank"}, ${measure?.label} ${number(values?.[t])}`}
            onMouseEnter={() => setToken(t)}
            onFocus={() => setToken(t)}
            onClick={() => setToken(t)}
          >
            {visiblePiece(piece)}
          </button>
        ))}
      </div>
      <dl class="facts token-facts" aria-live="polite">
        <div>
          <dt class="num">
            Token {token + 1}, id {detail.tokens?.[token]}
          </dt>
          <dd>
            <code>{JSON.stringify(pieces[token])}</code>
          </dd>
        </div>
        {available.map(({ name, label, of }) => (
          <div key={name}>
            <dt>{label}</dt>
            <dd class="num" data-measure={name}>
              {number(of(detail)?.[token])}
            </dd>
          </div>
        ))}
      </dl>
      {(detail.tokens?.length ?? 0) > pieces.length && (
        <p class="faint">
          The first {pieces.length} of {detail.tokens?.length} tokens were recorded with their numbers.
        </p>
      )}
    </>
  );
}

export function Lens({ run, place, index }: { run: RunData; place: number; index: number }) {
  const [detail, setDetail] = useState<SampleDetail | null>();
  const row = run.samples[index];
  useEffect(() => {
    let wanted = true;
    void sampleDetail(place, index).then((d) => wanted && setDetail(d ?? null));
    return () => {
      wanted = false;
    };
  }, [place, index]);
  const others = useMemo(
    () =>
      run.samples
        .map((sample, i) => ({ sample, i }))
        .filter(({ sample, i }) => i !== index && sample.prompt === row?.prompt),
    [run, index, run.samples.length],
  );
  if (!row) return null;
  const grouped = hasGroups(run);
  const group = grouped ? others.filter(({ sample }) => sample.step === row.step) : [];
  const earlier = grouped ? others.filter(({ sample }) => sample.step !== row.step) : others;
  const pieces = detail?.pieces ?? [];

  return (
    <section class="card lens" aria-labelledby="lens-title">
      <div class="row">
        <h2 id="lens-title">
          Step {row.step}
          {row.picked && <span class={`tag ${row.picked}`}>{row.picked} of its step</span>}
        </h2>
        <button type="button" class="quiet" onClick={() => setState({ lens: null })}>
          Close
        </button>
      </div>
      <dl class="facts">
        <div>
          <dt>Score</dt>
          <dd class="num">{number(row.score)}</dd>
        </div>
        <div>
          <dt>KL, nats</dt>
          <dd class="num">{number(row.kl)}</dd>
        </div>
        <div>
          <dt>Mean advantage</dt>
          <dd class="num">{number(row.advantage)}</dd>
        </div>
        <div>
          <dt>Tokens</dt>
          <dd class="num">{row.length}</dd>
        </div>
      </dl>
      {detail === undefined && <p class="faint">Reading …</p>}
      {detail === null && (
        <>
          <p class="faint">
            This report does not carry the numbers of this response: there was no room for all. `valuehead view` of the
            run directory has them.
          </p>
          <p class="text">
            <span class="prompt">{run.prompts[row.prompt]}</span>
            {row.response}
          </p>
        </>
      )}
      {detail && pieces.length === 0 && (
        <>
          <p class="text">
            <span class="prompt">{detail.prompt}</span>
            {detail.response}
          </p>
          <p class="faint">A run of an earlier version: the numbers of its tokens were not recorded.</p>
        </>
      )}
      {detail && pieces.length > 0 && <Tokens detail={detail} />}
      {group.length > 0 && (
        <>
          <h3>Other answers of its group</h3>
          <Answers answers={group} place={place} />
        </>
      )}
      <h3>The same prompt at other steps</h3>
      {earlier.length === 0 ? (
        <p class="faint">No other response to this prompt was written down. More are with a higher logSamples.</p>
      ) : (
        <Answers answers={earlier} place={place} />
      )}
    </section>
  );
}

function Answers({ answers, place }: { answers: readonly { sample: SampleRow; i: number }[]; place: number }) {
  return (
    <ul class="others">
      {answers.slice(0, 30).map(({ sample, i }) => (
        <li key={i}>
          <button type="button" class="plain" onClick={() => setState({ lens: { run: place, index: i } })}>
            <span class="num step">step {sample.step}</span> <span class="num score">{number(sample.score, 3)}</span>{" "}
            {sample.response}
          </button>
        </li>
      ))}
    </ul>
  );
}
