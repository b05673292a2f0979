import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { afterAll, describe, expect, it } from "vitest";
import { heldOutCount, holdOut } from "../../../src/data/held-out.ts";
import { PromptSampler, readPrompts } from "../../../src/data/prompts.ts";

const directory = mkdtempSync(join(tmpdir(), "valuehead-prompts-"));
afterAll(() => rmSync(directory, { recursive: true }));
const write = (name: string, content: string | Uint8Array) => {
  const path = join(directory, name);
  writeFileSync(path, content);
  return path;
};
const rejects = (path: string, message: string, column?: string) =>
  expect(readPrompts(path, { column })).rejects.toThrow(message);
const texts = async (path: string, column?: string) =>
  (await readPrompts(path, { column })).map(({ prompt }) => prompt);

describe("readPrompts", () => {
  it("text: one per line, blank lines skipped, line ends and a byte order mark removed, spaces kept", async () => {
    const content = "\uFEFFThis film\r\n\r\n  I went to see \n \t\nlast";
    const expected = ["This film", "  I went to see ", "last"].map((prompt) => ({ prompt, row: {} }));
    expect(await readPrompts(write("a.txt", content))).toEqual(expected);
    expect(await readPrompts(write("a.txt.gz", gzipSync(content)))).toEqual(expected);
  });

  it("JSON lines: strings, and objects with prompt, text, query or the given column, each with its row", async () => {
    const content = '"This"\n\n{"text":"film","label":1}\n{"text":"no","prompt":"was"}\n{"query":"bad"}\n';
    const expected = [
      { prompt: "This", row: {} },
      { prompt: "film", row: { text: "film", label: 1 } },
      { prompt: "was", row: { text: "no", prompt: "was" } },
      { prompt: "bad", row: { query: "bad" } },
    ];
    expect(await readPrompts(write("b.jsonl", content))).toEqual(expected);
    expect(await readPrompts(write("b.jsonl.gz", gzipSync(content)))).toEqual(expected);
    const columns = write("c.jsonl", '{"q":"one\\ntwo","text":"x"}\n"plain"');
    expect(await texts(columns, "q")).toEqual(["one\ntwo", "plain"]);
  });

  it("a missing file, an empty one, one of blank lines, one without any prompt", async () => {
    await rejects(join(directory, "none.txt"), `${join(directory, "none.txt")}: found nothing at this path`);
    await rejects(
      write("empty.txt", ""),
      "empty.txt: found nothing in it, expected at least one prompt. Fix: write one prompt per line",
    );
    await rejects(write("blank.jsonl", "\n \n"), "blank.jsonl: found nothing in it, expected at least one prompt");
    await rejects(
      write("unfilled.jsonl", '{"prompt":null}\n{"prompt":" "}\n'),
      "unfilled.jsonl: found 2 rows, all of them without a prompt, expected at least one prompt. " +
        "Fix: name the column that holds the prompts (column), or fill it",
    );
  });

  it("counts rows without a prompt, which it leaves out, and repeated prompts, which it keeps", async () => {
    const notes: string[] = [];
    const path = write("gaps.jsonl", '{"prompt":"a"}\n{"prompt":null}\n{"prompt":""}\n"  "\n"a"\n{"prompt":"b"}\n');
    const read = await readPrompts(path, { onNote: (note) => notes.push(note) });
    expect(read.map(({ prompt }) => prompt)).toEqual(["a", "a", "b"]);
    expect(notes).toEqual([
      `${path}: 3 without a prompt left out, the first: ${path}, line 2`,
      `${path}: 3 prompts, 2 of them different; all are used`,
    ]);
    notes.length = 0;
    await readPrompts(write("whole.txt", "a\n\nb"), { onNote: (note) => notes.push(note) });
    expect(notes).toEqual([]);
  });

  it("an unknown kind of file, and a column for a text file", async () => {
    for (const name of ["a.xlsx", "a.parquet.gz", "csv", "a.jsonl.zip"])
      await rejects(
        write(name, "x"),
        `${name}: found an unknown kind of file, expected a name ending in .txt, .json, .jsonl, .csv or .tsv, each`,
      );
    await rejects(
      write("d.txt", "x"),
      'd.txt: found the column "q" for plain text, expected a column for files that have columns',
      "q",
    );
  });

  it("broken JSON, with its line", async () => {
    await rejects(write("e.jsonl", '"a"\n\n{"prompt": "b"\n'), "e.jsonl, line 3: found broken JSON (");
    await rejects(write("j.jsonl", "17"), "j.jsonl, line 1: found 17, expected one JSON object or string on the line");
  });

  it("a missing column, with the line, the columns found and the nearest", async () => {
    const path = write("f.jsonl", '{"prompt":"a"}\n{"question":"b","id":2}\n');
    await rejects(
      path,
      "f.jsonl, line 2: found the columns question, id, expected a column prompt or text or query or messages. " +
        'Fix: use column "question"',
    );
    await rejects(
      write("k.jsonl", '{"id":2,"question":"b"}\n'),
      "k.jsonl, line 1: found the columns id, question, expected a column qestion. " + 'Fix: use column "question"',
      "qestion",
    );
    await rejects(write("g.jsonl", "{}"), "g.jsonl, line 1: found no columns");
  });

  it("a prompt that is no text", async () => {
    await rejects(write("h.jsonl", '{"prompt":["a"]}'), 'h.jsonl, line 1, column prompt: found ["a"], expected text');
  });
});

