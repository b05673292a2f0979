/** @file The audit: what it checks, where it stands, and what a breach means. */
import type { RunData } from "../../src/run/page/data.ts";
import { Chart } from "./chart.tsx";
import { AUDIT, GROUPS, KL } from "./charts.ts";
import { auditWords, breach, column, lastOf } from "./findings.ts";
import { number } from "./format.ts";
import { goTo } from "./overview.tsx";
import { useStore } from "./store.ts";

const CHECKS = [
  [
    "Draws",
    "Every token is a draw from the distribution it is scored under. Evidence against that is gathered over all steps in one number, log M: each token multiplies M by how much better another explanation predicted it. In an honest run M stays near 1 or falls; the odds that chance alone ever takes it to its bound are one in a million, however long the run.",
  ],
  [
    "Kept sets",
    "Every token lies in the set it could be drawn from (top-k, top-p, bans), and the set held some probability, and no more than 1.",
  ],
  ["Ends", "Nothing is counted after the first end of text: padding is no text."],
  [
    "Ratio 1",
    "Before any weight has moved, the training pass gives each token the probability it had when it was drawn.",
  ],
];

/** What the audit found, and what that means. */
export function Verdict({ run }: { run: RunData }) {
  useStore((s) => s.revision);
  const crossed = breach(run);
  const said = auditWords(run);
  const begin = crossed?.since ?? said?.step;
  const logs = column(run, "audit/log_martingale");
  const options = (run.config?.options ?? {}) as Record<string, unknown>;
  const known = logs.length > 0 || said !== undefined;
  return (
    <section class={`card verdict ${crossed || said ? "bad" : known ? "good" : ""}`} aria-labelledby="verdict">
      <h2 id="verdict">
        {crossed
          ? `Breach: the bound was reached at step ${crossed.step}, and the evidence grew from step ${crossed.since} on`
          : said
            ? `Breach at step ${said.step}`
            : known
              ? `Nothing found: log M is ${number(lastOf(logs), 3)}, the bound ${number(lastOf(column(run, "audit/log_bound")), 3)}`
              : options.audit === "off"
                ? "The audit was off"
                : "This run has no audit: its algorithm draws no text, or no step was taken"}
      </h2>
      {(crossed || said) && (
        <>
          <p>
            Training learns from probabilities. If text is sampled in one way and scored in another, the difference
            looks like a reward, and the policy learns to earn it: numbers rise while answers do not get better. That is
            what happened here.
          </p>
          {said && (
            <dl class="said">
              <div>
                <dt>Found</dt>
                <dd>{said.found}</dd>
              </div>
              <div>
                <dt>Expected</dt>
                <dd>{said.expected}</dd>
              </div>
              <div>
                <dt>Likely cause, and what to do</dt>
                <dd>{said.fix}</dd>
              </div>
            </dl>
          )}
          <p>
            {begin === undefined || begin <= (run.steps[0] ?? 1)
              ? "It was there from the first step: nothing that was learned is to be trusted. Close the gap, and start anew."
              : `What was learned from there on is not to be trusted. Go back to a checkpoint from before step ${begin}, close the gap, and train on from there.`}
            {options.audit === "warn" &&
              " The audit was set to warn, so the run went on; with audit stop it ends at the bound."}
          </p>
          {crossed && (
            <button type="button" onClick={() => goTo(crossed.since)}>
              Point at step {crossed.since}
            </button>
          )}
        </>
      )}
    </section>
  );
}

export function Audit({ run }: { run: RunData }) {
  useStore((s) => s.revision);
  const logs = column(run, "audit/log_martingale");
  const parts = GROUPS.find(({ title }) => title === "Audit")?.charts.slice(1) ?? [];
  const shown = parts.filter(({ series }) => series.some(({ metric }) => run.columns[metric]));
  const known = logs.length > 0 || auditWords(run) !== undefined;
  return (
    <>
      <Verdict run={run} />
      {known && (
        <div class="charts two">
          {logs.length > 0 && <Chart spec={AUDIT} height={240} />}
          <Chart spec={KL} height={240} />
          {shown.map((spec) => (
            <Chart spec={spec} key={spec.title} />
          ))}
        </div>
      )}
      <section class="card" aria-labelledby="checked">
        <h2 id="checked">What is checked at every step</h2>
        <dl class="checks">
          {CHECKS.map(([name, text]) => (
            <div key={name}>
              <dt>{name}</dt>
              <dd>{text}</dd>
            </div>
          ))}
        </dl>
      </section>
    </>
  );
}
