"""Writes test/golden/ops-export.json: the operations of exported models, in the layout of ops.json. None has a gradient here.

What a token may look at is transformers' own mask for a padded batch (masking_utils.py, eager attention).
"""
from pathlib import Path

import numpy as np
import torch
from transformers import GPT2Config
from transformers.masking_utils import create_causal_mask

from op_cases import Cases

OUT = Path(__file__).resolve().parents[2] / "test" / "golden" / "ops-export.json"
cases = Cases(20261127)
rng, case, normal = cases.rng, cases.case, cases.normal


def ints(high, *shape):
    return rng.integers(0, high, shape).astype(np.int32)


for ids in [ints(6, 5), ints(6, 2, 3)]:
    case("embedRows", lambda t, i: t[i], [normal(6, 4), ids])

weights = rng.integers(-127, 128, (4, 6)).astype(np.int8)
scales = rng.uniform(0.01, 0.1, 6).astype(np.float32)
case("quantizedRows", lambda t, s, i: (t.double() * s).T[i], [weights, scales, ints(6, 2, 3)])

for shape in [(3, 4), (2, 3, 4)]:
    case("project", lambda x, w: x @ w, [normal(*shape), normal(4, 5)])
    case("project", lambda x, w, b: x @ w + b, [normal(*shape), normal(4, 5), normal(5)])
    case("project", lambda x, w, b: x @ w.T + b, [normal(*shape), normal(5, 4), normal(5)], {"transW": True})


def quantized_project(x, w, scales, bias=None):
    """Whole steps of max |x| / 63, then what is left in steps 126 times smaller."""
    x, w, scales = x.detach(), w.double(), scales.detach()
    step = x.abs().amax(-1, keepdim=True).clamp(min=1e-30) / 63
    whole = (x / step).round()
    rest = ((x / step - whole) * 126).round() / 126
    y = ((whole + rest) * step) @ (w * scales)
    return y if bias is None else y + bias.detach()


sizes = np.array([1, 100, 0.01, 0], np.float32)[:, None]
matrix = rng.integers(-127, 128, (8, 5)).astype(np.int8)
columns = rng.uniform(0.4, 3.0, 5).astype(np.float32)
case("quantizedProject", quantized_project, [normal(4, 8) * sizes, matrix, columns, normal(5)])
case("quantizedProject", quantized_project, [normal(2, 3, 8), matrix, columns])


def angles(positions, frequencies):
    turned = positions[:, None, :, None] * frequencies
    return torch.cos(turned), torch.sin(turned)


case("rotaryAngles", angles, [ints(40, 2, 3), (10.0 ** (-np.arange(4) / 2)).astype(np.float32)])

MASKED = -1e9
config = GPT2Config(n_layer=1, n_head=1, n_embd=4)
config._attn_implementation = "eager"


def bias(mask, ids):
    """Rows that see nothing at all are padding, of which nothing is asked: they are set apart below."""
    B, T = ids.shape
    S = mask.shape[1]
    made = create_causal_mask(config=config, inputs_embeds=torch.zeros(B, T, 4), attention_mask=mask,
                              past_key_values=None if S == T else past(B, S - T),
                              position_ids=torch.arange(S - T, S)[None])
    hidden = made < 0 if made.dtype.is_floating_point else ~made
    # A masked query attends to whatever transformers likes; here to what is masked, all alike.
    exists = mask[:, None, None, :].bool()
    causal = torch.arange(S)[None, :] <= torch.arange(S - T, S)[:, None]
    seen = exists & causal
    queries = mask[:, -T:].bool()
    assert torch.equal((~hidden)[:, 0][queries], seen[:, 0][queries])
    return torch.where(seen, 0.0, MASKED)


def past(B, length):
    from transformers import DynamicCache
    cache = DynamicCache()
    cache.update(torch.zeros(B, 1, length, 4), torch.zeros(B, 1, length, 4), 0)
    return cache


full = np.array([[1, 1, 1, 1], [0, 0, 1, 1], [0, 1, 1, 1]], np.int32)
for tokens in [4, 2, 1]:
    case("maskBias", bias, [full, np.zeros((3, tokens), np.int32)], {"masked": MASKED})

for n in [0, 1, 2]:
    size = n or 3
    case("lastRows", lambda x, n, s=size: x[:, x.shape[1] - s:], [normal(2, 3, 4), np.array(n, np.int32)],
         {"axis": {"name": "kept", "size": size}})

cases.write(OUT)
