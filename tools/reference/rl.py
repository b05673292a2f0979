"""Golden values for src/rl, written to test/golden/rl.json.

TRL's own functions, called unbound with a stand-in for the trainer, on a fixed ragged batch. Where this library differs on
purpose (see the docstrings in src/rl) the value comes from numpy below, written from the formula.

Needs: trl==0.11.4 transformers==4.45.2 "numpy<2" "pyarrow<22" rich torch
Run:   python tools/reference/rl.py
"""

import json
import math
import pathlib
from types import SimpleNamespace

import numpy as np
import torch
import transformers
import trl
from trl.core import masked_mean, masked_var, masked_whiten
from trl.trainer.ppo_trainer import PPOTrainer
from trl.trainer.utils import AdaptiveKLController

torch.set_num_threads(1)
rng = np.random.default_rng(20200328)
ROWS, WIDTH, VOCAB = 5, 7, 11
LENGTHS = [7, 1, 4, 6, 2]
KL_COEF, GAMMA, LAMBDA, CLIP, CLIP_VALUE = 0.2, 0.98, 0.95, 0.2, 0.2


def f32(x):
    """Inputs are float32 numbers, so that both sides start from the same ones; the arithmetic here is float64."""
    return np.asarray(x, np.float32).astype(np.float64)


mask = np.array([[1 if t < n else 0 for t in range(WIDTH)] for n in LENGTHS])
shape = (ROWS, WIDTH)
old_logprobs = f32(-rng.gamma(2.0, 1.5, shape))
ref_logprobs = f32(np.minimum(old_logprobs + rng.normal(0, 0.6, shape), -1e-3))
logprobs = f32(np.minimum(old_logprobs + rng.normal(0, 0.25, shape), -1e-3))
old_values = f32(rng.normal(0.3, 0.8, shape))
values = f32(old_values + rng.normal(0, 0.3, shape))
scores = f32(rng.normal(0.5, 1.5, ROWS))
logits = rng.normal(0, 1, (ROWS, WIDTH, VOCAB))
# What padding holds must never matter: these numbers would show in every result.
for array in (old_logprobs, ref_logprobs, logprobs, old_values, values):
    array[mask == 0] += f32(50.0 * rng.normal(0, 1, shape))[mask == 0]
    array[:] = f32(array)

T = lambda x: torch.tensor(x, dtype=torch.float64)
tmask = T(mask)


def trainer(**config):
    defaults = dict(
        kl_penalty="kl", gamma=GAMMA, lam=LAMBDA, cliprange=CLIP, cliprange_value=CLIP_VALUE,
        vf_coef=0.1, whiten_rewards=False, ratio_threshold=10.0,
    )
    self = SimpleNamespace(config=SimpleNamespace(**{**defaults, **config}), kl_ctl=SimpleNamespace(value=KL_COEF))
    self._kl_penalty = lambda a, b: PPOTrainer._kl_penalty(self, a, b)
    return self


def clean(x):
    """Zero at masked positions, as this library writes them."""
    return np.where(mask == 1, np.asarray(x, np.float64), 0.0)


def flat(x):
    return np.asarray(x, np.float64).reshape(-1).tolist()


out = {
    "versions": {"trl": trl.__version__, "transformers": transformers.__version__, "torch": torch.__version__},
    "rows": ROWS, "width": WIDTH, "mask": mask.reshape(-1).tolist(),
    "klCoef": KL_COEF, "gamma": GAMMA, "lambda": LAMBDA, "clipRange": CLIP, "clipRangeValue": CLIP_VALUE,
    "scores": flat(scores), "logprobs": flat(logprobs), "oldLogprobs": flat(old_logprobs),
    "refLogprobs": flat(ref_logprobs), "values": flat(values), "oldValues": flat(old_values),
}

