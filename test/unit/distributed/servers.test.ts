/** @file Servers that ask who comes, that are full, and that are away: who may in does, and what is said holds no secret. */
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { typedWithoutSecrets } from "../../../src/cli/workers-options.ts";
import { Connection, type ServerSpec, withoutSecrets } from "../../../src/distributed/connection.ts";
import type { RunEvent } from "../../../src/run/events.ts";
import { hasServer, TestServer } from "../../support/nats.ts";
import { certificate, credentials, hasOpenssl } from "../../support/nats-keys.ts";
import { place, runSmall, said, smallModel, startWorker, tasksUsed } from "../../support/workers.ts";

const SECRET = "s3cret-w0rd";
const REFUSAL = /found a refusal \(.*\), expected a user, token or credentials file that the server knows/;

/** What connecting fails with. */
const failure = (spec: ServerSpec): Promise<string> =>
  Connection.connect(spec, "test").then(
    async (connection) => {
      await connection.close();
      return "none";
    },
    (error) => `${error.message} ${error.stack}`,
  );

test.each([
  ["nats://user:pw@a:4222,nats://token@b", "nats://a:4222,nats://b"],
  ["user:pw@a:4222", "a:4222"],
  ["tls://user:p/w@x@a:4222, token@b", "tls://a:4222,b"],
  ["nats://a:4222,b:4223", "nats://a:4222,b:4223"],
])("of %s nothing secret is shown", (address, shown) => {
  expect(withoutSecrets(address)).toBe(shown);
  expect(typedWithoutSecrets(["train", "--workers", address, `--server=${address}`, "--prompts", "a@b"])).toEqual([
    ...["train", "--workers", shown, `--server=${shown}`, "--prompts", "a@b"],
  ]);
});

