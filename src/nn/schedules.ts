/** @file Learning-rate schedules: step -> factor on the base rate. */

export type ScheduleName = "constant" | "linear" | "cosine";

/**
 * Linear warm-up over `warmup` steps, then constant, linear to `final`, or cosine to `final` at step `total`.
 * @param step 0 for the first update
 */
export function scheduleFactor(name: ScheduleName, step: number, total: number, warmup = 0, final = 0): number {
  if (step < warmup) return (step + 1) / warmup;
  if (name === "constant") return 1;
  const progress = Math.min(1, (step - warmup) / Math.max(1, total - warmup));
  const shape = name === "linear" ? 1 - progress : 0.5 * (1 + Math.cos(Math.PI * progress));
  return final + (1 - final) * shape;
}
