/** @file Every chart there is, in groups. */
import { Chart } from "./chart.tsx";
import { groupsOf } from "./charts.ts";
import { useStore } from "./store.ts";

export function Charts() {
  const data = useStore((s) => s.data);
  useStore((s) => s.revision);
  return (
    <>
      {groupsOf(data?.runs ?? []).map(({ title, charts }) =>
        title === "All other numbers" ? (
          <details key={title} class="more">
            <summary>All other numbers ({charts.length})</summary>
            <div class="charts three">
              {charts.map((spec) => (
                <Chart spec={spec} key={spec.title} height={130} />
              ))}
            </div>
          </details>
        ) : (
          <section key={title} aria-label={title}>
            <h2 class="group">{title}</h2>
            <div class="charts three">
              {charts.map((spec) => (
                <Chart spec={spec} key={spec.title} />
              ))}
            </div>
          </section>
        ),
      )}
    </>
  );
}
