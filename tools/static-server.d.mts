export interface StaticServer {
  readonly url: string;
  /** Paths that were asked for. */
  readonly asked: string[];
  close(): Promise<void>;
}

/**
 * Serve files, as any static server does.
 * @param places   a directory, or a text of HTML, for each first part of a path; "" for the rest
 * @param options.isolated send the headers that give a page threads (default)
 * @param options.port tried first; default: any that is free
 */
export function serveFiles(
  places: Readonly<Record<string, string>>,
  options?: { isolated?: boolean; port?: number },
): Promise<StaticServer>;
