"""One PPO step with given rollouts, written to test/golden/ppo-step/: `trl` and `openai`.

`trl` is huggingface/trl@v0.11.4's own PPOTrainer.step, on the CPU. `openai` is the algorithm of openai/lm-human-preferences as
vwxyzjn/lm-human-preference-details@07b8169:lm_human_preference_details/train_policy_accelerate.py states it in PyTorch
(`train`, `whiten`, `AdamTensorFlowStyle`), written from its formulas.

The policy is test/golden/gpt2-tiny, the reference the same weights times 33/32, which is exact in float32. Models compute in
float64 (TRL turns logits into float32), log-probs and values of the batch are float32, as they are in TRL and in this library.

Needs the environment of rl.py. Run: python tools/reference/ppo_step.py
"""
import json
import pathlib
import warnings

import numpy as np
import torch
import transformers
import trl
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast
from trl import AutoModelForCausalLMWithValueHead, PPOConfig, PPOTrainer

warnings.filterwarnings("ignore")
transformers.logging.set_verbosity_error()
torch.set_num_threads(1)
GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "test" / "golden"
OUT = GOLDEN / "ppo-step"
EOS = 100
# Minibatch order of two epochs: what src/train/update.ts draws for a seed of 0 in step 1. The test checks that it still does.
ORDER = {
    9: [[5, 1, 8, 3, 7, 2, 4, 6, 0], [2, 6, 7, 4, 1, 0, 8, 5, 3]],
    8: [[1, 7, 4, 6, 2, 3, 5, 0], [5, 3, 1, 0, 6, 4, 2, 7]],
}


def rollouts(rng, query_lengths, response_lengths, finished):
    """Random tokens; a finished response ends with eos, and nothing comes after it."""
    queries = [rng.integers(0, EOS, n).tolist() for n in query_lengths]
    responses = [rng.integers(0, EOS, n).tolist() for n in response_lengths]
    for b in finished:
        responses[b][-1] = EOS
    scores = rng.normal(0.5, 1.5, len(queries)).astype(np.float32)
    return queries, responses, scores


def load(factor=1.0):
    model = AutoModelForCausalLMWithValueHead.from_pretrained(str(GOLDEN / "gpt2-tiny"), attn_implementation="eager")
    for p in model.parameters():
        p.data *= factor
    return model.double().eval()


def weights(model):
    """Float64 copies by checkpoint name."""
    state = model.state_dict()
    state.pop("lm_head.weight")  # tied to the embedding
    return {k: x.detach().clone() for k, x in state.items() if not k.endswith(".attn.bias")}


def ragged(x, lengths, offsets):
    """Rows of a padded [B, T] array cut to their tokens, one flat list."""
    return [float(v) for row, n, start in zip(x, lengths, offsets) for v in row[start : start + n]]


def pooled_variance(x):
    x = np.asarray(x, np.float64)
    return float(x.var(ddof=1))


class GradNorms(torch.optim.Adam):
    """torch's Adam, and the norm of the gradient of each step."""

    def __init__(self, parameters, **options):
        super().__init__(list(parameters), **options)
        self.norms = []

    def step(self, closure=None):
        grads = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        self.norms.append(float(torch.sqrt(sum((g**2).sum() for g in grads))))
        return super().step(closure)


def write(name, golden, tensors):
    OUT.mkdir(exist_ok=True)
    versions = {"trl": trl.__version__, "transformers": transformers.__version__, "torch": torch.__version__}
    (OUT / f"{name}.json").write_text(json.dumps({"versions": versions} | golden, indent=1) + "\n")
    save_file({k: x.to(torch.float32).contiguous() for k, x in tensors.items()}, OUT / f"{name}.safetensors")
    for file in (OUT / f"{name}.json", OUT / f"{name}.safetensors"):
        print(file.name, file.stat().st_size)


