/** @file Answers to one prompt in one step, side by side: what GRPO and RLOO compare. */
import type { RunData, SampleRow } from "../../src/run/page/data.ts";
import { mean } from "./findings.ts";
import { number, plural } from "./format.ts";
import { setState } from "./store.ts";
import { heat } from "./theme.ts";

export interface Group {
  readonly step: number;
  readonly prompt: number;
  readonly answers: { sample: SampleRow; index: number }[];
}

/** Whether the answers to a prompt compete with each other. */
export const hasGroups = ({ config }: RunData): boolean =>
  Number((config?.options as Record<string, unknown> | undefined)?.numGenerations ?? 0) > 1;

/** Of the samples that were written down, those that share a step and a prompt; the best answer first, the newest step first. */
export function groupsOfSamples(rows: readonly { sample: SampleRow; index: number }[]): Group[] {
  const groups = new Map<string, Group>();
  for (const row of rows) {
    const { step, prompt } = row.sample;
    const name = `${step} ${prompt}`;
    const group = groups.get(name) ?? { step, prompt, answers: [] };
    group.answers.push(row);
    groups.set(name, group);
  }
  const several = [...groups.values()].filter(({ answers }) => answers.length > 1);
  for (const { answers } of several) answers.sort((a, b) => (b.sample.score ?? 0) - (a.sample.score ?? 0));
  return several.sort((a, b) => b.step - a.step || a.prompt - b.prompt);
}

export function Groups({ run, place, groups, open }: { run: RunData; place: number; groups: Group[]; open?: number }) {
  if (groups.length === 0)
    return <p class="faint">No two answers of one group were written down. More are with a higher logSamples.</p>;
  return (
    <ul class="groups">
      {groups.map(({ step, prompt, answers }) => {
        const advantages = answers.map(({ sample }) => Math.abs(sample.advantage ?? 0));
        const most = Math.max(...advantages) || 1;
        return (
          <li key={`${step} ${prompt}`}>
            <h3>
              <span class="num faint">step {step}</span> <span class="prompt">{run.prompts[prompt]}</span>{" "}
              <span class="faint small-text">
                {plural(answers.length, "answer")}, mean score{" "}
                {number(mean(answers.map(({ sample }) => sample.score)), 3)}
              </span>
            </h3>
            <div class="group-answers">
              {answers.map(({ sample, index }) => (
                <button
                  type="button"
                  key={index}
                  class={index === open ? "on" : ""}
                  style={{ background: heat(sample.advantage, -2 * most, 0, 2 * most) }}
                  onClick={() => setState({ lens: { run: place, index } })}
                >
                  <span class="row small-text">
                    <b class="num">{number(sample.score, 3)}</b>
                    <span class="num">advantage {number(sample.advantage, 3)}</span>
                  </span>
                  <span>{sample.response || <i class="faint">(nothing)</i>}</span>
                </button>
              ))}
            </div>
          </li>
        );
      })}
    </ul>
  );
}
