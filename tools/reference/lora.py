"""Writes test/golden/lora/NAME/: PEFT adapters as save_pretrained writes them, and what PEFT and PyTorch compute with them.

    python tools/reference/lora.py [NAME ...]

The bases are test/golden/gpt2-tiny and models of test/golden/llama. A and B are random, B too, so nothing is 0; a value head
stands in v_head.safetensors beside the adapter. base_model_name_or_path is written relative to the adapter, so that the files
can lie anywhere. Torch computes in float64 from float32 weights and rounds once at the end.
"""
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, logging

from common import V_BIAS, V_WEIGHT, next_logprobs, pad_right

logging.set_verbosity_error()
logging.disable_progress_bar()
torch.set_num_threads(1)
GOLDEN = Path(__file__).resolve().parents[2] / "test" / "golden"
OUT = GOLDEN / "lora"
LENGTHS, QUERY_LENGTHS = [9, 5, 12], [4, 2, 5]
CLIP, VALUE_CLIP, VF_COEF, ENTROPY_COEF = 0.2, 0.2, 0.1, 0.01

# name: (base, options of LoraConfig, dtype the adapter is saved in)
ADAPTERS = {
    "gpt2-all-linear": ("gpt2-tiny", dict(r=4, lora_alpha=8, target_modules="all-linear"), torch.float32),
    "gpt2-one-layer": (
        "gpt2-tiny", dict(r=3, lora_alpha=7, target_modules=["c_attn"], layers_to_transform=[1], use_rslora=True), torch.float32),
    "gpt2-patterns": ("gpt2-tiny", dict(
        r=2, lora_alpha=3, target_modules=r".*\.attn\.c_attn|.*mlp\.c_(fc|proj)", rank_pattern={"mlp.c_fc": 5, r".*\.1\.attn\.c_attn": 1},
        alpha_pattern={"mlp.c_proj": 6}), torch.float32),
    "llama-all-linear": ("llama/llama-tiny", dict(r=4, lora_alpha=8, target_modules="all-linear"), torch.float32),
    "llama-default-half": ("llama/smollm2-like", dict(r=4, lora_alpha=16, target_modules=None, use_rslora=True), torch.float16),
    "qwen2-patterns": ("llama/qwen2-tiny", dict(
        r=4, lora_alpha=6, target_modules="all-linear", exclude_modules=["o_proj", "model.layers.0.mlp.down_proj"], use_rslora=True,
        rank_pattern={r"layers\.1\.self_attn\.(q|k)_proj": 2, "up_proj": 7}, alpha_pattern={r"^model.layers.0.self_attn.v_proj": 9.5}),
        torch.float32),
}


def given(x):
    """An input of the reference, rounded to what the file will hold."""
    return torch.from_numpy(np.asarray(x).astype(np.float32).astype(np.float64))


def base_model(base, dtype):
    return AutoModelForCausalLM.from_pretrained(
        str(GOLDEN / base), dtype=dtype, attn_implementation="eager", local_files_only=True).eval()


def write_adapter(directory, base, options, dtype, rng):
    """What PEFT saves of an adapter whose A and B are random, and a value head beside it."""
    model = get_peft_model(base_model(base, torch.float32), LoraConfig(task_type=TaskType.CAUSAL_LM, lora_dropout=0.0, **options))
    for name, p in model.named_parameters():
        if "lora_" in name:
            p.data = torch.from_numpy(rng.normal(0, 0.2, p.shape).astype(np.float32)).to(dtype)
    model.save_pretrained(directory)
    (directory / "README.md").unlink()  # an empty model card
    path = directory / "adapter_config.json"
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = f"../../{base}"
    for field in ("target_modules", "exclude_modules"):
        if isinstance(config[field], list):
            config[field].sort()  # a set, in another order each time
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    width = model.config.hidden_size
    head = {V_WEIGHT: rng.normal(0, 0.25, (1, width)), V_BIAS: np.array([0.25])}
    save_file({k: torch.from_numpy(x.astype(np.float32)) for k, x in head.items()}, directory / "v_head.safetensors",
              metadata={"format": "pt"})