# --- rewards: TRL for k1, abs, k2; numpy for k3, which TRL 0.11.4 does not have ---
out["rewards"] = {}
for ours, theirs in {"k1": "kl", "abs": "abs", "k2": "mse"}.items():
    rewards, non_score, kls = PPOTrainer.compute_rewards(
        trainer(kl_penalty=theirs), T(scores), T(old_logprobs), T(ref_logprobs), tmask
    )
    out["rewards"][ours] = {"rewards": flat(clean(rewards)), "nonScoreRewards": flat(clean(non_score))}
d = old_logprobs - ref_logprobs
k3 = clean(-KL_COEF * (np.exp(-np.where(mask == 1, d, 0.0)) - 1 + d))
with_score = k3.copy()
for row, n in enumerate(LENGTHS):
    with_score[row, n - 1] += scores[row]
out["rewards"]["k3"] = {"rewards": flat(with_score), "nonScoreRewards": flat(k3)}

# --- KL estimates: numpy, and TRL's logged objective/kl and objective/entropy ---
d0 = clean(d)
kl = {"k1": d0, "k2": 0.5 * d0**2, "k3": clean(np.exp(-d0) - 1 + d0)}
out["kl"] = {
    name: {
        "perToken": flat(k), "perSequence": flat(k.sum(1)), "mean": float(k.sum(1).mean()),
        "standardError": float(k.sum(1).std(ddof=1) / math.sqrt(ROWS)),
    }
    for name, k in kl.items()
}
rewards, non_score, kls = PPOTrainer.compute_rewards(trainer(), T(scores), T(old_logprobs), T(ref_logprobs), tmask)

# --- advantages ---
_, white_advantages, returns = PPOTrainer.compute_advantages(trainer(), T(old_values), rewards, tmask)
out["whitenedAdvantages"] = flat(clean(white_advantages))
out["returns"] = flat(clean(returns))
out["advantages"] = flat(clean(returns.numpy() - old_values))


def numpy_gae(rewards, values, mask):
    """GAE over each row's existing tokens alone, written from equations 11 and 16 of arXiv 1506.02438."""
    advantages = np.zeros(mask.shape)
    for row in range(mask.shape[0]):
        index = np.flatnonzero(mask[row])
        r, v = rewards[row, index], np.append(values[row, index], 0.0)
        for i in range(len(index)):
            deltas = [r[k] + GAMMA * v[k + 1] - v[k] for k in range(i, len(index))]
            advantages[row, index[i]] = sum((GAMMA * LAMBDA) ** k * delta for k, delta in enumerate(deltas))
    return advantages


def numpy_whiten(x, mask, shift_mean=True, unbiased=True):
    kept = x[mask == 1]
    white = (x - kept.mean()) / np.sqrt(kept.var(ddof=1 if unbiased else 0) + 1e-8) + (0 if shift_mean else kept.mean())
    return np.where(mask == 1, white, 0.0)


own = numpy_gae(clean(rewards), old_values, mask)
assert np.allclose(own, clean(returns.numpy() - old_values), atol=1e-12)

# Rewards whitened before GAE: TRL lets the whitened padding into the real tokens, this library does not.
white_rewards = numpy_whiten(clean(rewards), mask, shift_mean=False)
theirs = PPOTrainer.compute_advantages(trainer(whiten_rewards=True), T(old_values), rewards, tmask)[2].numpy()
ours = numpy_gae(white_rewards, old_values, mask)
assert not np.allclose(clean(theirs - old_values), ours, atol=1e-3)
out["whitenedRewards"] = {"rewards": flat(white_rewards), "advantages": flat(ours)}

# Holes inside a row: the row is what is left without them.
holes = mask.copy()
holes[0, [0, 3]] = 0
holes[3, 2] = 0
out["holes"] = {"mask": holes.reshape(-1).tolist(), "advantages": flat(numpy_gae(clean(rewards), old_values, holes))}

