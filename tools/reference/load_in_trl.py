"""python load_in_trl.py DIR [OURS.json]      (the environment of rl.py: TRL 0.11.4)

DIR is a checkpoint saved by valuehead. It is loaded by transformers' GPT2LMHeadModel, its value head read by hand, and by
TRL's AutoModelForCausalLMWithValueHead, and both run on the same ids in float64. OURS.json is what valuehead computed:
{"inputIds": [[...]], "logits": [...], "values": [...]}, flat, no padding; without it the ids are random and only the two
libraries are compared. Prints maximum absolute differences; exit code 1 when one of them is above 1e-4.

Attention is "eager": the default of transformers 4.45, "sdpa", ignores scale_attn_weights and
scale_attn_by_inverse_layer_idx. TRL's value head is always one linear layer: a config with summary_activation "tanh" or without the projection has no
counterpart there, and its values differ.
"""
import json
import sys
from pathlib import Path

import torch
import transformers
import trl
from safetensors import safe_open
from transformers import GPT2LMHeadModel
from trl import AutoModelForCausalLMWithValueHead

LIMIT = 1e-4
transformers.logging.set_verbosity_error()
torch.set_num_threads(1)
directory = Path(sys.argv[1])
ours = json.loads(Path(sys.argv[2]).read_text()) if len(sys.argv) > 2 else None
config = json.loads((directory / "config.json").read_text())
generator = torch.Generator().manual_seed(0)
ids = (torch.tensor(ours["inputIds"]) if ours else
       torch.randint(0, config["vocab_size"], (2, min(16, config["n_positions"])), generator=generator))

eager = {"attn_implementation": "eager"}
plain, info = GPT2LMHeadModel.from_pretrained(directory, output_loading_info=True, **eager)
assert not info["missing_keys"] and not info["mismatched_keys"], info
with safe_open(directory / "model.safetensors", "pt") as file:
    weight, bias = (file.get_tensor(f"v_head.summary.{n}").double() for n in ("weight", "bias"))
wrapped = AutoModelForCausalLMWithValueHead.from_pretrained(str(directory), **eager).double().eval()
with torch.no_grad():
    out = plain.double().eval()(ids, output_hidden_states=True)
    by_hand = out.hidden_states[-1] @ weight[0] + bias
    trl_logits, _, trl_values = wrapped(ids)

print(f"transformers {transformers.__version__}, TRL {trl.__version__}, ids {list(ids.shape)}")
pairs = {"TRL and transformers": {"logits": (trl_logits, out.logits), "values": (trl_values, by_hand)}}
if ours:
    mine = {name: torch.tensor(ours[name], dtype=torch.float64) for name in ("logits", "values")}
    pairs["valuehead and transformers"] = {
        "logits": (mine["logits"].view_as(out.logits), out.logits), "values": (mine["values"].view_as(by_hand), by_hand)}
    pairs["valuehead and TRL"] = {
        "logits": (mine["logits"].view_as(out.logits), trl_logits), "values": (mine["values"].view_as(by_hand), trl_values)}
good = True
for who, both in pairs.items():
    for name, (a, b) in both.items():
        difference = (a - b).abs().max().item()
        good &= difference <= LIMIT  # False for NaN too
        print(f"{who:28}{name:8} max abs difference {difference:.3g} (largest {b.abs().max().item():.3g})")
print("same" if good else f"DIFFERENT: above {LIMIT}")
sys.exit(0 if good else 1)
