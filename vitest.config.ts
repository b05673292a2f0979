import { defineConfig } from "vitest/config";

/** These measure time or memory, or share folders: nothing else computes beside them. */
const ALONE = [
  "test/browser/**/*.test.ts",
  "test/docs/**/*.test.ts",
  "test/invariant/{gpu,memory}.test.ts",
  "test/unit/backend/traps-off.test.ts",
  "test/unit/base/json.test.ts",
  "test/unit/experience/{patience,reward-functions}.test.ts",
  "test/unit/ship/text-model.test.ts",
  "test/unit/tokenizer/time.test.ts",
];

export default defineConfig({
  resolve: { alias: { valuehead: new URL("src/index.ts", import.meta.url).pathname } }, // as the examples import it
  test: {
    pool: "forks",
    testTimeout: 120_000,
    hookTimeout: 240_000,
    projects: [
      {
        extends: true,
        test: {
          name: "two",
          include: ["test/**/*.test.ts"],
          exclude: ["test/pack/**", ...ALONE], // npm run pack-test
          maxWorkers: 2, // ONNX Runtime uses every core; what waits, starts processes or runs in JavaScript leaves some
          sequence: { groupOrder: 0 },
        },
      },
      { extends: true, test: { name: "alone", include: ALONE, maxWorkers: 1, sequence: { groupOrder: 1 } } },
    ],
  },
});
