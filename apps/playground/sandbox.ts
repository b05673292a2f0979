/**
 * @file Inside the frame: an origin of its own that shares nothing with the page, and a policy that allows no request at all. It keeps
 * one worker with the code that was typed, and ends it when it takes too long.
 */
import { EXPORT, type Question, type Reply, type Verdict } from "./sandbox-messages.ts";

/** The code of reward-worker.ts, which the build puts here. */
declare const WORKER: string;

const addressOf = (text: string) => URL.createObjectURL(new Blob([text], { type: "text/javascript" }));

/** A script for importScripts, line for line as it was typed. */
const asScript = (code: string) =>
  `"use strict"; ${code
    .replace(/^([ \t]*)export[ \t]+default\b/gm, `$1self[${JSON.stringify(EXPORT)}] =`)
    .replace(/^([ \t]*)export(?=[ \t]+(?:const|let|var|function|async|class)\b)/gm, "$1")}`;

let worker: Worker | undefined;
let loaded = "";
const open = new Map<number, ReturnType<typeof setTimeout>>();

const tell = (verdict: Verdict) => {
  clearTimeout(open.get(verdict.id));
  if (open.delete(verdict.id)) parent.postMessage(verdict, "*");
};
function end(): number[] {
  worker?.terminate();
  worker = undefined;
  return [...open.keys()];
}

function start(code: string): Worker {
  end();
  const made = new Worker(addressOf(WORKER));
  made.onmessage = ({ data }: MessageEvent<Reply>) => tell(data);
  made.onerror = (event) => {
    event.preventDefault();
    const [, name, message] = /^(?:Uncaught )?(?:(\w*Error): )?([\s\S]*)$/.exec(event.message ?? "") ?? [];
    const plain = message.replace(/^Failed to execute 'importScripts' on '\w+': /, "");
    for (const id of end()) tell({ id, name: name ?? "Error", message: plain, line: event.lineno || undefined });
  };
  made.postMessage(addressOf(asScript(code)));
  [worker, loaded] = [made, code];
  return made;
}

addEventListener("message", ({ data, source }: MessageEvent<Question>) => {
  if (source !== parent) return;
  const { id, code, batch, limit } = data;
  const asked = worker && loaded === code ? worker : start(code);
  const late = () => {
    for (const other of end()) tell({ id: other, late: limit });
  };
  open.set(id, setTimeout(late, limit));
  asked.postMessage({ id, batch });
});
parent.postMessage("ready", "*");
