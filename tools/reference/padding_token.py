"""Writes test/golden/llama/padding-token.json: what `pad_token_id` does to gradients in transformers.

    python tools/reference/padding_token.py

Of llama-tiny (own language-model head) and qwen2-tiny (tied), the gradient of the mean cross-entropy over real targets, where one token
is real in some places and padding in others. torch computes in float64. transformers makes the embedding with `padding_idx`; the
same without it is the derivative of the loss. Everything but that token's row is the same in both, which is checked here.
"""
import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, logging

logging.set_verbosity_error()
logging.disable_progress_bar()
torch.set_num_threads(1)
GOLDEN = Path(__file__).resolve().parents[2] / "test" / "golden" / "llama"
PAD = 7
ROWS = [[3, PAD, 11, 30, PAD, 4, 12], [PAD, 8, 3, 25]]
WIDTH = max(map(len, ROWS))
ids = torch.tensor([row + [PAD] * (WIDTH - len(row)) for row in ROWS])
mask = torch.tensor([[1] * len(row) + [0] * (WIDTH - len(row)) for row in ROWS])


def gradients(name, pad):
    model = AutoModelForCausalLM.from_pretrained(
        GOLDEN / name, pad_token_id=pad, dtype=torch.float64, attn_implementation="eager", local_files_only=True)
    embedding = model.get_input_embeddings()
    assert embedding.padding_idx == pad
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    logprobs = logits[:, :-1].log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
    loss = -(logprobs * mask[:, 1:]).sum() / mask[:, 1:].sum()
    loss.backward()
    return loss.item(), {n: p.grad for n, p in model.named_parameters()}


golden = {"padTokenId": PAD, "rows": ROWS, "models": {}}
for name in ("llama-tiny", "qwen2-tiny"):
    loss, plain = gradients(name, None)
    again, padded = gradients(name, PAD)
    key = "model.embed_tokens.weight"
    assert loss == again and (plain[key][PAD] - padded[key][PAD]).abs().max() > 1e-3
    for n in plain:
        other = torch.arange(len(plain[n])) != PAD if n == key else slice(None)
        assert torch.equal(plain[n][other], padded[n][other]), n
    golden["models"][name] = {
        "loss": loss, "gradient": plain[key][PAD].tolist(), "withPaddingIdx": padded[key][PAD].tolist(),
        "norms": {n: g.norm().item() for n, g in plain.items()},
    }
    print(name, loss, golden["models"][name]["withPaddingIdx"][:3])
(GOLDEN / "padding-token.json").write_text(json.dumps(golden) + "\n")
