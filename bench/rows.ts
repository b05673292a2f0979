/** @file Lines of the table: our figure against a peer's, or against what the machine can do. */
import type { Checkpoint } from "./models.ts";
import { judged, type Limits, type Measured, type Row, showBytes, showSeconds, type Target } from "./report.ts";

/** What our side is called among the results. */
export const OURS = "valuehead";

/** By label; of those that are missing, why. */
export type Results = Readonly<Record<string, Measured | string>>;

/** Seconds of `label` against the quickest of the peers. */
export function faster(
  work: string,
  model: Checkpoint | undefined,
  results: Results,
  label: string,
  peers: readonly string[],
  target?: Target,
): Row {
  const there = peers.filter((p) => typeof results[p] === "object");
  const best = there.reduce<string | undefined>(
    (a, b) => (a && median(results, a) <= median(results, b) ? a : b),
    undefined,
  );
  return compare(work, model, results, label, best ?? peers[0], showSeconds, (a, b) => b.median / a.median, target);
}

const median = (results: Results, label: string) => (results[label] as Measured).median;

/** Peak memory against a peer's. */
export function smaller(work: string, model: Checkpoint, results: Results, peer: string, target?: Target): Row {
  const ratio = (a: Measured, b: Measured) => a.peakBytes / b.peakBytes;
  return compare(`peak memory of the ${work}`, model, results, OURS, peer, showBytes, ratio, target);
}

function compare(
  work: string,
  model: Checkpoint | undefined,
  results: Results,
  label: string,
  peer: string,
  show: (m: Measured) => string,
  ratio: (ours: Measured, theirs: Measured) => number,
  target?: Target,
): Row {
  const [ours, theirs] = [results[label], results[peer]];
  const row = {
    work,
    model: model?.name ?? "",
    ours: typeof ours === "object" ? show(ours) : "",
    against: peer,
    theirs: typeof theirs === "object" ? show(theirs) : "",
  };
  if (typeof ours === "object" && typeof theirs === "object") return { ...row, ...judged(ratio(ours, theirs), target) };
  const { target: text } = judged(0, target);
  const missing = [ours, theirs].find((r) => typeof r !== "object") as string | undefined;
  return { ...row, target: text, missing: missing ?? "not measured" };
}

/** FLOPs of the work over our time, against the sgemm peak. */
export function flopShare(
  work: string,
  model: Checkpoint | undefined,
  results: Results,
  flops: number,
  limits?: Limits,
  target?: Target,
): Row[] {
  return share(work, model, results, flops, "sgemm", "GFLOP/s", limits, target);
}

/** Bytes the work must move over our time, against a bandwidth. */
export function byteShare(
  work: string,
  model: Checkpoint,
  results: Results,
  bytes: number,
  limit: "copy" | "read",
  limits?: Limits,
  target?: Target,
): Row[] {
  return share(work, model, results, bytes, limit, "GB/s", limits, target);
}

function share(
  work: string,
  model: Checkpoint | undefined,
  results: Results,
  amount: number,
  limit: keyof Limits,
  unit: string,
  limits?: Limits,
  target?: Target,
): Row[] {
  const ours = results[OURS];
  if (!limits || typeof ours !== "object") return [];
  const rate = amount / ours.median;
  const show = (perSecond: number) => `${(perSecond / 1e9).toFixed(1)} ${unit}`;
  const against = { sgemm: "sgemm peak", copy: "copy bandwidth", read: "read bandwidth" }[limit];
  const row = { work, model: model?.name ?? "", ours: show(rate), against, theirs: show(limits[limit]) };
  return [{ ...row, ...judged(rate / limits[limit], target) }];
}
