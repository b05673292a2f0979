"""The losses of a preference pair and their derivatives over a range of log ratios: huggingface/trl@v0.11.4's own `dpo_loss`, the
last in which label smoothing of `sigmoid` (cDPO) works: test/golden/dpo-losses.json.

Needs the environment of rl.py (TRL 0.11.4). Run: python tools/reference/dpo_losses.py
"""
import json
import pathlib
from types import SimpleNamespace

import torch
import trl
from trl import DPOTrainer

OUT = pathlib.Path(__file__).resolve().parents[2] / "test" / "golden" / "dpo-losses.json"
D = [-40.0, -7.5, -2.0, -0.3, 0.0, 0.01, 0.9, 2.4, 5.1, 33.0]
CASES = [
    (loss, beta, smoothing)
    for loss, smoothings in {"sigmoid": (0.0, 0.1, 0.3), "robust": (0.0, 0.1, 0.3), "ipo": (0.0,), "hinge": (0.0,)}.items()
    for beta in (0.1, 0.7)
    for smoothing in smoothings
]
cases = []
for loss, beta, smoothing in CASES:
    trainer = SimpleNamespace(
        accelerator=SimpleNamespace(device="cpu"), f_divergence_type="reverse_kl", f_divergence_params=None,
        loss_type=loss, beta=beta, label_smoothing=smoothing, reference_free=False, aux_loss_enabled=False,
    )
    d = torch.tensor(D, dtype=torch.float64, requires_grad=True)
    zero = torch.zeros_like(d)
    losses, *_ = DPOTrainer.dpo_loss(trainer, d, zero, zero, zero)
    losses.sum().backward()
    cases.append({"loss": loss, "beta": beta, "labelSmoothing": smoothing, "losses": losses.tolist(), "slopes": d.grad.tolist()})
OUT.write_text(json.dumps({"versions": {"trl": trl.__version__, "torch": torch.__version__}, "d": D, "cases": cases}, indent=1) + "\n")
print(len(cases), "cases")
