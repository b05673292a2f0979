/** @file The first thing to read: what happened, in words, and the four curves that matter most. */
import type { RunData } from "../../src/run/page/data.ts";
import { Chart } from "./chart.tsx";
import { AUDIT, ENTROPY, GROUPS, isShown, KL, REWARD } from "./charts.ts";
import { column, type Finding, findings, lastOf } from "./findings.ts";
import { duration, number, signed, withError } from "./format.ts";
import { setState, useStore } from "./store.ts";
import { Workers } from "./workers.tsx";

const MARKS = { bad: "✕", warn: "!", good: "✓", info: "i" };
const WORDS = { bad: "Problem", warn: "Worth a look", good: "Good", info: "For information" };

/** Point every chart at a step, and show what lies around it. */
export const goTo = (step: number) => setState({ cursor: step });

export function FindingItem({ finding }: { finding: Finding }) {
  const { kind, title, text, step } = finding;
  return (
    <li class={`finding ${kind}`}>
      <span class="mark" aria-label={WORDS[kind]} role="img">
        {MARKS[kind]}
      </span>
      <div>
        <h3>{title}</h3>
        <p>{text}</p>
      </div>
      {step !== undefined && (
        <button type="button" class="quiet" onClick={() => goTo(step)}>
          Point at step {step}
        </button>
      )}
    </li>
  );
}

/** A number with its name. */
function Figure({ name, value, note }: { name: string; value: string; note?: string }) {
  return (
    <div class="figure">
      <dt>{name}</dt>
      <dd class="num">{value}</dd>
      {note && <dd class="note">{note}</dd>}
    </div>
  );
}

function figures(run: RunData): { name: string; value: string; note?: string }[] {
  const last = (name: string) => lastOf(column(run, name));
  const first = (name: string) => column(run, name).find((x) => x !== null);
  const change = (name: string) => {
    const [a, b] = [first(name), last(name)];
    return typeof a === "number" && typeof b === "number" ? `${signed(b - a)} since the first step` : undefined;
  };
  const { difference } = run.evaluations;
  const perStep = last("time/total");
  const all = [
    { name: "Score", metric: "env/reward_mean" },
    { name: "KL, nats", metric: "objective/kl" },
    { name: "Entropy, nats", metric: "ppo/policy/entropy" },
    { name: "Entropy, nats", metric: "policy/entropy" },
    { name: "Loss", metric: "sft/loss" },
    { name: "Loss", metric: "dpo/loss" },
    { name: "Loss", metric: "reward/loss" },
    { name: "Held-out loss", metric: "eval/loss" },
    { name: "Accuracy", metric: "dpo/accuracy" },
    { name: "Accuracy", metric: "reward/accuracy" },
    { name: "Held-out accuracy", metric: "eval/accuracy" },
    { name: "Groups with equal scores", metric: "group/equal_scores" },
    { name: "Audit, log M", metric: "audit/log_martingale" },
  ].flatMap(({ name, metric }) => {
    const value = last(metric);
    if (value === undefined) return [];
    const note = metric.startsWith("audit") ? `bound ${number(last("audit/log_bound"), 3)}` : change(metric);
    return [{ name, value: number(value, 4), note }];
  });
  if (difference)
    all.push({
      name: "Held-out, after − before",
      value: signed(difference.mean),
      note: `± ${number(difference.standardError, 2)}, paired by prompt`,
    });
  if (perStep !== undefined)
    all.push({
      name: "Time of a step",
      value: duration(perStep),
      note: `${run.steps.length.toLocaleString("en-US")} steps`,
    });
  return all;
}

export function BeforeAfter({ run }: { run: RunData }) {
  const { before, after, difference } = run.evaluations;
  if (!before) return null;
  const shown = spreadOver(before.samples.length, 6);
  return (
    <section class="card" aria-labelledby="held-out">
      <h2 id="held-out">Held-out prompts{after ? ", before and after" : ", before training"}</h2>
      <p class="lead">
        {after && difference ? (
          <>
            Mean score <b class="num">{withError(before.mean, before.standardError)}</b> before,{" "}
            <b class="num">{withError(after.mean, after.standardError)}</b> after; difference{" "}
            <b class="num" data-evaluation="difference">
              {signed(difference.mean)} ± {number(difference.standardError, 2)}
            </b>
            , paired by prompt, over {before.samples.length} prompts that were never trained on.
          </>
        ) : (
          <>
            Mean score <b class="num">{withError(before.mean, before.standardError)}</b> over {before.samples.length}{" "}
            prompts.
          </>
        )}
      </p>
      <div class="scroll" tabIndex={0} role="region" aria-label="Answers to held-out prompts">
        <table class="answers">
          <thead>
            <tr>
              <th scope="col">Prompt</th>
              <th scope="col">Before</th>
              {after && <th scope="col">After</th>}
            </tr>
          </thead>
          <tbody>
            {shown.map((i) => (
              <tr key={i}>
                <th scope="row">{before.samples[i].prompt}</th>
                <td>
                  <span class="score num">{number(before.samples[i].score, 3)}</span> {before.samples[i].response}
                </td>
                {after && (
                  <td>
                    <span class="score num">{number(after.samples[i]?.score, 3)}</span> {after.samples[i]?.response}
                  </td>
                )}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

const spreadOver = (length: number, most: number): number[] =>
  Array.from({ length: Math.min(length, most) }, (_, i) => Math.floor((i * length) / Math.min(length, most)));

/** Of runs without a reward: what they learn, then how. */
const LEARNED = [
  ...GROUPS[0].charts,
  ...GROUPS.flatMap(({ charts }) => charts).filter(({ title }) =>
    /^(Gradient norm|Learning rate|Time per phase)$/.test(title),
  ),
];

/** What happened, in words. */
export function Happened({ run }: { run: RunData }) {
  useStore((s) => s.revision);
  const found = findings(run);
  return (
    <section class="card" aria-labelledby="happened">
      <h2 id="happened">What happened</h2>
      {found.length === 0 ? (
        <p class="lead">{run.steps.length === 0 ? "The run has not taken a step yet." : "Nothing stands out."}</p>
      ) : (
        <ul class="findings">
          {found.map((finding) => (
            <FindingItem finding={finding} key={finding.title} />
          ))}
        </ul>
      )}
    </section>
  );
}

export function Overview({ run }: { run: RunData }) {
  useStore((s) => s.revision);
  const rewarded = run.columns["env/reward_mean"] !== undefined;
  const charts = (rewarded ? [REWARD, KL, AUDIT, ENTROPY] : LEARNED).filter((spec) => isShown(spec, [run])).slice(0, 4);
  return (
    <>
      <Happened run={run} />
      {run.steps.length > 0 && (
        <dl class="figures">
          {figures(run).map((figure) => (
            <Figure {...figure} key={figure.name} />
          ))}
        </dl>
      )}
      <div class="charts two">
        {charts.map((spec) => (
          <Chart spec={spec} key={spec.title} height={220} />
        ))}
      </div>
      <Workers run={run} />
      <BeforeAfter run={run} />
    </>
  );
}
