"""Writes test/golden/heads/: checkpoints of one small GPT-2 whose files and config.json do not say the same about the two names of
the token embedding, and the logits transformers computes from each.
"""
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file, save_model
from transformers import GPT2LMHeadModel

from common import gpt2_config, random_state

OUT = Path(__file__).resolve().parents[2] / "test" / "golden" / "heads"
WTE, HEAD = "transformer.wte.weight", "lm_head.weight"
torch.set_num_threads(1)
rng = np.random.default_rng(47)
config = gpt2_config(n_layer=1, n_head=2, n_embd=8, vocab_size=20, n_positions=12, bos_token_id=0, eos_token_id=0)
state = {k: v for k, v in random_state(config, rng, 0.3, 0.3, 0.3).items() if not k.startswith("v_head.")}
ids = torch.from_numpy(rng.integers(0, 20, (2, 9)))
other = torch.from_numpy(rng.standard_normal((20, 8), dtype=np.float32))
masks = {"transformer.h.0.attn.bias": torch.ones(1, 1, 12, 12, dtype=torch.bool).tril(),
         "transformer.h.0.attn.masked_bias": torch.tensor(-1e4)}
rest = {k: v for k, v in state.items() if k != WTE}


def write(directory, tensors, metadata=None):
    save_file(tensors, directory / "model.safetensors", metadata=metadata or {"format": "pt"})


def through_save_model(directory):
    model = GPT2LMHeadModel(config)
    model.load_state_dict(state, strict=False)
    model.tie_weights()
    save_model(model, directory / "model.safetensors")


def unlisted(directory):
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    save_file({WTE: state[WTE], "lm_head.weight": other}, directory / names[0], metadata={"format": "pt"})
    save_file(rest, directory / names[1], metadata={"format": "pt"})
    places = {WTE: names[0]} | {name: names[1] for name in rest}
    (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


CASES = {
    "differs": lambda d: write(d, state | {HEAD: other}),
    "equal": lambda d: write(d, state | {HEAD: state[WTE].clone()}),
    "head-only": lambda d: write(d, rest | {HEAD: state[WTE]}),
    "save-model": through_save_model,
    "masks": lambda d: write(d, state | masks),
    "unlisted-in-index": unlisted,
}
shutil.rmtree(OUT, ignore_errors=True)
cases = []
for name, make in CASES.items():
    directory = OUT / name
    directory.mkdir(parents=True)
    (directory / "config.json").write_text(json.dumps(config.to_diff_dict() | {"tie_word_embeddings": True}, indent=1) + "\n")
    make(directory)
    model = GPT2LMHeadModel.from_pretrained(directory).eval()
    tied = model.lm_head.weight is model.transformer.wte.weight
    with torch.no_grad():
        cases.append({"name": name, "tied": tied, "logits": model(ids).logits.flatten().tolist()})
    print(name, tied, sum(f.stat().st_size for f in directory.iterdir()))
(OUT / "golden.json").write_text(json.dumps({"inputIds": ids.tolist(), "cases": cases}) + "\n")
