"""Writes test/golden/gpt2-tiny/: a random 2-layer GPT-2 with a value head, and what PyTorch computes with it.

Weights are float32; torch computes in float64; results are rounded to float32 once, when they are written.
"""
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from common import (
    V_BIAS, V_WEIGHT, gpt2_config, load_checkpoint, next_logprobs, pad_right, random_state, write_checkpoint
)

OUT = Path(__file__).resolve().parents[2] / "test" / "golden" / "gpt2-tiny"
LENGTHS, QUERY_LENGTHS = [11, 7, 16], [4, 3, 6]
CLIP, VALUE_CLIP, VF_COEF, ENTROPY_COEF, TEMPERATURE, KEEP = 0.2, 0.2, 0.1, 0.01, 0.7, 0.3
torch.set_num_threads(1)
rng = np.random.default_rng(7)

config = gpt2_config(
    n_layer=2, n_head=4, n_embd=32, vocab_size=101, n_positions=48, bos_token_id=100, eos_token_id=100
)
write_checkpoint(OUT, config, random_state(config, rng, std=0.2, position_std=0.2, value_std=0.2))
model, v_weight, v_bias = load_checkpoint(OUT, torch.float64)
parameters = dict(model.named_parameters()) | {V_WEIGHT: v_weight.requires_grad_(), V_BIAS: v_bias.requires_grad_()}

ids, mask = pad_right([rng.integers(0, 100, n).tolist() for n in LENGTHS], pad=100)
valid = mask.bool()
tensors, scalars = {"inputIds": ids, "attentionMask": mask}, {}


def forward(**options):
    """(HF outputs, logits [B, T, V], values [B, T])"""
    out = model(
        input_ids=ids, attention_mask=mask, use_cache=False, output_hidden_states=True, output_attentions=True,
        **options,
    )
    return out, out.logits, (out.hidden_states[-1] @ v_weight[0] + v_bias)


def gradients(name, loss):
    grads = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True, materialize_grads=True,
                                retain_graph=True)
    tensors.update({f"{name}.grad.{p}": g for p, g in zip(parameters, grads)})


def given(x):
    """An input of the loss, rounded to what the file will hold."""
    return torch.from_numpy(np.asarray(x).astype(np.float32).astype(np.float64))


# Forward. Padding positions are written as 0.
out, logits, values = forward()
tensors["logits"], tensors["values"] = logits * valid[..., None], values * valid
tensors["logprobs"] = next_logprobs(logits, ids, mask)
for i, h in enumerate(out.hidden_states):
    tensors[f"hiddenStates.{i}"] = h * valid[..., None]
for i, a in enumerate(out.attentions):
    tensors[f"attentions.{i}"] = a * valid[:, None, :, None]

# The optional inputs. A head mask multiplies a head's attention weights, so also its output before c_proj.
tensors["options.positionIds"] = torch.from_numpy(rng.integers(0, config.n_positions, ids.shape))
tensors["options.tokenTypeIds"] = torch.from_numpy(rng.integers(0, config.vocab_size, ids.shape))
tensors["options.headMask"] = given(rng.uniform(0, 1.5, (config.n_layer, config.n_head)))
hooks = [
    block.attn.c_proj.register_forward_pre_hook(lambda _, x, m=m: (x[0] * m.repeat_interleave(8),))
    for block, m in zip(model.transformer.h, tensors["options.headMask"])
]
_, masked_logits, masked_values = forward()
[hook.remove() for hook in hooks]
tensors["headMask.logits"], tensors["headMask.values"] = masked_logits * valid[..., None], masked_values * valid
_, l, v = forward(position_ids=tensors["options.positionIds"], token_type_ids=tensors["options.tokenTypeIds"])
tensors["positionAndType.logits"], tensors["positionAndType.values"] = l * valid[..., None], v * valid

# Language-model loss: the mean over every target that exists.
lm = -tensors["logprobs"].sum() / mask[:, 1:].sum()
scalars["lm"] = {"loss": lm.item(), "targets": int(mask[:, 1:].sum())}
gradients("lm", lm)

# PPO. Token t of row b is predicted from position t - 1, where its value is taken too.
rows = torch.tensor([b for b in range(3) for _ in range(QUERY_LENGTHS[b], LENGTHS[b])])
positions = torch.tensor([t for b in range(3) for t in range(QUERY_LENGTHS[b], LENGTHS[b])])
sampled, n = ids[rows, positions], len(rows)
kept = torch.from_numpy(rng.random((n, config.vocab_size)) < KEEP)
kept[torch.arange(n), sampled] = True


