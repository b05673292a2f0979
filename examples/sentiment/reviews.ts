/** @file The labelled reviews: short pieces for the judge to learn from, whole ones to test it on, and openings as prompts. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { type Judgement, readJudgements, type Tokenizer } from "valuehead";

export interface Reviews {
  /** One piece of each review, of 8 to 80 tokens. */
  train: Judgement[];
  /** The same of reviews of the test half. */
  heldOut: Judgement[];
  /** Reviews of the test half as they are; a judge reads the end of those that are too long. */
  whole: Judgement[];
  /** The first tokens of other reviews, as in TRL's sentiment example: to learn on, and for the final measurement. */
  openings: { train: string[]; heldOut: string[] };
}

/** The first of these that is there. */
function fileIn(directory: string, half: "train" | "test"): string {
  const names = [`${half}.jsonl.gz`, `${half}.jsonl`, `${half}.parquet`, `plain_text/${half}-00000-of-00001.parquet`];
  const found = names.map((name) => join(directory, name)).find(existsSync);
  if (found === undefined)
    throw new Error(
      `--imdb ${directory}: none of ${names.join(", ")} there. Download both halves of stanfordnlp/imdb:\n  ` +
        `for half in train test; do curl -L -o ${directory}/$half.parquet ` +
        `https://huggingface.co/datasets/stanfordnlp/imdb/resolve/main/plain_text/$half-00000-of-00001.parquet; done`,
    );
  return found;
}

/** A generator of numbers in [0, 1) that is the same everywhere (mulberry32). */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

type Labelled = { text: string; label: number };

async function half(directory: string, name: "train" | "test"): Promise<Labelled[]> {
  const rows = (await readJudgements(fileIn(directory, name))) as Labelled[];
  return rows.map(({ text, label }) => ({ text: text.replaceAll(/<br ?\/?>/g, "\n"), label }));
}

/** A run of tokens from the beginning of a sentence on. */
function piece({ text, label }: Labelled, tokenizer: Tokenizer, next: () => number): Judgement {
  const sentences = text.split(/(?<=[.!?])\s+/);
  const from = Math.floor(next() * sentences.length);
  const ids = tokenizer.encode(sentences.slice(from).join(" "));
  return { text: tokenizer.decode(ids.subarray(0, 8 + Math.floor(next() * 73))), label };
}

/** Everything that is made of the data set, the same each time. */
export async function readReviews(directory: string, tokenizer: Tokenizer): Promise<Reviews> {
  const next = random(1);
  const shuffled = (rows: Labelled[]) => rows.map((row) => ({ row, at: next() })).sort((a, b) => a.at - b.at);
  const [train, test] = [await half(directory, "train"), await half(directory, "test")];
  const [first, second] = [shuffled(train), shuffled(test)].map((rows) => rows.map(({ row }) => row));
  // Two to eight tokens, as in TRL's example.
  const opening = ({ text }: Labelled) =>
    tokenizer.decode(tokenizer.encode(text).subarray(0, 2 + Math.floor(next() * 7)));
  const textual = (rows: Judgement[]) => rows.filter((row) => "text" in row && String(row.text).trim() !== "");
  return {
    train: textual(first.map((row) => piece(row, tokenizer, next))),
    heldOut: textual(second.slice(0, 2000).map((row) => piece(row, tokenizer, next))),
    whole: second.slice(2000, 3000),
    openings: { train: first.slice(0, 4000).map(opening), heldOut: second.slice(3000, 3256).map(opening) },
  };
}
