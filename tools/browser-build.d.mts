import type { Metafile } from "esbuild";

/** Builds the package for browsers into a folder. */
export function buildBrowser(outdir: string): Promise<Metafile>;
/** Bytes, gzipped, of the project's own code that a page loads. */
export function ownBytes(): Promise<number>;
