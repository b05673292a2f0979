/** @file Somebody on the server of a run who is not the worker that he says he is. */
import { Connection, namesOf } from "../../src/distributed/connection.ts";
import {
  type Heartbeat,
  heartbeatToBytes,
  type Job,
  jobFromBytes,
  type Result,
  resultToBytes,
  type Task,
  taskFromBytes,
} from "../../src/distributed/messages.ts";
import { experience } from "../../src/experience/experience.ts";

/** Somebody on the server who is not what he should be. */
export class Rogue {
  readonly connection: Connection;
  readonly job: Job;
  readonly name: string;
  readonly #heart: ReturnType<typeof setInterval>;

  private constructor(connection: Connection, job: Job, name: string, signs: boolean) {
    this.connection = connection;
    this.job = job;
    this.name = name;
    const { heartbeat } = namesOf(job.run);
    const common = { worker: name, session: job.session, host: "h", cpu: "c", arch: "a", threads: 1, judges: true };
    const ready: Heartbeat = { ...common, state: "ready" };
    const sign = () => signs && connection.say(heartbeat, heartbeatToBytes(ready));
    sign();
    this.#heart = setInterval(sign, 200);
  }

  /** Once there is a run. @param signs whether he says that he is a worker */
  static async join(server: string, name: string, signs = true): Promise<Rogue> {
    const connection = await Connection.connect({ server }, name);
    for (;;) {
      for (const run of await connection.runs()) {
        const bytes = await connection.last(run, namesOf(run).job);
        const job = bytes && jobFromBytes(bytes);
        if (job && !job.ended) return new Rogue(connection, job, name, signs);
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** The next task of the run, which nobody else gets until he gives it back. */
  async task(): Promise<Task> {
    for (;;) {
      const message = await this.connection.nextTask(this.job.run);
      const bytes = message && (await this.connection.open(this.job.run, message.data));
      if (bytes) return taskFromBytes(bytes);
    }
  }

  async answer(result: Result): Promise<void> {
    const sealed = await this.connection.seal(this.job.run, `rogue-${Math.random()}`, resultToBytes(result));
    await this.connection.publish(`${namesOf(this.job.run).result}.${result.step}`, sealed);
  }

  /** A result for a task that has everything but the right numbers. */
  invented = (task: Task): Result => invented(task, this.name);

  /** Hear which tasks are given out, and leave them there. */
  hearTasks(hear: (task: Task) => void): () => void {
    return this.connection.subscribe(`${namesOf(this.job.run).task}.*`, (bytes) =>
      hear(taskFromBytes(bytes.subarray(1))),
    );
  }

  async leave(): Promise<void> {
    clearInterval(this.#heart);
    await this.connection.close();
  }
}

/** A result that has everything but the right numbers. */
export function invented({ session, step, version, part }: Task, worker: string): Result {
  const responses = part.queries.map((_, b) => {
    const tokens = Int32Array.of(100 + b, 200, 300);
    const logprobs = Float32Array.of(-9, -9, -9);
    const kept = [undefined, undefined, undefined];
    const rest = {
      rawLogprobs: logprobs,
      values: new Float32Array(3),
      keptMass: Float64Array.of(1, 1, 1),
      finished: false,
    };
    return { tokens, logprobs, kept, ...rest };
  });
  const data = experience([{ queries: part.queries, responses }]);
  const reference = { refLogprobs: data.logprobs };
  const scores = part.queries.map(() => 1000);
  return {
    session,
    step,
    version,
    index: part.index,
    worker,
    seconds: 0.1,
    busy: 0.1,
    scores,
    answer: { data, reference },
  };
}
