"""python check_roundtrip.py DIR REF

DIR is a checkpoint saved by valuehead; transformers loads it here and runs it in float64. REF is either
  - another checkpoint directory: logits and values of the two are compared on a seeded ragged batch, or
  - the output of `valuehead score --model DIR --text TEXT --json`: log-probs and values are compared. One JSON object a
    line; tokens are objects with `id`, `value` and `logprob` (of this token given those before it; null for the first),
    one per line or in lists named `tokens`.
Prints a table of maximum absolute differences; exit code 1 when one of them is above 1e-4.
"""
import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch

from common import load_checkpoint, next_logprobs, pad_right

LIMIT = 1e-4


def run(directory, ids, mask):
    """(logits [B, T, V], values [B, T])"""
    model, v_weight, v_bias = load_checkpoint(directory, torch.float64)
    with torch.no_grad():
        out = model(input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False)
    return out.logits, out.hidden_states[-1] @ v_weight[0] + v_bias


def against_checkpoint(directory, ref):
    config = json.loads((directory / "config.json").read_text())
    width = min(16, config["n_positions"])
    rng = np.random.default_rng(0)
    ids, mask = pad_right([rng.integers(0, config["vocab_size"], n).tolist() for n in (width, (width + 1) // 2)], pad=0)
    (logits, values), (ref_logits, ref_values) = run(directory, ids, mask), run(ref, ids, mask)
    valid = mask.bool()
    return {"logits": (logits[valid], ref_logits[valid]), "values": (values[valid], ref_values[valid])}


def against_scores(directory, ref):
    rows = []  # one list of tokens per text
    for record in map(json.loads, filter(None, map(str.strip, ref.read_text().splitlines()))):
        if "tokens" in record:
            rows.append(record["tokens"])
        elif "id" in record:
            if record.get("logprob") is None:
                rows.append([])
            rows[-1].append(record)
    ids, mask = pad_right([[t["id"] for t in row] for row in rows], pad=0)
    logits, values = run(directory, ids, mask)
    logprobs = next_logprobs(logits, ids, mask)
    theirs = [torch.tensor([t[key] for row in rows for t in row[skip:]], dtype=torch.float64)
              for key, skip in (("logprob", 1), ("value", 0))]
    return {"logprobs": (logprobs[:, :-1][mask[:, 1:].bool()], theirs[0]), "values": (values[mask.bool()], theirs[1])}


parser = argparse.ArgumentParser()
parser.add_argument("directory", type=Path)
parser.add_argument("reference", type=Path)
options = parser.parse_args()
torch.set_num_threads(1)
compare = against_checkpoint if options.reference.is_dir() else against_scores
good = True
print(f"{'':10}{'numbers':>10}{'largest':>12}{'max abs difference':>20}")
for name, (ours, theirs) in compare(options.directory, options.reference).items():
    difference = (ours - theirs).abs().max().item()
    good &= ours.numel() > 0 and difference <= LIMIT  # False for NaN too
    print(f"{name:10}{ours.numel():>10}{ours.abs().max().item():>12.4g}{difference:>20.3g}")
print("same" if good else f"DIFFERENT: above {LIMIT}")
sys.exit(0 if good else 1)