def trl_case():
    rng = np.random.default_rng(411)
    query_lengths, response_lengths = [3, 7, 2, 5, 4, 1, 6, 3, 2], [8, 5, 1, 8, 3, 6, 8, 2, 7]
    queries, responses, scores = rollouts(rng, query_lengths, response_lengths, finished=[1, 2, 4, 5, 8])
    options = dict(
        batch_size=9, mini_batch_size=3, ppo_epochs=2, learning_rate=2e-3, init_kl_coef=0.3, target=0.5, horizon=200,
        gamma=0.98, lam=0.9, cliprange=0.15, cliprange_value=0.1, vf_coef=0.25,
    )
    vocabulary = {str(i): i for i in range(EOS + 1)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(vocabulary, unk_token="0")), pad_token=str(EOS), padding_side="right"
    )
    model, reference = load(), load(33 / 32)
    before = weights(model)
    optimizer = GradNorms(model.parameters(), lr=options["learning_rate"], eps=1e-5)
    trainer = PPOTrainer(PPOConfig(**options), model, reference, tokenizer, optimizer=optimizer)

    # Results of the trainer's own methods are noted as they come by.
    seen = {"stats": [], "weights": [], "inputs": []}

    def note(method, keep):
        original = getattr(trainer, method)

        def wrapped(*args, **kwargs):
            result = original(*args, **kwargs)
            keep(args, result)
            return result

        setattr(trainer, method, wrapped)

    note("compute_rewards", lambda args, r: seen.update(logprobs=args[1], ref=args[2], mask=args[3], rewards=r[0], non_score=r[1]))
    note("compute_advantages", lambda args, r: seen.update(values=args[0], advantages=r[1], returns=r[2]))
    note("train_minibatch", lambda args, r: seen["stats"].append(r) or seen["inputs"].append(args))

    order = iter(ORDER[9])
    permutation = np.random.permutation

    def given_order(n):
        seen["weights"].append(weights(model))
        return np.array(next(order))

    np.random.permutation = given_order
    recorded = trainer.step(
        [torch.tensor(q) for q in queries], [torch.tensor(r) for r in responses], [torch.tensor(s) for s in scores]
    )
    np.random.permutation = permutation
    seen["weights"].append(weights(model))

    # What is true of TRL 0.11.4 and said in docs/ppo.md: model_params is an iterator, used up by the first clipping.
    assert len(list(trainer.model_params)) > 0 and len(list(trainer.model_params)) == 0

    starts = [n - 1 for n in query_lengths]
    cut = lambda x: ragged(x, response_lengths, starts)
    minibatches = [{k: float(x) for k, x in s.items() if x.numel() == 1} for s in seen["stats"]]
    rows = [epoch[i : i + 3] for epoch in ORDER[9] for i in range(0, 9, 3)]
    tokens = [sum(response_lengths[b] for b in mini) for mini in rows]

    # This library's statistics are over all tokens of all minibatches at once; TRL's are means of minibatch means.
    def over_tokens(name):
        return sum(n * s[name] for n, s in zip(tokens, minibatches)) / sum(tokens)

    existing = lambda x, args: x[args[5].bool()].detach().double().numpy()
    ratios = np.concatenate([existing(s["policy/ratio"], a) for s, a in zip(seen["stats"], seen["inputs"])])
    returns = np.concatenate([existing(a[7], a) for a in seen["inputs"]])
    error, returns_var = over_tokens("val/error"), pooled_variance(returns)
    whole = {f"ppo/{k}": over_tokens(k) for k in minibatches[0] if not k.endswith("/var")} | {
        "ppo/policy/ratio_mean": float(ratios.mean()), "ppo/policy/ratio_min": float(ratios.min()),
        "ppo/policy/ratio_max": float(ratios.max()), "ppo/policy/ratio_var": pooled_variance(ratios),
        "ppo/returns/var": returns_var, "ppo/val/var_explained": 1 - error / returns_var,
        "ppo/val/var": pooled_variance(cut(seen["values"])), "ppo/grad_norm": float(np.mean(optimizer.norms)),
    }
    scalars = {k: float(v) for k, v in recorded.items() if np.ndim(v) == 0 and not k.startswith("time/")}
    assert min(s["policy/clipfrac"] for s in minibatches[1:]) > 0 and max(s["val/clipfrac"] for s in minibatches) > 0
    golden = {
        "options": options | {"eps": 1e-5}, "queries": queries, "responses": responses,
        "scores": scores.tolist(), "order": ORDER[9],
        "logprobs": cut(seen["logprobs"]), "refLogprobs": cut(seen["ref"]), "values": cut(seen["values"]),
        "rewards": cut(seen["rewards"]), "nonScoreRewards": cut(seen["non_score"]),
        "advantages": cut(seen["advantages"]), "returns": cut(seen["returns"]),
        "minibatches": minibatches, "recorded": scalars, "overTokens": whole, "klCoefAfter": float(trainer.kl_ctl.value),
    }
    steps = {f"epoch{i}.{k}": x - before[k] for i, state in enumerate(seen["weights"]) if i for k, x in state.items()}
    write("trl", golden, steps)
    return golden


def main():
    g = trl_case()
    print(json.dumps(g["minibatches"], indent=1)[:3000])
    print(json.dumps({k: g[k] for k in ("recorded", "overTokens", "klCoefAfter")}, indent=1))


main()