class Reference:
    """One adapted model, and the tensors and numbers found with it."""

    def __init__(self, directory, base, rng):
        self.rng, self.directory, self.base = rng, directory, base
        # PEFT reads half-precision adapters as float32; double() comes after that.
        self.model = PeftModel.from_pretrained(base_model(base, torch.float32), str(directory), is_trainable=True).double().eval()
        self.config = self.model.config
        head = load_file(directory / "v_head.safetensors")
        self.v_weight, self.v_bias = (head[n].double().requires_grad_() for n in (V_WEIGHT, V_BIAS))
        adapter = {name.removeprefix("base_model.model.").replace(".default", ""): p
                   for name, p in self.model.named_parameters() if p.requires_grad}
        assert adapter and all("lora_" in name for name in adapter)
        self.parameters = adapter | {V_WEIGHT: self.v_weight, V_BIAS: self.v_bias}
        self.rows = [rng.integers(2, self.config.vocab_size - 1, n).tolist() for n in LENGTHS]
        self.ids, self.mask = pad_right(self.rows, pad=1)
        self.tensors, self.scalars = {"inputIds": self.ids, "attentionMask": self.mask}, {}

    def forward(self, ids, mask=None):
        """(logits [B, T, V], values [B, T])"""
        out = self.model(input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False)
        return out.logits, out.hidden_states[-1] @ self.v_weight[0] + self.v_bias

    def forwards(self):
        """With the adapter, without it, and merged."""
        valid = self.mask.bool()
        logits, values = self.forward(self.ids, self.mask)
        self.tensors |= {"logits": logits * valid[..., None], "values": values * valid,
                         "logprobs": next_logprobs(logits, self.ids, self.mask)}
        with self.model.disable_adapter():
            base = self.forward(self.ids, self.mask)[0]
        self.tensors["base.logits"] = base * valid[..., None]
        assert (base - logits)[valid].abs().max() > 0.3  # the adapter matters
        self.model.merge_adapter()
        merged = self.forward(self.ids, self.mask)[0]
        assert (merged - logits)[valid].abs().max() < 1e-6
        state = self.model.base_model.model.state_dict()
        self.tensors |= {f"merged.{name.replace('.base_layer', '')}": x.clone() for name, x in state.items()
                         if name.endswith(".base_layer.weight") and ".1." in name}  # of layer 1 are enough
        self.tensors["merged.logits"] = merged * valid[..., None]
        self.model.unmerge_adapter()

    def gradients(self, name, loss):
        grads = torch.autograd.grad(loss, list(self.parameters.values()), allow_unused=True, materialize_grads=True)
        self.tensors |= {f"{name}.grad.{p}": g for p, g in zip(self.parameters, grads)}

    def language_model_loss(self):
        """The mean cross-entropy over every target that exists."""
        logits, _ = self.forward(self.ids, self.mask)
        loss = -next_logprobs(logits, self.ids, self.mask).sum() / self.mask[:, 1:].sum()
        self.scalars["lm"] = {"loss": loss.item(), "targets": int(self.mask[:, 1:].sum())}
        self.gradients("lm", loss)

    def old(self, x, width, edges):
        """Numbers within +-width of x whose distance from it stays clear of the clip edges."""
        while True:
            noise = self.rng.uniform(-width, width, len(x))
            if min(np.abs(noise - e).min() for e in edges) > 5e-3:
                return given(x.detach().numpy() - noise)

    def ppo_loss(self):
        """As in llama.py."""
        at = [(b, t) for b in range(len(LENGTHS)) for t in range(QUERY_LENGTHS[b], LENGTHS[b])]
        rows, positions = torch.tensor(at).T
        logits, all_values = self.forward(self.ids, self.mask)
        logp = logits[rows, positions - 1].log_softmax(-1)
        logprobs = logp.gather(-1, self.ids[rows, positions][:, None])[:, 0]
        values, entropies = all_values[rows, positions - 1], -(logp.exp() * logp).sum(-1)
        v_old = self.old(values, 0.5, [-VALUE_CLIP, VALUE_CLIP])
        advantages = given(self.rng.uniform(0.1, 2, len(at)) * self.rng.choice([-1, 1], len(at)))
        returns = given(values.detach().numpy() + self.rng.uniform(-1.5, 1.5, len(at)))
        old = self.old(logprobs, 0.4, [np.log(1 - CLIP), np.log(1 + CLIP)])
        ratio = (logprobs - old).exp()
        policy = torch.max(-advantages * ratio, -advantages * ratio.clamp(1 - CLIP, 1 + CLIP)).mean()
        v_clipped = values.clamp(v_old - VALUE_CLIP, v_old + VALUE_CLIP)
        value = 0.5 * torch.max((values - returns) ** 2, (v_clipped - returns) ** 2).mean()
        loss = policy + VF_COEF * value - ENTROPY_COEF * entropies.mean()
        self.tensors |= {
            "ppo.rows": rows, "ppo.positions": positions, "ppo.oldValues": v_old, "ppo.advantages": advantages,
            "ppo.returns": returns, "ppo.oldLogprobs": old, "ppo.logprobs": logprobs, "ppo.values": values,
            "ppo.entropies": entropies,
        }
        self.scalars["ppo"] = {"clipRange": CLIP, "valueClipRange": VALUE_CLIP, "vfCoef": VF_COEF, "entropyCoef": ENTROPY_COEF,
                               "loss": loss.item()}
        self.gradients("ppo", loss)

    @torch.no_grad()
    def greedy(self, length):
        """A prompt and 12 greedy tokens after it, by the whole forward pass each time; no near-ties, no loop of one."""
        while True:
            prompt = self.rng.integers(2, self.config.vocab_size - 1, length).tolist()
            ids, margin = list(prompt), np.inf
            for _ in range(12):
                best = self.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].topk(2)
                margin = min(margin, (best.values[0] - best.values[1]).item())
                ids.append(best.indices[0].item())
            tokens = ids[length:]
            if margin > 5e-3 and self.config.eos_token_id not in tokens and len(set(tokens)) > 3:
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
            "base": self.base, "lengths": LENGTHS, "queryLengths": QUERY_LENGTHS, "parameters": list(self.parameters),
            "losses": self.scalars, "greedy": [self.greedy(n) for n in (3, 7)],
            "tensors": {name: list(x.shape) for name, x in files.items() if ".grad." not in name},
        }
        (self.directory / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")


for number, (name, (base, options, dtype)) in enumerate(ADAPTERS.items()):
    if sys.argv[1:] and name not in sys.argv[1:]:
        continue
    directory, rng = OUT / name, np.random.default_rng(300 + number)
    shutil.rmtree(directory, ignore_errors=True)
    write_adapter(directory, base, options, dtype, rng)
    reference = Reference(directory, base, rng)
    reference.forwards()
    reference.language_model_loss()
    reference.ppo_loss()
    reference.write()
    for file in directory.iterdir():
        file.chmod(0o644)
    size = sum(f.stat().st_size for f in directory.iterdir())
    print(f"{name:20} lm {reference.scalars['lm']['loss']:.6f} ppo {reference.scalars['ppo']['loss']:.6f} "
          f"{len(reference.parameters)} parameters {size} bytes")
