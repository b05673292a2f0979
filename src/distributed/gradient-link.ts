/** @file Whether it pays to have gradients computed elsewhere: what must be sent for an optimizer step, against what is computed in that time. */
import type { Connection } from "./connection.ts";

/** Seconds that as many bytes as a gradient has take between the trainer and the server. */
export interface Link {
  /** Bytes of a gradient, which are those of the trained weights. */
  readonly bytes: number;
  readonly up: number;
  readonly down: number;
}

/** Bytes that are sent to measure a link, at most. */
const SAMPLE = 8_000_000;

/** Send as many bytes as a gradient has, or 8 MB of them, to the server and back. */
export async function measureLink(
  connection: Pick<Connection, "putObject" | "getObject" | "deleteObject">,
  run: string,
  bytes: number,
): Promise<Link> {
  const sample = Uint8Array.from({ length: Math.min(bytes, SAMPLE) }, (_, i) => (i * 31) % 251);
  const timed = async (pass: () => Promise<unknown>) => {
    const begun = performance.now();
    await pass();
    return ((performance.now() - begun) / 1000) * (bytes / sample.length);
  };
  const up = await timed(() => connection.putObject(run, "link", sample));
  const down = await timed(() => connection.getObject(run, "link"));
  await connection.deleteObject(run, "link");
  return { bytes, up, down };
}

/** Microbatches that the trainer keeps for itself, when there are so many workers. */
export const ownShare = (microbatches: number, workers: number): number => Math.floor(microbatches / (workers + 1));

/**
 * Seconds of an optimizer step, without workers and with them, who are taken to be as quick as the trainer and to have its line: the
 * weights go up once and down to each, each computes its share and sends a gradient for each microbatch, and the trainer fetches them all
 * through its own line.
 * @param seconds of a microbatch
 */
export function updateSeconds(
  { up, down }: Pick<Link, "up" | "down">,
  { microbatches, workers, seconds }: { microbatches: number; workers: number; seconds: number },
): { alone: number; shared: number } {
  const theirs = microbatches - ownShare(microbatches, workers);
  const each = Math.ceil(theirs / workers);
  return { alone: microbatches * seconds, shared: up + down + each * seconds + up + theirs * down };
}

/** From how many bytes a second on, up and down alike, {@link updateSeconds} is less with workers than without. */
export function payingBandwidth(
  bytes: number,
  { microbatches, workers, seconds }: { microbatches: number; workers: number; seconds: number },
): number {
  const theirs = microbatches - ownShare(microbatches, workers);
  const gained = (microbatches - Math.ceil(theirs / workers)) * seconds;
  return gained > 0 ? ((3 + theirs) * bytes) / gained : Number.POSITIVE_INFINITY;
}

const megabytes = (bytes: number) => `${Number((bytes / 1e6).toPrecision(3))} MB`;
const s = (seconds: number) => `${Number(seconds.toPrecision(3))} s`;

/** Why gradients stay with the trainer, with the figures; undefined: they do not. */
export function whyNot(
  link: Link,
  facts: { microbatches: number; workers: number; seconds: number },
): string | undefined {
  const { alone, shared } = updateSeconds(link, facts);
  if (shared < alone) return undefined;
  const { microbatches, workers, seconds } = facts;
  const from = payingBandwidth(link.bytes, facts);
  const pays = Number.isFinite(from)
    ? `It pays from ${Number(((8 * from) / 1e6).toPrecision(3))} Mbit/s on`
    : "With a worker for each optimizer step alone it never does";
  return `gradients are computed by the trainer alone: one has ${megabytes(link.bytes)}, which takes ${s(link.up)} to the server and ${s(link.down)} back, and a microbatch takes ${s(seconds)}. An optimizer step of ${microbatches} microbatches would take ${s(shared)} with ${workers === 1 ? "1 worker" : `${workers} workers`} and takes ${s(alone)} without. ${pays}; --worker-gradients always gives them out all the same`;
}
