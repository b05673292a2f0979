import { defineConfig } from "vitest/config";

export default defineConfig({
  resolve: { alias: { valuehead: new URL("src/index.ts", import.meta.url).pathname } }, // as the examples import it
  test: {
    include: ["test/**/*.test.ts"],
    exclude: ["test/pack/**"], // npm run pack-test
    // One process at a time: ONNX Runtime already uses every core.
    pool: "forks",
    maxWorkers: 1,
    testTimeout: 60_000,
    hookTimeout: 120_000,
  },
});
