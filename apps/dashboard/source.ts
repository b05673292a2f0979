/** @file Where the data comes from: the server that served the page, or the page itself, in a report. */
import type { PageData, RunChange, SampleDetail } from "../../src/run/page/data.ts";
import { embedded, unpacked } from "./embedded.ts";
import { apply, getState, setState } from "./store.ts";

/** Whether the page is a file that carries its data. */
export const isReport = embedded !== undefined;

/** The terminal's link carries it behind #, which is never sent anywhere; it is taken out of the address. */
let token = "";

export function takeToken(): void {
  const match = /^#token=([\w-]+)$/.exec(location.hash);
  try {
    if (match) {
      sessionStorage.setItem("valuehead.token", match[1]);
      history.replaceState(null, "", location.pathname);
    }
    token = sessionStorage.getItem("valuehead.token") ?? "";
  } catch {
    token = match?.[1] ?? "";
  }
}

/** Whether the page may ask the run to stop or to save. */
export const mayAsk = (data: PageData): boolean => data.controls && token !== "";

export async function ask(what: "stop" | "save"): Promise<void> {
  const answer = await fetch(`/${what}`, { method: "POST", headers: { "X-Valuehead-Token": token } }).catch(() => null);
  const said = {
    stop: "The run ends after the step in progress, with everything saved.",
    save: "A checkpoint is written after the step in progress.",
  };
  const refused = "Refused: open the page by the link that the terminal shows.";
  setState({ asked: answer?.ok ? said[what] : answer ? refused : "The run does not answer any more." });
}

async function fetchData(): Promise<void> {
  const answer = await fetch("/data");
  if (!answer.ok) throw new Error(await answer.text());
  setState({ data: await answer.json(), revision: getState().revision + 1 });
}

export async function start(): Promise<void> {
  try {
    if (embedded !== undefined) return setState({ data: await unpacked<PageData>(embedded), revision: 1 });
    await fetchData();
    listen();
  } catch (error) {
    setState({ problem: `The data could not be read: ${error instanceof Error ? error.message : error}` });
  }
}

/** New lines as they are written. What was missed while the connection was lost is asked for again. */
function listen(): void {
  const events = new EventSource("/events");
  events.onopen = () => {
    void fetchData().then(() => setState({ connection: "open" })); // nothing is missed between data and connection
  };
  events.onerror = () => setState({ connection: "lost" });
  events.onmessage = ({ data }) => {
    if (!apply(JSON.parse(data) as RunChange)) void fetchData();
  };
}

type Details = (run: number, index: number) => Promise<SampleDetail | undefined>;

/** A sample with the numbers of its tokens; undefined where a report does not carry it. */
export const sampleDetail: Details = (run, index) => details(run, index);

let details: Details = async (run, index) => {
  const carried = getState().data?.details;
  if (carried) return carried[run]?.[index];
  const answer = await fetch(`/sample?run=${run}&index=${index}`).catch(() => null);
  return answer?.ok ? answer.json() : undefined;
};

/** For a page whose runs lie elsewhere than on a server. */
export function setDetails(from: Details): void {
  details = from;
}
