/** @file The page's document: as it is served, and as a report that carries everything in itself. */
import { exists, packagePath, readText } from "../../platform/files.ts";

/** The page of runs, and that of a comparison. */
type Bundle = "page-main" | "compare-main";

const bundled = (extension: string, bundle: Bundle = "page-main") =>
  packagePath("dist", "dashboard", `${bundle}.${extension}`);

/** Code or style of a page, as it was built. */
export const pageFile = (extension: "js" | "css", bundle?: Bundle): Promise<string> =>
  readText(bundled(extension, bundle));

/** Whether the page was built: a checkout of the source may have none. */
export async function pageIsBuilt(): Promise<boolean> {
  try {
    return (await exists(bundled("js"))) && (await exists(bundled("css")));
  } catch {
    return false; // bundled into a program without the package beside it
  }
}

const escaped = (text: string) => text.replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
/** Inside a script element nothing may look like its end. */
const inScript = (code: string) => code.replace(/<\/(script)/gi, "<\\/$1").replace(/<!--/g, "<\\!--");

const document = (title: string, head: string, body: string) => `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${escaped(title)}</title>
${head}
</head>
<body>
<div id="page"></div>
${body}
</body>
</html>
`;

/** As it is served: code and style come from the same server. */
export const servedPage = (title: string): string =>
  document(
    title,
    `<link rel="icon" href="data:,"><link rel="stylesheet" href="/page.css">`,
    `<script type="module" src="/page.js"></script>`,
  );

/**
 * As a file: nothing is loaded from anywhere, and the policy in its head forbids it.
 * @param data the page's data, gzipped, in base64
 */
export async function wholePage(title: string, data: string, bundle?: Bundle): Promise<string> {
  const policy =
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'";
  return document(
    title,
    `<meta http-equiv="Content-Security-Policy" content="${policy}">\n<link rel="icon" href="data:,">\n<style>${await pageFile("css", bundle)}</style>`,
    `<script type="text/plain" id="data">${data}</script>\n<script type="module">${inScript(await pageFile("js", bundle))}</script>`,
  );
}
