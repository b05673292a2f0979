"""Writes test/golden/optim.json: AdamW, gradient clipping, schedules, activations and attention, from torch and transformers.

Inputs are float32; torch computes in float64; results are rounded to float32 once, at the end.
"""
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR
from transformers.activations import ACT2FN

OUT = Path(__file__).resolve().parents[2] / "test" / "golden" / "optim.json"
torch.set_num_threads(1)
rng = np.random.default_rng(20240608)


def normal(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def numbers(array):
    """float32 as its shortest decimal that reads back as the same float32."""
    values = [float(str(x)) for x in np.asarray(array).astype(np.float32).ravel()]
    assert np.array_equal(np.array(values, np.float32), np.asarray(array).astype(np.float32).ravel())
    return values


def double(x):
    return torch.from_numpy(x.astype(np.float64))


# ---- AdamW: 10 parameters, the first 6 with weight decay, 6 steps, the learning rate halved after the third ----
PARAMS, DECAYED, STEPS = 10, 6, 6
initial = normal(PARAMS)
grads = normal(STEPS, PARAMS) * np.float32(10.0) ** rng.integers(-3, 2, (STEPS, PARAMS)).astype(np.float32)
grads = grads.astype(np.float32)
grads[:, 3] = 0  # a parameter nothing flows to still decays


def adamw(learning_rate, beta1, beta2, epsilon, weight_decay):
    decayed = double(initial[:DECAYED]).requires_grad_()
    others = double(initial[DECAYED:]).requires_grad_()
    groups = [{"params": [decayed], "weight_decay": weight_decay}, {"params": [others], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=(beta1, beta2), eps=epsilon)
    after, rates = [], []
    for step in range(STEPS):
        rate = learning_rate if step < 3 else learning_rate / 2
        for group in optimizer.param_groups:
            group["lr"] = rate
        g = double(grads[step])
        decayed.grad, others.grad = g[:DECAYED].clone(), g[DECAYED:].clone()
        optimizer.step()
        rates.append(rate)
        after.append(numbers(torch.cat([decayed, others]).detach().numpy()))
    moments = [
        numbers(torch.cat([optimizer.state[p][key] for p in (decayed, others)]).numpy())
        for key in ("exp_avg", "exp_avg_sq")
    ]
    options = {
        "learningRate": learning_rate, "beta1": beta1, "beta2": beta2, "epsilon": epsilon, "weightDecay": weight_decay,
    }
    return {"options": options, "rates": rates, "after": after, "m": moments[0], "v": moments[1]}


adamw_cases = [
    adamw(1e-3, 0.9, 0.999, 1e-8, 0.0),
    adamw(1e-3, 0.9, 0.999, 1e-8, 0.1),
    adamw(3e-2, 0.9, 0.95, 1e-5, 0.01),
    adamw(1e-1, 0.5, 0.8, 1e-1, 0.0),  # an epsilon that counts
    adamw(1e-2, 0.0, 0.99, 1e-8, 0.5),
]

# ---- clip_grad_norm_ ----
clip_cases = []
for max_norm in (0.5, 1.0, 100.0):
    p = torch.zeros(PARAMS, dtype=torch.float64, requires_grad=True)
    p.grad = double(grads[0])
    norm = torch.nn.utils.clip_grad_norm_([p], max_norm)
    clip_cases.append({"maxNorm": max_norm, "norm": norm.item(), "clipped": numbers(p.grad.numpy())})


# ---- schedules: factors for step 0, 1, ..., total ----
def schedule(name, total, warmup, final):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    if name == "linear":
        main = LinearLR(optimizer, start_factor=1.0, end_factor=final, total_iters=total - warmup)
    elif name == "cosine":
        main = CosineAnnealingLR(optimizer, T_max=total - warmup, eta_min=final)
    else:
        main = LinearLR(optimizer, start_factor=1.0, end_factor=1.0, total_iters=1)
    scheduler = main
    if warmup > 0:
        ramp = LinearLR(optimizer, start_factor=1 / warmup, end_factor=1.0, total_iters=warmup - 1)
        scheduler = SequentialLR(optimizer, [ramp, main], milestones=[warmup])
    factors = []
    for _ in range(total + 1):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return {"name": name, "total": total, "warmup": warmup, "final": final, "factors": factors}


schedule_cases = [
    schedule(name, 12, warmup, final)
    for name in ("constant", "linear", "cosine")
    for warmup, final in ((0, 0.0), (4, 0.0), (4, 0.1))
]

# ---- activations ----
x = np.concatenate([np.linspace(-6, 6, 25), [-20, -0.1, 0.1, 20]]).astype(np.float32)
names = ["gelu_new", "gelu", "gelu_fast", "gelu_accurate", "gelu_python", "gelu_python_tanh", "gelu_pytorch_tanh",
         "quick_gelu", "relu", "tanh", "silu", "swish", "sigmoid"]
activation_values = {name: numbers(ACT2FN[name](double(x)).numpy()) for name in names}

# ---- causal self-attention over [N, 3C], with a scale that is not 1/sqrt(D) ----
B, T, H, D, SCALE = 2, 5, 3, 4, 0.37
C = H * D
qkv = normal(B * T, 3 * C) * 2
seed = normal(B * T, C)
leaf = double(qkv).requires_grad_()
q, k, v = (part.view(B, T, H, D).transpose(1, 2) for part in leaf.split(C, -1))
y = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=SCALE).transpose(1, 2).reshape(B * T, C)
(gradient,) = torch.autograd.grad((y * double(seed)).sum(), leaf)

golden = {
    "versions": {"torch": torch.__version__},
    "initial": numbers(initial),
    "decayed": DECAYED,
    "grads": [numbers(g) for g in grads],
    "adamw": adamw_cases,
    "clip": clip_cases,
    "schedules": schedule_cases,
    "activations": {"x": numbers(x), "values": activation_values},
    "attention": {
        "B": B, "T": T, "H": H, "D": D, "scale": SCALE, "qkv": numbers(qkv), "seed": numbers(seed),
        "output": numbers(y.detach().numpy()), "gradient": numbers(gradient.numpy()),
    },
}
OUT.write_text(json.dumps(golden) + "\n")
print(f"{OUT.name}: {OUT.stat().st_size} bytes")
