/**
 * @file The public API, as declared to TypeScript: docs/valuehead.api.md lists it, so that no change of it goes unnoticed, and
 * every type that a signature mentions can be imported by name.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Extractor, ExtractorConfig, ExtractorLogLevel, type ExtractorMessage } from "@microsoft/api-extractor";
import { beforeAll, expect, test } from "vitest";
import { buildCli, root } from "../support/cli.ts";

const messages: ExtractorMessage[] = [];
let changed = false;

beforeAll(() => {
  buildCli();
  const silent = { logLevel: ExtractorLogLevel.None, addToApiReportFile: false };
  const extractorConfig = ExtractorConfig.prepare({
    configObjectFullPath: undefined,
    packageJsonFullPath: join(root, "package.json"),
    configObject: {
      projectFolder: root,
      mainEntryPointFilePath: join(root, "dist", "index.d.ts"),
      newlineKind: "lf",
      compiler: { tsconfigFilePath: join(root, "tsconfig.build.json"), skipLibCheck: true },
      apiReport: {
        enabled: true,
        reportFileName: "valuehead",
        reportFolder: join(root, "docs"),
        reportTempFolder: join(root, ".cache", "api"),
      },
      docModel: { enabled: false },
      dtsRollup: { enabled: false },
      tsdocMetadata: { enabled: false },
      messages: {
        compilerMessageReporting: { default: { logLevel: ExtractorLogLevel.Error } },
        extractorMessageReporting: {
          default: { logLevel: ExtractorLogLevel.Warning },
          "ae-missing-release-tag": silent, // everything here is public
          "ae-undocumented": silent,
          "ae-unresolved-link": silent, // links between source files, which are packed too
        },
        tsdocMessageReporting: { default: silent },
      },
    },
  });
  const result = Extractor.invoke(extractorConfig, {
    localBuild: Boolean(process.env.UPDATE_API),
    messageCallback: (message) => {
      if (message.messageId.startsWith("ae-")) messages.push(message);
      message.handled = true;
    },
  });
  changed = result.apiReportChanged;
});

test("every type in a public signature is exported, and internals are in none", () => {
  expect(messages.filter(({ logLevel }) => logLevel !== ExtractorLogLevel.None).map(({ text }) => text)).toEqual([]);
});

test("docs/valuehead.api.md is the API as it is (if the change is meant: npm run api, and look at the difference)", () => {
  const report = (folder: string) => readFileSync(join(root, folder, "valuehead.api.md"), "utf8");
  if (!process.env.UPDATE_API) expect(report("docs")).toBe(report(join(".cache", "api")));
  expect(changed && !process.env.UPDATE_API).toBe(false);
});

test("the declarations name no other package's types but Node's", () => {
  const imported = [...readFileSync(join(root, "docs", "valuehead.api.md"), "utf8").matchAll(/from '([^']+)'/g)];
  expect(imported.map(([, name]) => name)).toEqual([]);
});

test("every public symbol and member has a docstring", () => {
  let symbol = "";
  let marked = false;
  const undocumented: string[] = [];
  for (const line of readFileSync(join(root, ".cache", "api", "valuehead.api.md"), "utf8").split("\n")) {
    const declared = /^(?:export )?(?:abstract )?(?:class|interface|type|const|function) (\w+)/.exec(line);
    if (declared) symbol = declared[1];
    if (marked) undocumented.push(declared ? symbol : `${symbol}, ${line.trim()}`);
    marked = line.trim().startsWith("//") && line.endsWith("(undocumented)");
  }
  expect(undocumented).toEqual([]);
});
