/**
 * @file Mutants: one formula at a time is made wrong in a copy of the repository, and the tests must notice. What survives is a
 * formula that no test holds. `npm run mutants [-- PART-OF-A-PATH] [--every N] [--list]`: all of them take an hour on two cores.
 */
import { execFile } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { parseSync } from "vite";

const ROOT = resolve(import.meta.dirname, "..", "..", "..");
const COPY = join(ROOT, ".cache", "mutants");

/** Source files, and the tests that must notice, the quickest first. */
const TARGETS: readonly { files: readonly string[]; tests: readonly (readonly string[])[] }[] = [
  {
    files: [
      ...["advantages", "compare", "controllers", "importance", "kl", "padded", "rewards", "scores", "stats"],
      ...["targets", "truncate", "whiten"],
    ].map((name) => `src/rl/${name}.ts`),
    tests: [
      ["test/unit/rl", "test/parity/rl.test.ts"],
      ["test/parity/ppo-step.test.ts", "test/parity/ppo-options.test.ts", "test/invariant/kl.test.ts"],
      ["test/invariant/ppo-options.test.ts", "test/invariant/ppo-int8.test.ts"],
    ],
  },
  {
    files: ["src/algorithms/losses.ts"],
    tests: [["test/parity/ppo-step.test.ts"], ["test/parity/gradients.test.ts", "test/parity/value-head.test.ts"]],
  },
  {
    files: ["distribution", "plain", "transforms", "stop"].map((name) => `src/sample/${name}.ts`),
    tests: [
      ["test/unit/sample"],
      ["test/invariant/sampling.test.ts"],
      ["test/invariant/ratio.test.ts", "test/invariant/response-end.test.ts"],
    ],
  },
  {
    files: ["src/model/distribution.ts", "src/model/kept-set.ts"],
    tests: [
      ["test/unit/model/kept-set.test.ts", "test/parity/repetition-penalty.test.ts"],
      ["test/invariant/ratio.test.ts"],
    ],
  },
];

export interface Mutant {
  /** What is replaced, and with what. */
  readonly start: number;
  readonly end: number;
  readonly text: string;
}

interface Node {
  type: string;
  start: number;
  end: number;
  // biome-ignore lint/suspicious/noExplicitAny: the parser's nodes, each with its own fields
  [field: string]: any;
}

const OPERATORS: Readonly<Record<string, string>> = {
  ...{ "+": "-", "-": "+", "*": "/", "/": "*", "**": "*", "+=": "-=", "-=": "+=" },
  ...{ "<": "<=", "<=": "<", ">": ">=", ">=": ">", "===": "!==", "!==": "===", "&&": "||", "||": "&&" },
};
const CALLS: Readonly<Record<string, string>> = {
  ...{ add: "sub", sub: "add", maximum: "minimum", minimum: "maximum", mul: "add", div: "mul" },
  ...{ "Math.max": "Math.min", "Math.min": "Math.max", "Math.floor": "Math.ceil", "Math.ceil": "Math.floor" },
};
/** Functions of one number that are left out. */
const LEFT_OUT = /^(neg|exp|square|Math\.(exp|log|sqrt|abs))$/;

