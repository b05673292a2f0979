"""python torch_gpt2.py --model DIR [--adapter DIR] [--threads N] [--device gpu]: a model in PyTorch and transformers, an adapter in PEFT. See serve.py.

    {"run": "forward", "ids": [[...], ...], "keep": K, "full": bool}   log-probabilities of the last K tokens of each row
    {"run": "train", "ids": [[...], ...], "optimizer": "fused" | "foreach"}   cross-entropy, backward, norm, AdamW: the loss
    {"run": "adamw", "optimizer": "fused" | "foreach"}                        AdamW alone: what it made of a few parameters
    {"run": "sample", "ids": [[...], ...], "tokens": N}                       N new tokens for each row
"""
from serve import args, find_device, serve  # isort: skip (before the libraries, so that they print to stderr)

import torch
import torch.nn.functional as F
import transformers
from transformers import AutoModelForCausalLM

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.set_num_threads(args.threads)
torch.manual_seed(0)

device = find_device(torch)
model = AutoModelForCausalLM.from_pretrained(args.model).float()
if args.adapter:
    import peft

    model = peft.PeftModel.from_pretrained(model, args.adapter, is_trainable=True)
model.to(device)
model.eval()  # no dropout, in training too
trained = [p for p in model.parameters() if p.requires_grad]
model.generation_config.eos_token_id = None  # nothing ends a response early
V = model.config.vocab_size
optimizer = None


def use_adamw(kind, lr):
    """One optimizer, so one pair of moments; `kind` is how its next step is computed."""
    global optimizer
    if optimizer is None:
        optimizer = torch.optim.AdamW(trained, weight_decay=0.01)
    for group in optimizer.param_groups:
        group["lr"], group["fused"], group["foreach"] = lr, kind == "fused", kind == "foreach"


def forward(command, clock):
    ids, keep = torch.tensor(command["ids"], device=device), command["keep"]
    with clock, torch.inference_mode():
        if command.get("full"):
            logits = model(ids[:, :-1], use_cache=False).logits[:, -keep:]
        else:
            logits = model(ids[:, :-1], use_cache=False, logits_to_keep=keep).logits
        logprobs = -F.cross_entropy(logits.reshape(-1, V), ids[:, -keep:].reshape(-1), reduction="none")
    return {"numbers": logprobs.tolist()}


def train(command, clock):
    ids = torch.tensor(command["ids"], device=device)
    use_adamw(command["optimizer"], 1e-5)
    with clock:
        logits = model(ids[:, :-1], use_cache=False).logits
        loss = F.cross_entropy(logits.reshape(-1, V), ids[:, 1:].reshape(-1))
        loss.backward()
        torch.nn.utils.get_total_norm([p.grad for p in trained]).item()
        optimizer.step()
        optimizer.zero_grad()
    return {"numbers": [loss.item()]}


def adamw(command, clock):
    use_adamw(command["optimizer"], 0.1)
    for p in trained:
        if p.grad is None:
            p.grad = ((torch.arange(p.numel(), device=device) % 7 - 3) * 1e-3).reshape(p.shape)
    with clock:
        optimizer.step()
    return {"numbers": model.transformer.h[0].mlp.c_fc.weight.flatten()[:16].tolist()}


def sample(command, clock):
    ids, tokens = torch.tensor(command["ids"], device=device), command["tokens"]
    with clock:
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=0, use_cache=True, max_new_tokens=tokens,
            pad_token_id=0,
        )
    assert out.shape == (ids.shape[0], ids.shape[1] + tokens), f"generate returned {tuple(out.shape)}"
    return {}


about = {
    "torch": torch.__version__, "transformers": transformers.__version__, "threads": torch.get_num_threads(),
    "attention": model.config._attn_implementation,
    "device": torch.cuda.get_device_name() if device == "cuda" else device,
} | ({"peft": peft.__version__} if args.adapter else {})
serve(about, {"forward": forward, "train": train, "adamw": adamw, "sample": sample})
