"""Writes test/golden/ops.json: forward values and gradients of every symbolic operation, from torch autograd.

op_cases.py says how they are computed and rounded.
"""
import itertools
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from op_cases import Cases

OUT = Path(__file__).resolve().parents[2] / "test" / "golden" / "ops.json"
cases = Cases(20240607)
rng, case, normal, away = cases.rng, cases.case, cases.normal, cases.away


def positive(*shape):
    return rng.uniform(0.4, 3.0, shape).astype(np.float32)


def spread(*shape):
    """Distinct values at least 0.2 apart, in random order: no ties for maxima."""
    n = int(np.prod(shape))
    return (0.25 * (rng.permutation(n) - n / 2) + rng.uniform(0, 0.05, n)).astype(np.float32).reshape(shape)


def ints(high, *shape):
    return rng.integers(0, high, shape).astype(np.int32)


# Binary, with numpy broadcasting
SHAPES = [([2, 3], [2, 3]), ([2, 3], [1]), ([3], [2, 3]), ([2, 1], [2, 3])]
for name, fn in [("add", torch.add), ("sub", torch.sub), ("mul", torch.mul)]:
    for a, b in SHAPES:
        case(name, fn, [normal(*a), normal(*b)])
for a, b in SHAPES:
    case("div", torch.div, [normal(*a), away(*b)])


def apart(a, b):
    """Two inputs whose broadcast difference is at least 0.1 everywhere."""
    while True:
        x, y = normal(*a), normal(*b)
        if np.abs(x - y).min() > 0.1:
            return [x, y]


for name, fn in [
    ("maximum", torch.maximum), ("minimum", torch.minimum), ("greater", lambda a, b: (a > b).double())
]:
    for a, b in SHAPES:
        case(name, fn, apart(a, b))

# Unary
for name, fn, make in [
    ("neg", torch.neg, normal), ("exp", torch.exp, normal),
    ("log", torch.log, positive), ("sqrt", torch.sqrt, positive),
    ("tanh", torch.tanh, normal), ("erf", torch.erf, normal), ("sigmoid", torch.sigmoid, normal),
    ("relu", torch.relu, away), ("gelu", F.gelu, normal), ("geluTanh", lambda x: F.gelu(x, approximate="tanh"), normal),
]:
    case(name, fn, [make(2, 3)])
    case(name, fn, [make(2, 2, 4)])
for name, fn in [("tanh", torch.tanh), ("sigmoid", torch.sigmoid), ("gelu", F.gelu),
                 ("geluTanh", lambda x: F.gelu(x, approximate="tanh"))]:
    case(name, fn, [np.linspace(-6, 6, 9).astype(np.float32)])  # the tails

# Matrix products
for ta, tb in itertools.product([False, True], repeat=2):
    for batch in [(), (2, 2)]:
        m, k, n = (3, 4, 5) if not batch else (2, 3, 2)

        def product(a, b, ta=ta, tb=tb):
            return (a.mT if ta else a) @ (b.mT if tb else b)

        a = normal(*batch, *((k, m) if ta else (m, k)))
        b = normal(*batch, *((n, k) if tb else (k, n)))
        case("matmul", product, [a, b], {"transA": ta, "transB": tb})
for tx, tw in itertools.product([False, True], repeat=2):
    def affine(x, w, c=0.0, tx=tx, tw=tw):
        return (x.mT if tx else x) @ (w.mT if tw else w) + c

    x, w = (4, 3) if tx else (3, 4), (5, 4) if tw else (4, 5)
    for c in [[normal(5)], [], [normal(3, 5)]]:  # a bias, nothing, an accumulator
        case("linear", affine, [normal(*x), normal(*w), *c], {"transX": tx, "transW": tw})
case("matmul", lambda a, b: 0.5 * a @ b.mT, [normal(2, 2, 3), normal(2, 2, 3)], {"transB": True, "alpha": 0.5})

# Reductions
REDUCTIONS = [((2, 3), [1], False), ((2, 3, 4), [0, 2], True), ((2, 3, 4), [1], True), ((2, 3), [0, 1], False)]
for name, fn, make in [
    ("reduceSum", torch.sum, normal), ("reduceMean", torch.mean, normal), ("reduceMax", torch.amax, spread)
]:
    for shape, axes, keep in REDUCTIONS:
        case(name, lambda x, fn=fn, axes=axes, keep=keep: fn(x, dim=axes, keepdim=keep), [make(*shape)],
             {"axes": axes, "keepDims": keep})

# Softmax and layer norm
for name, fn in [("softmax", F.softmax), ("logSoftmax", F.log_softmax)]:
    masked = normal(3, 5)
    masked[0, 3:] = masked[1, 1:] = -1e9
    for x in [normal(3, 5), normal(2, 2, 4), masked, normal(2, 4) * 20]:
        case(name, lambda x, fn=fn: fn(x, dim=-1), [x])
for shape, epsilon in [((3, 6), 1e-5), ((2, 3, 4), 1e-5), ((3, 6), 0.1)]:
    c = shape[-1]
    case("layerNorm", lambda x, g, b, c=c, e=epsilon: F.layer_norm(x, (c,), g, b, e),
         [normal(*shape) * 2 + 1, away(c), normal(c)], {"epsilon": epsilon})