def response(temperature, kept):
    """(log-probs, values, entropies), each [N], under the distribution of the kept tokens."""
    _, logits, values = forward()
    logp = (logits[rows, positions - 1] / temperature).masked_fill(~kept, -torch.inf).log_softmax(-1)
    entropies = -(logp.exp() * logp.masked_fill(~kept, 0)).sum(-1)
    return logp.gather(-1, sampled[:, None])[:, 0], values[rows, positions - 1], entropies


def old(x, width, edges):
    """Numbers within +-width of x whose distance from it stays clear of the clip edges."""
    while True:
        noise = rng.uniform(-width, width, n)
        if min(np.abs(noise - e).min() for e in edges) > 5e-3:
            return given(x.detach().numpy() - noise)


everything = torch.ones_like(kept)
_, v0, _ = response(1, everything)
shared = {
    "oldValues": old(v0, 0.5, [-VALUE_CLIP, VALUE_CLIP]),
    "advantages": given(rng.uniform(0.1, 2, n) * rng.choice([-1, 1], n)),
    "returns": given(v0.detach().numpy() + rng.uniform(-1.5, 1.5, n)),
}
RATIO_EDGES = [np.log(1 - CLIP), np.log(1 + CLIP)]


def ppo(name, temperature, kept, old_logprobs, entropy_coef):
    logprobs, v, entropies = response(temperature, kept)
    v_old, advantages, returns = shared.values()
    ratio = (logprobs - old_logprobs).exp()
    unclipped, clipped = -advantages * ratio, -advantages * ratio.clamp(1 - CLIP, 1 + CLIP)
    v_unclipped = (v - returns) ** 2
    v_clipped = (v.clamp(v_old - VALUE_CLIP, v_old + VALUE_CLIP) - returns) ** 2
    policy = torch.max(unclipped, clipped).mean()
    value = 0.5 * torch.max(v_unclipped, v_clipped).mean()
    loss = policy + VF_COEF * value - entropy_coef * entropies.mean()
    if name == "ppo":
        gradients("value", value)  # the value loss alone, as it reaches the body through the value head
        scalars["value"] = {"loss": value.item()}
    gradients(name, loss)
    tensors.update({f"{name}.logprobs": logprobs, f"{name}.values": v, f"{name}.entropies": entropies})
    scalars[name] = {
        "clipRange": CLIP, "valueClipRange": VALUE_CLIP, "vfCoef": VF_COEF, "entropyCoef": entropy_coef,
        "temperature": temperature, "loss": loss.item(), "policyLoss": policy.item(), "valueLoss": value.item(),
        "entropy": entropies.mean().item(), "approxKl": (0.5 * (logprobs - old_logprobs) ** 2).mean().item(),
        "policyClipFraction": (clipped > unclipped).double().mean().item(),
        "valueClipFraction": (v_clipped > v_unclipped).double().mean().item(),
    }


tensors.update({"ppo.rows": rows, "ppo.positions": positions})
tensors.update({f"ppo.{k}": x for k, x in shared.items()})
tensors["ppo.oldLogprobs"] = old(response(1, everything)[0], 0.4, RATIO_EDGES)
tensors["ppoMasked.oldLogprobs"] = old(response(TEMPERATURE, kept)[0], 0.4, RATIO_EDGES)
tensors["ppoMasked.kept"] = kept
ppo("ppo", 1, everything, tensors["ppo.oldLogprobs"], 0)
ppo("ppoEntropy", 1, everything, tensors["ppo.oldLogprobs"], ENTROPY_COEF)
ppo("ppoMasked", TEMPERATURE, kept, tensors["ppoMasked.oldLogprobs"], ENTROPY_COEF)

files = {
    name: x.detach().to(torch.float32 if x.is_floating_point() else torch.int32).contiguous()
    for name, x in tensors.items()
}
assert all(torch.isfinite(x).all() for x in files.values())
save_file(files, OUT / "golden.safetensors")
golden = {
    "lengths": LENGTHS, "queryLengths": QUERY_LENGTHS, "parameters": list(parameters), "losses": scalars,
    "tensors": {name: list(x.shape) for name, x in files.items() if ".grad." not in name},
}
(OUT / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")
print(json.dumps(scalars, indent=1), sum(f.stat().st_size for f in OUT.iterdir()), "bytes")
