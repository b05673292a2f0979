/** @file Matrix products: `linear` for weights (2-D, with an added bias or accumulator), `matmul` for attention (batched). */
import { apply, type Dim, type Op, shapeError, type Tensor } from "../tensor.ts";
import { sumTo } from "./elementwise.ts";
import { split } from "./shape.ts";

interface LinearAttrs {
  transX?: boolean;
  transW?: boolean;
}

/**
 * y = op(x) op(w) + c: x [M, K], w [K, N], c anything that broadcasts to [M, N]; op transposes when asked.
 * With c a full [M, N] it accumulates: one product added onto another, in place when both are the same buffer.
 */
export const linearOp: Op = {
  name: "linear",
  light: false,
  infer: (inputs, { transX, transW }: LinearAttrs) => {
    const [x, w, c] = inputs;
    const expected = `x ${transX ? "[K, M]" : "[M, K]"}, w ${transW ? "[N, K]" : "[K, N]"} and a bias that fits [M, N]`;
    if (x.rank !== 2 || w.rank !== 2) shapeError("linear", inputs, expected);
    const [m, k] = transX ? [x.shape[1], x.shape[0]] : x.shape;
    const [n, kw] = transW ? w.shape : [w.shape[1], w.shape[0]];
    const fits = !c || (c.rank <= 2 && c.sizes.reverse().every((s, i) => s === 1 || s === [n.size, m.size][i]));
    if (k.size !== kw.size || !fits) shapeError("linear", inputs, expected);
    return [{ dtype: "float32", shape: [m, n] }];
  },
  emit: (e, inputs, outputs, node) =>
    e.node("Gemm", inputs, outputs, { transA: node.attrs.transX ? 1 : 0, transB: node.attrs.transW ? 1 : 0 }),
  gradient: (node, [g]) => {
    if (!g) return node.inputs.map(() => undefined);
    const [x, w, c] = node.inputs;
    const { transX = false, transW = false }: LinearAttrs = node.attrs;
    const dx = transX
      ? linear(w, g, undefined, { transX: transW, transW: true })
      : linear(g, w, undefined, { transW: !transW });
    const dw = transW
      ? linear(g, x, undefined, { transX: true, transW: transX })
      : linear(x, g, undefined, { transX: !transX });
    return c ? [dx, dw, sumTo(g, c)] : [dx, dw];
  },
};
export const linear = (x: Tensor, w: Tensor, c?: Tensor, attrs: LinearAttrs = {}) =>
  apply(linearOp, c ? [x, w, c] : [x, w], attrs)[0];

/** Elements of a block of a product's rows, 12 MB: it stays in the processor's cache while the whole of K is added up. */
const BLOCK_ELEMENTS = 3 << 20;

/**
 * A product in blocks of rows, one below the other. The gradient of an embedding, x^T g with few rows in x and g, is long and takes little
 * arithmetic for its size: as one product it comes from memory and goes back for each part of K. The bits are those of the product.
 * @returns the product itself where it fits into two blocks, or is none of that kind
 */
export function rowBlocks(y: Tensor): Tensor[] {
  const { op, inputs, attrs } = y.node;
  const [M, N] = y.sizes;
  if (op !== linearOp || !attrs.transX || inputs.length > 2 || M * N <= 2 * BLOCK_ELEMENTS) return [y];
  const rows = Math.max(1, Math.floor(BLOCK_ELEMENTS / N));
  const sizes = Array.from({ length: Math.ceil(M / rows) }, (_, i) => Math.min(rows, M - i * rows));
  return split(inputs[0], 1, sizes).map((x) => linear(x, inputs[1], undefined, attrs)); // x [K, M]
}

interface MatmulAttrs {
  transA?: boolean;
  transB?: boolean;
  /** The product is multiplied by this. */
  alpha?: number;
}

/**
 * y = alpha op(a) op(b): a [..., M, K], b [..., K, N]; op transposes the last two when asked. Leading axes are equal; where a is not
 * transposed they may be 1 in b: one matrix for all.
 */
export const matmulOp: Op = {
  name: "matmul",
  light: false,
  infer: (inputs, { transA, transB }: MatmulAttrs) => {
    const [a, b] = inputs;
    const lead = a.shape.slice(0, -2);
    const matrix = (t: Tensor, trans?: boolean): Dim[] => (trans ? t.shape.slice(-2).reverse() : t.shape.slice(-2));
    const [m, k] = matrix(a, transA);
    const [kb, n] = matrix(b, transB);
    if (
      a.rank < 2 ||
      b.rank !== a.rank ||
      k.size !== kb.size ||
      lead.some((d, i) => ![d.size, transA ? d.size : 1].includes(b.shape[i].size))
    )
      shapeError(
        "matmul",
        inputs,
        "equal leading axes, or 1 in b where a is not transposed, and inner sizes that match",
      );
    return [{ dtype: "float32", shape: [...lead, m, n] }];
  },
  emit: (e, inputs, outputs, node) => {
    const { transA, transB, alpha = 1 }: MatmulAttrs = node.attrs;
    const attrs = { transA: transA ? 1 : 0, transB: transB ? 1 : 0, alpha: { float: alpha } };
    e.node("FusedMatMul", inputs, outputs, attrs, "com.microsoft");
  },
  gradient: (node, [g]) => {
    if (!g) return [undefined, undefined];
    const [a, b] = node.inputs;
    const { transA = false, transB = false, alpha }: MatmulAttrs = node.attrs;
    const da = transA
      ? matmul(b, g, { transA: transB, transB: true, alpha })
      : matmul(g, b, { transB: !transB, alpha });
    const db = transB
      ? matmul(g, a, { transA: true, transB: transA, alpha })
      : matmul(a, g, { transA: !transA, alpha });
    return [da, sumTo(db, b)];
  },
};
export const matmul = (a: Tensor, b: Tensor, attrs: MatmulAttrs = {}) => apply(matmulOp, [a, b], attrs)[0];
