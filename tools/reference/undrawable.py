"""Writes test/golden/undrawable.json: gpt2-tiny where some ids are suppressed everywhere, as those of a vocabulary that has more
rows than its tokenizer has ids. Greedy responses by transformers' generate, then the log-probs of their tokens, entropies, and the
KL to a reference (the same model without position embeddings) over what is left, by torch in float64.
"""
import json
from pathlib import Path

import torch
from transformers import GPT2LMHeadModel

from common import load_checkpoint

GOLDEN = Path(__file__).resolve().parents[2] / "test" / "golden"
QUERIES, NEW, TEMPERATURE = [[3, 14, 15], [92, 6], [53, 58, 97, 9]], 12, 0.8
torch.set_num_threads(1)
model = GPT2LMHeadModel.from_pretrained(GOLDEN / "gpt2-tiny").eval()
model.generation_config.eos_token_id = None


def respond(query, undrawable):
    out = model.generate(
        torch.tensor([query]), attention_mask=torch.ones(1, len(query), dtype=torch.long), do_sample=False,
        max_new_tokens=NEW, pad_token_id=0, suppress_tokens=undrawable or None,
    )
    return out[0, len(query):].tolist()


# What the model likes best, holes among other ids, and the last rows.
free = [respond(query, None) for query in QUERIES]
undrawable = sorted({row[t] for row in free for t in (0, 3)} | {20, 21, 40} | set(range(96, 101)))
responses = [respond(query, undrawable) for query in QUERIES]
assert all(a != b for a, b in zip(free, responses))

policy = load_checkpoint(GOLDEN / "gpt2-tiny", torch.float64)[0]
reference = load_checkpoint(GOLDEN / "gpt2-tiny", torch.float64)[0]
with torch.no_grad():
    reference.transformer.wpe.weight.zero_()
    rows = []
    for query, response in zip(QUERIES, responses):
        ids = torch.tensor([query + response])
        at = slice(len(query) - 1, len(query) + len(response) - 1)
        logits = [m(input_ids=ids).logits[0, at] for m in (policy, reference)]
        for x in logits:
            x[:, undrawable] = -torch.inf
        p, q = [(x / TEMPERATURE).log_softmax(-1) for x in logits]
        kept = [v for v in range(p.shape[1]) if v not in undrawable]
        asked = torch.tensor(response)[:, None]
        rows.append({
            "logprobs": p.gather(1, asked)[:, 0].tolist(),
            "refLogprobs": q.gather(1, asked)[:, 0].tolist(),
            "entropies": (-(p.exp() * p)[:, kept].sum(1)).tolist(),
            "kl": (p.exp() * (p - q))[:, kept].sum(1).tolist(),
            # temperature 1, as `valuehead score` shows it
            "rawLogprobs": logits[0].log_softmax(-1).gather(1, asked)[:, 0].tolist(),
            "greedy": logits[0].argmax(1).tolist(),
        })
head = {"undrawable": undrawable, "temperature": TEMPERATURE, "queries": QUERIES, "responses": responses}
(GOLDEN / "undrawable.json").write_text(json.dumps(head | {"rows": rows}) + "\n")
print(undrawable, responses)
