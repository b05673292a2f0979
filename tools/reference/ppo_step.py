"""One PPO step with given rollouts, written to test/golden/ppo-step/: `trl`, `details` and `openai`; with LoRA: `lora-gpt2`
and `lora-llama`.

`trl` is huggingface/trl@v0.11.4's own PPOTrainer.step, on the CPU. `details` is the algorithm that
vwxyzjn/lm-human-preference-details@ccc19538:lm_human_preference_details/train_policy_accelerate.py (`train`, `whiten`,
`AdamTensorFlowStyle`) states in PyTorch, written from its formulas; it whitens over the batch. `openai` is the same whitened
over each minibatch, as openai/lm-human-preferences@cbfd210:lm_human_preferences/train_policy.py (`loss`) does.

`lora-*` are `trl` again with a peft_config: adapters of test/golden/lora, whose base TRL takes for the reference. Their files hold
the changes of A, B and the value head, all that TRL's optimizer is given.

Elsewhere the policy is test/golden/gpt2-tiny, the reference the same weights times 33/32, rounded to float32. Models compute in
float64 (TRL turns logits into float32), log-probs and values of the batch are float32, as they are in TRL and in this library.

Needs the environment of rl.py. Run: python tools/reference/ppo_step.py
"""
import json
import pathlib
import warnings

import numpy as np
import peft
import torch
import transformers
import trl
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from trl import AutoModelForCausalLMWithValueHead, PPOConfig, PPOTrainer
from trl.trainer.utils import AdaptiveKLController

warnings.filterwarnings("ignore")
transformers.logging.set_verbosity_error()
torch.set_num_threads(1)
GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "test" / "golden"
OUT = GOLDEN / "ppo-step"
EOS = 100
# Minibatch order of two epochs: what src/algorithms/update.ts draws for a seed of 0 in step 1. The test checks that it still does.
ORDER = {
    9: [[3, 2, 8, 1, 6, 0, 7, 5, 4], [8, 6, 1, 4, 5, 3, 2, 0, 7]],
    8: [[1, 2, 3, 6, 0, 7, 5, 4], [6, 7, 4, 2, 1, 0, 5, 3]],
}


def rollouts(rng, query_lengths, response_lengths, finished, first=0, eos=EOS):
    """Random tokens from the first to eos; a finished response ends with it, and nothing comes after it."""
    queries = [rng.integers(first, eos, n).tolist() for n in query_lengths]
    responses = [rng.integers(first, eos, n).tolist() for n in response_lengths]
    for b in finished:
        responses[b][-1] = eos
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


def adapted(name):
    """A model with an adapter of test/golden/lora and the value head beside it; only these are trained."""
    directory = GOLDEN / "lora" / name
    config = json.loads((directory / "adapter_config.json").read_text())
    known = {k: config[k] for k in ("r", "lora_alpha", "target_modules", "use_rslora", "layers_to_transform", "task_type")}
    base = AutoModelForCausalLM.from_pretrained(str(directory / config["base_model_name_or_path"]), attn_implementation="eager")
    model = peft.get_peft_model(base, peft.LoraConfig(**known))
    found = peft.set_peft_model_state_dict(model, load_file(directory / "adapter_model.safetensors"))
    assert not found.unexpected_keys and not [k for k in found.missing_keys if "lora_" in k]
    model = AutoModelForCausalLMWithValueHead.from_pretrained(model)
    head = load_file(directory / "v_head.safetensors")
    model.v_head.summary.load_state_dict({k.removeprefix("v_head.summary."): x for k, x in head.items()})
    return model.double().eval()


def trained(model):
    """Float64 copies of what is trained, by the names of this library."""
    names = {"pretrained_model.base_model.model.": "", ".default": ""}
    result = {}
    for name, p in model.named_parameters():
        if p.requires_grad:
            for old, new in names.items():
                name = name.replace(old, new)
            result[name] = p.detach().clone()
    return result


def trl_trainer(options, model=None, eos=EOS):
    """With a given model, the reference is that model without its adapter."""
    vocabulary = {str(i): i for i in range(eos + 1)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(vocabulary, unk_token="0")), pad_token=str(eos), padding_side="right"
    )
    reference = load(33 / 32) if model is None else None
    model = model or load()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = GradNorms(parameters, lr=options["learning_rate"], eps=1e-5)
    return PPOTrainer(PPOConfig(**options), model, reference, tokenizer, optimizer=optimizer), model, optimizer


def as_lists(queries, responses, scores):
    return [[torch.tensor(x) for x in xs] for xs in (queries, responses, scores)]


