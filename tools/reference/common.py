"""Shared by the GPT-2 scripts: random checkpoints in Hugging Face layout with a value head."""
import json
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel, logging

logging.set_verbosity_error()
logging.disable_progress_bar()

V_WEIGHT, V_BIAS = "v_head.summary.weight", "v_head.summary.bias"


def gpt2_config(**options):
    """GPT2Config with every key written out: the summary_* values are the defaults the notebook ran with."""
    defaults = dict(
        architectures=["GPT2LMHeadModel"], activation_function="gelu_new", num_labels=1, dtype="float32",
        summary_type="cls_index", summary_use_proj=True, summary_activation=None, summary_proj_to_labels=True,
        summary_first_dropout=0.1,
    )
    return GPT2Config(**defaults | options)


def random_state(config, rng, std, position_std, value_std):
    """Every parameter by Hugging Face name, biases and layer-norm gains random too, none left at 0 or 1."""
    with torch.device("meta"):
        shapes = {name: tuple(p.shape) for name, p in GPT2LMHeadModel(config).named_parameters()}
    shapes |= {V_WEIGHT: (1, config.n_embd), V_BIAS: (1,)}
    state = {}
    for name, shape in shapes.items():
        x = rng.standard_normal(shape, dtype=np.float32)
        if name.endswith(("ln_1.weight", "ln_2.weight", "ln_f.weight")):
            x = 1 + 0.2 * x
        elif name == V_BIAS:
            x = x - x + 0.25
        elif len(shape) == 1:
            x = 0.5 * std * x
        else:
            x = {"transformer.wpe.weight": position_std, V_WEIGHT: value_std}.get(name, std) * x
        state[name] = torch.from_numpy(x.astype(np.float32))
    return state


def write_checkpoint(directory, config, state):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(config.to_dict(), indent=2, sort_keys=True) + "\n")
    save_file(state, directory / "model.safetensors", metadata={"format": "pt"})


def load_checkpoint(directory, dtype):
    """(model, value weight [1, C], value bias [1]). The body is loaded by transformers, the value head by hand."""
    model, info = GPT2LMHeadModel.from_pretrained(
        directory, dtype=dtype, attn_implementation="eager", local_files_only=True, output_loading_info=True
    )
    missing, extra = set(info["missing_keys"]), set(info["unexpected_keys"])
    assert not missing and not info["mismatched_keys"], f"{directory}: tensors missing or of another shape: {info}"
    assert extra == {V_WEIGHT, V_BIAS}, f"{directory}: expected one value head besides GPT-2, found {sorted(extra)}"
    head = {}
    for path in sorted(Path(directory).glob("model*.safetensors")):
        with safe_open(path, "pt") as file:
            head |= {name: file.get_tensor(name).to(dtype) for name in (V_WEIGHT, V_BIAS) if name in file.keys()}
    return model.eval(), head[V_WEIGHT], head[V_BIAS]


def pad_right(rows, pad):
    """(ids [B, T], mask [B, T]) of ragged rows."""
    width = max(map(len, rows))
    ids = torch.tensor([list(r) + [pad] * (width - len(r)) for r in rows])
    mask = torch.tensor([[1] * len(r) + [0] * (width - len(r)) for r in rows])
    return ids, mask


def next_logprobs(logits, ids, mask):
    """[B, T]: at t the log-probability of ids[t + 1] given ids[..t]; 0 where t + 1 is padding or outside."""
    out = torch.zeros_like(logits[..., 0])
    out[:, :-1] = logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0] * mask[:, 1:]
    return out
