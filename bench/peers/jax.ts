/** @file A matrix product of jax-js on its WebAssembly backend: {"run": "matmul", "M", "K", "N"}. See ../side.ts. */
import { existsSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { integers } from "../matmul.ts";
import { serve } from "../serve.ts";

// From the peer's own directory: the benchmark does not depend on it, so there are no types of it.
const root = resolve("bench/peers/js/node_modules/@jax-js/jax");
if (!existsSync(root)) throw new Error("jax-js is not installed: npm install --prefix bench/peers/js");
const { version } = JSON.parse(readFileSync(`${root}/package.json`, "utf8"));
const jax = await import(pathToFileURL(`${root}/dist/index.js`).href);
await jax.init("wasm");
jax.defaultDevice("wasm");

// biome-ignore lint/suspicious/noExplicitAny: an array of jax-js
let operands: any[] | undefined;

await serve(
  { node: process.versions.node, "jax-js": version },
  {
    async matmul(command, clock) {
      const { M, K, N } = command as unknown as { M: number; K: number; N: number };
      operands ??= [jax.numpy.array(integers(M * K)).reshape([M, K]), jax.numpy.array(integers(K * N)).reshape([K, N])];
      const [a, b] = operands;
      clock.start();
      const product = await jax.numpy.matmul(a.ref, b.ref).data(); // read back: a result nobody reads is not computed
      clock.stop();
      return { numbers: Array.from(product.subarray(0, 16) as Float32Array) };
    },
  },
);