def trl_mistakes():
    """What docs/ppo.md says of TRL 0.11.4, seen to be so."""
    batch = rollouts(np.random.default_rng(0), [2] * 4, [3] * 4, finished=[])
    options = dict(batch_size=4, mini_batch_size=2, ppo_epochs=1, learning_rate=1e-3)
    trainer, _, optimizer = trl_trainer(options | {"max_grad_norm": 1e-3})
    trainer.step(*as_lists(*batch))
    first, second = optimizer.norms  # model_params is an iterator, used up by the first clipping
    assert first <= 1.001e-3 and second > 0.1, optimizer.norms
    try:
        trl_trainer(options | {"use_score_scaling": True})[0].step(*as_lists(*batch))
        raise AssertionError("use_score_scaling works")
    except AttributeError as error:
        assert "'float' object has no attribute 'to'" in str(error), error


def trl_case(name="trl", adapter=None, **ids):
    """With the name of an adapter, the policy is that, and weights that change are its own."""
    rng = np.random.default_rng(411)
    query_lengths, response_lengths = [3, 7, 2, 5, 4, 1, 6, 3, 2], [8, 5, 1, 8, 3, 6, 8, 2, 7]
    queries, responses, scores = rollouts(rng, query_lengths, response_lengths, finished=[1, 2, 4, 5, 8], **ids)
    eos = ids.get("eos", EOS)
    options = dict(
        batch_size=9, mini_batch_size=3, ppo_epochs=2, learning_rate=2e-3, init_kl_coef=0.3, target=0.5, horizon=200,
        gamma=0.98, lam=0.9, cliprange=0.15, cliprange_value=0.1, vf_coef=0.25,
    )
    if adapter:
        options |= {"learning_rate": 6e-3, "cliprange_value": 0.05}  # A and B are small: ratios and values shall be clipped too
    trainer, model, optimizer = trl_trainer(options, adapter and adapted(adapter), eos)
    noted = trained if adapter else weights
    before, base = noted(model), {k: p.detach().clone() for k, p in model.named_parameters() if not p.requires_grad}

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
    note("compute_advantages", lambda args, r: seen.update(values=args[0]))
    note("train_minibatch", lambda args, r: seen["stats"].append(r) or seen["inputs"].append(args))

    order = iter(ORDER[9])
    permutation = np.random.permutation

    def given_order(n):
        seen["weights"].append(noted(model))
        return np.array(next(order))

    np.random.permutation = given_order
    recorded = trainer.step(*as_lists(queries, responses, scores))
    np.random.permutation = permutation
    seen["weights"].append(noted(model))
    assert all(torch.equal(p, base[k]) for k, p in model.named_parameters() if not p.requires_grad)

    starts = [n - 1 for n in query_lengths]
    cut = lambda x: ragged(x, response_lengths, starts)
    minibatches = [{k: float(x) for k, x in s.items() if x.numel() == 1} for s in seen["stats"]]
    rows = [epoch[i : i + 3] for epoch in ORDER[9] for i in range(0, 9, 3)]
    tokens = [sum(response_lengths[b] for b in mini) for mini in rows]

    # This library's statistics are over all tokens of all minibatches at once; TRL's are means of minibatch means.
    def over_tokens(name):
        return sum(n * s[name] for n, s in zip(tokens, minibatches)) / sum(tokens)

    existing = lambda x, args: x[args[5].bool()].detach().double().numpy()
    # In the order they were used: minibatch after minibatch, epoch after epoch.
    in_order = lambda of: np.concatenate([existing(of(a), a) for a in seen["inputs"]]).tolist()
    ratios = np.concatenate([existing(s["policy/ratio"], a) for s, a in zip(seen["stats"], seen["inputs"])])
    returns = in_order(lambda a: a[7])
    error, returns_var = over_tokens("val/error"), pooled_variance(returns)
    whole = {f"ppo/{k}": over_tokens(k) for k in minibatches[0] if not k.endswith("/var")} | {
        "ppo/policy/ratio_mean": float(ratios.mean()), "ppo/policy/ratio_min": float(ratios.min()),
        "ppo/policy/ratio_max": float(ratios.max()), "ppo/policy/ratio_var": pooled_variance(ratios),
        "ppo/returns/var": returns_var, "ppo/val/var_explained": 1 - error / returns_var,
        "ppo/val/var": pooled_variance(cut(seen["values"])), "ppo/grad_norm": float(np.mean(optimizer.norms)),
    }
    scalars = {k: float(v) for k, v in recorded.items() if np.ndim(v) == 0 and not k.startswith("time/")}
    clipped = sum(s["policy/clipfrac"] > 0 for s in minibatches)
    assert clipped >= (4 if adapter else len(minibatches) - 1) and max(s["val/clipfrac"] for s in minibatches) > 0
    golden = ({"adapter": adapter, "eos": eos} if adapter else {}) | {
        "options": options | {"eps": 1e-5}, "queries": queries, "responses": responses,
        "scores": scores.tolist(), "order": ORDER[9],
        "logprobs": cut(seen["logprobs"]), "refLogprobs": cut(seen["ref"]), "values": cut(seen["values"]),
        "rewards": cut(seen["rewards"]), "nonScoreRewards": cut(seen["non_score"]),
        "used": {
            "advantages": in_order(lambda a: a[6]), "returns": in_order(lambda a: a[7]),
        },
        "minibatches": minibatches, "recorded": scalars, "overTokens": whole, "klCoefAfter": float(trainer.kl_ctl.value),
    }
    steps = {f"epoch{i}.{k}": x - before[k] for i, state in enumerate(seen["weights"]) if i for k, x in state.items()}
    write(name, golden, steps)


