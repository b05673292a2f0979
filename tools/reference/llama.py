"""Writes test/golden/llama/NAME/: random 2-layer models of the Llama family, and what transformers computes with them.

    python tools/reference/llama.py [NAME ...]

config.json and model.safetensors are what save_pretrained writes, without a value head; a head, a linear layer on the final
normed state, stands beside the results. Weights are float32, torch computes in float64 and rounds once at the end, but for
what transformers does in float32 whatever the dtype: root mean squares, softmax, rotary angles.
"""
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import (
    AutoModelForCausalLM, DynamicCache, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config,
    Qwen3ForCausalLM, logging
)

from common import V_BIAS, V_WEIGHT, next_logprobs, pad_right

logging.set_verbosity_error()
logging.disable_progress_bar()
torch.set_num_threads(1)
OUT = Path(__file__).resolve().parents[2] / "test" / "golden" / "llama"
LENGTHS, QUERY_LENGTHS, SPLIT, BOS, EOS = [9, 5, 12], [4, 2, 5], 8, 0, 1
CLIP, VALUE_CLIP, VF_COEF, ENTROPY_COEF = 0.2, 0.2, 0.1, 0.01
SIZES = dict(vocab_size=53, hidden_size=24, intermediate_size=20, num_hidden_layers=2, max_position_embeddings=64,
             bos_token_id=BOS, eos_token_id=EOS)
# Of its four wavelengths (6.3, 20, 63, 199) one stays, one is between the two, two are stretched 8 times.
LLAMA3 = {"rope_type": "llama3", "rope_theta": 100.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32}


def old_linear(config):
    """config.json as versions before 5 wrote it."""
    del config["rope_parameters"], config["dtype"]
    return config | {"rope_theta": 50.0, "rope_scaling": {"type": "linear", "factor": 2.0}, "torch_dtype": "float32",
                     "transformers_version": "4.40.0"}


# name: (config class, model class, options beside SIZES, how config.json is edited after it was saved)
MODELS = {
    "llama-tiny": (LlamaConfig, LlamaForCausalLM, dict(
        hidden_size=32, num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-5), None),
    "qwen3-tiny": (Qwen3Config, Qwen3ForCausalLM, dict(
        num_attention_heads=4, num_key_value_heads=2, head_dim=8, rope_parameters={"rope_type": "default", "rope_theta": 1e6}), None),
    "llama3-rope": (LlamaConfig, LlamaForCausalLM, dict(
        num_attention_heads=3, num_key_value_heads=3, max_position_embeddings=128, rope_parameters=LLAMA3,
        tie_word_embeddings=True), None),
    "llama-linear-rope": (LlamaConfig, LlamaForCausalLM, dict(num_attention_heads=4, num_key_value_heads=2), old_linear),
    "smollm2-like": (LlamaConfig, LlamaForCausalLM, dict(
        num_attention_heads=3, num_key_value_heads=1, rms_norm_eps=1e-5, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 100000.0}), None),
    "llama-bias": (LlamaConfig, LlamaForCausalLM, dict(
        num_attention_heads=4, num_key_value_heads=2, head_dim=10, attention_bias=True, mlp_bias=True, hidden_act="gelu",
        rms_norm_eps=1e-3), None),
    "qwen2-tiny": (Qwen2Config, Qwen2ForCausalLM, dict(
        num_attention_heads=6, num_key_value_heads=2, tie_word_embeddings=True, rms_norm_eps=1e-6), None),
}


def write_model(directory, config_class, model_class, options, edit, rng):
    """Random parameters, none left at 0 or 1."""
    config = config_class(**SIZES | options)
    model = model_class(config)
    for name, p in model.named_parameters():
        x = rng.standard_normal(p.shape, dtype=np.float32)
        x = 1 + 0.3 * x if name.endswith("norm.weight") else 0.25 * x
        p.data = torch.from_numpy(x.astype(np.float32))
    model.tie_weights()
    model.save_pretrained(directory)
    (directory / "generation_config.json").unlink(missing_ok=True)  # it says no more than config.json
    if edit:
        file = directory / "config.json"
        file.write_text(json.dumps(edit(json.loads(file.read_text())), indent=2, sort_keys=True) + "\n")


