/**
 * @file transformers.js on onnxruntime-node, with what `valuehead export` wrote: node transformers.js --export DIR [--threads N]. See ../side.ts.
 *
 *     {"run": "sample", "ids": [[...], ...], "tokens": N, "dtype": "fp32" | "q8"}    N new tokens for each row
 *     {"run": "forward", "ids": [[...], ...], "keep": K, "dtype": ...}               log-probabilities of the last K tokens of each row
 */
import { parseArgs } from "node:util";
import { serve } from "../serve.ts";
import { installed, logProbability } from "./installed.ts";

const { values: flags } = parseArgs({
  options: { export: { type: "string", default: "" }, threads: { type: "string", default: "2" } },
});
const { library, version } = await installed("@huggingface/transformers", "dist/transformers.node.mjs");
const { AutoModelForCausalLM, Tensor, env } = library;
env.allowRemoteModels = false;

// biome-ignore lint/suspicious/noExplicitAny: models of transformers.js
const models = new Map<string, any>();

async function open(dtype: string) {
  if (!models.has(dtype)) {
    const session_options = { intraOpNumThreads: Number(flags.threads), interOpNumThreads: 1 };
    const model = await AutoModelForCausalLM.from_pretrained(flags.export, { dtype, device: "cpu", session_options });
    model.generation_config.eos_token_id = null; // nothing ends a response early
    models.set(dtype, model);
  }
  return models.get(dtype);
}

function inputs(ids: readonly number[][]) {
  const dims = [ids.length, ids[0].length];
  const tensor = (values: number[]) => new Tensor("int64", BigInt64Array.from(values, BigInt), dims);
  return { input_ids: tensor(ids.flat()), attention_mask: tensor(ids.flat().fill(1)) };
}

await serve(
  { node: process.versions.node, "transformers.js": version, threads: Number(flags.threads) },
  {
    async sample(command, clock) {
      const { ids, tokens, dtype } = command as unknown as { ids: number[][]; tokens: number; dtype: string };
      const model = await open(dtype);
      const given = inputs(ids);
      clock.start();
      const out = await model.generate({ ...given, max_new_tokens: tokens, do_sample: true, top_k: 0 });
      clock.stop();
      const [rows, length] = out.dims as number[];
      if (rows !== ids.length || length !== ids[0].length + tokens) throw new Error(`Error: generate gave ${out.dims}`);
      return {};
    },
    async forward(command, clock) {
      const { ids, keep, dtype } = command as unknown as { ids: number[][]; keep: number; dtype: string };
      const model = await open(dtype);
      const given = inputs(ids.map((row) => row.slice(0, -1)));
      clock.start();
      const { logits } = await model(given);
      clock.stop();
      const [, T, V] = logits.dims as number[];
      const numbers = ids.flatMap((row, b) =>
        row.slice(-keep).map((id, i) => {
          const at = (b * T + T - keep + i) * V;
          return logProbability(logits.data.subarray(at, at + V), id);
        }),
      );
      return { numbers };
    },
  },
);
