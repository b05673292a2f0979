"""python check_llama_roundtrip.py DIR REF

DIR is a checkpoint of the Llama family saved by valuehead; transformers loads it here and runs it in float64. REF is either
  - a directory of test/golden/llama: logits are compared with its golden.safetensors, and values where DIR has a value head
    with the golden's weights, or
  - another checkpoint: logits of the two are compared on a seeded ragged batch.
Prints a table of maximum absolute differences, and what transformers makes different of the two config.json; exit code 1
when a number is above 1e-4, a setting of the computation differs, or tensors are missing or unknown.
"""
import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, logging

from common import V_BIAS, V_WEIGHT, pad_right

LIMIT = 1e-4
IDLE = {"transformers_version", "dtype", "_name_or_path", "architectures"}  # say nothing about what is computed
logging.set_verbosity_error()
logging.disable_progress_bar()
torch.set_num_threads(1)


def load(directory):
    """(model, value head by tensor name; empty without one)"""
    model, info = AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float64, attn_implementation="eager", local_files_only=True, output_loading_info=True)
    extra = set(info["unexpected_keys"])
    assert not info["missing_keys"] and not info["mismatched_keys"], f"{directory}: tensors missing or of another shape: {info}"
    assert extra in (set(), {V_WEIGHT, V_BIAS}), f"{directory}: expected one value head besides the model, found {sorted(extra)}"
    head = {}
    for path in sorted(directory.glob("model*.safetensors")):
        with safe_open(path, "pt") as file:
            head |= {name: file.get_tensor(name).double() for name in extra if name in file.keys()}
    return model.eval(), head


def run(model, head, ids, mask):
    """(logits [B, T, V], values [B, T] or None)"""
    with torch.no_grad():
        out = model(input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False)
    return out.logits, out.hidden_states[-1] @ head[V_WEIGHT][0] + head[V_BIAS] if head else None


def numbers(directory, ref):
    model, head = load(directory)
    if (ref / "golden.safetensors").exists():
        golden = load_file(ref / "golden.safetensors")
        ids, mask = golden["inputIds"].long(), golden["attentionMask"]
        theirs, their_values = golden["logits"].double(), golden["values"].double()
        same_head = bool(head) and all(torch.allclose(head[n], golden[n].double(), atol=1e-6) for n in head)
    else:
        rng, rows = np.random.default_rng(0), model.config.vocab_size
        ids, mask = pad_right([rng.integers(0, rows, n).tolist() for n in (16, 9)], pad=0)
        other, other_head = load(ref)
        theirs, their_values = run(other, other_head, ids, mask)
        same_head = bool(head) and bool(other_head)
    logits, values = run(model, head, ids, mask)
    valid = mask.bool()
    found = {"logits": (logits[valid], theirs[valid])}
    return found | ({"values": (values[valid], their_values[valid])} if same_head else {})


def settings(directory, ref):
    """What differs of the two configs as transformers reads them, from the point of view of the reference."""
    ours, theirs = (AutoConfig.from_pretrained(d, local_files_only=True).to_dict() for d in (directory, ref))
    for config in (ours, theirs):
        config.get("rope_parameters", {}).pop("type", None)  # the old name of rope_type, which wins
    return {k: (ours.get(k), v) for k, v in theirs.items() if k not in IDLE and ours.get(k) != v}


parser = argparse.ArgumentParser()
parser.add_argument("directory", type=Path)
parser.add_argument("reference", type=Path)
options = parser.parse_args()
good = True
print(f"{'':10}{'numbers':>10}{'largest':>12}{'max abs difference':>20}")
for name, (ours, theirs) in numbers(options.directory, options.reference).items():
    difference = (ours - theirs).abs().max().item()
    good &= ours.numel() > 0 and difference <= LIMIT  # False for NaN too
    print(f"{name:10}{ours.numel():>10}{ours.abs().max().item():>12.4g}{difference:>20.3g}")
for name, (ours, theirs) in settings(options.directory, options.reference).items():
    good = False
    print(f"config.json: {name} is {ours}, in the reference {theirs}")
print("same" if good else f"DIFFERENT: above {LIMIT}, or another config")
sys.exit(0 if good else 1)
