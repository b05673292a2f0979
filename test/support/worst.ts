/** @file The largest differences a test file measured; printed with MEASURE=1. */
export function worst(title: string) {
  const largest = new Map<string, number>();
  return {
    add: (what: string, difference: number) => largest.set(what, Math.max(largest.get(what) ?? 0, difference)),
    print: () => {
      if (process.env.MEASURE)
        console.log(title, Object.fromEntries([...largest].map(([what, x]) => [what, x.toExponential(1)])));
    },
  };
}
