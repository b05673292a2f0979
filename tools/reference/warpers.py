"""Writes test/golden/warpers.json: which tokens transformers' logits processors keep, and the log-probs they leave.

The processors are those of `generate`, in its order: repetition penalty, bad words, minimum length, forced token,
temperature, top-k, top-p, min-p. Only the bias differs: ours comes after the penalty, theirs before. `keptMass` is the
probability of the kept tokens where the processors before the first ban have run and the temperature has been applied. Logits are float32, read as
float64; log-probs are float64, rounded to 9 digits.
"""
import itertools
import json
from pathlib import Path

import numpy as np
import torch
from transformers.generation.logits_process import (
    ForcedEOSTokenLogitsProcessor,
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    NoBadWordsLogitsProcessor,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
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


def adjusted(row, prompt, response, penalty, bias, banned, forced, temperature, top_k, top_p, min_p):
    """All processors: what depends on earlier tokens, then what takes tokens away."""
    ids = torch.tensor([prompt + response])
    scores = torch.from_numpy(ROWS[row].astype(np.float64))[None]
    if penalty != 1:
        scores = RepetitionPenaltyLogitsProcessor(penalty)(ids, scores)
    if bias:
        scores = SequenceBiasLogitsProcessor([[[i], x] for i, x in bias])(ids, scores)
    whole = (scores / temperature).softmax(-1)[0]
    if banned:
        scores = NoBadWordsLogitsProcessor([[i] for i in banned])(ids, scores)
    if forced >= 0:
        before = scores
        scores = ForcedEOSTokenLogitsProcessor(ids.shape[1] + 1, forced, device="cpu")(ids, scores)
        assert torch.isfinite(before[0, forced])
    if temperature != 1:
        scores = TemperatureLogitsWarper(temperature)(ids, scores)
    if top_k > 0:
        scores = TopKLogitsWarper(top_k)(ids, scores)
    if top_p < 1:
        edges = scores.sort().values.softmax(-1).cumsum(-1) - (1 - top_p)
        assert edges.abs().min() > 1e-5
        scores = TopPLogitsWarper(top_p)(ids, scores)
    if min_p > 0:
        p = scores.softmax(-1)
        assert (p / p.max() - min_p).abs().min() > 1e-5
        scores = MinPLogitsWarper(min_p)(ids, scores)
    logprobs = scores.log_softmax(-1)[0]
    kept = torch.isfinite(logprobs).nonzero()[:, 0]
    return {
        "row": row, "prompt": prompt, "response": response, "repetitionPenalty": penalty,
        "bias": {"ids": [i for i, _ in bias], "values": [x for _, x in bias]}, "bannedTokens": banned, "forced": forced,
        "temperature": temperature, "topK": top_k, "topP": top_p, "minP": min_p, "kept": kept.tolist(),
        "keptMass": round(whole[kept].sum().item(), 12), "logprobs": [round(x, 9) for x in logprobs[kept].tolist()],
    }  # fmt: skip


def tokens(n):
    return rng.integers(0, VOCAB, n).tolist()


combinations = list(itertools.product(
    (0, 1), (1.0, 1.2, 0.8), (False, True), (False, True), (0.7, 1.0), (0, 20), (1.0, 0.9), (0.0, 0.05, 0.3)
))  # fmt: skip
chosen = [combinations[i] for i in sorted(rng.choice(len(combinations), 64, replace=False))]
adjustments = [
    adjusted(
        row, tokens(8), best[:2] + tokens(3) + best[:1], penalty, [(i, 0.25 * v) for i, v in zip(best[3:7], (-8, 5, -6, 9))] if bias else [],
        [best[0], best[7], 3] if ban else [], -1, temperature, top_k, top_p, min_p,
    )
    for row, penalty, bias, ban, temperature, top_k, top_p, min_p in chosen
    for best in [np.argsort(-ROWS[row]).tolist()]
] + [adjusted(0, tokens(4), tokens(2), 1.2, [], [], forced, 0.7, 20, 0.9, 0.05) for forced in (5, 70)]  # fmt: skip
raw = [[round(x, 9) for x in torch.from_numpy(row.astype(np.float64)).log_softmax(-1).tolist()] for row in ROWS]

rows = [[float(str(x)) for x in row] for row in ROWS]
lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases)
more = ",\n".join(json.dumps(c, separators=(",", ":")) for c in adjustments)
OUT.write_text(
    f'{{"logits":{json.dumps(rows)},\n"rawLogprobs":{json.dumps(raw)},\n"cases":[\n{lines}\n],\n"adjusted":[\n{more}\n]}}\n'
)
print(OUT.name, len(cases) + len(adjustments), "cases,", OUT.stat().st_size, "bytes")
