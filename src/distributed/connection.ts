/**
 * @file The way to the workers: a NATS server with JetStream, started by the user (`nats-server -js`). The only folder that knows its clients,
 * which are installed by those who want them. What is sent is bytes; what they mean is in messages.ts.
 */
import type { Consumer, JetStreamClient, JetStreamManager } from "@nats-io/jetstream";
import type { ObjectStore, Objm } from "@nats-io/obj";
import type { ConnectionOptions, NatsConnection } from "@nats-io/transport-node";
import { concatBytes } from "../base/bytes.ts";
import { fail, messageOf } from "../base/errors.ts";
import { readBytes } from "../platform/files.ts";
import { packageRequire } from "../platform/package.ts";
import type { TaskMessage } from "./messages.ts";

/** Where the server is, and who asks. Plain data. */
export interface ServerSpec {
  /** `nats://HOST:4222`, or several with commas between them; `tls://` insists on TLS. */
  server: string;
  /** Who asks, where the server knows users. */
  user?: string;
  /** Of the user. */
  password?: string;
  /** Where the server asks for one. */
  token?: string;
  /** A file of credentials (.creds). */
  credentials?: string;
  /** The file of the certificate of who signed the server's. */
  ca?: string;
  /** The file of this side's own certificate, with `key`. */
  cert?: string;
  /** The file of its key. */
  key?: string;
}

export const CLIENTS = ["@nats-io/transport-node", "@nats-io/jetstream", "@nats-io/obj"] as const;

type Clients = typeof import("@nats-io/transport-node") &
  typeof import("@nats-io/jetstream") &
  typeof import("@nats-io/obj");

/** @throws engine - they are not installed */
function loadClients(): Clients {
  try {
    const clients: Clients = Object.assign({}, ...CLIENTS.map((name) => packageRequire()(name)));
    clients.setSha256Backend("native"); // the object store's sums: 25 ns a byte in JavaScript, 1 ns so
    return clients;
  } catch (cause) {
    return fail(
      "engine",
      {
        where: "workers over NATS",
        found: messageOf(cause).split("\n")[0],
        expected: `the packages ${CLIENTS.join(", ")}, which are installed by those who want workers`,
        fix: `npm install ${CLIENTS.join(" ")}`,
      },
      cause,
    );
  }
}

/** Names on the server of everything that belongs to a run. */
export const namesOf = (run: string) => ({
  /** A stream with the job and the results. */
  stream: `valuehead-${run}`,
  /** A work queue. */
  tasks: `valuehead-${run}-tasks`,
  /** Objects: the base, weights, what is too large for a message. */
  bucket: `valuehead-${run}`,
  job: `valuehead.${run}.job`,
  /** Of tasks and results; then the step. */
  task: `valuehead.${run}.task`,
  result: `valuehead.${run}.result`,
  /** Signs of life of the workers, and what the trainer tells them. */
  heartbeat: `valuehead.${run}.worker`,
  control: `valuehead.${run}.control`,
});

/** The subjects of the jobs of all runs. */
export const JOBS = "valuehead.*.job";
const CONSUMER = "workers";
const seconds = (n: number) => Math.round(n * 1e9);

/** Bytes of a message above which it goes through the object store. */
const INLINE = 400_000;
/** Bytes of an object's pieces: the client waits for the server after each, so there should be few. A server's limit for a message is 1 MiB. */
const CHUNK = 1_000_000;

/** A connection, which comes back by itself when it was lost. */
export class Connection {
  readonly #nc: NatsConnection;
  readonly #clients: Clients;
  readonly #js: JetStreamClient;
  readonly #jsm: JetStreamManager;
  readonly #objm: Objm;
  readonly #consumers = new Map<string, Consumer>();
  readonly #buckets = new Map<string, ObjectStore>();
  /** Whether there is a server at the other end just now. */
  connected = true;
  /** How often it came back. */
  returns = 0;

  private constructor(nc: NatsConnection, clients: Clients, jsm: JetStreamManager) {
    this.#nc = nc;
    this.#clients = clients;
    this.#js = clients.jetstream(nc, { timeout: 10_000 });
    this.#jsm = jsm;
    this.#objm = new clients.Objm(this.#js);
    void this.#watch();
  }

