/** @file A bounded cache for the results of pure functions; the least recently used is dropped first. */

/**
 * `build` called once for equal arguments. It must depend on its argument alone, which is plain data without functions: the
 * JSON of the argument is what is compared, so whatever a result depends on is named by construction.
 */
export class Memo<A, V> {
  readonly #build: (argument: A) => V;
  readonly #most: number;
  readonly #results = new Map<string, V>();

  /** @param most results kept */
  constructor(build: (argument: A) => V, most = 64) {
    this.#build = build;
    this.#most = most;
  }

  get(argument: A): V {
    const key = JSON.stringify(argument);
    let result = this.#results.get(key);
    if (result === undefined) {
      result = this.#build(argument);
      if (this.#results.size >= this.#most) this.#results.delete(this.#results.keys().next().value as string);
    } else this.#results.delete(key);
    this.#results.set(key, result); // the map is ordered from least to most recently used
    return result;
  }

  /** Number of results in the cache. */
  get size(): number {
    return this.#results.size;
  }
}