def visible(mask, last):
    """
    [B, 1, last, T], added to the scores of the last positions: 0 where they look. From a mask [B, T] of float64 models
    transformers makes one that is -inf in float32, and padding on the left, which sees nothing, becomes NaN.
    """
    T = mask.shape[1]
    seen = torch.ones(T, T).tril()[T - last:].bool() & mask.bool()[:, None, None, :]
    return torch.zeros(seen.shape, dtype=torch.float64).masked_fill(~seen, -1e9)


class Reference:
    """One model, and the tensors and numbers found with it."""

    def __init__(self, directory, rng):
        self.rng, self.directory = rng, directory
        self.model, info = AutoModelForCausalLM.from_pretrained(
            directory, dtype=torch.float64, attn_implementation="eager", local_files_only=True, output_loading_info=True)
        assert not any(info[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
        self.model.eval()
        self.config = self.model.config
        self.v_weight = self.given(rng.normal(0, 0.25, (1, self.config.hidden_size))).requires_grad_()
        self.v_bias = self.given([0.25]).requires_grad_()
        self.parameters = dict(self.model.named_parameters()) | {V_WEIGHT: self.v_weight, V_BIAS: self.v_bias}
        self.rows = [rng.integers(2, self.config.vocab_size, n).tolist() for n in LENGTHS]
        self.ids, self.mask = pad_right(self.rows, pad=EOS)
        self.tensors = {"inputIds": self.ids, "attentionMask": self.mask, V_WEIGHT: self.v_weight, V_BIAS: self.v_bias}
        self.scalars = {}

    @staticmethod
    def given(x):
        """An input of the reference, rounded to what the file will hold."""
        return torch.from_numpy(np.asarray(x).astype(np.float32).astype(np.float64))

    def forward(self, ids, mask=None, **options):
        """(transformers' outputs, logits [B, T, V], values [B, T])"""
        out = self.model(input_ids=ids, attention_mask=mask, output_hidden_states=True, output_attentions=True, **options)
        return out, out.logits, out.hidden_states[-1] @ self.v_weight[0] + self.v_bias

    def forwards(self):
        ids, mask, tensors = self.ids, self.mask, self.tensors
        valid = mask.bool()
        out, logits, values = self.forward(ids, mask, use_cache=False)
        tensors["logits"], tensors["values"] = logits * valid[..., None], values * valid
        tensors["logprobs"] = next_logprobs(logits, ids, mask)
        assert len(out.hidden_states) == self.config.num_hidden_layers + 1
        assert torch.equal(self.model.lm_head(out.hidden_states[-1]), logits)  # so the last one is normed
        for i, h in enumerate(out.hidden_states):
            tensors[f"hiddenStates.{i}"] = h * valid[..., None]
        for i, a in enumerate(out.attentions):
            tensors[f"attentions.{i}"] = a * valid[:, None, :, None]

        positions = torch.from_numpy(self.rng.integers(0, self.config.max_position_embeddings, ids.shape))
        tensors["options.positionIds"] = positions
        _, moved, values = self.forward(ids, mask, position_ids=positions, use_cache=False)
        tensors["position.logits"], tensors["position.values"] = moved * valid[..., None], values * valid
        assert (moved - logits)[valid].abs().max() > 0.1  # positions matter

        # Padded on the left, positions counted from the first token that exists, as generate() does. Then the same in two
        # calls, the second with the cache of the first.
        width = max(LENGTHS)
        left = torch.tensor([[EOS] * (width - len(row)) + row for row in self.rows])
        left_mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in self.rows])
        left_positions = (left_mask.cumsum(-1) - 1).clamp(min=0)
        exists = left_mask.bool()
        _, left_logits, left_values = self.forward(
            left, visible(left_mask, width), position_ids=left_positions, use_cache=False)
        assert (left_logits[exists] - logits[valid]).abs().max() < 2e-6
        tensors |= {"left.inputIds": left, "left.attentionMask": left_mask, "left.positionIds": left_positions,
                    "left.logits": left_logits * exists[..., None], "left.values": left_values * exists}
        cache = DynamicCache(config=self.config)
        self.forward(
            left[:, :SPLIT], visible(left_mask[:, :SPLIT], SPLIT), position_ids=left_positions[:, :SPLIT], past_key_values=cache)
        for i, layer in enumerate(cache.layers):
            there = exists[:, None, :SPLIT, None]
            tensors[f"cache.keys.{i}"], tensors[f"cache.values.{i}"] = layer.keys * there, layer.values * there
        _, more, more_values = self.forward(
            left[:, SPLIT:], visible(left_mask, width - SPLIT), position_ids=left_positions[:, SPLIT:], past_key_values=cache)
        assert (more - left_logits[:, SPLIT:]).abs().max() < 2e-6
        tensors |= {"cache.logits": more, "cache.nextValues": more_values}

    def gradients(self, name, loss):
        grads = torch.autograd.grad(loss, list(self.parameters.values()), allow_unused=True, materialize_grads=True)
        self.tensors |= {f"{name}.grad.{p}": g for p, g in zip(self.parameters, grads)}

    def language_model_loss(self):
        """The mean cross-entropy over every target that exists."""
        _, logits, _ = self.forward(self.ids, self.mask, use_cache=False)
        loss = -next_logprobs(logits, self.ids, self.mask).sum() / self.mask[:, 1:].sum()
        self.scalars["lm"] = {"loss": loss.item(), "targets": int(self.mask[:, 1:].sum())}
        self.gradients("lm", loss)

    def response(self, rows, positions):
        """(log-probs, values, entropies), each [N]. Token t is predicted from position t - 1, where its value is taken too."""
        _, logits, values = self.forward(self.ids, self.mask, use_cache=False)
        logp = logits[rows, positions - 1].log_softmax(-1)
        return logp.gather(-1, self.ids[rows, positions][:, None])[:, 0], values[rows, positions - 1], -(logp.exp() * logp).sum(-1)

    def old(self, x, width, edges):
        """Numbers within +-width of x whose distance from it stays clear of the clip edges."""
        while True:
            noise = self.rng.uniform(-width, width, len(x))
            if min(np.abs(noise - e).min() for e in edges) > 5e-3:
                return self.given(x.detach().numpy() - noise)

    def ppo_loss(self):
        """As in tiny_gpt2.py, the entropy in it."""
        at = [(b, t) for b in range(len(LENGTHS)) for t in range(QUERY_LENGTHS[b], LENGTHS[b])]
        rows, positions = torch.tensor(at).T
        n = len(at)
        logprobs, values, entropies = self.response(rows, positions)
        v_old = self.old(values, 0.5, [-VALUE_CLIP, VALUE_CLIP])
        advantages = self.given(self.rng.uniform(0.1, 2, n) * self.rng.choice([-1, 1], n))
        returns = self.given(values.detach().numpy() + self.rng.uniform(-1.5, 1.5, n))
        old = self.old(logprobs, 0.4, [np.log(1 - CLIP), np.log(1 + CLIP)])
        ratio = (logprobs - old).exp()
        unclipped, clipped = -advantages * ratio, -advantages * ratio.clamp(1 - CLIP, 1 + CLIP)
        v_unclipped = (values - returns) ** 2
        v_clipped = (values.clamp(v_old - VALUE_CLIP, v_old + VALUE_CLIP) - returns) ** 2
        policy, value = torch.max(unclipped, clipped).mean(), 0.5 * torch.max(v_unclipped, v_clipped).mean()
        loss = policy + VF_COEF * value - ENTROPY_COEF * entropies.mean()
        self.tensors |= {
            "ppo.rows": rows, "ppo.positions": positions, "ppo.oldValues": v_old, "ppo.advantages": advantages,
            "ppo.returns": returns, "ppo.oldLogprobs": old, "ppo.logprobs": logprobs, "ppo.values": values,
            "ppo.entropies": entropies,
        }
        self.scalars["ppo"] = {
            "clipRange": CLIP, "valueClipRange": VALUE_CLIP, "vfCoef": VF_COEF, "entropyCoef": ENTROPY_COEF, "temperature": 1,
            "loss": loss.item(), "policyLoss": policy.item(), "valueLoss": value.item(), "entropy": entropies.mean().item(),
            "approxKl": (0.5 * (logprobs - old) ** 2).mean().item(),
            "policyClipFraction": (clipped > unclipped).double().mean().item(),
            "valueClipFraction": (v_clipped > v_unclipped).double().mean().item(),
        }
        self.gradients("ppo", loss)

    @torch.no_grad()
    def greedy(self, length):
        """A prompt and 20 greedy tokens after it, by the whole forward pass each time; no near-ties, no end token, no loop of one."""
        while True:
            prompt = self.rng.integers(2, self.config.vocab_size, length).tolist()
            ids, margin = list(prompt), np.inf
            for _ in range(20):
                best = self.model(input_ids=torch.tensor([ids])).logits[0, -1].topk(2)
                margin = min(margin, (best.values[0] - best.values[1]).item())
                ids.append(best.indices[0].item())
            tokens = ids[length:]
            if margin > 5e-3 and EOS not in tokens and len(set(tokens)) > 4:
                return {"ids": prompt, "tokens": tokens}

    def write(self):
        files = {
            name: x.detach().to(torch.float32 if x.is_floating_point() else torch.int32).contiguous().clone()
            for name, x in self.tensors.items()
        }
        assert all(torch.isfinite(x).all() for x in files.values())
        assert all(x.abs().max() > 0 for name, x in files.items() if not name.startswith("lm.grad.v_head"))
        save_file(files, self.directory / "golden.safetensors")
        golden = {
            "modelType": self.config.model_type, "lengths": LENGTHS, "queryLengths": QUERY_LENGTHS, "split": SPLIT,
            "inverseFrequencies": self.model.model.rotary_emb.inv_freq.tolist(), "parameters": list(self.parameters),
            "losses": self.scalars, "greedy": [self.greedy(n) for n in (3, 7)],
            "tensors": {name: list(x.shape) for name, x in files.items() if ".grad." not in name},
        }
        (self.directory / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")


def matters(reference):
    """What the logits lose without the scaling of rotary positions: it must show."""
    rope = reference.config.rope_parameters
    if rope["rope_type"] == "default":
        return
    logits = reference.forward(reference.ids, reference.mask)[1]
    rotary = reference.model.model.rotary_emb
    scaled = rotary.inv_freq.clone()
    rotary.inv_freq.copy_(rotary.compute_default_rope_parameters(reference.config)[0])
    change = (reference.forward(reference.ids, reference.mask)[1] - logits)[reference.mask.bool()].abs().max().item()
    rotary.inv_freq.copy_(scaled)
    print(f"  without {rope['rope_type']}: logits change by {change:.3f}; frequencies {scaled.tolist()}")
    assert change > 0.05


for number, (name, model) in enumerate(MODELS.items()):
    if sys.argv[1:] and name not in sys.argv[1:]:
        continue
    directory, rng = OUT / name, np.random.default_rng(100 + number)
    shutil.rmtree(directory, ignore_errors=True)
    write_model(directory, *model, rng)
    reference = Reference(directory, rng)
    matters(reference)
    reference.forwards()
    reference.language_model_loss()
    reference.ppo_loss()
    reference.write()
    size = sum(f.stat().st_size for f in directory.iterdir())
    for file in directory.iterdir():
        file.chmod(0o644)
    print(f"{name:20} lm {reference.scalars['lm']['loss']:.6f} ppo {reference.scalars['ppo']['loss']:.6f} {size} bytes")
