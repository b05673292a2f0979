/** @file The page of runs on 127.0.0.1: what is in their directories, and what is added while somebody looks. */
import { fail } from "../../base/errors.ts";
import { VERSION } from "../../base/version.ts";
import { randomId } from "../../platform/hash.ts";
import {
  type LocalReply,
  type LocalRequest,
  type LocalServer,
  sameToken,
  serveLocal,
} from "../../platform/live/server.ts";
import type { RunEvent } from "../events.ts";
import type { Sink } from "../sinks/sink.ts";
import type { PageData, RunChange } from "./data.ts";
import { pageFile, pageIsBuilt, servedPage } from "./html.ts";
import { RunReader } from "./reader.ts";

/** The port that is tried first where none is named. */
export const DASHBOARD_PORT = 8267;

/** Milliseconds between looks at the files of runs. */
const LOOK_EVERY = 500;

/** What the page may ask of the run it shows, with the token of its address. */
export interface DashboardControls {
  /** End after the step in progress, with everything saved. */
  stop(): void;
  /** Write a checkpoint after the step in progress. */
  save(): void;
}

export interface DashboardOptions {
  /** Run directories; they need not be there yet. */
  directories: readonly string[];
  /** Default: {@link DASHBOARD_PORT}, or any free one where that is taken. */
  port?: number;
  /** Of the run that this process runs, the first directory. */
  controls?: DashboardControls;
}

/** Serves the page. As a sink of a run it hears of new steps at once; otherwise it looks at the files twice a second. */
export class Dashboard implements Sink {
  readonly #readers: readonly RunReader[];
  readonly #listeners = new Set<(change: RunChange) => void>();
  readonly #controls?: DashboardControls;
  readonly #token = randomId();
  #server!: LocalServer;
  #timer?: ReturnType<typeof setInterval>;
  #looking?: Promise<void>;

  private constructor({ directories, controls }: DashboardOptions) {
    this.#readers = directories.map((directory, id) => new RunReader(directory, id));
    this.#controls = controls;
  }

  /**
   * Read the runs and listen.
   * @throws usage - a port that is taken
   * @throws engine - the page was not built
   */
  static async open(options: DashboardOptions): Promise<Dashboard> {
    if (!(await pageIsBuilt()))
      fail("engine", {
        where: "the dashboard",
        found: "a source checkout whose page was not built",
        expected: "dist/dashboard",
        fix: "npm run build",
      });
    const dashboard = new Dashboard(options);
    for (const reader of dashboard.#readers) await reader.read();
    const serve = (port: number) => serveLocal(port, (request) => dashboard.#answer(request));
    dashboard.#server = await serve(options.port ?? DASHBOARD_PORT).catch((error) => {
      if (options.port !== undefined) throw error;
      return serve(0);
    });
    dashboard.#timer = setInterval(() => void dashboard.#look(), LOOK_EVERY);
    return dashboard;
  }

  /** The address. With controls it carries the token: whoever has it may stop the run. */
  get url(): string {
    return `http://127.0.0.1:${this.#server.port}/${this.#controls ? `#token=${this.#token}` : ""}`;
  }

  /** What is in the files, to those who look; progress is in none. */
  async event(event: RunEvent): Promise<void> {
    if (event.type === "progress") {
      const { step, phase, done, total } = event;
      this.#tell({ run: 0, progress: { step, phase, done, total } });
    } else if (event.type !== "reading") void this.#look(); // the run does not wait for those who look
  }

  /** Stop listening; those who look are told what is new before. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#look();
    await this.#server.close();
  }

  #tell(change: RunChange): void {
    for (const send of this.#listeners) send(change);
  }

  /** Once for all who ask while it goes on. */
  #look(): Promise<void> {
    this.#looking ??= (async () => {
      await new Promise((resolve) => setTimeout(resolve, 50)); // steps that follow each other closely are told together
      for (const reader of this.#readers) {
        const change = await reader.read();
        if (change) this.#tell(change);
      }
    })()
      .catch(() => {})
      .finally(() => {
        this.#looking = undefined;
      });
    return this.#looking;
  }

  async #answer({ method, path, query, token }: LocalRequest): Promise<LocalReply | undefined> {
    const json = (value: unknown, status = 200): LocalReply => {
      return { status, type: "application/json; charset=utf-8", body: JSON.stringify(value) };
    };
    if (method === "POST") {
      const act = path === "/stop" ? this.#controls?.stop : path === "/save" ? this.#controls?.save : undefined;
      if (!this.#controls || !act) return undefined;
      if (!sameToken(token, this.#token)) return json({ error: "the address in the terminal has the token" }, 403);
      act.call(this.#controls);
      return json({ asked: path.slice(1) });
    }
    switch (path) {
      case "/":
        return { type: "text/html; charset=utf-8", body: servedPage(this.#title()) };
      case "/page.js":
        return { type: "text/javascript; charset=utf-8", body: await pageFile("js") };
      case "/page.css":
        return { type: "text/css; charset=utf-8", body: await pageFile("css") };
      case "/data": {
        const runs = this.#readers.map(({ data }) => data);
        return json({ version: VERSION, runs, controls: this.#controls !== undefined } satisfies PageData);
      }
      case "/sample": {
        const detail = await this.#readers[Number(query.get("run") ?? 0)]?.sample(Number(query.get("index")));
        return detail ? json(detail) : undefined;
      }
      case "/events":
        return {
          listen: (send) => {
            this.#listeners.add(send);
            return () => this.#listeners.delete(send);
          },
        };
      default:
        return undefined;
    }
  }

  #title = () => `${this.#readers.map(({ data: { name } }) => name).join(", ")} · valuehead`;
}
