/**
 * @file The worker that a typed reward runs in. The sandboxed frame (sandbox.ts) starts it from text, with a policy that forbids every
 * request; here the doors are also taken away, so that whoever tries one is told so in plain words.
 */
import { type Ask, EXPORT, type Reply } from "./sandbox-messages.ts";

declare function importScripts(url: string): void;

const scope = self as unknown as Record<string, unknown> & Worker;
const [load, post] = [importScripts, scope.postMessage.bind(scope)];

const CALLED =
  "fetch fetchLater importScripts XMLHttpRequest WebSocket WebSocketStream EventSource WebTransport Worker SharedWorker BroadcastChannel";
const READ = "indexedDB caches";
for (const name of `${CALLED} ${READ}`.split(" ")) {
  const refuse = function refuse() {
    throw new Error(`${name} is refused: a reward in the playground has no network, no storage and no other workers`);
  };
  const door = READ.includes(name) ? { get: refuse } : { value: refuse };
  for (let at: object | null = self; at; at = Object.getPrototypeOf(at))
    if (at === self || Object.hasOwn(at, name)) Object.defineProperty(at, name, { ...door, configurable: true });
}

/** The line of the code that a stack shows first. */
function lineOf(error: unknown, address: string): number | undefined {
  const stack = String((error as Error | undefined)?.stack ?? "");
  const at = stack.indexOf(address);
  const line = at < 0 ? Number.NaN : Number.parseInt(stack.slice(at + address.length + 1), 10);
  return Number.isFinite(line) ? line : undefined;
}

async function answer({ id, batch }: Ask, address: string): Promise<void> {
  try {
    const reward = scope[EXPORT];
    if (typeof reward !== "function")
      throw new Error("no default function: write `export default (batch) => batch.map(({ response }) => ...)`");
    const scores: unknown = await reward(batch);
    post({ id, scores: Array.isArray(scores) ? await Promise.all(scores) : scores } satisfies Reply);
  } catch (error) {
    const { name = "Error", message = String(error) } = (error ?? {}) as Partial<Error>;
    post({ id, name: String(name), message: String(message), line: lineOf(error, address) } satisfies Reply);
  }
}

/** Code first: what is wrong in it goes to whoever started this worker, with its line. Then a batch at a time. */
scope.onmessage = ({ data: address }: MessageEvent<string>) => {
  scope.onmessage = ({ data }: MessageEvent<Ask>) => void answer(data, address);
  load(address);
};