describe("a column that may be meant is named as it is to be typed", () => {
  const option = { columnOption: "--prompt-column" };
  it.each([
    ["Prompt", "--prompt-column Prompt"],
    ["prompts", "--prompt-column prompts"],
    ["question", "--prompt-column question"],
    ["Instruction", "--prompt-column Instruction"],
    ["input", "--prompt-column input"],
    ["my text", '--prompt-column "my text"'], // the only one with text
  ])("%s", async (name, typed) => {
    const path = write("column.json", JSON.stringify([{ id: 1, [name]: "a" }]));
    await expect(readPrompts(path, option)).rejects.toThrow(`Fix: use ${typed}`);
  });

  it("a misspelled one that was given, before others", async () => {
    const path = write("typo.csv", "question,promt\na,b\n");
    await expect(readPrompts(path, { column: "prompt", ...option })).rejects.toThrow("Fix: use --prompt-column promt");
    await expect(readPrompts(write("two.csv", "a,b\nx,y\n"), option)).rejects.toThrow(
      "Fix: name the column that holds",
    );
  });
});

describe("JSON", () => {
  const prompts = async (name: string, content: string | Uint8Array) =>
    (await readPrompts(write(name, content))).map(({ prompt }) => prompt);

  it("an array of strings, of objects, gzipped, with a byte order mark", async () => {
    expect(await prompts("s.json", '["a", "b\\nc"]')).toEqual(["a", "b\nc"]);
    const rows = [
      { prompt: "a", label: 1 },
      { prompt: "b", label: 2 },
    ];
    expect(await readPrompts(write("o.json", `\uFEFF${JSON.stringify(rows, null, 2)}`))).toEqual(
      rows.map((row) => ({ prompt: row.prompt, row })),
    );
    expect(await prompts("o.json.gz", gzipSync(JSON.stringify(rows)))).toEqual(["a", "b"]);
  });

  it("JSON lines under that name, as data sets are often saved", async () => {
    expect(await prompts("l.json", '{"prompt": "a"}\n{"prompt": "b"}\n')).toEqual(["a", "b"]);
  });

  it("something else says what it is, and which item is wrong", async () => {
    await rejects(write("w.json", '{"data": [{"prompt": "a"}]}'), 'Fix: write the array "data" alone');
    await rejects(write("x.json", '["a", 3]'), "x.json, item 2: found 3, expected an object or a string");
    await rejects(write("y.json", '["a",'), "y.json: found broken JSON (");
    await rejects(write("z.json", "[]"), "z.json: found nothing in it");
    await rejects(write("v.jsonl", '["a"]'), "an array of rows must be called .json");
  });
});

