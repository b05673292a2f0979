/** @file Who works for a run: who was heard of, and what they did. */
import type { WorkerFacts } from "../experience/parts/parts.ts";
import { machine } from "../platform/process.ts";
import type { Heartbeat, Job } from "./messages.ts";

interface Entry {
  facts: { -readonly [K in keyof WorkerFacts]: WorkerFacts[K] };
  seenAt: number;
}

export class WorkerRegistry {
  readonly #entries = new Map<string, Entry>();
  /** Milliseconds after which one who is not heard of is taken for lost. */
  readonly #patience: number;
  readonly #trainer: Pick<Job, "threads" | "device">;
  /** Those whose numbers have the bits of the trainer's. */
  readonly #alike = new Set<string>();

  constructor(patience: number, trainer: Pick<Job, "threads" | "device">) {
    this.#patience = patience;
    this.#trainer = trainer;
  }

  /** What to say of a worker that has joined. */
  joined({ worker, cpu, arch, threads, device }: Heartbeat): string {
    const { cpu: mine, arch: own } = machine();
    const same = cpu === mine && arch === own && threads === this.#trainer.threads;
    if (same && device === this.#trainer.device) this.#alike.add(worker);
    const but = same
      ? ""
      : `, another than this one's (${mine}, ${own}, ${this.#trainer.threads} threads): the last bits of its numbers may differ`;
    return `worker ${worker} joined (${cpu}, ${arch}, ${threads} threads${but})`;
  }

  /** Whether a worker says that it has a processor of the trainer's kind, as many threads and the same device. */
  isAlike = (worker: string): boolean => this.#alike.has(worker);

  /** A sign of life. */
  hear({ worker, state }: Heartbeat): "joined" | "left" | undefined {
    const entry = this.#entries.get(worker);
    if (entry?.facts.state === "refused") return undefined;
    const now = performance.now();
    if (!entry) {
      if (state !== "ready") return undefined;
      this.#factsOf(worker);
      return "joined";
    }
    entry.seenAt = now;
    const before = entry.facts.state;
    entry.facts.state = state === "ready" ? "ready" : "gone";
    if (before === entry.facts.state) return undefined;
    return state === "ready" ? "joined" : "left";
  }

  /** Those who can be given work. */
  ready(): WorkerFacts[] {
    const now = performance.now();
    return Array.from(this.#entries.values())
      .filter(({ facts, seenAt }) => facts.state === "ready" && now - seenAt <= this.#patience)
      .map(({ facts }) => facts);
  }

  /** Those who fell silent since the last time this was asked. */
  lost(): string[] {
    const now = performance.now();
    const silent = Array.from(this.#entries.values()).filter(
      ({ facts, seenAt }) => facts.state === "ready" && now - seenAt > this.#patience,
    );
    for (const { facts } of silent) facts.state = "gone";
    return silent.map(({ facts }) => facts.name);
  }

  /** Of a worker whose result may be here before its first sign of life, too. */
  #factsOf(worker: string): Entry["facts"] {
    let entry = this.#entries.get(worker);
    if (!entry) {
      const zero = { tasks: 0, responses: 0, seconds: 0, busy: 0, late: 0, failed: 0 };
      entry = { facts: { name: worker, state: "ready", ...zero }, seenAt: performance.now() };
      this.#entries.set(worker, entry);
    }
    return entry.facts;
  }

  /** A part, or a gradient, of it was used. */
  done(worker: string, responses: number, { seconds, busy }: { seconds: number; busy: number }): void {
    const facts = this.#factsOf(worker);
    facts.tasks++;
    facts.responses += responses;
    facts.seconds += seconds;
    facts.busy += busy;
  }

  /** It computed the gradient of a microbatch. */
  computed(worker: string, times: { seconds: number; busy: number }): void {
    this.done(worker, 0, times);
    const facts = this.#factsOf(worker);
    facts.gradients = (facts.gradients ?? 0) + 1;
  }

  late(worker: string): void {
    const facts = this.#entries.get(worker)?.facts;
    if (facts) facts.late++;
  }

  /** @returns how often in all */
  failed(worker: string): number {
    const facts = this.#entries.get(worker)?.facts;
    if (!facts) return 1;
    return ++facts.failed;
  }

  refuse(worker: string, why: string): void {
    const facts = this.#factsOf(worker);
    this.#entries.set(worker, { facts: { ...facts, state: "refused", why }, seenAt: performance.now() });
  }

  isRefused = (worker: string): boolean => this.#entries.get(worker)?.facts.state === "refused";

  facts(): WorkerFacts[] {
    return Array.from(this.#entries.values(), ({ facts }) => ({ ...facts }));
  }
}
