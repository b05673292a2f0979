"""Golden values for the options of PPO, written to test/golden/ppo-options.json.

Score scaling and clipping, running moments, early stopping and targets come from TRL's own code; what TRL 0.11.4 does not
have (biased variance, whitening inside a minibatch with it, TensorFlow's Adam, truncation, annealing) is written here from
the formulas of openai/lm-human-preferences, in float64.

Needs: trl==0.11.4 transformers==4.45.2 "numpy<2" "pyarrow<22" rich torch
Run:   python tools/reference/ppo_options.py
"""

import json
import pathlib
import sys
from types import SimpleNamespace

import numpy as np
import torch
import transformers
import trl
from trl.trainer.ppo_trainer import PPOTrainer
from trl.trainer.utils import RunningMoments

torch.set_num_threads(1)
rng = np.random.default_rng(20241105)
out = {"versions": {"trl": trl.__version__, "transformers": transformers.__version__, "torch": torch.__version__}}


def flat(x):
    return np.asarray(x, np.float64).reshape(-1).tolist()


def f32(x):
    return np.asarray(x, np.float32).astype(np.float64)


# --- scores: PPOTrainer.step up to where the model is needed ---
class Stop(Exception):
    pass


class TensorMoments(RunningMoments):
    """In 0.11.4 mean and std are floats after an update, and step() calls .to() of them, which fails. As tensors they work."""

    def update(self, xs):
        self.mean, self.std = float(self.mean), float(self.std)
        result = super().update(xs)
        self.mean, self.std = torch.tensor(self.mean), torch.tensor(self.std)
        return result


def shaped(self, scores):
    """What `scores` is when step() has processed it."""
    queries = [torch.zeros(1)] * len(scores)
    try:
        PPOTrainer.step(self, queries, queries, [torch.tensor(s, dtype=torch.float32) for s in scores])
    except Stop as stop:
        trace = stop.__traceback__
        while trace.tb_frame.f_code.co_name != "step":
            trace = trace.tb_next
        return trace.tb_frame.f_locals["scores"]
    raise AssertionError("step() did not stop")


def stand_in(running, **config):
    def stop(*_):
        raise Stop

    defaults = dict(batch_size=None, use_score_scaling=False, use_score_norm=False, score_clip=None)
    return SimpleNamespace(
        config=SimpleNamespace(**{**defaults, **config}), running=running, prepare_model_inputs=stop, current_device="cpu",
        accelerator=SimpleNamespace(), _step_safety_checker=lambda bs, q, r, s, m: (q, r, s, m),
    )


accelerator = SimpleNamespace(use_distributed=False)
try:
    shaped(stand_in(RunningMoments(accelerator), use_score_scaling=True), [1.0, 2.0])
    sys.exit("TRL 0.11.4 can scale scores after all: correct the comment in src/rl/scores.ts")
except AttributeError as error:
    print("as said in src/rl/scores.ts:", error)

batches = [f32(rng.normal(m, s, n)).tolist() for m, s, n in [(2, 0.5, 6), (-1, 2, 3), (0.3, 0.01, 8), (40, 10, 5)]]
out["scores"] = {"batches": batches, "cases": []}
for scaling in ("none", "scale", "normalize"):
    for clip in (0, 0.75):
        running = TensorMoments(accelerator)
        self = stand_in(
            running, use_score_scaling=scaling != "none", use_score_norm=scaling == "normalize", score_clip=clip or None
        )
        case = {"scoreScaling": scaling, "scoreClip": clip, "scores": [], "moments": []}
        for batch in batches:
            case["scores"].append(flat(shaped(self, batch)))
            case["moments"].append([float(running.mean), float(running.var), float(running.count), float(running.std)])
        out["scores"]["cases"].append(case)

# --- targets: TRL whitens over whatever it is given, so a minibatch is given alone ---
ROWS, WIDTH, GAMMA, LAMBDA = 5, 6, 0.98, 0.9
rewards, values = f32(rng.normal(0, 0.4, (ROWS, WIDTH))), f32(rng.normal(0.5, 0.7, (ROWS, WIDTH)))
rewards[:, -1] += f32(rng.normal(1, 2, ROWS))
rewards = f32(rewards)


def trl_targets(rows, whiten_rewards):
    self = SimpleNamespace(config=SimpleNamespace(whiten_rewards=whiten_rewards, gamma=GAMMA, lam=LAMBDA))
    r, v = torch.tensor(rewards[rows]), torch.tensor(values[rows])
    _, advantages, returns = PPOTrainer.compute_advantages(self, v, r, torch.ones_like(r))
    return advantages.numpy(), returns.numpy()


