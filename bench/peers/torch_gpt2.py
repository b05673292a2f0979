"""python torch_gpt2.py [--model DIR] [--layers N] [--threads N]

GPT-2 in PyTorch and transformers, for bench/torch.ts. Says what it is in one JSON line, then answers each JSON line on
stdin with one on stdout, until stdin ends:

    {"run": "forward", "ids": [[...], ...]}              log-probability of every next token
    {"run": "train", "ids": [[...], ...]}                cross-entropy, backward, gradient norm, AdamW
    {"run": "sample", "ids": [[...], ...], "tokens": N}  N new tokens for each row
    -> {"seconds": ..., "rss": peak resident bytes of this run, "idle": CPU seconds used since the last answer,
        "numbers": log-probabilities, row by row; or the loss; or nothing}
"""
import argparse
import gc
import json
import os
import resource
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"

parser = argparse.ArgumentParser()
parser.add_argument("--model")
parser.add_argument("--layers", type=int, default=12)
parser.add_argument("--threads", type=int, default=2)
args = parser.parse_args()

# What libraries print must not get among the answers.
answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
import transformers  # noqa: E402
from transformers import GPT2Config, GPT2LMHeadModel  # noqa: E402

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.set_num_threads(args.threads)
torch.manual_seed(0)


def reset_peak():
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass  # not Linux: the peak is that of the whole process


def peak_bytes():
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


model = GPT2LMHeadModel.from_pretrained(args.model) if args.model else GPT2LMHeadModel(GPT2Config(n_layer=args.layers))
model = model.float().eval()  # eval: no dropout, in training too
model.generation_config.eos_token_id = None  # nothing ends a response early
V = model.config.vocab_size
optimizer = None


def forward(ids):
    with torch.inference_mode():
        logits = model(ids[:, :-1], use_cache=False).logits
        return -F.cross_entropy(logits.reshape(-1, V), ids[:, 1:].reshape(-1), reduction="none")


def train(ids):
    logits = model(ids[:, :-1], use_cache=False).logits
    loss = F.cross_entropy(logits.reshape(-1, V), ids[:, 1:].reshape(-1))
    loss.backward()
    torch.nn.utils.get_total_norm([p.grad for p in model.parameters()]).item()
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach().reshape(1)


def sample(ids, tokens):
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=True, top_k=0, use_cache=True, max_new_tokens=tokens,
        pad_token_id=0,
    )
    assert out.shape == (ids.shape[0], ids.shape[1] + tokens), f"generate returned {tuple(out.shape)}"
    return out.new_empty(0)


def run(command):
    global optimizer
    ids = torch.tensor(command["ids"])
    if command["run"] == "train" and optimizer is None:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=0.01, fused=True)
    reset_peak()
    start = time.perf_counter()
    if command["run"] == "forward":
        numbers = forward(ids)
    elif command["run"] == "train":
        numbers = train(ids)
    else:
        numbers = sample(ids, command["tokens"])
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "rss": peak_bytes(), "numbers": numbers.tolist()}


def say(answer):
    answers.write(json.dumps(answer) + "\n")


say({
    "python": sys.version.split()[0], "torch": torch.__version__, "transformers": transformers.__version__,
    "threads": torch.get_num_threads(), "attention": model.config._attn_implementation, "layers": model.config.n_layer,
})
cpu = time.process_time()
for line in sys.stdin:
    idle = time.process_time() - cpu
    say(run(json.loads(line)) | {"idle": idle})
    gc.collect()
    cpu = time.process_time()
