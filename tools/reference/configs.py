"""Writes test/golden/configs/: small random GPT-2s, one for each way config.json can change what is computed.

For each variant: logits, values, and the gradient of the language-model loss for every parameter, by transformers. Weights
are float32, torch computes in float64; with reorder_and_upcast_attn in float32, where transformers has it only.
Variants with the same parameter shapes share one set of weights.
"""
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel

from common import V_BIAS, V_WEIGHT, gpt2_config, next_logprobs, pad_right, random_state

OUT = Path(__file__).resolve().parents[2] / "test" / "golden" / "configs"
V, T, LENGTHS = 24, 8, [8, 5]
ACTIVATIONS = [
    "gelu_new", "gelu", "gelu_fast", "gelu_accurate", "gelu_python", "gelu_python_tanh", "gelu_pytorch_tanh",
    "quick_gelu", "relu", "tanh", "silu", "swish", "sigmoid",
]
ONE = {"n_layer": 1, "n_embd": 16, "n_head": 2}
TWO = {"n_layer": 2, "n_embd": 16, "n_head": 2, "n_inner": 32}
# variant: (set of weights, options)
VARIANTS = {name: ("one", ONE | {"activation_function": name}) for name in ACTIVATIONS} | {
    "scale_attn_weights false": ("two", TWO | {"scale_attn_weights": False}),
    "scale_attn_by_inverse_layer_idx": ("two", TWO | {"scale_attn_by_inverse_layer_idx": True}),
    "reorder_and_upcast_attn": ("two", TWO | {"reorder_and_upcast_attn": True}),
    "both scales and reorder_and_upcast_attn": ("two", TWO | {
        "scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True}),
    "layer_norm_epsilon 1e-3": ("two", TWO | {"layer_norm_epsilon": 1e-3}),
    "tie_word_embeddings false": ("untied", ONE | {"tie_word_embeddings": False}),
    "n_inner 40": ("inner", ONE | {"n_inner": 40}),
    "n_embd 24, n_head 3": ("heads", {"n_layer": 1, "n_embd": 24, "n_head": 3}),
}
# The other names GPT2Config has for four fields: written to config.json as they stand here, with no other names beside them.
ALIASES = {
    "aliases for all four": {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 4,
                             "max_position_embeddings": T, "n_inner": 32},
    "num_attention_heads after n_head": TWO | {"n_head": 2, "num_attention_heads": 4},
    "num_attention_heads before n_head": {"num_attention_heads": 4} | TWO,
    "num_hidden_layers after n_layer": TWO | {"num_hidden_layers": 1},
    "n_ctx, intermediate_size, hidden_act, layer_norm_eps, is_decoder, num_labels": TWO | {
        "n_ctx": 4, "intermediate_size": 8, "hidden_act": "relu", "layer_norm_eps": 0.1, "is_decoder": True,
        "num_labels": 5, "pruned_heads": {}, "architectures": ["GPT2ForSequenceClassification"],
        "chunk_size_feed_forward": 4, "use_cache": False, "dtype": "float16"},
}
VARIANTS |= {name: ("two", options) for name, options in ALIASES.items()}
torch.set_num_threads(1)
rng = np.random.default_rng(31)
ids, mask = pad_right([rng.integers(0, V, n).tolist() for n in LENGTHS], pad=0)
valid = mask.bool()
tensors, sets, cases = {"inputIds": ids, "attentionMask": mask}, {}, []

for name, (weights, options) in VARIANTS.items():
    if name in ALIASES:
        file = {"model_type": "gpt2", "vocab_size": V, "bos_token_id": 0, "eos_token_id": 0} | options
        file |= {} if "max_position_embeddings" in file else {"n_positions": T}
        config = GPT2Config.from_dict(file)
    else:
        config = gpt2_config(vocab_size=V, n_positions=T, bos_token_id=0, eos_token_id=0, **options)
    if weights not in sets:
        sets[weights] = random_state(config, rng, std=0.3, position_std=0.3, value_std=0.3)
        tensors.update({f"{weights}.{p}": x for p, x in sets[weights].items()})
    dtype = torch.float32 if config.reorder_and_upcast_attn else torch.float64
    model = GPT2LMHeadModel._from_config(config, attn_implementation="eager", dtype=dtype).eval()
    body = {p: x.to(dtype) for p, x in sets[weights].items() if not p.startswith("v_head.")}
    missing, unexpected = model.load_state_dict(body, strict=False)
    assert all(p.startswith("transformer.h.1.") and config.n_layer == 1 for p in unexpected) and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    model.tie_weights()
    assert (model.lm_head.weight is model.transformer.wte.weight) == config.tie_word_embeddings
    out = model(input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False)
    values = out.hidden_states[-1] @ sets[weights][V_WEIGHT][0].to(dtype) + sets[weights][V_BIAS].to(dtype)
    tensors[f"{name}.logits"] = out.logits * valid[..., None]
    tensors[f"{name}.values"] = values * valid
    loss = -next_logprobs(out.logits, ids, mask).sum() / mask[:, 1:].sum()
    loss.backward()
    tensors.update({f"{name}.grad.{p}": x.grad for p, x in model.named_parameters()})
    cases.append({"name": name, "weights": weights, "loss": loss.item(), "config": file if name in ALIASES else config.to_diff_dict()})
    print(f"{name:45} {loss.item():.6f}")

files = {
    name: x.detach().to(torch.float32 if x.is_floating_point() else torch.int32).contiguous()
    for name, x in tensors.items()
}
assert all(torch.isfinite(x).all() for x in files.values())
OUT.mkdir(parents=True, exist_ok=True)
save_file(files, OUT / "golden.safetensors")
(OUT / "golden.json").write_text(json.dumps({"lengths": LENGTHS, "cases": cases}, indent=1) + "\n")
print(sum(f.stat().st_size for f in OUT.iterdir()), "bytes")
