/**
 * @file How often does the audit stop honest runs? 200,000 of them, simulated: for several α, the share in which the test martingale
 * ever reaches 1/α, which Ville's inequality says is at most α. `npm run audit-simulation`, or with runs and seed:
 * `npm run audit-simulation -- 10000 7`.
 */
import { RNG } from "../src/base/rng.ts";
import { FALSE_STOPS, LOG_BOUND } from "../src/rl/martingale.ts";
import { honestRun, KINDS } from "./honest-runs.ts";

const [runs = 200_000, seed = 1] = process.argv.slice(2).map(Number);
const ALPHAS = [0.2, 0.05, 0.01, 0.001];
const perKind = Math.ceil(runs / KINDS.length);
let stopped = 0;
let over = 0;
console.log(
  `${perKind} runs of each kind: share that reaches 1/α, and the highest log M (a run is stopped at ${LOG_BOUND.toFixed(1)})`,
);
for (const [k, kind] of KINDS.entries()) {
  const highest = Array.from({ length: perKind }, (_, run) => honestRun(kind, new RNG(seed, k, run)));
  const shares = ALPHAS.map((alpha) => highest.filter((log) => log >= -Math.log(alpha)).length / perKind);
  // A share may exceed α by chance: by 4 standard errors of a binomial.
  over += ALPHAS.filter((alpha, i) => shares[i] > alpha + 4 * Math.sqrt((alpha * (1 - alpha)) / perKind)).length;
  stopped += highest.filter((log) => log >= LOG_BOUND).length;
  const most = highest.reduce((a, b) => Math.max(a, b)).toFixed(2);
  console.log(
    `${ALPHAS.map((alpha, i) => `α ${alpha}: ${shares[i].toFixed(5)}`).join("  ")}  ${most.padStart(6)}  ${kind.name}`,
  );
}
console.log(`${stopped} of ${perKind * KINDS.length} honest runs stopped (α = ${FALSE_STOPS})`);
if (stopped > 0 || over > 0) process.exitCode = 1;
