"""Writes test/golden/ends.json: where transformers ends greedy responses of test/golden/gpt2-tiny, by what its config.json and
generation_config.json say.
"""
import json
import shutil
import tempfile
from pathlib import Path

import torch

from common import GPT2LMHeadModel

GOLDEN = Path(__file__).resolve().parents[2] / "test" / "golden"
SOURCE = GOLDEN / "gpt2-tiny"
QUERIES, NEW = [[3, 14, 15], [92, 6], [53, 58, 97, 9]], 12
torch.set_num_threads(1)


def respond(config, generation, min_new_tokens):
    """The new tokens for each query, and eos_token_id as a saved copy has it in its two files."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        shutil.copy(SOURCE / "model.safetensors", folder)
        (folder / "config.json").write_text(json.dumps(json.loads((SOURCE / "config.json").read_text()) | config))
        if generation is not None:
            (folder / "generation_config.json").write_text(json.dumps(generation))
        model = GPT2LMHeadModel.from_pretrained(folder).eval()
        new = []
        for query in QUERIES:
            out = model.generate(
                torch.tensor([query]), attention_mask=torch.ones(1, len(query), dtype=torch.long), do_sample=False,
                max_new_tokens=NEW, min_new_tokens=min_new_tokens, pad_token_id=0, bos_token_id=0,
                repetition_penalty=1.3,
            )
            new.append(out[0, len(query):].tolist())
        model.save_pretrained(folder / "saved")
        names = ["config.json", "generation_config.json"]
        return new, [json.loads((folder / "saved" / name).read_text()).get("eos_token_id") for name in names]


free, _ = respond({"eos_token_id": None}, None, 0)
a = free[0][5]
b = next(token for token in free[1][2:] if token != a)
c = next(token for token in free[2][5:] if token not in (a, b))
cases = []
for name, config, generation in [
    ("none", {"eos_token_id": None}, None),
    ("one", {"eos_token_id": a}, None),
    ("a list", {"eos_token_id": [a, b, c]}, None),
    ("a list with one twice", {"eos_token_id": [b, c, b]}, None),
    ("generation_config.json alone", {"eos_token_id": None}, {"eos_token_id": [b, a]}),
    ("generation_config.json over config.json", {"eos_token_id": [a, c]}, {"eos_token_id": b}),
    ("sampling settings too", {"eos_token_id": a}, {"eos_token_id": [a, c], "bos_token_id": 0}),
]:
    for min_new_tokens in (0, 6):
        responses, saved = respond(config, generation, min_new_tokens)
        cases.append({"name": name, "config": config, "generation": generation, "minNewTokens": min_new_tokens,
                      "responses": responses, "saved": saved})
        print(f"{name:42} {min_new_tokens} {[len(r) for r in responses]} {saved}")
lines = ",\n".join(json.dumps(case) for case in cases)
(GOLDEN / "ends.json").write_text(f'{{"queries": {QUERIES}, "maxNewTokens": {NEW}, "cases": [\n{lines}\n]}}\n')
