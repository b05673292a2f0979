/** @file What the model writes now, token by token. */
import { useEffect, useState } from "preact/hooks";
import type { RunData, SampleDetail } from "../../src/run/page/data.ts";
import { number } from "../dashboard/format.ts";
import { Tokens } from "../dashboard/lens.tsx";
import { sampleDetail } from "../dashboard/source.ts";
import { useStore } from "../dashboard/store.ts";

type Which = "best" | "worst" | "first";

/** The sample of the newest step that is shown. */
function newest({ samples }: RunData, which: Which): number {
  const step = samples[samples.length - 1]?.step;
  const first = samples.findIndex((sample) => sample.step === step);
  const picked = samples.findLastIndex((sample) => sample.step === step && sample.picked === which);
  return which === "first" || picked < 0 ? first : picked;
}

export function Live({ run, place }: { run: RunData; place: number }) {
  const revision = useStore((s) => s.revision);
  const [which, setWhich] = useState<Which>("best");
  const [held, setHeld] = useState<number>();
  const [detail, setDetail] = useState<SampleDetail>();
  const index = held ?? newest(run, which);
  useEffect(() => {
    let wanted = true;
    if (index >= 0) void sampleDetail(place, index).then((d) => wanted && setDetail(d));
    return () => {
      wanted = false;
    };
  }, [run.directory, place, index, revision === 0]);
  if (index < 0 || !detail) return null;
  return (
    <section class="card live" aria-labelledby="live">
      <div class="row">
        <h2 id="live">
          What it writes{held === undefined ? " now" : ""}, token by token{" "}
          <span class="faint num">
            step {detail.step}, score {number(detail.score, 3)}
          </span>
        </h2>
        <span class="picks">
          <label>
            <span class="visually-hidden">Which response of a step</span>
            <select value={which} onChange={(e) => (setWhich(e.currentTarget.value as Which), setHeld(undefined))}>
              <option value="best">best of the step</option>
              <option value="first">any of the step</option>
              <option value="worst">worst of the step</option>
            </select>
          </label>
          <button type="button" onClick={() => setHeld(held === undefined ? index : undefined)}>
            {held === undefined ? "Hold" : "Follow the run"}
          </button>
        </span>
      </div>
      {detail.pieces ? <Tokens detail={detail} /> : <p class="text">{detail.response}</p>}
    </section>
  );
}
