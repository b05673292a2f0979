/** @file What a person says: the reward, the settings, and start. */
import { useEffect, useRef } from "preact/hooks";
import { useStore } from "../dashboard/store.ts";
import { defaultPrompts, download, settingsOf, stop, train } from "./engine.ts";
import type { RewardKind, Settings } from "./messages.ts";
import { DEFAULTS, setSettings, usePlay } from "./state.ts";

const REWARDS: readonly { kind: RewardKind; label: string; text: string }[] = [
  { kind: "positive", label: "Kindness", text: "kind words score above 0, harsh words below" },
  { kind: "length", label: "Length", text: "20 words are best" },
  { kind: "regex", label: "A pattern", text: "1 where a regular expression is found, else 0" },
  { kind: "code", label: "My own, in JavaScript", text: "anything that gives a number" },
];

function Problem({ about }: { about: "reward" | "run" }) {
  const problem = usePlay((s) => s.problem);
  return (
    <div role="alert">
      {problem?.about === about && (
        <p class="problem">
          <b>{problem.title}.</b> {problem.text}
        </p>
      )}
    </div>
  );
}

function Code() {
  const code = usePlay((s) => s.settings.code);
  const problem = usePlay((s) => s.problem);
  const area = useRef<HTMLTextAreaElement>(null);
  const line = problem?.about === "reward" ? problem.line : undefined;
  useEffect(() => {
    if (line === undefined || !area.current) return;
    const lines = area.current.value.split("\n");
    const start = lines.slice(0, line - 1).reduce((sum, text) => sum + text.length + 1, 0);
    area.current.focus();
    area.current.setSelectionRange(start, start + (lines[line - 1]?.length ?? 0));
  }, [line, problem]);
  return (
    <label class="wide-label">
      Code of the reward
      <textarea
        ref={area}
        id="code"
        class="code"
        rows={9}
        spellcheck={false}
        autocapitalize="off"
        aria-invalid={problem?.about === "reward"}
        value={code}
        onInput={(e) => setSettings({ code: e.currentTarget.value })}
      />
      <span class="faint small-text">
        It runs in a sandbox without a network, for at most 5 seconds a batch. The same file works with{" "}
        <code>valuehead train --reward</code>.
      </span>
    </label>
  );
}

function Reward() {
  const reward = usePlay((s) => s.settings.reward);
  const pattern = usePlay((s) => s.settings.pattern);
  return (
    <fieldset class="rewards">
      <legend>What is good?</legend>
      {REWARDS.map(({ kind, label, text }) => (
        <label key={kind} class="choice">
          <input
            type="radio"
            name="reward"
            value={kind}
            checked={reward === kind}
            onChange={() => setSettings({ reward: kind })}
          />
          <span>
            <b>{label}</b> <span class="faint">{text}</span>
          </span>
        </label>
      ))}
      {reward === "regex" && (
        <label class="wide-label">
          Regular expression
          <input
            type="text"
            id="pattern"
            class="code"
            spellcheck={false}
            value={pattern}
            onInput={(e) => setSettings({ pattern: e.currentTarget.value })}
          />
        </label>
      )}
      {reward === "code" && <Code />}
      <Problem about="reward" />
    </fieldset>
  );
}

type NumberName = { [name in keyof Settings]: Settings[name] extends number ? name : never }[keyof Settings];
const NUMBERS: readonly { name: NumberName; label: string; step: string; min: string; begun?: boolean }[] = [
  { name: "steps", label: "Steps", step: "1", min: "1" },
  { name: "learningRate", label: "Learning rate", step: "any", min: "0" },
  { name: "klCoef", label: "KL coefficient", step: "any", min: "0" },
  { name: "batchSize", label: "Responses a step", step: "1", min: "2", begun: true },
  { name: "seed", label: "Seed", step: "1", min: "0", begun: true },
];