# --- whitening, mean, variance ---
x = T(old_values)
out["whiten"] = {
    "mean": float(masked_mean(x, tmask)),
    "varUnbiased": float(masked_var(x, tmask)),
    "varBiased": float(masked_var(x, tmask, unbiased=False)),
    "shifted": flat(clean(masked_whiten(x, tmask))),
    "kept": flat(clean(masked_whiten(x, tmask, shift_mean=False))),
    "biasedShifted": flat(numpy_whiten(old_values, mask, True, False)),
    "biasedKept": flat(numpy_whiten(old_values, mask, False, False)),
}
assert math.isnan(masked_whiten(x, torch.nn.functional.pad(torch.ones(1, 1), (0, WIDTH - 1, 0, ROWS - 1)))[0, 0])

# --- loss and statistics, with gradients of both losses by autograd ---
advantages = T(f32(clean(white_advantages)))
returns = T(f32(clean(returns)))
lp, v = T(logprobs).requires_grad_(), T(values).requires_grad_()
policy_loss, value_loss_scaled, stats = PPOTrainer.loss(
    trainer(), T(old_logprobs), T(old_values), T(logits), v, lp, tmask, advantages, returns
)
policy_loss.backward(retain_graph=True)
(value_loss_scaled / 0.1).backward()
ratio = stats["policy/ratio"].numpy()[mask == 1]
out["loss"] = {
    "advantages": flat(advantages), "returns": flat(returns),
    "gradLogprobs": flat(lp.grad), "gradValues": flat(v.grad),
    "statistics": {
        "policyLoss": float(stats["loss/policy"]), "valueLoss": float(stats["loss/value"]),
        "clipFraction": float(stats["policy/clipfrac"]), "valueClipFraction": float(stats["val/clipfrac"]),
        "approxKl": float(stats["policy/approxkl"]), "policyKl": float(stats["policy/policykl"]),
        "ratioMean": float(ratio.mean()), "ratioMin": float(ratio.min()), "ratioMax": float(ratio.max()),
        "ratioVar": float(ratio.var(ddof=1)),
        "valueError": float(stats["val/error"]),
        "valuePredictionMean": float(stats["val/vpred"]),
        "returnsMean": float(stats["returns/mean"]), "returnsVar": float(stats["returns/var"]),
        "valuesMean": float(stats["val/mean"]), "valuesVar": float(stats["val/var"]),
        "advantagesMean": float(stats["policy/advantages_mean"]),
        "advantagesVar": float(masked_var(advantages, tmask)),
    },
}
recorded = PPOTrainer.record_step_stats(
    trainer(), KL_COEF, scores=T(scores), logprobs=T(old_logprobs), ref_logprobs=T(ref_logprobs),
    non_score_reward=non_score, masks=tmask, kls=kls, queries=[[0]] * ROWS, responses=[[0] * n for n in LENGTHS],
    train_stats={k: t.unsqueeze(0) for k, t in stats.items()},
)
out["loss"]["statistics"]["varExplained"] = float(recorded["ppo/val/var_explained"])
out["recorded"] = {
    name: float(recorded[name])
    for name in ("objective/kl", "objective/entropy", "ppo/mean_non_score_reward", "ppo/mean_scores", "ppo/std_scores")
}
assert 0 < out["loss"]["statistics"]["clipFraction"] < 1 and 0 < out["loss"]["statistics"]["valueClipFraction"] < 1

# --- controller ---
controller = AdaptiveKLController(0.2, 6.0, 10000)
updates = [[9.0, 256], [6.9, 256], [6.0, 256], [4.0, 64], [-1.0, 256], [5.5, 32], [100.0, 512]]
out["controller"] = {"initKlCoef": 0.2, "target": 6.0, "horizon": 10000, "updates": updates, "values": []}
for current, n_steps in updates:
    controller.update(current, n_steps)
    out["controller"]["values"].append(float(controller.value))

path = pathlib.Path(__file__).resolve().parents[2] / "test" / "golden" / "rl.json"
path.write_text(json.dumps(out, indent=1) + "\n")
print(path.name, path.stat().st_size)
