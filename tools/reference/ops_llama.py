"""Writes test/golden/ops-llama.json: the operations of the Llama family, in the layout of ops.json.

rotary is transformers' own apply_rotary_pos_emb (models/llama/modeling_llama.py). rmsNorm is
PyTorch's: transformers' LlamaRMSNorm is the same formula, but rounds to float32 on the way.
"""
from pathlib import Path

import numpy as np
import torch.nn.functional as F
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from op_cases import Cases

OUT = Path(__file__).resolve().parents[2] / "test" / "golden" / "ops-llama.json"
cases = Cases(20261126)
case, normal, away = cases.case, cases.normal, cases.away

for shape, epsilon in [((3, 6), 1e-5), ((2, 3, 4), 1e-6), ((3, 6), 0.1), ((2, 2, 3, 4), 1e-6)]:
    case("rmsNorm", lambda x, g, c=shape[-1], e=epsilon: F.rms_norm(x, (c,), g, e),
         [normal(*shape) * 2 + 1, away(shape[-1])], {"epsilon": epsilon})


def angles(batch, length, size, starts):
    """cos and sin [batch, 1, length, size] at positions starts[b] + t; the two halves of the last axis are equal."""
    frequencies = 10.0 ** (-2 * np.arange(size // 2) / size)
    positions = np.asarray(starts)[:, None] + np.arange(length)
    half = positions[:, None, :, None] * frequencies
    assert half.shape == (batch, 1, length, size // 2)
    both = np.concatenate([half, half], -1)
    return [np.cos(both).astype(np.float32), np.sin(both).astype(np.float32)]


def rotary(x, cos, sin):
    """transformers puts the axis of heads into cos and sin itself."""
    return apply_rotary_pos_emb(x, x, cos[:, 0], sin[:, 0])[0]


# Positions shared by the rows, positions of its own for each row, a single new token far from the start.
for (B, H, T, D), starts in [((2, 2, 3, 4), [0]), ((2, 3, 2, 6), [5, 0]), ((1, 2, 4, 8), [3]), ((3, 2, 1, 4), [40, 7, 0])]:
    case("rotary", rotary, [normal(B, H, T, D), *angles(len(starts), T, D, starts)])

for x in [normal(2, 3), normal(2, 2, 4), np.linspace(-6, 6, 9).astype(np.float32)]:
    case("silu", F.silu, [x])

cases.write(OUT)
