/** @file Shape errors: every operation that asks something of its inputs says which ones it got and what would be right. */
import { expect, test } from "vitest";
import { ValueheadError } from "../../../src/base/errors.ts";
import { operations } from "../../../src/graph/ops/registry.ts";
import { apply, dims, input, stored } from "../../../src/graph/tensor.ts";

const f = (sizes: Record<string, number>) => input("x", sizes);
const ids = (sizes: Record<string, number>) => input("ids", sizes, "int32");

/** [operation, inputs, attributes, found, expected] */
type Case = [string, ReturnType<typeof f>[], object, string, string];

const broadcasting = ["add", "sub", "mul", "div", "maximum", "minimum", "greater"];
const reducing = ["reduceSum", "reduceMean", "reduceMax"];
const cache = () => f({ B: 2, H: 2, M: 8, D: 3 });
const attends = (q: Record<string, number>, k: Record<string, number>) => [
  f(q),
  f(k),
  f(k),
  cache(),
  cache(),
  ids({ B: 2 }),
  ids({ one: 1 }),
];

const cases: Case[] = [
  ...broadcasting.map(
    (op): Case => [
      op,
      [f({ B: 2, C: 3 }), f({ D: 4 })],
      {},
      "[B=2, C=3]:float32, [D=4]:float32",
      "shapes that broadcast",
    ],
  ),
  ...reducing.flatMap((op): Case[] => [
    [op, [f({ N: 2 })], { axes: [1] }, "[N=2]:float32", "axes below the rank, not 1"],
    [op, [f({ N: 2 })], { axes: [-1] }, "[N=2]:float32", "axes below the rank, not -1"],
  ]),
  ...[f({ C: 7 }), f({ N: 8, C: 1 }), f({})].map(
    (weight): Case => [
      "rmsNorm",
      [f({ N: 4, C: 8 }), weight],
      {},
      `[N=4, C=8]:float32, ${weight}`,
      "x [..., C], weight [C]",
    ],
  ),
  [
    "layerNorm",
    [f({ N: 2, C: 3 }), f({ C: 3 }), f({ D: 4 })],
    { epsilon: 1e-5 },
    "[N=2, C=3]:float32, [C=3]:float32, [D=4]:float32",
    "x [..., C], gamma [C], beta [C]",
  ],
  [
    "layerNorm",
    [f({ N: 2, C: 3 }), f({ one: 1, C: 3 }), f({ C: 3 })],
    { epsilon: 1e-5 },
    "[N=2, C=3]:float32, [one=1, C=3]:float32, [C=3]:float32",
    "x [..., C], gamma [C], beta [C]",
  ],
  [
    "reshape",
    [f({ N: 6 })],
    { shape: dims({ A: 2, B: 4 }) },
    "[N=6]:float32",
    "as many elements as [A=2, B=4]:float32",
  ],
  ["transpose", [f({ A: 2, B: 3 })], { perm: [0, 0] }, "[A=2, B=3]:float32", "a permutation of its axes, not [0,0]"],
  ["transpose", [f({ A: 2, B: 3 })], { perm: [0] }, "[A=2, B=3]:float32", "a permutation of its axes, not [0]"],
  ["split", [f({ A: 2, B: 5 })], { axis: 1, sizes: [2, 2] }, "[A=2, B=5]:float32", "parts 2,2 that add up to axis 1"],
  ["split", [f({ A: 2 })], { axis: 1, sizes: [2] }, "[A=2]:float32", "parts 2 that add up to axis 1"],
  [
    "concat",
    [f({ A: 2, B: 3 }), f({ A: 4, B: 3 })],
    { axis: 1 },
    "[A=2, B=3]:float32, [A=4, B=3]:float32",
    "the same shape but for axis 1",
  ],
  ["concat", [f({ A: 2 }), f({ A: 2 })], { axis: 1 }, "[A=2]:float32, [A=2]:float32", "the same shape but for axis 1"],
  [
    "expand",
    [f({ A: 2 })],
    { shape: dims({ B: 4, A: 3 }) },
    "[A=2]:float32",
    "a shape that stretches to [B=4, A=3]:float32",
  ],
  [
    "expand",
    [f({ A: 1, B: 2 })],
    { shape: dims({ B: 2 }) },
    "[A=1, B=2]:float32",
    "a shape that stretches to [B=2]:float32",
  ],
  [
    "gatherRows",
    [f({ V: 5, C: 2 }), f({ N: 3 })],
    {},
    "[V=5, C=2]:float32, [N=3]:float32",
    "table [V, C] and int32 ids [N]",
  ],
  ["gatherRows", [f({ V: 5 }), ids({ N: 3 })], {}, "[V=5]:float32, [N=3]:int32", "table [V, C] and int32 ids [N]"],
  ...(
    [
      [ids({ N: 3 }), f({ N: 4, C: 2 }), "[N=3]:int32, [N=4, C=2]:float32"],
      [ids({ N: 3 }), f({ N: 3, D: 3 }), "[N=3]:int32, [N=3, D=3]:float32"],
      [f({ N: 3 }), f({ N: 3, C: 2 }), "[N=3]:float32, [N=3, C=2]:float32"],
    ] as const
  ).map(
    ([at, updates, found]): Case => [
      "scatterAddRows",
      [f({ V: 5, C: 2 }), at, updates],
      {},
      `[V=5, C=2]:float32, ${found}`,
      "base [V, C], int32 ids [N], updates [N, C]",
    ],
  ),
  [
    "gatherLast",
    [f({ N: 3, V: 5 }), ids({ N: 4 })],
    {},
    "[N=3, V=5]:float32, [N=4]:int32",
    "x [..., V] and int32 ids [...]",
  ],
  [
    "gatherLast",
    [f({ N: 3, V: 5 }), f({ N: 3 })],
    {},
    "[N=3, V=5]:float32, [N=3]:float32",
    "x [..., V] and int32 ids [...]",
  ],
  ...(
    [
      [ids({ N: 3, K: 1 }), f({ N: 3 }), "[N=3, K=1]:int32, [N=3]:float32"],
      [ids({ N: 4 }), f({ N: 4 }), "[N=4]:int32, [N=4]:float32"],
      [ids({ N: 3 }), f({ N: 2 }), "[N=3]:int32, [N=2]:float32"],
      [f({ N: 3 }), f({ N: 3 }), "[N=3]:float32, [N=3]:float32"],
    ] as const
  ).map(
    ([at, updates, found]): Case => [
      "scatterAddLast",
      [f({ N: 3, V: 5 }), at, updates],
      {},
      `[N=3, V=5]:float32, ${found}`,
      "base [..., V], int32 ids [...], updates [...]",
    ],
  ),
  [
    "linear",
    [f({ M: 2, K: 3 }), f({ K: 4, N: 5 })],
    {},
    "[M=2, K=3]:float32, [K=4, N=5]:float32",
    "x [M, K], w [K, N] and a bias that fits [M, N]",
  ],
  [
    "linear",
    [f({ M: 2, K: 3 }), f({ K: 3, N: 5 })],
    { transX: true, transW: true },
    "[M=2, K=3]:float32, [K=3, N=5]:float32",
    "x [K, M], w [N, K] and a bias that fits [M, N]",
  ],
  [
    "linear",
    [f({ M: 2, K: 3 }), f({ K: 3, N: 5 }), f({ M: 2 })],
    {},
    "[M=2, K=3]:float32, [K=3, N=5]:float32, [M=2]:float32",
    "x [M, K], w [K, N] and a bias that fits [M, N]",
  ],
  [
    "linear",
    [f({ B: 1, M: 2, K: 3 }), f({ K: 3, N: 5 })],
    {},
    "[B=1, M=2, K=3]:float32, [K=3, N=5]:float32",
    "x [M, K], w [K, N] and a bias that fits [M, N]",
  ],
  [
    "matmul",
    [f({ B: 2, M: 3, K: 4 }), f({ B: 2, K: 5, N: 6 })],
    {},
    "[B=2, M=3, K=4]:float32, [B=2, K=5, N=6]:float32",
    "equal leading axes, or 1 in b where a is not transposed, and inner sizes that match",
  ],
  [
    "matmul",
    [f({ B: 2, K: 4, M: 3 }), f({ B: 1, K: 4, N: 6 })],
    { transA: true },
    "[B=2, K=4, M=3]:float32, [B=1, K=4, N=6]:float32",
    "equal leading axes, or 1 in b where a is not transposed, and inner sizes that match",
  ],
  [
    "matmul",
    [f({ M: 3, K: 4 }), f({ N: 6, K: 5 })],
    { transB: true },
    "[M=3, K=4]:float32, [N=6, K=5]:float32",
    "equal leading axes, or 1 in b where a is not transposed, and inner sizes that match",
  ],
  [
    "cachedAttention",
    attends({ B: 2, T: 1, C: 6 }, { B: 2, T: 1, C: 3 }),
    { heads: 2, kvHeads: 2 },
    "[B=2, T=1, C=6]:float32, [B=2, T=1, C=3]:float32, [B=2, T=1, C=3]:float32, [B=2, H=2, M=8, D=3]:float32, " +
      "[B=2, H=2, M=8, D=3]:float32, [B=2]:int32, [one=1]:int32",
    "q [B, T, H D], k and v [B, T, K D], two caches [B, K, M, D], lengths [B], total [1]",
  ],
  [
    "cachedAttention",
    attends({ B: 3, T: 1, C: 6 }, { B: 3, T: 1, C: 6 }),
    { heads: 2, kvHeads: 2 },
    "[B=3, T=1, C=6]:float32, [B=3, T=1, C=6]:float32, [B=3, T=1, C=6]:float32, [B=2, H=2, M=8, D=3]:float32, " +
      "[B=2, H=2, M=8, D=3]:float32, [B=2]:int32, [one=1]:int32",
    "q [B, T, H D], k and v [B, T, K D], two caches [B, K, M, D], lengths [B], total [1]",
  ],
  [
    "quantizedLinear",
    [f({ M: 2, K: 3 }), f({ K: 3, N: 5 }), f({ N: 5 })],
    {},
    "[M=2, K=3]:float32, [K=3, N=5]:float32, [N=5]:float32",
    "x [..., K], w int8 [K, N], scales [N] and maybe a bias [N]",
  ],
  [
    "quantizedLinear",
    [f({ M: 2, K: 3 }), stored(new Int8Array(15), { K: 3, N: 5 }), f({ N: 5 }), f({ N: 4 })],
    {},
    "[M=2, K=3]:float32, [K=3, N=5]:int8, [N=5]:float32, [N=4]:float32",
    "x [..., K], w int8 [K, N], scales [N] and maybe a bias [N]",
  ],
  [
    "embedRows",
    [f({ V: 3, C: 2 }), f({ N: 5 })],
    {},
    "[V=3, C=2]:float32, [N=5]:float32",
    "table [V, C] and whole numbers [...]",
  ],
  [
    "quantizedRows",
    [stored(new Int8Array(6), { C: 2, V: 3 }), f({ V: 2 }), ids({ B: 1, T: 2 })],
    {},
    "[C=2, V=3]:int8, [V=2]:float32, [B=1, T=2]:int32",
    "table int8 [C, V], scales [V] and whole numbers [B, T]",
  ],
  [
    "project",
    [f({ B: 2, T: 3, K: 4 }), f({ N: 5, K: 4 })],
    {},
    "[B=2, T=3, K=4]:float32, [N=5, K=4]:float32",
    "x [..., K], w [K, N] and maybe a bias [N]",
  ],
  [
    "project",
    [f({ B: 2, T: 3, K: 4 }), f({ N: 5, K: 4 }), f({ N: 4 })],
    { transW: true },
    "[B=2, T=3, K=4]:float32, [N=5, K=4]:float32, [N=4]:float32",
    "x [..., K], w [N, K] and maybe a bias [N]",
  ],
  [
    "dequantize",
    [f({ K: 3, N: 5 }), f({ N: 5 })],
    {},
    "[K=3, N=5]:float32, [N=5]:float32",
    "data int8 [K, N], scales [N]",
  ],
  [
    "quantizedProject",
    [f({ M: 2, K: 3 }), f({ K: 3, N: 5 }), f({ N: 5 })],
    {},
    "[M=2, K=3]:float32, [K=3, N=5]:float32, [N=5]:float32",
    "x [..., K], w int8 [K, N], scales [N] and maybe a bias [N]",
  ],
  [
    "rotaryAngles",
    [f({ B: 1, T: 2 }), f({ F: 2 })],
    {},
    "[B=1, T=2]:float32, [F=2]:float32",
    "whole numbers [B, T] and frequencies [F]",
  ],
  [
    "maskBias",
    [ids({ B: 1, S: 2 }), ids({ T: 2 })],
    { masked: -1 },
    "[B=1, S=2]:int32, [T=2]:int32",
    "whole numbers [B, S] and [B, T]",
  ],
  [
    "lastRows",
    [f({ B: 1, T: 2 }), ids({ one: 1 })],
    { axis: { name: "n", size: 1 } },
    "[B=1, T=2]:float32, [one=1]:int32",
    "x [B, T, ...] and a whole number",
  ],
];

test.each(cases)("%s refuses what does not fit (%#)", (name, inputs, attrs, found, expected) => {
  const op = operations.get(name);
  if (!op) throw new Error(`no operation ${name}`);
  let error: unknown;
  try {
    apply(op, inputs, attrs);
  } catch (thrown) {
    error = thrown;
  }
  expect(error).toBeInstanceOf(ValueheadError);
  const { message, kind } = error as ValueheadError;
  expect(kind).toBe("shape");
  expect(message).toBe(
    `operation ${name}: found ${found}, expected ${expected}. Fix: check the shapes given to this operation`,
  );
});

/** Element by element or row by row: any shape will do. */
const takesAnything = ["neg", "exp", "log", "sqrt", "tanh", "sigmoid", "relu", "erf", "gelu", "geluTanh"].concat([
  "stopGradient",
  "softmax",
  "logSoftmax",
]);

test("every operation is here or takes anything", () => {
  const refused = new Set(cases.map(([name]) => name));
  expect([...operations.keys()].filter((name) => !refused.has(name)).sort()).toEqual(takesAnything.sort());
});
