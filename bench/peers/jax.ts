/** @file A matrix product of jax-js on its WebAssembly backend: {"run": "matmul", "M", "K", "N"}. See ../side.ts. */
import { integers } from "../matmul.ts";
import { serve } from "../serve.ts";
import { installed } from "./installed.ts";

const { library: jax, version } = await installed("@jax-js/jax", "dist/index.js");
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
