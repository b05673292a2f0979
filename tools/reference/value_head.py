"""Writes test/golden/value-head/: values and gradients of the notebook's value head under every setting of its config.

The head is written here from the notebook's description: dropout, a linear layer or nothing, tanh or nothing, dropout; the
last axis goes when it is 1. Dropout is off. The body is test/golden/gpt2-tiny.
"""
import json
from itertools import product
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, logging

GOLDEN = Path(__file__).resolve().parents[2] / "test" / "golden"
OUT = GOLDEN / "value-head"
logging.set_verbosity_error()
logging.disable_progress_bar()
torch.set_num_threads(1)
rng = np.random.default_rng(11)


class ValueHead(nn.Module):
    def __init__(self, config):
        super().__init__()
        to_labels = getattr(config, "summary_proj_to_labels", False) and config.num_labels > 0
        width = config.num_labels if to_labels else config.hidden_size
        projects = getattr(config, "summary_use_proj", False)
        self.summary = nn.Linear(config.hidden_size, width) if projects else nn.Identity()
        self.activation = nn.Tanh() if getattr(config, "summary_activation", None) == "tanh" else nn.Identity()
        self.first_dropout = nn.Dropout(getattr(config, "summary_first_dropout", 0))
        self.last_dropout = nn.Dropout(getattr(config, "summary_last_dropout", 0))

    def forward(self, hidden):
        return self.last_dropout(self.activation(self.summary(self.first_dropout(hidden))))


body = GPT2LMHeadModel.from_pretrained(GOLDEN / "gpt2-tiny", dtype=torch.float64, attn_implementation="eager").eval()
tiny = load_file(GOLDEN / "gpt2-tiny" / "golden.safetensors")
ids, mask = tiny["inputIds"].long(), tiny["attentionMask"]
C = body.config.n_embd


def given(*shape):
    return torch.from_numpy(rng.normal(0, 0.3, shape).astype(np.float32)).double()


weights = {1: (given(1, C), given(1)), C: (given(C, C), given(C))}
loss_weights = given(*ids.shape) * mask  # the loss: their sum with the values, at existing positions
tensors = {"loss.weights": loss_weights}
tensors |= {f"{n}.{part}": x for n, pair in weights.items() for part, x in zip(("weight", "bias"), pair)}
cases = []
for use_proj, to_labels, activation, labels in product((True, False), (True, False), (None, "tanh", "relu"), (2, 1)):
    if labels == 2 and (activation, to_labels) != ("tanh", True):
        continue
    options = {"summary_use_proj": use_proj, "summary_proj_to_labels": to_labels, "summary_activation": activation,
               "num_labels": labels, "summary_first_dropout": 0.1, "summary_last_dropout": 0.2}
    config = GPT2Config.from_pretrained(GOLDEN / "gpt2-tiny", **options)
    config.num_labels = 1  # as the notebook's model does, whatever the file says
    head = ValueHead(config).double().eval()
    if use_proj:
        weight, bias = weights[head.summary.out_features]
        head.load_state_dict({"summary.weight": weight, "summary.bias": bias})
    body.zero_grad()
    hidden = body.transformer(input_ids=ids, attention_mask=mask).last_hidden_state
    values = head(hidden).squeeze(-1)
    name = ", ".join(f"{k} {json.dumps(v)}" for k, v in options.items() if "dropout" not in k)
    tensors[f"{name}.values"] = values * (mask if values.dim() == 2 else mask[..., None])
    if values.dim() == 2:
        (values * loss_weights).sum().backward()
        grads = {f"v_head.{p}": x.grad for p, x in head.named_parameters()}
        grads |= {p: x.grad for p, x in body.named_parameters() if p in (
            "transformer.wte.weight", "transformer.h.0.attn.c_attn.weight", "transformer.h.1.mlp.c_proj.bias",
            "transformer.ln_f.weight")}
        tensors |= {f"{name}.grad.{p}": x for p, x in grads.items()}
    cases.append({"name": name, "options": options, "shape": list(values.shape),
                  "projection": head.summary.out_features if use_proj else 0})

OUT.mkdir(parents=True, exist_ok=True)
save_file({n: x.detach().float().contiguous() for n, x in tensors.items()}, OUT / "golden.safetensors")
(OUT / "golden.json").write_text(json.dumps(cases, indent=1) + "\n")
for case in cases:
    print(case["name"], case["shape"])
print(sum(f.stat().st_size for f in OUT.iterdir()), "bytes")
