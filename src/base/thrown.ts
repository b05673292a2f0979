/**
 * @file What somebody's code threw, which may be anything: in words, with file, line and causes, and as plain data that
 * survives the way between threads and processes.
 */
import { type ErrorKind, type Problem, ValueheadError } from "./errors.ts";

/** An error as plain data. */
export interface PlainError {
  name: string;
  message: string;
  stack?: string;
  code?: string;
  cause?: PlainError;
  /** Of an AggregateError. */
  errors?: PlainError[];
  /** Of a {@link ValueheadError}. */
  kind?: ErrorKind;
  problem?: Problem;
  transient?: boolean;
  /** Whether it is a bug in the program, which retrying cannot fix: {@link isProgrammingError}. */
  programming?: boolean;
}

/** How many causes are followed: they may form a cycle. */
const DEPTH = 5;

/** Characters of a message that are shown. */
const LONGEST = 500;

/** Set on errors from another thread or process, of which only the class name is known. */
const PROGRAMMING = Symbol("programming");

const PROGRAMMING_NAMES = ["Eval", "Range", "Reference", "Syntax", "Type", "URI", "Assertion"].map((x) => `${x}Error`);
const PROGRAMMING_CODES = ["ERR_MODULE_NOT_FOUND", "MODULE_NOT_FOUND", "ERR_PACKAGE_PATH_NOT_EXPORTED"];

/** A property of something that may have getters which throw. */
function read(thrown: unknown, name: string): unknown {
  try {
    return (thrown as Record<string, unknown> | null | undefined)?.[name];
  } catch {
    return undefined;
  }
}

function text(thrown: unknown, name: string): string | undefined {
  const value = read(thrown, name);
  return typeof value === "string" && value !== "" ? value : undefined;
}

const isError = (thrown: unknown): boolean =>
  thrown instanceof Error || (text(thrown, "stack") !== undefined && typeof read(thrown, "message") === "string");

/** Describes a thrown value that is not an error. */
function describeValue(thrown: unknown): string {
  if (typeof thrown === "string") return `the string ${JSON.stringify(thrown)}`;
  if (typeof thrown === "function") return "a function";
  if (typeof thrown !== "object" || thrown === null) return String(thrown);
  try {
    return `the object ${JSON.stringify(thrown)}`;
  } catch {
    return "an object";
  }
}

function messageIn(thrown: unknown): string {
  const message = text(thrown, "message");
  if (message !== undefined) return message;
  const inner = read(thrown, "errors"); // an AggregateError, as from a refused connection, often has no message
  if (Array.isArray(inner) && inner.length > 0) return inner.slice(0, 3).map(messageIn).join("; ");
  return text(thrown, "code") ?? "";
}

/** Any thrown value, as plain data. */
export function plainError(thrown: unknown, depth = 0): PlainError {
  if (!isError(thrown)) return { name: "Error", message: `what was thrown is no Error but ${describeValue(thrown)}` };
  const plain: PlainError = {
    name: text(thrown, "name") ?? "Error",
    message: messageIn(thrown),
    stack: text(thrown, "stack"),
    code: text(thrown, "code"),
    programming: isProgrammingError(thrown),
  };
  const [cause, errors] = [read(thrown, "cause"), read(thrown, "errors")];
  if (cause !== undefined && depth < DEPTH) plain.cause = plainError(cause, depth + 1);
  if (Array.isArray(errors) && depth < DEPTH) plain.errors = errors.slice(0, 8).map((e) => plainError(e, depth + 1));
  if (thrown instanceof ValueheadError) {
    const { kind, problem, transient } = thrown;
    Object.assign(plain, { kind, problem, transient });
  }
  return plain;
}

/** Rebuilds the error with its original name, message, stack, code and cause. */
export function reviveError({ kind, problem, transient, cause, errors, ...plain }: PlainError): Error {
  const options = cause === undefined ? undefined : { cause: reviveError(cause) };
  const error =
    kind && problem
      ? new ValueheadError(kind, problem, { ...options, transient })
      : errors
        ? new AggregateError(errors.map(reviveError), plain.message, options)
        : new Error(plain.message, options);
  const hidden = (name: string | symbol, value: unknown) =>
    value !== undefined && Object.defineProperty(error, name, { value, configurable: true, writable: true });
  if (!(error instanceof ValueheadError)) hidden("name", plain.name);
  hidden("stack", plain.stack ?? `${plain.name}: ${plain.message}`); // not the stack of this function
  hidden("code", plain.code);
  hidden(PROGRAMMING, plain.programming);
  return error;
}

