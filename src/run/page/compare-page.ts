/** @file A comparison of two models as a page in one file, which opens from disk and asks nobody for anything. */
import { writeTextAtomic } from "../../platform/files.ts";
import { gzipped } from "../../platform/live/server.ts";
import type { Comparison } from "../../ship/compare.ts";
import { wholePage } from "./html.ts";

/** What the page knows. */
export interface ComparisonData {
  readonly version: string;
  /** When it was written, ISO 8601. */
  readonly written: string;
  /** What the two are called. */
  readonly models: { readonly a: string; readonly b: string };
  readonly comparison: Comparison;
  /** Reward and sampling, by name. */
  readonly asked: Readonly<Record<string, unknown>>;
  /** What was typed. */
  readonly command?: string;
}

/** @returns its size in bytes */
export async function writeComparison(path: string, data: ComparisonData): Promise<number> {
  const { a, b } = data.models;
  const html = await wholePage(`${a} and ${b}`, await gzipped(JSON.stringify(data)), "compare-main");
  await writeTextAtomic(path, html);
  return new TextEncoder().encode(html).length;
}
