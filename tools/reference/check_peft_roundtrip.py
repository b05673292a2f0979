"""python check_peft_roundtrip.py DIR [OURS.json] [--base BASE]

DIR is an adapter saved by valuehead. PEFT loads it here onto its base model (--base, or what its adapter_config.json names) and
runs it in float64. OURS.json has what valuehead computes with the same: inputIds, a list of rows of one length; logits and
values, flat lists. Without it the logits are compared with golden.safetensors in DIR's own directory, and values where DIR has
the value head. Prints the differences; exit code 1 when one is above 1e-4, or a tensor is missing or unknown.

Runs in the environment of lora.py and, to see that older versions read it too, in that of rl.py (PEFT 0.13).
"""
import argparse
import json
import sys
import warnings
from pathlib import Path

import peft
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, logging

LIMIT = 1e-4
logging.set_verbosity_error()
warnings.filterwarnings("error", message=".*(missing|unexpected) (adapter )?keys.*")
torch.set_num_threads(1)

parser = argparse.ArgumentParser()
parser.add_argument("directory", type=Path)
parser.add_argument("ours", type=Path, nargs="?")
parser.add_argument("--base")
options = parser.parse_args()
config = peft.PeftConfig.from_pretrained(str(options.directory))
named = config.base_model_name_or_path
base = options.base or next((str(p) for p in (Path(named), options.directory / named) if p.is_dir()), named)
model = AutoModelForCausalLM.from_pretrained(base, attn_implementation="eager", local_files_only=True)
model = peft.PeftModel.from_pretrained(model, str(options.directory))
stored = {k.replace("base_model.model.", "") for k in load_file(options.directory / "adapter_model.safetensors")}
wanted = {k.replace("base_model.model.", "").replace(".default", "") for k, _ in model.named_parameters() if "lora_" in k}
good = stored == wanted
if not good:
    print(f"only in the file: {sorted(stored - wanted)}; only in PEFT's model: {sorted(wanted - stored)}")
model = model.double().eval()
head = load_file(options.directory / "v_head.safetensors")
if options.ours:
    theirs = json.loads(options.ours.read_text())
    ids = torch.tensor(theirs["inputIds"])
    mask = torch.ones_like(ids)
    want = {k: torch.tensor(theirs[k], dtype=torch.float64) for k in ("logits", "values")}
else:
    golden = load_file(options.directory / "golden.safetensors")
    ids, mask = golden["inputIds"].long(), golden["attentionMask"].long()
    want = {k: golden[k].double() for k in ("logits", "values")}
with torch.no_grad():
    out = model(input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False)
    got = {"logits": out.logits, "values": out.hidden_states[-1] @ head["v_head.summary.weight"][0].double()
           + head["v_head.summary.bias"].double()}
print(f"PEFT {peft.__version__}, base {base}, {len(stored)} tensors")
for name, x in got.items():
    exists = mask.bool().reshape(*mask.shape, *[1] * (x.dim() - 2)).expand_as(x)
    difference = (x - want[name].reshape(x.shape))[exists].abs().max().item()
    good &= difference <= LIMIT  # False for NaN too
    print(f"{name:8} largest {x[exists].abs().max().item():8.4g}   max abs difference {difference:.3g}")
print("same" if good else "DIFFERENT")
sys.exit(0 if good else 1)
