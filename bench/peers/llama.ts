/**
 * @file node-llama-cpp with its prebuilt llama.cpp: node llama.js --gguf PREFIX [--threads N], where PREFIX-F32.gguf and PREFIX-Q8_0.gguf
 * lie (to_gguf.py). See ../side.ts.
 *
 *     {"run": "sample", "ids": [[...], ...], "tokens": N, "type": "F32" | "Q8_0", "check": rows}    N new tokens for each row
 *     -> of so many rows "sequences", and "logprobs" their tokens were drawn with
 */
import { parseArgs } from "node:util";
import { serve } from "../serve.ts";
import { installed } from "./installed.ts";

const { values: flags } = parseArgs({
  options: { gguf: { type: "string", default: "" }, threads: { type: "string", default: "2" } },
});
const threads = Number(flags.threads);
const { library, version } = await installed("node-llama-cpp", "dist/index.js");
const settings = { gpu: false, build: "never", skipDownload: true, progressLogs: false, logLevel: "error" };
const llama = await library.getLlama({ ...settings, maxThreads: threads });

interface SampleCommand {
  ids: number[][];
  tokens: number;
  type: "F32" | "Q8_0";
  check?: number;
}

/** A sequence of a context, which is one row of a batch. */
interface Sequence {
  clearHistory(): Promise<void>;
  evaluateWithMetadata(
    ids: readonly number[],
    metadata: { confidence?: boolean },
    options: object,
  ): AsyncGenerator<{ token: number; confidence?: number }>;
}

const rowsOf = new Map<string, Sequence[]>();

/** One context of as many sequences as there are rows: llama.cpp computes them together. */
async function open({ ids, tokens, type }: SampleCommand): Promise<Sequence[]> {
  const key = `${type} ${ids.length}`;
  const opened = rowsOf.get(key);
  if (opened) return opened;
  const model = await llama.loadModel({ modelPath: `${flags.gguf}-${type}.gguf`, gpuLayers: 0 });
  const context = await model.createContext({
    sequences: ids.length,
    contextSize: ids[0].length + tokens,
    batchSize: Math.max(512, ids.length * ids[0].length),
    threads: { ideal: threads, min: threads },
    // fp32 throughout, or llama.cpp's own default beside weights in int8
    ...(type === "F32" ? { experimentalKvCacheKeyType: "F32", experimentalKvCacheValueType: "F32" } : {}),
  });
  const sequences = ids.map(() => context.getSequence() as Sequence);
  rowsOf.set(key, sequences);
  return sequences;
}

/** Draws from all tokens, and nothing ends early. */
const options = { temperature: 1, topK: 0, topP: 1, minP: 0, yieldEogToken: true };
let seed = 0;

await serve(
  { node: process.versions.node, "node-llama-cpp": version, "llama.cpp": llama.llamaCppRelease?.release, threads },
  {
    async sample(command, clock) {
      const asked = command as unknown as SampleCommand;
      const { ids, tokens, check = 0 } = asked;
      const sequences = await open(asked);
      for (const sequence of sequences) await sequence.clearHistory();
      const drawn = ids.map(() => [] as { token: number; confidence?: number }[]);
      clock.start();
      await Promise.all(
        sequences.map(async (sequence, b) => {
          const wanted = b < check ? { confidence: true } : {};
          const stream = sequence.evaluateWithMetadata(ids[b], wanted, { ...options, seed: ++seed });
          for await (const token of stream) if (drawn[b].push(token) === tokens) break;
        }),
      );
      clock.stop();
      if (drawn.some((row) => row.length !== tokens)) throw new Error("Error: a response ended early");
      const checked = drawn.slice(0, check);
      return {
        sequences: checked.map((row, b) => [...ids[b], ...row.map(({ token }) => token)]),
        logprobs: checked.flatMap((row) => row.map(({ confidence }) => Math.log(confidence as number))),
      };
    },
  },
);