describe.skipIf(!hasServer)("with a server", () => {
  let model: string;
  beforeAll(async () => {
    model = await smallModel();
  });

  /** A whole run with a worker, both by way of `spec`; what lies in its directory and what was said. */
  async function runThrough(spec: ServerSpec): Promise<string> {
    const out = join(place("run"), "run");
    const worker = startWorker(spec.server, spec);
    const outcome = await runSmall(model, { steps: 3 }, { workers: spec, until: worker.ready, out });
    await worker.stop();
    expect(tasksUsed(outcome)).toBeGreaterThanOrEqual(4);
    const files = readdirSync(out, { recursive: true, encoding: "utf8" }).filter((name) =>
      statSync(join(out, name)).isFile(),
    );
    const written = files.map((name) => readFileSync(join(out, name), "latin1")).join("");
    return written + JSON.stringify([outcome.events, worker.events]);
  }

  test("user and password, or a token: a run goes through, and nothing that is said or written holds them", async () => {
    const server = await TestServer.start(["--user", "ann", "--pass", SECRET]);
    const inAddress = server.url.replace("//", `//ann:${SECRET}@`);
    expect(await runThrough({ server: server.url, user: "ann", password: SECRET })).not.toContain(SECRET);
    expect(await runThrough({ server: inAddress })).not.toContain(SECRET);
    for (const wrong of [
      { server: server.url, user: "ann", password: `${SECRET}-not` },
      { server: server.url, user: "bob", password: SECRET },
      { server: server.url.replace("//", `//bob:${SECRET}@`) },
    ]) {
      const text = await failure(wrong);
      expect(text).toMatch(REFUSAL);
      expect(text).not.toContain(SECRET);
    }
    expect(await failure({ server: server.url })).toMatch(REFUSAL);
    await server.close();
    const away = await failure({ server: inAddress });
    expect(away).toContain("found no connection");
    expect(away).not.toContain(SECRET);
    const guarded = await TestServer.start(["--auth", SECRET]);
    expect(await runThrough({ server: guarded.url, token: SECRET })).not.toContain(SECRET);
    await guarded.close();
  });

  test("a credentials file: whoever has one of the account comes in, others do not", async () => {
    const directory = place("nats-keys");
    const { config, file, stranger, seed } = credentials(directory);
    const server = await TestServer.start(["-c", config]);
    expect(await runThrough({ server: server.url, credentials: file })).not.toContain(seed);
    const refused = await failure({ server: server.url, credentials: stranger });
    expect(refused).toMatch(REFUSAL);
    expect(refused).not.toContain(seed);
    const broken = join(directory, "broken.creds");
    writeFileSync(broken, `-----BEGIN USER NKEY SEED-----\n${seed}\n------END USER NKEY SEED------\n`);
    const unread = await failure({ server: server.url, credentials: broken });
    expect(unread).toMatch(REFUSAL);
    expect(unread).not.toContain(seed);
    expect(await failure({ server: server.url, credentials: join(directory, "none.creds") })).toMatch(/none\.creds/);
    await server.close();
  });

  test.skipIf(!hasOpenssl)(
    "TLS with certificates of both sides; without them, or with a stranger's, there is no way in",
    async () => {
      const directory = place("nats-tls");
      const { cert: ca } = certificate(directory, "authority");
      const own = certificate(directory, "server", "authority");
      const client = certificate(directory, "client", "authority");
      certificate(directory, "impostor");
      const stranger = certificate(directory, "stranger", "impostor");
      const flags = ["--tls", "--tlscert", own.cert, "--tlskey", own.key, "--tlsverify", "--tlscacert", ca];
      const server = await TestServer.start(flags);
      const address = server.url.replace("nats:", "tls:");
      await runThrough({ server: address, ca, ...client });
      await runThrough({ server: server.url, ca, ...client });
      const none = /found no connection .*check address, firewall and TLS/s;
      expect(await failure({ server: address })).toMatch(none);
      expect(await failure({ server: address, ca })).toMatch(none);
      expect(await failure({ server: address, ca, ...stranger })).toMatch(none);
      expect(await failure({ server: address, ca: join(directory, "impostor.pem"), ...client })).toMatch(none);
      expect(await failure({ server: address, ca: join(directory, "none.pem"), ...client })).toMatch(/none\.pem/);
      await server.close();
      const plain = await TestServer.start();
      expect(await failure({ server: plain.url.replace("nats:", "tls:") })).toMatch(none);
      await plain.close();
    },
  );

  const stepsOf = ({ events }: { events: readonly RunEvent[] }) =>
    events.flatMap((event) => (event.type === "workers" ? [event.step] : []));

  /** Waits at each step until workers take part, once `from` has passed, and for no more than a minute in all. */
  function untilBack(from: number) {
    let back = false;
    return async (event: RunEvent) => {
      if (event.type === "workers" && event.step > from) back = true;
      if (event.type === "step" && event.step > from && !back)
        await new Promise((resolve) => setTimeout(resolve, 1000));
    };
  }

  test("a server that is full: the run says so and goes on alone, and with workers when there is room again", async () => {
    const config = join(place("nats-full"), "full.conf");
    writeFileSync(config, "jetstream { max_file_store: 12MB }\n");
    const small = await TestServer.start(["-c", config]);
    const steps = { steps: 40 };
    const alone = await runSmall(model, steps);
    const { connect, jetstream, jetstreamManager } = {
      ...(await import("@nats-io/transport-node")),
      ...(await import("@nats-io/jetstream")),
    };
    const other = await connect({ servers: small.url });
    const manager = await jetstreamManager(other);
    const filler = new Uint8Array(500_000);
    const fill = async () => {
      await manager.streams.add({ name: "filler", subjects: ["filler"] });
      for (;;)
        try {
          await jetstream(other).publish("filler", filler);
        } catch {
          break; // it is full
        }
    };
    const worker = startWorker(small.url);
    const wait = untilBack(8);
    const onEvent = async (event: RunEvent) => {
      if (event.type === "step" && event.step === 3) await fill();
      if (event.type === "step" && event.step === 8) await manager.streams.delete("filler");
      await wait(event);
    };
    const workers = { server: small.url, timeout: 1.5 };
    const outcome = await runSmall(model, steps, { workers, until: worker.ready, onEvent });
    await worker.stop();
    await other.close();
    await small.close();
    expect(outcome.weights).toEqual(alone.weights);
    expect(said(outcome, "warning").join("\n")).toMatch(
      /nothing could be given to workers: .*(insufficient|resource|storage|space).*; the step is done here/,
    );
    expect(stepsOf(outcome).some((step) => step <= 3)).toBe(true);
    expect(stepsOf(outcome).filter((step) => step > 4 && step <= 8)).toEqual([]);
    expect(stepsOf(outcome).some((step) => step > 8)).toBe(true);
  });

  test("a server that is away for several steps: the run goes on alone, and with workers when it is back", async () => {
    const server = await TestServer.start();
    const steps = { steps: 40 };
    const alone = await runSmall(model, steps);
    const worker = startWorker(server.url);
    const wait = untilBack(8);
    const onEvent = async (event: RunEvent) => {
      if (event.type === "step" && event.step === 3) await server.kill();
      if (event.type === "step" && event.step === 8) await server.start();
      await wait(event);
    };
    const workers = { server: server.url, timeout: 1.5 };
    const outcome = await runSmall(model, steps, { workers, until: worker.ready, onEvent });
    await worker.stop();
    await server.close();
    expect(outcome.weights).toEqual(alone.weights);
    expect(outcome.metrics).toEqual(alone.metrics);
    expect(stepsOf(outcome).filter((step) => step > 4 && step <= 8)).toEqual([]);
    expect(stepsOf(outcome).some((step) => step > 8)).toBe(true);
  });
});
