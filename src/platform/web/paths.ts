/** @file Paths in a tab: POSIX, absolute, with `/` as the working directory. */

const split = (path: string): string[] => path.split("/");

/** Without `.`, `..`, double and trailing slashes. */
function normal(path: string): string {
  const kept: string[] = [];
  for (const part of split(path)) {
    if (part === "" || part === ".") continue;
    if (part === ".." && kept.length > 0 && kept[kept.length - 1] !== "..") kept.pop();
    else if (part !== ".." || !path.startsWith("/")) kept.push(part);
  }
  return (path.startsWith("/") ? "/" : "") + kept.join("/") || ".";
}

export const joinPath = (...parts: string[]): string => normal(parts.filter((part) => part !== "").join("/"));
export const baseName = (path: string): string => split(path.replace(/\/+$/, "")).pop() ?? "";
export function parentDirectory(path: string): string {
  const cut = path.replace(/\/+$/, "");
  const at = cut.lastIndexOf("/");
  return at < 0 ? "." : cut.slice(0, at) || "/";
}
export const absolutePath = (path: string): string => normal(path.startsWith("/") ? path : `/${path}`);
/** From where the program works to `path`. */
export const relativePath = (path: string): string => absolutePath(path).slice(1) || ".";