/** Every mutant of a source file: operators turned, signs and masks dropped, indices shifted by one. */
export function mutantsOf(path: string, source: string): Mutant[] {
  const found: Mutant[] = [];
  const text = (node: Node) => source.slice(node.start, node.end);
  const replace = (node: Node, by: string) => found.push({ start: node.start, end: node.end, text: by });
  const masked = (node: Node) => /mask/i.test(text(node));
  const isText = (node: Node) => node.type === "TemplateLiteral" || typeof node.value === "string";

  const visit = (node: Node): void => {
    const { type } = node;
    if (/^(Import|TS(?!NonNull|As))/.test(type) || type === "ThrowStatement" || type === "TemplateLiteral") return;
    if (type === "CallExpression" && /^(fail|wrong|checkPadded|bad[A-Z]\w*)$/.test(text(node.callee))) return; // words, not numbers
    if (/^(Binary|Logical|Assignment)Expression$/.test(type)) {
      const other = OPERATORS[node.operator];
      const between = source.slice(node.left.end, node.right.start);
      if (other && !isText(node.left) && !isText(node.right) && between.includes(node.operator))
        replace(node, text(node.left) + between.replace(node.operator, other) + text(node.right));
      if (node.operator === "*" && masked(node.left)) replace(node, text(node.right));
      if (node.operator === "*" && masked(node.right)) replace(node, text(node.left));
    }
    if (
      type === "UnaryExpression" &&
      (node.operator === "-" || node.operator === "!") &&
      node.argument.type !== "Literal"
    )
      replace(node, `(${text(node.argument)})`);
    if (type === "CallExpression") {
      const name = text(node.callee);
      if (CALLS[name]) replace(node.callee, CALLS[name]);
      if (LEFT_OUT.test(name) && node.arguments.length === 1) replace(node, `(${text(node.arguments[0])})`);
      if (name === "sub" && node.arguments.length === 2 && !source.slice(0, node.start).endsWith("square("))
        replace(node, `sub(${text(node.arguments[1])}, ${text(node.arguments[0])})`);
    }
    if (type === "MemberExpression" && node.computed && node.property.type !== "Literal")
      replace(node.property, `(${text(node.property)}) + 1`);
    if ((type === "ConditionalExpression" || type === "IfStatement") && masked(node.test)) replace(node.test, "true");
    for (const value of Object.values(node))
      for (const inner of Array.isArray(value) ? value : [value])
        if (inner && typeof inner === "object" && typeof inner.type === "string") visit(inner);
  };
  visit(parseSync(path, source).program as unknown as Node);
  return found.filter((m) => source.slice(m.start, m.end) !== m.text);
}

/** Whether tests pass in the copy. */
function pass(tests: readonly string[]): Promise<boolean> {
  const there = tests.filter((test) => existsSync(join(COPY, test)));
  const args = [
    join(ROOT, "node_modules", "vitest", "vitest.mjs"),
    "run",
    "--bail",
    "1",
    "--reporter",
    "dot",
    ...there,
  ];
  return new Promise((done) => {
    execFile(process.execPath, args, { cwd: COPY, timeout: 300_000 }, (error) => done(error === null));
  });
}

function line(source: string, { start, end, text }: Mutant): string {
  const number = source.slice(0, start).split("\n").length;
  const short = (code: string) => code.replace(/\s+/g, " ").slice(0, 80);
  return `${number}: ${short(source.slice(start, end))}  ->  ${short(text)}`;
}

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: { every: { type: "string", default: "1" }, list: { type: "boolean", default: false } },
});

rmSync(COPY, { recursive: true, force: true });
mkdirSync(COPY, { recursive: true });
const copied = [
  "src",
  "test",
  "models",
  "bin",
  "docs",
  "examples",
  "README.md",
  "package.json",
  "tsconfig.json",
  "vitest.config.ts",
];
for (const name of copied) cpSync(join(ROOT, name), join(COPY, name), { recursive: true });
symlinkSync(join(ROOT, "node_modules"), join(COPY, "node_modules"));

let total = 0;
let survived = 0;
for (const { files, tests } of TARGETS)
  for (const file of files) {
    if (!existsSync(join(ROOT, file)) || !positionals.every((part) => file.includes(part))) continue;
    const source = readFileSync(join(ROOT, file), "utf8");
    const mutants = mutantsOf(file, source).filter((_, i) => i % Number(flags.every) === 0);
    console.log(`${file}: ${mutants.length} mutants`);
    for (const mutant of mutants) {
      if (flags.list) {
        console.log(`  ${line(source, mutant)}`);
        continue;
      }
      writeFileSync(join(COPY, file), source.slice(0, mutant.start) + mutant.text + source.slice(mutant.end));
      let killed = false;
      for (const some of tests) if (!killed) killed = !(await pass(some));
      total++;
      if (killed) continue;
      survived++;
      console.log(`  SURVIVED ${line(source, mutant)}`);
    }
    writeFileSync(join(COPY, file), source);
  }
if (!flags.list) console.log(`${total} mutants, ${total - survived} killed, ${survived} survived`);
