/** Builds the playground into a folder. */
export function buildPlayground(outdir: string): Promise<void>;
