/** @file A step with workers, simulated: who waits for what, in seconds. For more machines than there are here: docs/scale.md. */

/** A step as the simulator knows it: seconds, bytes, bytes per second. */
export interface StepModel {
  workers: number;
  /** Parts that the step is cut into, and responses in each. */
  parts: number;
  rows: number;
  /** Of a worker, for a part: sampling and the reference. */
  draw: number;
  /** Of a judge, for a part. */
  judge: number;
  /** Judges at work at a time, in each worker: rewardConcurrency. */
  judges: number;
  /** Of the trainer: all that it does between the last result and the next tasks. */
  update: number;
  /** Of the trainer, for a part: reading and checking the result. */
  check: number;
  /** Of the trainer, once a step: sums and bytes of the weights made ready. */
  prepare: number;
  /** Bytes of the weights that are sent each step, of a task and of a result. */
  weights: number;
  task: number;
  result: number;
  /** Of a worker's line, of the trainer's and of the server's, in each direction. */
  workerBandwidth: number;
  trainerBandwidth: number;
  serverBandwidth: number;
  /** From a machine to the server and back. */
  roundTrip: number;
  /** The same of workers, where they are further away. */
  workerRoundTrip?: number;
  /** Cores of the one machine that all workers run on, each with one thread; undefined: every worker has a machine of its own. */
  cores?: number;
}

export interface StepTimes {
  /** The whole step. */
  seconds: number;
  /** Until the last worker has the weights. */
  weights: number;
  /** Until the last result is there. */
  collected: number;
  /** Share of the step in which workers compute or judge, mean over workers. */
  busy: number;
}

/** Round trips around an object (its head, whoever fetches or stores it) and to fetch and acknowledge a task. */
const [OBJECT_TRIPS, TASK_TRIPS] = [3, 2];
/** Bytes of an object's pieces: who stores it waits for the server after each. */
const PIECE = 1e6;

/** The events of one step. Workers take the next part as soon as they have room for it, as the real ones do. */
export function simulateStep(m: StepModel): StepTimes {
  const line = Math.min(m.workerBandwidth, m.serverBandwidth);
  const far = m.workerRoundTrip ?? m.roundTrip;
  const published =
    m.prepare +
    m.weights / Math.min(m.trainerBandwidth, m.serverBandwidth) +
    (OBJECT_TRIPS + Math.ceil(m.weights / PIECE)) * m.roundTrip;
  const working = Math.min(m.workers, m.parts); // no more than there are parts fetch the weights
  // All fetch at once: each at the speed of its line, or of its share of the server's.
  const fetched = published + m.weights / Math.min(m.workerBandwidth, m.serverBandwidth / working) + OBJECT_TRIPS * far;
  const workers = Array.from({ length: m.workers }, () => ({
    engine: fetched,
    judges: new Array<number>(m.judges).fill(fetched),
    /** When each of its parts is given back. */
    going: [] as number[],
    busy: 0,
  }));
  const arrivals: number[] = [];
  const cores = m.cores === undefined ? undefined : new Array<number>(m.cores).fill(0);
  for (let part = 0; part < m.parts; part++) {
    // When could each take it? One more is drawn than are judged.
    const free = workers.map(({ engine, going }) => {
      const open = going.filter((end) => end > engine).sort((a, b) => a - b);
      return open.length > m.judges ? open[open.length - m.judges - 1] : engine;
    });
    const i = free.reduce((best, at, w) => (at < free[best] ? w : best), 0);
    const worker = workers[i];
    const asked = free[i] + TASK_TRIPS * far + m.task / line;
    const drawn = (cores ? claim(cores, asked, m.draw) : asked) + m.draw;
    const j = worker.judges.reduce((best, at, k) => (at < worker.judges[best] ? k : best), 0);
    const judged = Math.max(drawn, worker.judges[j]) + m.judge;
    worker.judges[j] = judged;
    worker.engine = drawn;
    worker.busy += m.draw + m.judge / m.judges;
    const given = judged + m.result / line + far / 2;
    worker.going.push(given);
    arrivals.push(given + m.roundTrip / 2);
  }
  // Results come in through one line, and are checked one after another.
  let checked = 0;
  for (const at of arrivals.sort((a, b) => a - b))
    checked = Math.max(at, checked) + m.result / Math.min(m.trainerBandwidth, m.serverBandwidth) + m.check;
  const seconds = checked + m.update;
  const busy = workers.reduce((sum, worker) => sum + Math.min(1, worker.busy / seconds), 0) / m.workers;
  return { seconds, weights: fetched, collected: checked, busy };
}

/** When one of the cores, the first that is free, has `seconds` for whoever asks at `at`. */
function claim(cores: number[], at: number, seconds: number): number {
  const first = cores.indexOf(Math.min(...cores));
  const begins = Math.max(at, cores[first]);
  cores[first] = begins + seconds;
  return begins;
}

/** A step of one machine: the judge is at work on some parts while others are drawn. */
export function aloneStep(m: Omit<StepModel, "workers">): number {
  const judges = new Array<number>(m.judges).fill(0);
  let [engine, end] = [0, 0];
  for (let part = 0; part < m.parts; part++) {
    engine += m.draw;
    const j = judges.reduce((best, at, k) => (at < judges[best] ? k : best), 0);
    judges[j] = Math.max(engine, judges[j]) + m.judge;
    end = Math.max(end, judges[j]);
  }
  return end + m.update;
}

/**
 * From which bandwidth on it pays to have another machine compute the gradient of a microbatch: the bytes of the gradient back, and the
 * weights there once an optimizer step, take less time than the gradient itself.
 * @param seconds   of a microbatch's gradient, on such a machine
 * @param gradient  bytes of the gradient, which are those of the weights
 * @param perUpdate microbatches that a machine computes between two optimizer steps
 * @returns bytes per second
 */
export const payingBandwidth = (seconds: number, gradient: number, perUpdate: number): number =>
  // A machine adds up its own microbatches: one gradient back, one set of weights there, for perUpdate gradients.
  (2 * gradient) / (perUpdate * seconds);
