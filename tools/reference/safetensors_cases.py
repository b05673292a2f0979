"""Writes test/golden/safetensors: small files by Python's safetensors for the reader in src/checkpoint/safetensors.ts.

Run from the repository root: python tools/reference/safetensors_cases.py
"""

import json
import pathlib

import numpy as np
import torch
from safetensors.torch import save_file

torch.set_num_threads(1)
out = pathlib.Path("test/golden/safetensors")
out.mkdir(parents=True, exist_ok=True)
rng = np.random.default_rng(0)

values = torch.tensor([[0.0, -1.0, 3.140625], [1e-7, -65504.0, 0.1]], dtype=torch.float64)
types = {
    "f64": values,
    "f32": values.float(),
    "f16": values.half(),
    "bf16": values.bfloat16(),
    "i64": torch.tensor([0, -1, 50256, -(2**40) + 3, 2**53 - 1]),
    "i32": torch.tensor([0, -1, 2**31 - 1, -(2**31)], dtype=torch.int32),
    "i64_small": torch.tensor([0, -1, 50256, -(2**31), 2**31 - 1]),
    "i16": torch.tensor([-32768, 7], dtype=torch.int16),
    "i8": torch.tensor([-128, 127], dtype=torch.int8),
    "u8": torch.tensor([[[255]], [[0]]], dtype=torch.uint8),
    "bool": torch.tensor([True, False, True]),
    "scalar": torch.tensor(2.5),
    "empty": torch.zeros(0, 3),
}
save_file(types, out / "types.safetensors", metadata={"format": "pt", "note": "caf\u00e9"})
expected = {
    name: {"shape": list(t.shape), "values": t.double().flatten().tolist() if t.is_floating_point() else t.flatten().int().tolist() if t.dtype == torch.bool else t.flatten().tolist()}
    for name, t in types.items()
}
(out / "types.json").write_text(json.dumps(expected, indent=1) + "\n")

# fp16 to fp32: a sweep over the bit patterns, with every kind of number in it.
patterns = np.arange(0, 65536, 41, dtype=np.uint16)
# fp32 to fp16: random sizes, then halfway cases and their neighbours, around subnormals and overflow too.
random = (rng.standard_normal(700) * 2.0 ** rng.integers(-28, 18, 700)).astype(np.float32)
exact = torch.from_numpy(rng.integers(0, 0x7BFF, 200).astype(np.int16)).view(torch.float16).double().numpy()
above = torch.from_numpy((rng.integers(0, 0x7BFF, 200)).astype(np.int16))
low, high = above.view(torch.float16).double(), (above + 1).view(torch.float16).double()
halfway = ((low + high) / 2).float().numpy()
ties = np.concatenate([halfway, np.nextafter(halfway, np.float32(0)), np.nextafter(halfway, np.float32(1e9))])
edges = np.array([0.0, -0.0, 65504, 65519.996, 65520, 65536, -1e30, np.inf, -np.inf, np.nan, 2**-24, 2**-25, 3 * 2**-26, 2**-14, 2**-14 - 2**-26], dtype=np.float32)
inputs = torch.from_numpy(np.concatenate([random, -ties, ties, exact.astype(np.float32), edges]))
save_file(
    {
        "f16": torch.from_numpy(patterns.view(np.float16)),
        "f16_as_f32": torch.from_numpy(patterns.view(np.float16).astype(np.float32)),
        "inputs": inputs,
        "rounded": inputs.half(),
        "rounded_bits": inputs.half().view(torch.int16),
    },
    out / "half.safetensors",
)
