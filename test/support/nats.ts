/** @file A NATS server for a test: Debian's nats-server, where it is installed. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect } from "@nats-io/transport-node";

/** Whether there is one; tests that need it are skipped otherwise, and say so. */
export const hasServer = spawnSync("nats-server", ["--version"]).status === 0;
if (!hasServer)
  console.warn("left out: tests of workers, for nats-server is not installed (apt-get install nats-server)");

const freePort = () =>
  new Promise<number>((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => resolve(port));
    });
  });

export class TestServer {
  readonly port: number;
  readonly #args: readonly string[];
  readonly store = mkdtempSync(join(tmpdir(), "valuehead-nats-"));
  #child?: ChildProcess;

  private constructor(port: number, args: readonly string[]) {
    this.port = port;
    this.#args = args;
  }

  static async start(args: readonly string[] = []): Promise<TestServer> {
    const server = new TestServer(await freePort(), args);
    await server.start();
    return server;
  }

  get url(): string {
    return `nats://127.0.0.1:${this.port}`;
  }

  /** Start it, again where it was stopped: what it stored is there. */
  async start(): Promise<void> {
    const where = ["-js", "-a", "127.0.0.1", "-p", String(this.port), "-sd", this.store];
    this.#child = spawn("nats-server", [...where, ...this.#args], { stdio: "ignore" });
    for (let tries = 0; tries < 100; tries++) {
      const there = await connect({ servers: this.url, reconnect: false, timeout: 500 }).catch((error) =>
        /authorization|certificate|tls|ssl/i.test(String(error)) ? null : undefined,
      );
      await there?.close();
      if (there !== undefined) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error("the NATS server did not start");
  }

  async kill(): Promise<void> {
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await gone;
  }

  async close(): Promise<void> {
    await this.kill();
    rmSync(this.store, { recursive: true, force: true });
  }
}
