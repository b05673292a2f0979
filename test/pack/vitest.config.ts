import { defineConfig } from "vitest/config";

/** `npm run pack-test`: minutes and some 500 MB in a temporary folder, so it is not part of `npm test`. */
export default defineConfig({
  test: {
    include: ["test/pack/*.test.ts"],
    pool: "forks",
    maxWorkers: 1,
    testTimeout: 600_000,
    hookTimeout: 900_000,
  },
});