function SettingsBox() {
  const settings = usePlay((s) => s.settings);
  const noGPU = usePlay((s) => s.noGPU);
  const ready = usePlay((s) => s.ready);
  useEffect(() => {
    if (ready && settings.prompts === "") void defaultPrompts().then((prompts) => setSettings({ prompts }));
  }, [ready, settings.prompts === ""]);
  return (
    <details class="more settings">
      <summary>Settings</summary>
      <div class="numbers">
        {NUMBERS.map(({ name, label, step, min }) => (
          <label key={name}>
            {label}
            <input
              type="number"
              id={name}
              step={step}
              min={min}
              value={settings[name]}
              onChange={(e) => {
                const typed = e.currentTarget.valueAsNumber;
                setSettings({ [name]: Number.isFinite(typed) ? typed : DEFAULTS[name] });
              }}
            />
          </label>
        ))}
        <label>
          Computes on
          <select
            id="device"
            value={settings.device}
            onChange={(e) => setSettings({ device: e.currentTarget.value as Settings["device"] })}
          >
            <option value="wasm">the processor</option>
            <option value="webgpu" disabled={noGPU !== undefined}>
              the graphics card
            </option>
          </select>
        </label>
      </div>
      <label class="wide-label">
        Prompts, one a line
        <textarea
          id="prompts"
          rows={6}
          spellcheck={false}
          value={settings.prompts}
          onInput={(e) => setSettings({ prompts: e.currentTarget.value })}
        />
      </label>
      <p class="faint small-text">
        Prompts, responses a step and seed hold for a whole run: a run that goes on keeps those it began with.{" "}
        <button type="button" class="quiet" onClick={() => setSettings({ ...DEFAULTS, code: settings.code })}>
          Back to the defaults
        </button>
      </p>
    </details>
  );
}

/** Start, stop, go on, download: what makes sense now. */
function Buttons() {
  const play = usePlay((s) => s);
  const run = useStore((s) => s.data?.runs[0]);
  useStore((s) => s.revision);
  const begun = run?.directory === "/runs/playground" && settingsOf(run) !== undefined;
  const last = run?.steps[run.steps.length - 1] ?? 0;
  const saved = begun && run.events.some(({ type }) => type === "checkpoint");
  const elsewhere = run?.state === "running" && play.working !== "train";
  const canGoOn = begun && !elsewhere && (run.state !== "finished" || play.settings.steps > last);
  const left = canGoOn && run.state === "cut off";
  if (play.working === "train")
    return (
      <div class="buttons">
        <button type="button" class="primary" disabled={play.stopping} onClick={stop}>
          {play.stopping ? "Stopping after this step …" : "Stop"}
        </button>
        {saved && <Download />}
      </div>
    );
  return (
    <>
      {left && (
        <p class="notice" role="status">
          A run of an earlier visit was cut off{last > 0 ? ` after step ${last}` : ""}. It goes on from its last
          checkpoint, or you start anew.
        </p>
      )}
      {elsewhere && (
        <p class="notice" role="status">
          A run is going on in another tab. It is shown there.
        </p>
      )}
      <div class="buttons">
        {canGoOn && (
          <button
            type="button"
            class="primary"
            disabled={!play.ready || play.working !== null}
            onClick={() => void train(true)}
          >
            Go on
          </button>
        )}
        <button
          type="button"
          class={canGoOn ? "" : "primary"}
          disabled={!play.ready || play.working !== null || elsewhere}
          onClick={() => void train(false)}
        >
          {begun ? "Start anew" : "Start"}
        </button>
        {saved && <Download />}
      </div>
    </>
  );
}

const Download = () => (
  <button type="button" onClick={() => void download()}>
    Download the checkpoint
  </button>
);

function Loading() {
  const loading = usePlay((s) => s.loading);
  const broken = usePlay((s) => s.broken);
  if (broken)
    return (
      <p class="problem" role="alert">
        {broken}
      </p>
    );
  if (!loading) return null;
  const { done, total } = loading;
  const mb = (bytes: number) => (bytes / 1e6).toFixed(0);
  return (
    <p class="loading" role="status">
      <label>
        {total === 0 ? "Opening …" : `Fetching the model, once: ${mb(done)} of ${mb(total)} MB`}
        <progress {...(total === 0 ? {} : { max: total, value: done })} />
      </label>
    </p>
  );
}

/** What this browser can do here, in plain lines. */
function Notices() {
  const { ready, threads, lasting, offline, noGPU } = usePlay((s) => s);
  if (!ready) return null;
  const lines = [
    crossOriginIsolated
      ? `Training uses ${threads === 1 ? "one thread" : `${threads} threads`} of your processor.`
      : "Training uses one thread: the server does not send the headers that isolate the page, and several threads need that. Everything works, more slowly.",
    lasting
      ? "Runs are kept in this browser: a closed tab loses at most five steps."
      : "This browser keeps no files for this page, so a run ends with its tab. Download the checkpoint before you close it.",
    ...(noGPU ? [`There is no training on the graphics card (WebGPU): ${noGPU}.`] : []),
    ...(offline ? ["From now on the page also opens without a network."] : []),
  ];
  return (
    <ul class="notices faint small-text">
      {lines.map((line) => (
        <li key={line}>{line}</li>
      ))}
    </ul>
  );
}

export function Form() {
  return (
    <section class="card form" aria-label="What to train">
      <Reward />
      <SettingsBox />
      <Loading />
      <Buttons />
      <Problem about="run" />
      <Notices />
    </section>
  );
}
