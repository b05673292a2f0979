/** @file The flags of a NATS server: for runs that ask for workers, and for workers. */
import { type Command, Option } from "commander";
import { z } from "zod";
import { fail } from "../base/errors.ts";
import type { OptionTable } from "../base/options.ts";
import { withoutSecrets } from "../distributed/connection.ts";
import type { WorkersSpec } from "../distributed/job.ts";
import { absolutePath, env } from "../platform/files.ts";
import { numberOrText, readFlags } from "./options.ts";

export interface ServerFlags {
  natsUser?: string;
  natsCredentials?: string;
  natsCa?: string;
  natsCert?: string;
  natsKey?: string;
}

export interface WorkersFlags extends ServerFlags {
  workers?: string;
  workerTimeout?: number;
  workerCheck?: number;
  workerGradients?: "auto" | "always";
}

const table = {
  workerTimeout: [
    z.number().min(1).max(3600).describe("a number from 1 to 3600").optional(),
    undefined,
    "seconds after which a silent worker is taken for lost and its task given to another (default: 20)",
  ],
  workerCheck: [
    z.number().min(0).max(1).describe("a number from 0 to 1").optional(),
    undefined,
    "share of each result's responses that is scored again here, and of gradients that are computed again; 0: none (default: 0.05)",
  ],
} as const satisfies OptionTable;

export function addServerOptions(command: Command): void {
  command
    .option("--nats-user <name>", "user of the server; its password is in VALUEHEAD_NATS_PASSWORD")
    .option("--nats-credentials <file>", "a credentials file (.creds); a token is in VALUEHEAD_NATS_TOKEN")
    .option("--nats-ca <file>", "certificate of who signed the server's")
    .option("--nats-cert <file>", "this side's own certificate, with --nats-key")
    .option("--nats-key <file>", "the key of that certificate");
}

export function addWorkersOptions(command: Command): void {
  command
    .optionsGroup("Workers:")
    .option("--workers <url>", "nats://HOST:4222: have workers on other machines answer prompts (valuehead worker)")
    .option("--worker-timeout <seconds>", table.workerTimeout[2], numberOrText)
    .option("--worker-check <share>", table.workerCheck[2], numberOrText)
    .addOption(
      new Option(
        "--worker-gradients [when]",
        "workers compute gradients of microbatches too: auto, where the way to the server is quick enough, or always",
      )
        .choices(["auto", "always"])
        .preset("auto"),
    );
  addServerOptions(command);
}

/** @throws usage - an address that is none */
export function serverOf(option: string, server: string, flags: ServerFlags): WorkersSpec {
  if (!/^(?:(?:nats|tls):\/\/)?(?:[^@/\s,]*@)?[\w.[\]:-]+(?:,\S+)?$/.test(server))
    fail("usage", {
      where: option,
      found: JSON.stringify(withoutSecrets(server)),
      expected: "the address of a NATS server, nats://HOST:4222 or tls://HOST:4222",
      fix: `write ${option} nats://HOST:4222`,
    });
  const { natsUser: user, natsCredentials, natsCa, natsCert, natsKey } = flags;
  const file = (name: string | undefined) => (name === undefined ? undefined : absolutePath(name));
  const spec = {
    server,
    user,
    password: env("VALUEHEAD_NATS_PASSWORD"),
    token: env("VALUEHEAD_NATS_TOKEN"),
    credentials: file(natsCredentials),
    ca: file(natsCa),
    cert: file(natsCert),
    key: file(natsKey),
  };
  return Object.fromEntries(Object.entries(spec).filter(([, value]) => value !== undefined)) as unknown as WorkersSpec;
}

/** Workers for a run; undefined: none are asked for. */
export function workersOf(flags: WorkersFlags): WorkersSpec | undefined {
  const { workerTimeout: timeout, workerCheck: check } = readFlags<WorkersFlags>(table, flags);
  if (flags.workers === undefined) return undefined;
  const spec = serverOf("--workers", flags.workers, flags);
  const { workerGradients: gradients } = flags;
  return {
    ...spec,
    ...(timeout !== undefined && { timeout }),
    ...(check !== undefined && { check }),
    ...(gradients !== undefined && { gradients }),
  };
}

/** What was typed, as it may be written down: no user, password or token in the address of a server. */
export const typedWithoutSecrets = (words: readonly string[]): string[] =>
  words.map((word, i) => {
    const [, flag = "", address] = /^(--(?:workers|server)=)(.*)$/s.exec(word) ?? [undefined, "", word];
    return flag !== "" || /^--(workers|server)$/.test(words[i - 1] ?? "") ? flag + withoutSecrets(address) : word;
  });