// ---- where ----

/** file:///a/b.mjs -> /a/b.mjs, without importing Node. */
function pathOf(address: string): string {
  if (!address.startsWith("file:")) return address;
  const path = decodeURIComponent(new URL(address).pathname);
  return path.replace(/^\/(?=[A-Za-z]:)/, "");
}

/** `file:line:column` of the calls in a stack, the innermost first; those inside Node are left out. */
export function placesIn(stack: string): string[] {
  const places: string[] = [];
  // What Node puts before the stack of a syntax error: "file:///a/b.mjs:2", the line itself, an arrow.
  const above = /^((?:file:\/\/|\/|[A-Za-z]:\\)[^\n]*):(\d+)\n/.exec(stack);
  if (above) places.push(`${pathOf(above[1])}:${above[2]}`);
  for (const line of stack.split("\n")) {
    const frame = /^\s+at (?:.*\()?(?:async )?((?:file:\/\/|\/|[A-Za-z]:\\).*?):(\d+):(\d+)\)?$/.exec(line);
    if (frame) places.push(`${pathOf(frame[1])}:${frame[2]}:${frame[3]}`);
  }
  return places;
}

/** Where an error was thrown: the innermost place outside installed packages that its stack shows. */
export function placeOf(thrown: unknown): string | undefined {
  const places = placesIn(text(thrown, "stack") ?? "");
  return places.find((place) => !/[/\\]node_modules[/\\]/.test(place)) ?? places[0];
}

// ---- in words ----

const oneLine = (message: string) =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
  message.replace(/\s*\n\s*/g, " ").replace(/[\u0000-\u001f\u007f-\u009f]/g, (c) => JSON.stringify(c).slice(1, -1));

const cut = (message: string) => (message.length <= LONGEST ? message : `${message.slice(0, LONGEST - 1)}…`);

/** `TypeError: x is undefined`; just the message of a plain Error. */
export function whatWasThrown(thrown: unknown): string {
  if (!isError(thrown)) return cut(oneLine(plainError(thrown).message));
  const [name, message] = [text(thrown, "name") ?? "Error", messageIn(thrown)];
  if (message === "") return name;
  return cut(oneLine(name === "Error" || thrown instanceof ValueheadError ? message : `${name}: ${message}`));
}

/** ` at /a/reward.mjs:3:10, caused by refused at ...`, or nothing where nothing more is known. */
export function whereAndWhy(thrown: unknown, depth = 0): string {
  const place = thrown instanceof ValueheadError ? undefined : placeOf(thrown);
  const cause = isError(thrown) ? read(thrown, "cause") : undefined;
  const why =
    cause === undefined || depth === DEPTH ? "" : `, caused by ${whatWasThrown(cause)}${whereAndWhy(cause, depth + 1)}`;
  return `${place === undefined ? "" : ` at ${place}`}${why}`;
}

// ---- what kind ----

/**
 * Whether an error says that the program is wrong (TypeError and its like, a missing module), so that calling it again gives
 * the same. fetch() reports a refused or broken connection, and a response that is not JSON, as a TypeError or SyntaxError of
 * its own: those are not.
 */
export function isProgrammingError(thrown: unknown): boolean {
  const known = read(thrown, PROGRAMMING as unknown as string);
  if (typeof known === "boolean") return known;
  if (isFromNetwork(thrown)) return false;
  if (PROGRAMMING_CODES.includes(text(thrown, "code") ?? "")) return true;
  for (let link: unknown = thrown; link !== null && link !== undefined; link = Object.getPrototypeOf(link)) {
    if (typeof link !== "object") return false;
    const names = [text(link, "name"), text(read(link, "constructor"), "name")];
    if (names.some((name) => name !== undefined && PROGRAMMING_NAMES.includes(name))) return true;
  }
  return false;
}

/** System errors, and those of undici, which is behind fetch(). */
const NETWORK = /^(E(?!RR_)[A-Z0-9]+|UND_ERR_(?!INVALID)\w+|HPE_\w+)$/;

function isFromNetwork(thrown: unknown): boolean {
  const unreadable = text(thrown, "name") === "SyntaxError" && (text(thrown, "stack") ?? "").includes("/undici/");
  if (unreadable) return true; // response.json() of an error page
  for (let link = read(thrown, "cause"), n = 0; link && n < DEPTH; link = read(link, "cause"), n++)
    if (NETWORK.test(text(link, "code") ?? "")) return true;
  return false;
}
