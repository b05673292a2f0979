"""Shared by the scripts that write cases of symbolic operations: random inputs, and values and gradients from torch autograd.

Inputs are float32; torch computes in float64; results are rounded to float32 once, at the end.
"""
import json

import numpy as np
import torch

torch.set_num_threads(1)


def numbers(array):
    """float32 as its shortest decimal that reads back as the same float32."""
    array = np.asarray(array)
    if array.dtype in (np.int32, np.int8):
        return array.ravel().tolist()
    values = [float(str(x)) for x in array.astype(np.float32).ravel()]
    assert np.array_equal(np.array(values, np.float32), array.astype(np.float32).ravel())
    return values


class Cases:
    """A list of cases with the random numbers they are made of."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.all = []

    def normal(self, *shape):
        return self.rng.standard_normal(shape).astype(np.float32)

    def away(self, *shape):
        """Values in +-[0.25, 2]: away from a kink at 0."""
        return (self.rng.uniform(0.25, 2.0, shape) * self.rng.choice([-1, 1], shape)).astype(np.float32)

    def case(self, op, fn, inputs, attrs=None):
        tensors = [
            torch.from_numpy(x.astype(np.float64)).requires_grad_() if x.dtype == np.float32 else torch.from_numpy(x).long()
            for x in inputs
        ]
        outputs = fn(*tensors)
        outputs = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
        cotangents = [self.normal(*y.shape) for y in outputs]
        floats = [t for t in tensors if t.requires_grad]
        total = sum((y * torch.from_numpy(g.astype(np.float64))).sum() for y, g in zip(outputs, cotangents))
        if total.requires_grad:
            grads = torch.autograd.grad(total, floats, allow_unused=True, materialize_grads=True)
        else:
            grads = [torch.zeros_like(t) for t in floats]
        grads = iter(grads)
        assert all(x.size <= 100 for x in inputs) and all(y.numel() <= 100 for y in outputs), op
        self.all.append({
            "op": op,
            "attrs": attrs or {},
            "inputs": [{"shape": list(x.shape), "dtype": str(x.dtype), "data": numbers(x)} for x in inputs],
            "outputs": [{"shape": list(y.shape), "data": numbers(y.detach().numpy())} for y in outputs],
            "outputGradients": [numbers(g) for g in cotangents],
            "inputGradients": [numbers(next(grads).numpy()) if t.requires_grad else None for t in tensors],
        })

    def write(self, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("[\n" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in self.all) + "\n]\n")
        print(f"{path.name}: {len(self.all)} cases of {len({c['op'] for c in self.all})} operations, {path.stat().st_size} bytes")
