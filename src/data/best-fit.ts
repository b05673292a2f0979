/** @file Best-fit decreasing: items into as few bins as a simple rule finds. */

/**
 * The largest items first, each into the fullest bin that has room for it. Never more bins than 11/9 of the
 * fewest possible and four (Johnson et al. 1974, "Worst-case performance bounds for simple one-dimensional packing algorithms").
 * @param sizes whole numbers from 1 to `capacity`
 * @returns for each bin, which items are in it; items of one size go in as they come
 */
export function bestFit(sizes: readonly number[], capacity: number): number[][] {
  const bySize: number[][] = Array.from({ length: capacity + 1 }, () => []);
  for (const [item, size] of sizes.entries()) bySize[size].push(item);
  const bins: number[][] = [];
  /** Bins by the room that is left in them. */
  const open: number[][] = Array.from({ length: capacity + 1 }, () => []);
  for (let size = capacity; size > 0; size--)
    for (const item of bySize[size]) {
      let room = size;
      while (room <= capacity && open[room].length === 0) room++;
      const bin = room <= capacity ? (open[room].pop() as number) : bins.push([]) - 1;
      bins[bin].push(item);
      open[Math.min(room, capacity) - size].push(bin);
    }
  return bins;
}