def openai_whiten(x, shift_mean=True):
    white = (x - x.mean()) / np.sqrt(x.var() + 1e-8)  # tf.nn.moments: over n
    return white if shift_mean else white + x.mean()


def openai_targets(rows, whiten_rewards):
    r, v = rewards[rows], values[rows]
    r = openai_whiten(r, False) if whiten_rewards else r
    advantages, last = np.zeros_like(r), 0.0
    for t in reversed(range(WIDTH)):
        after = v[:, t + 1] if t < WIDTH - 1 else 0.0
        last = r[:, t] + GAMMA * after - v[:, t] + GAMMA * LAMBDA * last
        advantages[:, t] = last
    return openai_whiten(advantages), advantages + v


miniBatches = [[0], [4, 2], [1, 3]]
out["targets"] = {
    "rows": ROWS, "width": WIDTH, "gamma": GAMMA, "lambda": LAMBDA, "rewards": flat(rewards), "values": flat(values),
    "miniBatches": miniBatches, "cases": [],
}
for variance, function in (("unbiased", trl_targets), ("biased", openai_targets)):
    for whiten_rewards in (False, True):
        parts = [list(range(ROWS)), *miniBatches]
        got = [function(rows, whiten_rewards) for rows in parts]
        out["targets"]["cases"].append({
            "whiteningVariance": variance, "whitenRewards": whiten_rewards,
            "parts": [{"rows": p, "advantages": flat(a), "returns": flat(r)} for p, (a, r) in zip(parts, got)],
        })

# --- early stopping ---
class Optimizer:
    def zero_grad(self):
        pass


def early_stop(policy_kl, target_kl):
    self = SimpleNamespace(
        config=SimpleNamespace(early_stopping=True, target_kl=target_kl), is_distributed=False, optimizer=Optimizer()
    )
    return bool(PPOTrainer._early_stop(self, policy_kl))


out["earlyStop"] = [[kl, target, early_stop(kl, target)] for kl, target in
                    [(0.14, 0.1), (0.16, 0.1), (-3.0, 0.1), (1.5, 1.0), (1.51, 1.0), (0.0, 0.01), (0.75, 0.5)]]

# --- Adam as tf.train.AdamOptimizer has it, over parameters whose gradients differ by many powers of ten ---
PARAMS, STEPS = 10, 6
initial = f32(rng.normal(0, 1, PARAMS))
grads = f32(rng.normal(0, 1, (STEPS, PARAMS)) * 10.0 ** rng.integers(-6, 2, (STEPS, PARAMS)))
out["adam"] = {"initial": flat(initial), "grads": [flat(g) for g in grads], "cases": []}
for lr, b1, b2, eps in [(1e-2, 0.9, 0.999, 1e-5), (3e-2, 0.9, 0.95, 1e-3), (1e-2, 0.0, 0.99, 1e-8)]:
    case = {"learningRate": lr, "beta1": b1, "beta2": b2, "epsilon": eps}
    p, m, v, after = initial.copy(), np.zeros(PARAMS), np.zeros(PARAMS), []
    reference = torch.tensor(initial, requires_grad=True)
    adam, torch_after = torch.optim.Adam([reference], lr=lr, betas=(b1, b2), eps=eps), []
    for t, g in enumerate(grads, 1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        p = p - lr * np.sqrt(1 - b2**t) / (1 - b1**t) * m / (np.sqrt(v) + eps)
        after.append(flat(p))
        reference.grad = torch.tensor(g)
        adam.step()
        torch_after.append(flat(reference.detach()))
    out["adam"]["cases"].append({"options": case, "tensorflow": after, "pytorch": torch_after})

# --- truncation: lm_tasks.py get_mask and filter ---
TOKEN, AFTER, LENGTH = 3, 16, 24
responses = rng.integers(0, 12, (40, LENGTH))
found = responses == TOKEN
found[:, :AFTER] = False
padded = (np.cumsum(found, 1) - found) > 0
out["truncation"] = {
    "truncateToken": TOKEN, "truncateAfter": AFTER, "responses": responses.tolist(),
    "count": (~padded).sum(1).tolist(), "complete": found.any(1).tolist(),
}
assert 0 < found.any(1).sum() < 40 and (found.sum(1) > 1).any()

# --- learning rate annealed to 0 over all updates: policy_frac, train_minibatch ---
out["annealing"] = [1 - step / 7 for step in range(7)]

path = pathlib.Path(__file__).resolve().parents[2] / "test" / "golden" / "ppo-options.json"
path.write_text(json.dumps(out, indent=1) + "\n")
print(path.name, path.stat().st_size)
