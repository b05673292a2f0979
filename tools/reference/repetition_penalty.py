"""Writes test/golden/repetition-penalty.json: a PPO-like loss under repetition penalty, bias, temperature and kept sets, by autograd.

The model is test/golden/gpt2-tiny in float64. Loss: the mean over the response tokens of weight * log p(token) + 0.01 entropy,
where a token's logits get the penalty for what prompt and response held before it (transformers'
RepetitionPenaltyLogitsProcessor, whose result is differentiable), then the bias, the temperature and the kept set.
"""
import json
from pathlib import Path

import numpy as np
import torch
from common import load_checkpoint
from transformers.generation.logits_process import RepetitionPenaltyLogitsProcessor

GOLDEN = Path(__file__).resolve().parents[2] / "test" / "golden"
torch.set_num_threads(1)
rng = np.random.default_rng(20240615)
model, v_weight, v_bias = load_checkpoint(GOLDEN / "gpt2-tiny", torch.float64)
V = model.config.vocab_size
TEMPERATURE, ENTROPY = 0.7, 0.01
PROMPTS = [rng.integers(0, V, n).tolist() for n in (4, 1, 6)]
RESPONSES = [rng.integers(0, V, n).tolist() for n in (7, 5, 3)]
RESPONSES[0][4] = RESPONSES[0][1]  # tokens that were there before, too
RESPONSES[1][3] = PROMPTS[1][0]
BIAS = {"ids": [3, 50, RESPONSES[0][1]], "values": [0.5, -1.25, 2.0]}
N = sum(map(len, RESPONSES))
weight = rng.uniform(-1, 1, N).astype(np.float32).astype(np.float64)
kept = rng.random((N, V)) < 0.6
kept[np.arange(N), sum(RESPONSES, [])] = True
bias = torch.zeros(V, dtype=torch.float64)
bias[BIAS["ids"]] = torch.tensor(BIAS["values"], dtype=torch.float64)
parameters = {n: p for n, p in model.named_parameters() if n != "lm_head.weight"}


def rows(penalty):
    process, i = RepetitionPenaltyLogitsProcessor(penalty), 0
    for prompt, response in zip(PROMPTS, RESPONSES):
        logits = model(torch.tensor([prompt + response])).logits[0]
        for t, token in enumerate(response):
            # Each once: with an id given twice autograd counts the gradient of `scatter` twice.
            before = torch.tensor([sorted(set(prompt + response[:t]))])
            z = process(before, logits[len(prompt) + t - 1][None])[0]
            z = z + bias
            logp = (z / TEMPERATURE).masked_fill(~torch.from_numpy(kept[i]), -torch.inf).log_softmax(-1)
            yield logp[token], -(logp.exp() * logp.masked_fill(logp.isinf(), 0)).sum()
            i += 1


def case(penalty):
    logprobs, entropies = (torch.stack(x) for x in zip(*rows(penalty)))
    loss = (torch.from_numpy(weight) * logprobs + ENTROPY * entropies).sum() / N
    grads = torch.autograd.grad(loss, list(parameters.values()))
    # Whole gradients are long. A fixed random direction, the norm and the first elements tell them apart.
    summary = {}
    for (name, _), g in zip(parameters.items(), grads):
        flat = g.reshape(-1)
        direction = torch.sin(torch.arange(1, len(flat) + 1, dtype=torch.float64))
        summary[name] = [float(f"{x:.9g}") for x in (flat.norm(), flat @ direction, *flat[:6])]
    return {
        "penalty": penalty, "loss": loss.item(), "logprobs": [round(x, 9) for x in logprobs.tolist()],
        "entropies": [round(x, 9) for x in entropies.tolist()], "gradients": summary,
    }  # fmt: skip


out = {
    "prompts": PROMPTS, "responses": RESPONSES, "bias": BIAS, "temperature": TEMPERATURE, "entropyCoef": ENTROPY,
    "weight": weight.tolist(), "kept": [np.flatnonzero(k).tolist() for k in kept],
    "cases": [case(p) for p in (1.2, 0.8)],
}  # fmt: skip
path = GOLDEN / "repetition-penalty.json"
path.write_text(json.dumps(out, separators=(",", ":")) + "\n")
print(path.name, path.stat().st_size, "bytes", [c["loss"] for c in out["cases"]])