  /**
   * @param name what the server's monitoring calls this side
   * @throws engine - no clients, no server, no JetStream
   * @throws usage - the server refuses who asks
   */
  static async connect(spec: ServerSpec, name: string): Promise<Connection> {
    const clients = loadClients();
    const where = `NATS server ${withoutSecrets(spec.server)}`;
    let nc: NatsConnection;
    try {
      nc = await clients.connect({ ...(await connectionOptions(spec, clients)), name });
    } catch (error) {
      return refused(where, error);
    }
    try {
      return new Connection(nc, clients, await clients.jetstreamManager(nc, { timeout: 10_000 }));
    } catch (error) {
      await nc.close();
      return fail(
        "engine",
        {
          where,
          found: `no JetStream (${messageOf(error)})`,
          expected: "a server with JetStream, and an account that may use it",
          fix: "start it with nats-server -js",
        },
        error,
      );
    }
  }

  async #watch(): Promise<void> {
    for await (const { type } of this.#nc.status()) {
      if (type === "disconnect") this.connected = false;
      if (type === "reconnect") {
        this.connected = true;
        this.returns++;
      }
    }
    this.connected = false;
  }

  /** Hear what is said from now on. */
  subscribe(subject: string, hear: (bytes: Uint8Array) => void): () => void {
    const subscription = this.#nc.subscribe(subject, {
      callback: (error, message) => {
        if (!error) hear(plain(message.data));
      },
    });
    return () => subscription.unsubscribe();
  }

  /** Say something to whoever listens now; nothing where there is no connection. */
  say(subject: string, bytes: Uint8Array): void {
    if (this.connected && !this.#nc.isClosed()) this.#nc.publish(subject, bytes);
  }

  /** Until what the server has sent so far has been heard. */
  async flush(): Promise<void> {
    if (this.connected) await this.#nc.flush();
  }

  /** Make the streams and the bucket of a run, unless they are there. */
  async ensure(run: string, ackWait: number): Promise<void> {
    const { AckPolicy, DiscardPolicy, RetentionPolicy } = this.#clients;
    const names = namesOf(run);
    const add = async (config: Parameters<JetStreamManager["streams"]["add"]>[0]) => {
      const there = await this.#jsm.streams.info(config.name).catch(() => undefined);
      if (!there) await this.#jsm.streams.add(config);
      else if (String(there.config.subjects) !== String(config.subjects))
        await this.#jsm.streams.update(config.name, { subjects: config.subjects }); // of an earlier version
    };
    await add({ name: names.stream, subjects: [names.job, `${names.result}.*`], discard: DiscardPolicy.Old });
    await add({ name: names.tasks, subjects: [`${names.task}.*`], retention: RetentionPolicy.Workqueue });
    const consumer = { durable_name: CONSUMER, ack_policy: AckPolicy.Explicit, ack_wait: seconds(ackWait) };
    const known = await this.#jsm.consumers.info(names.tasks, CONSUMER).catch(() => undefined);
    if (!known || known.config.ack_wait !== consumer.ack_wait) {
      if (known) await this.#jsm.consumers.delete(names.tasks, CONSUMER);
      await this.#jsm.consumers.add(names.tasks, { ...consumer, max_deliver: -1, max_ack_pending: -1 });
    }
    this.#buckets.delete(run);
    this.#buckets.set(run, await this.#objm.create(names.bucket));
  }

  /** Delete everything of a run that is on the server. */
  async erase(run: string): Promise<void> {
    const names = namesOf(run);
    const bucket = await this.#objm.open(names.bucket).catch(() => undefined);
    await bucket?.destroy().catch(() => {});
    for (const name of [names.tasks, names.stream]) await this.#jsm.streams.delete(name).catch(() => {});
  }

  /** Runs on the server. */
  async runs(): Promise<string[]> {
    const found: string[] = [];
    for await (const name of this.#jsm.streams.names(JOBS)) {
      const run = /^valuehead-(\w+)$/.exec(name)?.[1];
      if (run !== undefined) found.push(run);
    }
    return found;
  }

  /** What was published last on a subject; undefined: nothing, or no such run. */
  async last(run: string, subject: string): Promise<Uint8Array | undefined> {
    try {
      const message = await this.#jsm.streams.getMessage(namesOf(run).stream, { last_by_subj: subject });
      return message === null ? undefined : plain(message.data);
    } catch (error) {
      if (isMissing(error)) return undefined;
      throw error;
    }
  }

  /** Everything that is stored under a subject, in order. */
  async stored(run: string, subject: string): Promise<Uint8Array[]> {
    const found: Uint8Array[] = [];
    const { stream } = namesOf(run);
    const { state } = await this.#jsm.streams.info(stream);
    for (let seq = state.first_seq; seq <= state.last_seq && state.messages > 0; seq++) {
      const message = await this.#jsm.streams.getMessage(stream, { seq }).catch((error) => {
        if (isMissing(error)) return undefined;
        throw error;
      });
      if (message?.subject === subject) found.push(plain(message.data));
    }
    return found;
  }

  /** Store a message; twice the same id within two minutes is once. */
  async publish(subject: string, bytes: Uint8Array, id?: string): Promise<void> {
    await this.#js.publish(subject, bytes, { ...(id !== undefined && { msgID: id }), timeout: 10_000 });
  }

  /** Leave nothing of a subject but what comes from now on. */
  async purge(stream: string, filter?: string): Promise<void> {
    await this.#jsm.streams.purge(stream, filter === undefined ? undefined : { filter });
  }

  /** The next task; null: none within a second. */
  async nextTask(run: string): Promise<TaskMessage | null> {
    try {
      const consumer = this.#consumers.get(run) ?? (await this.#js.consumers.get(namesOf(run).tasks, CONSUMER));
      this.#consumers.set(run, consumer);
      return await consumer.next({ expires: 1000 });
    } catch (error) {
      this.#consumers.delete(run); // it may have been made anew
      throw error;
    }
  }

  async #bucket(run: string): Promise<ObjectStore> {
    const open = this.#buckets.get(run) ?? (await this.#objm.open(namesOf(run).bucket));
    this.#buckets.set(run, open);
    return open;
  }

  async hasObject(run: string, name: string): Promise<boolean> {
    const info = await (await this.#bucket(run)).info(name).catch(() => null);
    return info !== null && !info.deleted;
  }

  async putObject(run: string, name: string, bytes: Uint8Array): Promise<void> {
    await (await this.#bucket(run)).putBlob({ name, options: { max_chunk_size: CHUNK } }, bytes, { timeout: 60_000 });
  }

  /** @returns undefined where there is none */
  async getObject(run: string, name: string): Promise<Uint8Array | undefined> {
    const bytes = await (await this.#bucket(run)).getBlob(name);
    return bytes === null ? undefined : plain(bytes);
  }

  async deleteObject(run: string, name: string): Promise<void> {
    await (await this.#bucket(run)).delete(name).catch(() => {});
  }

  /** Bytes as a message: as they are, or the name of an object that holds them. */
  async seal(run: string, name: string, bytes: Uint8Array): Promise<Uint8Array> {
    if (bytes.length <= INLINE) return concatBytes([Uint8Array.of(0), bytes]);
    await this.putObject(run, name, bytes);
    return concatBytes([Uint8Array.of(1), new TextEncoder().encode(name)]);
  }

  /** What {@link seal} was given. */
  async open(run: string, given: Uint8Array): Promise<Uint8Array | undefined> {
    const message = plain(given);
    if (message[0] === 0) return message.subarray(1);
    const name = sealedName(message);
    return name === undefined ? undefined : this.getObject(run, name);
  }

  async close(): Promise<void> {
    await this.#nc.drain().catch(() => this.#nc.close());
  }
}

/** The object that a sealed message names; undefined: it holds its bytes itself, or is none. */
export function sealedName(message: Uint8Array): string | undefined {
  if (message[0] !== 1 || message.length > 300) return undefined;
  return new TextDecoder().decode(message.subarray(1));
}

/** Not a Buffer, whose slices are no copies. */
const plain = ({ buffer, byteOffset, byteLength }: Uint8Array) => new Uint8Array(buffer, byteOffset, byteLength);

const isMissing = (error: unknown) => /not found|no message/i.test(messageOf(error));

/** Addresses without the user, password or token in them. Whatever stands before an @ may be one, written well or not. */
export const withoutSecrets = (server: string): string => server.replace(/(^|,)(\s*\w+:\/\/)?[^,]*@/g, "$1$2");

async function connectionOptions(spec: ServerSpec, { credsAuthenticator }: Clients): Promise<ConnectionOptions> {
  const options: ConnectionOptions = { maxReconnectAttempts: -1, reconnectTimeWait: 500, timeout: 10_000 };
  const servers: string[] = [];
  for (const server of spec.server.split(",")) {
    const [, secrets, bare] = /^((?:\w+:\/\/)?(?:[^@/]*@)?)(.*)$/.exec(server.trim()) as unknown as string[];
    const [user, ...pass] = /([^@/]*)@$/.exec(secrets)?.[1].split(":").map(decodeURIComponent) ?? [];
    if (user !== undefined && pass.length === 0) options.token = user;
    else if (user !== undefined) Object.assign(options, { user, pass: pass.join(":") });
    if (/^(tls|wss):/.test(server)) options.tls = {};
    servers.push(bare);
  }
  if (spec.user !== undefined) options.user = spec.user;
  if (spec.password !== undefined) options.pass = spec.password;
  if (spec.token !== undefined) options.token = spec.token;
  if (spec.credentials !== undefined)
    options.authenticator = credsAuthenticator(await readBytes(spec.credentials, "usage"));
  const { ca, cert, key } = spec;
  const files = {
    ...(ca !== undefined && { caFile: ca }),
    ...(cert !== undefined && { certFile: cert }),
    ...(key !== undefined && { keyFile: key }),
  };
  if (options.tls || Object.keys(files).length > 0) options.tls = { ...files, ...addressIn(servers) };
  return { ...options, servers };
}

/** The client checks a certificate against a server's name alone and takes an address for "localhost": Node is told the address. */
function addressIn([first]: readonly string[]): { host?: string } {
  const bare = first.replace(/^\w+:\/\//, "");
  const [, address] = /^(\d+(?:\.\d+){3})(?::\d+)?$/.exec(bare) ?? /^\[(.*)\](?::\d+)?$/.exec(bare) ?? [];
  return address === undefined ? {} : { host: address };
}

function refused(where: string, error: unknown): never {
  const what = messageOf(error);
  if (/authoriz|authentic|permission|credential/i.test(what))
    return fail(
      "usage",
      {
        where,
        found: `a refusal (${what})`,
        expected: "a user, token or credentials file that the server knows",
        fix: "give --nats-user and VALUEHEAD_NATS_PASSWORD, VALUEHEAD_NATS_TOKEN, or --nats-credentials FILE",
      },
      error,
    );
  return fail(
    "engine",
    {
      where,
      found: `no connection (${what})`,
      expected: "a NATS server with JetStream that can be reached from here",
      fix: "start one (nats-server -js), or check address, firewall and TLS",
    },
    error,
  );
}

/** What may be said twice is said again while a server that has just been started does not answer: six times at most. */
export async function patiently<T>(say: () => Promise<T>, times = 6): Promise<T> {
  try {
    return await say();
  } catch (error) {
    if (times <= 1 || !/timeout|timed out|disconnect|no responders|503/i.test(messageOf(error))) throw error;
    return patiently(say, times - 1);
  }
}

/** @throws engine - a server that cannot take a run */
export function noRoom(server: string, error: unknown): never {
  return fail(
    "engine",
    {
      where: `NATS server ${withoutSecrets(server)}`,
      found: `no room for the run (${messageOf(error)})`,
      expected: "streams and an object store for it",
      fix: "look at the limits of the server and of the account: JetStream's file store must hold the model twice",
    },
    error,
  );
}
