/** @file Whether counts are those of a distribution: Pearson's chi-squared test. */

/** P(X > x) for chi-squared with df degrees of freedom: 1 minus the series of the incomplete gamma function. */
export function tail(df: number, x: number): number {
  const a = df / 2;
  let logGamma = df % 2 === 0 ? 0 : Math.log(Math.PI) / 2; // ln Gamma of 1 or 1/2, and from there to a + 1
  for (let z = df % 2 === 0 ? 1 : 0.5; z < a + 1; z++) logGamma += Math.log(z);
  let term = Math.exp(a * Math.log(x / 2) - x / 2 - logGamma);
  if (x > a && term === 0) return 0; // too far out for float64
  let sum = 0;
  for (let n = 1; term > 1e-18 || n < x; n++) {
    sum += term;
    term *= x / 2 / (a + n);
  }
  return 1 - sum;
}

/** Pearson's test: the probability of counts as far from p as these. Tokens expected fewer than 5 times count as one. */
export function pValue(counts: readonly number[], p: readonly number[]): number {
  const draws = counts.reduce((sum, n) => sum + n, 0);
  const bins: [number, number][] = [];
  const rare: [number, number] = [0, 0];
  p.forEach((x, v) => {
    if (x * draws >= 5) bins.push([counts[v], x * draws]);
    else {
      rare[0] += counts[v];
      rare[1] += x * draws;
    }
  });
  if (rare[1] > 0) bins.push(rare);
  else if (rare[0] > 0) return 0; // drawn, though impossible
  return tail(
    bins.length - 1,
    bins.reduce((sum, [seen, due]) => sum + (seen - due) ** 2 / due, 0),
  );
}
