import type { BuildOptions, Metafile } from "esbuild";

/** What every bundle with the library is built with. */
export const options: BuildOptions;
/** Builds the package for browsers into a folder. */
export function buildBrowser(outdir: string): Promise<Metafile>;
/** Bytes, gzipped, of the project's own code that a page loads. */
export function ownBytes(): Promise<number>;