# Shapes
for a, b in [([2, 6], [3, 4]), ([2, 3, 4], [6, 4]), ([6], [1, 2, 3])]:
    case("reshape", lambda x, b=b: x.reshape(b), [normal(*a)], {"shape": b})
for a, perm in [([2, 3], [1, 0]), ([2, 3, 2, 2], [0, 2, 1, 3]), ([2, 3, 2, 2], [0, 2, 3, 1]), ([2, 3, 4], [2, 0, 1])]:
    case("transpose", lambda x, perm=perm: x.permute(perm), [normal(*a)], {"perm": perm})
for a, axis, sizes in [([2, 6], 1, [2, 2, 2]), ([2, 2, 6], 2, [1, 2, 3]), ([5, 2], 0, [2, 3])]:
    case("split", lambda x, axis=axis, sizes=sizes: torch.split(x, sizes, dim=axis), [normal(*a)],
         {"axis": axis, "sizes": sizes})
for shapes, axis in [([[2, 3], [2, 2]], 1), ([[1, 3], [2, 3], [1, 3]], 0), ([[2, 2, 1, 2], [2, 2, 3, 2]], 2)]:
    case("concat", lambda *xs, axis=axis: torch.cat(xs, dim=axis), [normal(*s) for s in shapes], {"axis": axis})
for a, b in [([1], [2, 3]), ([2, 1], [2, 3]), ([3], [2, 2, 3]), ([1, 3, 1], [2, 3, 4])]:
    case("expand", lambda x, b=b: x.expand(b), [normal(*a)], {"shape": b})

# Gathers
case("gatherRows", lambda t, i: t[i], [normal(6, 4), np.array([2, 5, 2, 0, 2], np.int32)])
case("gatherRows", lambda t, i: t[i], [normal(5, 3), ints(5, 7)])
case("scatterAddRows", lambda t, i, u: t.index_add(0, i, u), [normal(6, 3), np.array([2, 5, 2, 0, 2], np.int32), normal(5, 3)])
for lead, v in [((4,), 5), ((2, 3), 6)]:
    case("gatherLast", lambda x, i: x.gather(-1, i[..., None])[..., 0], [normal(*lead, v), ints(v, *lead)])
    case("scatterAddLast", lambda x, i, u: x.scatter_add(-1, i[..., None], u[..., None]),
         [normal(*lead, v), ints(v, *lead), normal(*lead)])


def cached_attention(q, k, v, past_k, past_v, last, total, heads, scale):
    """Row b has last[b] + 1 - T tokens in its cache already; T more arrive and look at everything up to themselves."""
    B, T, C = q.shape
    keys, values, out = past_k.clone(), past_v.clone(), []
    split = lambda x: x.reshape(T, heads, C // heads).transpose(0, 1)  # [T, C] -> [H, T, D]
    for b in range(B):
        end = int(last[b]) + 1
        keys[b, :, end - T:end], values[b, :, end - T:end] = split(k[b]), split(v[b])
        scores = scale * split(q[b]) @ keys[b, :, :end].mT
        hidden = torch.ones(T, end).triu(end - T + 1).bool()
        mixed = scores.masked_fill(hidden, -torch.inf).softmax(-1) @ values[b, :, :end]
        out.append(mixed.transpose(0, 1).reshape(T, C))
    return torch.stack(out), keys, values


# Only sampling uses it: no gradient. Two rows of one new token after 2 and 1; one row of two new tokens after 2.
for shape, last, M in [((2, 1, 16), [2, 1], 3), ((1, 2, 16), [3], 4)]:
    B, T, C = shape
    past = [np.zeros((B, 1, M, C), np.float32) for _ in range(2)]
    for b in range(B):
        for x in past:
            x[b, :, :last[b] + 1 - T] = normal(1, last[b] + 1 - T, C)
    inputs = [*(normal(*shape) for _ in range(3)), *past, np.array(last, np.int32), np.array([max(last) + 1], np.int32)]
    case("cachedAttention", lambda *x: cached_attention(*(t.detach() for t in x), heads=1, scale=0.3), inputs, {"heads": 1, "scale": 0.3})

case("stopGradient", lambda x: x.detach(), [normal(2, 3)])


def quantized_linear(x, w, scales, bias=None):
    """Rows of x rounded to whole steps of max |x| / 127, then an ordinary product with the dequantised weights."""
    x, w, scales = x.detach(), w.double(), scales.detach()
    step = x.abs().amax(-1, keepdim=True).clamp(min=1e-30) / 127
    y = ((x / step).round() * step) @ (w * scales)
    return y if bias is None else y + bias.detach()


# Sampling only, too. Three rows of very different sizes, and one of zeros.
sizes = np.array([1, 100, 0.01, 0], np.float32)[:, None]
weights = rng.integers(-127, 128, (8, 5)).astype(np.int8)
case("quantizedLinear", quantized_linear, [normal(4, 8) * sizes, weights, positive(5), normal(5)])
case("quantizedLinear", quantized_linear, [normal(2, 3, 8), weights, positive(5)])
case("dequantize", lambda w, scales: w.double() * scales.detach(), [weights, positive(5)])

cases.write(OUT)
