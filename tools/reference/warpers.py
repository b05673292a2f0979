"""Writes test/golden/warpers.json: which tokens transformers' logits processors keep, and the log-probs they leave.

The processors are those of `generate`, in its order: minimum length, temperature, top-k, top-p. Logits are float32, read as
float64; log-probs are float64, rounded to 9 digits.
"""
import itertools
import json
from pathlib import Path

import numpy as np
import torch
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

OUT = Path(__file__).resolve().parents[2] / "test" / "golden" / "warpers.json"
VOCAB = 101
torch.set_num_threads(1)
rng = np.random.default_rng(20240611)

flat, peaked = (s * rng.standard_normal(VOCAB) for s in (1.0, 3.0))
tied = np.round(2 * rng.standard_normal(VOCAB)) / 2  # many equal logits: the k-th has company
ROWS = [row.astype(np.float32) for row in (flat, peaked, tied)]


def case(row, temperature, top_k, top_p, banned):
    processors = LogitsProcessorList()
    if banned >= 0:
        processors.append(MinNewTokensLengthLogitsProcessor(0, 8, [banned], device="cpu"))
    if temperature != 1:
        processors.append(TemperatureLogitsWarper(temperature))
    if top_k > 0:
        processors.append(TopKLogitsWarper(top_k))
    scores = torch.from_numpy(ROWS[row].astype(np.float64))[None]
    ids = torch.zeros((1, 0), dtype=torch.long)
    before = processors(ids, scores)
    if top_p < 1:
        edges = before.sort().values.softmax(-1).cumsum(-1) - (1 - top_p)
        assert edges.abs().min() > 1e-5, "the nucleus ends too close to a token: rounding would decide"
        before = TopPLogitsWarper(top_p)(ids, before)
    logprobs = before.log_softmax(-1)[0]
    kept = torch.isfinite(logprobs).nonzero()[:, 0]
    return {
        "row": row, "temperature": temperature, "topK": top_k, "topP": top_p, "banned": banned,
        "kept": kept.tolist(), "logprobs": [round(x, 9) for x in logprobs[kept].tolist()],
    }  # fmt: skip


cases = [
    # With ties, which of two equal tokens the nucleus keeps is an accident of the sort: only top-k is compared there.
    case(row, temperature, top_k, top_p, int(ROWS[row].argmax()) if ban else -1)
    for row, temperature, top_k, top_p, ban in itertools.product(
        range(3), (0.7, 1.0, 1.3), (0, 1, 5, 50), (1.0, 0.9, 0.5, 0.05), (False, True)
    )
    if not (row == 2 and top_p < 1) and not (top_k == 0 and top_p == 1 and temperature != 1 and ban)
]
rows = [[float(str(x)) for x in row] for row in ROWS]
lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases)
OUT.write_text(f'{{"logits":{json.dumps(rows)},\n"cases":[\n{lines}\n]}}\n')
print(OUT.name, len(cases), "cases,", OUT.stat().st_size, "bytes")
