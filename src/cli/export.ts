/** @file `valuehead export`. */
import { type Command, Option } from "commander";
import type { ExportDtype, ExportProgress } from "../ship/export.ts";
import { addIgnoreMemoryOption, addModelOption, collectChoices, required } from "./options.ts";
import { megabytes, note, print, printFacts, printJson, thousands } from "./output.ts";
import { Progress } from "./progress.ts";

const DTYPES: readonly ExportDtype[] = ["fp32", "q8"];

interface ExportFlags {
  model?: string;
  out?: string;
  dtype?: ExportDtype[];
  ignoreMemory?: boolean;
  json?: boolean;
}

export function define(command: Command): void {
  addModelOption(command);
  command.option("--out <dir>", "a new or empty directory to write to");
  const dtype = new Option(
    "--dtype <name>",
    "fp32: the model as it is; q8: matrices and token embedding in int8; both: give it twice (default: fp32)",
  );
  command.addOption(dtype.choices([...DTYPES]).argParser(collectChoices(DTYPES)));
  command.option("--json", "the files as one JSON object");
  addIgnoreMemoryOption(command);
  command.addHelpText(
    "after",
    `
What is written loads in @huggingface/transformers 4 (transformers.js), in Node and in browsers:
  await pipeline("text-generation", "./DIR")`,
  );
  command.action(exportCommand);
}

async function exportCommand(flags: ExportFlags): Promise<void> {
  required({ name: "out", value: flags.out, placeholder: "DIR", expected: "a new or empty directory" });
  const out = flags.out as string;
  const { refuseFilledDirectory } = await import("../platform/files.ts");
  await refuseFilledDirectory(out); // before a large model is read
  const { exportOnnx } = await import("../ship/export.ts");
  const { openModel } = await import("./model.ts");
  const { ignoreMemory, dtype = ["fp32"] } = flags;
  const sizes = () => ({ rows: 1, length: 1, precision: dtype.includes("q8") ? ("int8" as const) : ("fp32" as const) });
  const { model, tokenizer, directory } = await openModel(flags.model, { sizes, ignoreMemory });
  const { INTERRUPTED, interruptible } = await import("./interrupt.ts");
  const progress = new Progress(true);
  let ended = false;
  const write = (signal: AbortSignal) => {
    signal.addEventListener("abort", () => {
      ended = true;
    });
    const onProgress = ({ file, written, total }: ExportProgress) =>
      progress.show(written, total, `writing ${file}`, `${megabytes(written)} of ${megabytes(total)}`);
    return exportOnnx(model, out, { dtype, tokenizer, signal, onProgress });
  };
  const files = await interruptible("ending the export", write, progress.clear)
    .catch((error) => {
      if (!ended) throw error;
    })
    .finally(progress.clear);
  if (!files) {
    process.exitCode = INTERRUPTED;
    return note(`ended; nothing is left in ${out}`);
  }
  if (flags.json) return printJson({ model: directory, out, files });
  print(`${directory} as ONNX in ${out}`);
  printFacts(files.map(({ name, bytes }) => [name, `${thousands(bytes)} bytes`]));
  const option = dtype.includes("fp32") ? "fp32" : "q8";
  const path = /^(\.|\/|\\|[A-Za-z]:)/.test(out) ? out : `./${out}`; // what looks like a hub id is looked for elsewhere
  note(
    `load it in transformers.js: await pipeline("text-generation", ${JSON.stringify(path)}, { dtype: "${option}" })`,
  );
}
