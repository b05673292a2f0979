/** @file The base: the reference, or the policy where there is none, with its tokenizer, as files of a model directory. Sent once a run; workers keep it by its SHA-256. */
import type { CausalLMWithValueHead } from "../model/model.ts";
import {
  createByteFile,
  env,
  exists,
  homeDirectory,
  joinPath,
  listDirectory,
  makeDirectory,
  readBytes,
  remove,
  temporaryPlace,
  writeDirectoryAtomic,
} from "../platform/files.ts";
import { randomId, sha256Of } from "../platform/hash.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { Connection } from "./connection.ts";
import type { Job } from "./messages.ts";

const objectOf = (sha256: string) => `base-${sha256}`;

/** The trainer's side. */
export class BaseSender {
  readonly #directory: string;
  readonly files: Job["base"];

  private constructor(directory: string, files: Job["base"]) {
    this.#directory = directory;
    this.files = files;
  }

  /** Write the files to a temporary directory, until {@link close}. */
  static async write(base: CausalLMWithValueHead, tokenizer: Tokenizer): Promise<BaseSender> {
    const directory = joinPath(temporaryPlace(), `valuehead-base-${randomId()}`);
    await makeDirectory(directory);
    await base.savePretrained(directory);
    await tokenizer.save(directory);
    const files: Job["base"] = [];
    for (const name of await listDirectory(directory)) {
      const bytes = await readBytes(joinPath(directory, name));
      files.push({ name, size: bytes.length, sha256: sha256Of([bytes]) });
    }
    return new BaseSender(directory, files);
  }

  /** Put on the server what is not there. */
  async send(connection: Connection, run: string): Promise<void> {
    for (const { name, sha256 } of this.files)
      if (!(await connection.hasObject(run, objectOf(sha256))))
        await connection.putObject(run, objectOf(sha256), await readBytes(joinPath(this.#directory, name)));
  }

  close(): Promise<void> {
    return remove(this.#directory);
  }
}

/** Where workers keep bases. */
const cacheDirectory = (): string =>
  joinPath(env("VALUEHEAD_CACHE") ?? joinPath(homeDirectory(), ".cache", "valuehead"), "bases");

/**
 * A worker's side: the directory of a run's base, fetched unless it is here.
 * @param onFile told of each file before it is fetched
 * @throws Error - a file that is not on the server, or with another SHA-256
 */
export async function fetchBase(
  connection: Connection,
  { run, base }: Job,
  onFile: (file: string, done: number, total: number) => void,
  cache = cacheDirectory(),
): Promise<string> {
  const key = sha256Of(base.map(({ name, sha256 }) => `${name} ${sha256}\n`));
  const directory = joinPath(cache, key.slice(0, 32));
  if (await isAsSaid(directory, base)) return directory;
  await makeDirectory(cache);
  const total = base.reduce((n, { size }) => n + size, 0);
  let done = 0;
  const fetched = writeDirectoryAtomic(
    directory,
    async (temporary) => {
      for (const { name, size, sha256 } of base) {
        onFile(name, done, total);
        const bytes = await connection.getObject(run, objectOf(sha256));
        if (!bytes || bytes.length !== size || sha256Of([bytes]) !== sha256)
          throw new Error(`${name} of the base is not what the run says it is`);
        const file = await createByteFile(joinPath(temporary, name));
        await file.append(bytes);
        await file.close();
        done += size;
      }
    },
    { replace: true, bytes: total },
  );
  await fetched.catch(async (error) => {
    if (!(await isAsSaid(directory, base))) throw error; // another worker of this machine was quicker
  });
  return directory;
}

async function isAsSaid(directory: string, base: Job["base"]): Promise<boolean> {
  for (const { name, sha256 } of base) {
    const path = joinPath(directory, name);
    if (!(await exists(path)) || sha256Of([await readBytes(path)]) !== sha256) return false;
  }
  return base.length > 0;
}