describe("encodings", () => {
  const utf16 = (text: string, little: boolean) => {
    const bytes = Buffer.from(`\uFEFF${text}`, "utf16le");
    return little ? bytes : bytes.swap16();
  };

  it("UTF-16 as it is marked, CRLF and byte order marks", async () => {
    for (const little of [true, false])
      expect(await readPrompts(write("u.txt", utf16("caf\u00e9\r\n\u65e5\u672c\r\n", little)))).toEqual([
        { prompt: "caf\u00e9", row: {} },
        { prompt: "\u65e5\u672c", row: {} },
      ]);
    expect(await readPrompts(write("b.txt", "\uFEFFa\r\nb"))).toEqual([
      { prompt: "a", row: {} },
      { prompt: "b", row: {} },
    ]);
    expect(await readPrompts(write("one.txt", "a"))).toEqual([{ prompt: "a", row: {} }]);
  });

  it("unmarked UTF-16 and binary files are named, not trained on", async () => {
    await rejects(
      write("n.txt", utf16("ab\n", true).subarray(2)),
      "n.txt, line 1: found a NUL character, expected text",
    );
    await rejects(write("m.txt", Uint8Array.of(0xff, 0xfe, 0x00, 0xd8)), "found bytes that are not UTF-16LE");
    await rejects(write("i.txt", Uint8Array.of(0x61, 0xe9, 0x62)), "found bytes that are not UTF-8");
  });
});

describe("holding out", () => {
  const many = Array.from({ length: 200 }, (_, i) => ({ prompt: `p${i % 100}`, row: { i } }));

  it("takes a tenth of the different prompts, none where there are few", () => {
    expect(heldOutCount(many)).toBe(10);
    expect(heldOutCount(many.slice(0, 79))).toBe(0);
    expect(heldOutCount(Array.from({ length: 5000 }, (_, i) => ({ prompt: `${i}`, row: {} })))).toBe(64);
  });

  it("is a matter of the seed, and no text is on both sides", () => {
    const { training, heldOut } = holdOut(many, 10, 3);
    expect(holdOut(many, 10, 3)).toEqual({ training, heldOut });
    expect(holdOut(many, 10, 4).heldOut).not.toEqual(heldOut);
    expect([training.length, heldOut.length]).toEqual([180, 10]);
    const texts = new Set(heldOut.map(({ prompt }) => prompt));
    expect(texts.size).toBe(10);
    expect(training.some(({ prompt }) => texts.has(prompt))).toBe(false);
    expect(holdOut(many, 0, 3)).toEqual({ training: many, heldOut: [] });
  });
});

describe("PromptSampler", () => {
  const sorted = (x: number[]) => x.toSorted((a, b) => a - b);
  const all = Array.from({ length: 10 }, (_, i) => i);

  it("gives every prompt once per epoch, in an order fresh for each epoch", () => {
    const sampler = new PromptSampler(10, 7);
    const epochs = [sampler.next(10), sampler.next(10), sampler.next(10)];
    for (const epoch of epochs) {
      expect(sorted(epoch)).toEqual(all);
      expect(epoch).not.toEqual(all);
    }
    expect(epochs[0]).not.toEqual(epochs[1]);
    expect(epochs[1]).not.toEqual(epochs[2]);
  });

  it("gives the same series whatever the batch size, also across epochs and beyond one", () => {
    const whole = new PromptSampler(10, 7).next(42);
    const sampler = new PromptSampler(10, 7);
    expect([3, 4, 0, 13, 22].flatMap((n) => sampler.next(n))).toEqual(whole);
  });

  it("depends on the seed", () => {
    expect(new PromptSampler(10, 7).next(10)).not.toEqual(new PromptSampler(10, 8).next(10));
  });

  it("continues from its state, in the middle and at the end of an epoch", () => {
    for (const done of [0, 4, 10, 23]) {
      const sampler = new PromptSampler(10, 7);
      sampler.next(done);
      const resumed = new PromptSampler(10, 7);
      resumed.setState(JSON.parse(JSON.stringify(sampler.getState())));
      expect(resumed.next(25)).toEqual(sampler.next(25));
    }
  });

  it("puts every prompt in every place about equally often", () => {
    const counts = Array.from({ length: 16 }, () => 0);
    const sampler = new PromptSampler(4, 1);
    for (let epoch = 0; epoch < 4000; epoch++) {
      for (const [place, prompt] of sampler.next(4).entries()) counts[4 * prompt + place]++;
    }
    // 1000 expected; the standard deviation is √(4000 · ¼ · ¾) = 27.
    for (const count of counts) expect(Math.abs(count - 1000)).toBeLessThan(4 * 27);
  });

  it("rejects no prompts and the state of other prompts", () => {
    expect(() => new PromptSampler(0, 1)).toThrow("PromptSampler: found 0 prompts, expected at least one");
    expect(() => new PromptSampler(9, 7).setState(new PromptSampler(10, 7).getState())).toThrow(
      "PromptSampler, setState: found a state of 10 prompts with seed 7, expected 9 prompts with seed 7",
    );
  });
});
