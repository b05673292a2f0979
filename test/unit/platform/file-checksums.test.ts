import { appendFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { CHECKSUMS_FILE, findDamage, writeChecksums } from "../../../src/platform/file-checksums.ts";

const directory = mkdtempSync(join(tmpdir(), "valuehead-checksums-"));
afterAll(() => rmSync(directory, { recursive: true, force: true }));
const at = (name: string) => join(directory, name);

test("every file is listed, those of inner directories too; what is missing or changed is named", async () => {
  mkdirSync(at("inner"));
  writeFileSync(at("abc"), "abc");
  writeFileSync(at("inner/empty"), "");
  await writeChecksums(directory);
  // SHA-256 of "abc" and of nothing: FIPS 180-4's examples, NIST
  expect(readFileSync(at(CHECKSUMS_FILE), "utf8")).toBe(
    "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  abc\n" +
      "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  inner/empty\n",
  );
  expect(await findDamage(directory)).toBeUndefined();
  writeFileSync(at("notes.txt"), "a file of the user's own");
  expect(await findDamage(directory)).toBeUndefined();
  appendFileSync(at("inner/empty"), "x");
  expect(await findDamage(directory)).toBe("inner/empty is not what was written (1 bytes, another SHA-256)");
  rmSync(at("inner"), { recursive: true });
  expect(await findDamage(directory)).toBe("inner/empty is missing");
});