class TensorFlowAdam(GradNorms):
    """Adam as TensorFlow 1 has it: epsilon is added to the root of the moment before its bias is corrected."""

    def __init__(self, parameters, lr, eps):
        super().__init__(parameters, lr=lr, eps=eps)
        self.moments = None

    def step(self, closure=None):
        parameters = [p for group in self.param_groups for p in group["params"]]
        self.moments = self.moments or [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]
        self.norms.append(float(torch.sqrt(sum((p.grad**2).sum() for p in parameters))))
        t, group = len(self.norms), self.param_groups[0]
        b1, b2 = group["betas"]
        rate = group["lr"] * (1 - b2**t) ** 0.5 / (1 - b1**t)
        with torch.no_grad():
            for p, (m, v) in zip(parameters, self.moments):
                m.mul_(b1).add_((1 - b1) * p.grad)
                v.mul_(b2).add_((1 - b2) * p.grad**2)
                p.sub_(rate * m / (v.sqrt() + group["eps"]))


def whiten(x, shift_mean=True):
    """With the biased variance, as tf.nn.moments has it."""
    mean = x.mean()
    white = (x - mean) / torch.sqrt(((x - mean) ** 2).mean() + 1e-8)
    return white if shift_mean else white + mean


def openai_case(name, scope):
    rng = np.random.default_rng(2019)
    query_lengths, length, batch, mini = [3, 6, 2, 5, 4, 1, 6, 3], 6, 8, 4
    # Responses of one length that do not stop at eos; scores as they are after the check for a full stop.
    queries, responses, scores = rollouts(rng, query_lengths, [length] * batch, finished=[])
    scores[[2, 5]] = -1
    o = dict(
        batch_size=batch, mini_batch_size=mini, ppo_epochs=2, learning_rate=2e-3, eps=1e-5, kl_coef=0.15, target=1.5,
        horizon=200, gamma=0.98, lam=0.95, cliprange=0.2, cliprange_value=0.2, vf_coef=0.1, temperature=0.7,
    )
    model, reference = load(), load(33 / 32)
    before = weights(model)
    optimizer = TensorFlowAdam(model.parameters(), lr=o["learning_rate"], eps=o["eps"])
    longest = max(query_lengths)
    # Padding on the left with an id outside the vocabulary, replaced before the model sees it.
    ids = torch.tensor([[-1] * (longest - len(q)) + q + r for q, r in zip(queries, responses)])
    exists = (ids >= 0).long()
    sampled = torch.tensor(responses)

    def forward(m, rows):
        """(log-probs, values, logits / temperature) of the response tokens, from the position before each."""
        mask = exists[rows]
        out = m.pretrained_model(
            input_ids=ids[rows].clamp(min=0), attention_mask=mask, position_ids=(mask.cumsum(1) - mask),
            output_hidden_states=True,
        )
        logits = out.logits[:, longest - 1 : -1] / o["temperature"]
        logprobs = logits.log_softmax(-1).gather(-1, sampled[rows][..., None])[..., 0]
        return logprobs, m.v_head.summary(out.hidden_states[-1])[:, longest - 1 : -1, 0], logits

    everything = torch.arange(batch)
    single = lambda x: x.to(torch.float32).double()
    with torch.no_grad():
        logprobs, values, _ = map(single, forward(model, everything))
        ref_logprobs = single(forward(reference, everything)[0])
    kl = logprobs - ref_logprobs
    non_score = -o["kl_coef"] * kl
    rewards = non_score.clone()
    rewards[:, -1] += torch.from_numpy(scores)

    def targets(rows):
        """Advantages as the loss uses them, and returns, of some rows."""
        white, v = whiten(rewards[rows], shift_mean=False), values[rows]
        advantages, carried = torch.zeros_like(v), 0.0
        for t in reversed(range(length)):
            following = v[:, t + 1] if t + 1 < length else 0.0
            carried = white[:, t] + o["gamma"] * following - v[:, t] + o["gamma"] * o["lam"] * carried
            advantages[:, t] = carried
        return single(whiten(advantages)), single(advantages + v)

    whole = targets(everything)
    seen = {"advantages": [], "returns": []}
    minibatches, changes, ratios = [], {}, []
    for epoch, order in enumerate(ORDER[batch]):
        for start in range(0, batch, mini):
            rows = torch.tensor(order[start : start + mini])
            new, v, logits = forward(model, rows)
            old, v_old = logprobs[rows], values[rows]
            A, R = [x[rows] for x in whole] if scope == "batch" else targets(rows)
            seen["advantages"].append(A)
            seen["returns"].append(R)
            v_near = v_old + (v - v_old).clamp(-o["cliprange_value"], o["cliprange_value"])
            free, clipped = (v - R) ** 2, (v_near - R) ** 2
            value_loss = 0.5 * torch.maximum(free, clipped).mean()
            ratio = (new - old).exp()
            free_p, clipped_p = -A * ratio, -A * ratio.clamp(1 - o["cliprange"], 1 + o["cliprange"])
            policy_loss = torch.maximum(free_p, clipped_p).mean()
            loss = policy_loss + o["vf_coef"] * value_loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            logp = logits.log_softmax(-1)
            minibatches.append({k: float(x) for k, x in {
                "loss/policy": policy_loss, "loss/value": value_loss, "loss/total": loss,
                "policy/entropy": -(logp.exp() * logp).sum(-1).mean(), "policy/approxkl": 0.5 * ((new - old) ** 2).mean(),
                "policy/clipfrac": (clipped_p > free_p).double().mean(), "val/vpred": v.mean(), "val/error": free.mean(),
                "val/clipfrac": (clipped > free).double().mean(),
            }.items()})
            ratios.append(ratio.detach())
        changes |= {f"epoch{epoch + 1}.{k}": x - before[k] for k, x in weights(model).items()}

    # Responses have one length, so means of minibatch means are means over tokens.
    metrics = {f"ppo/{k}": float(np.mean([m[k] for m in minibatches])) for k in minibatches[0]} | {
        "objective/kl": float(kl.sum(1).mean()), "objective/kl_coef": o["kl_coef"],
        "objective/entropy": float(-logprobs.sum(1).mean()), "ppo/mean_scores": float(scores.astype(np.float64).mean()),
        "ppo/mean_non_score_reward": float(non_score.mean()),
        "ppo/returns/mean": float(torch.cat(seen["returns"]).mean()), "ppo/val/mean": float(values.mean()),
        "ppo/val/var": float(values.var()), "ppo/policy/ratio_mean": float(torch.cat(ratios).mean()),
        "ppo/learning_rate": o["learning_rate"], "ppo/grad_norm": float(np.mean(optimizer.norms)),
    }
    controller = AdaptiveKLController(o["kl_coef"], o["target"], o["horizon"])
    controller.update(metrics["objective/kl"], batch)
    assert min(m["policy/clipfrac"] for m in minibatches[1:]) > 0 and max(m["val/clipfrac"] for m in minibatches) > 0
    golden = {
        "options": o, "queries": queries, "responses": responses, "scores": scores.tolist(), "order": ORDER[batch],
        "logprobs": logprobs.flatten().tolist(), "refLogprobs": ref_logprobs.flatten().tolist(),
        "values": values.flatten().tolist(), "rewards": rewards.flatten().tolist(),
        "nonScoreRewards": non_score.flatten().tolist(),
        "used": {k: torch.cat(x).flatten().tolist() for k, x in seen.items()},
        "minibatches": minibatches, "overTokens": metrics, "klCoefAfter": float(controller.value),
    }
    write(name, golden, changes)


trl_mistakes()
trl_case()
trl_case("lora-gpt2", "gpt2-all-linear")
trl_case("lora-llama", "llama-all-linear", first=2, eos=52)
openai_case("details", "batch")
openai_case("openai", "minibatch")
