"""One GRPO or RLOO step with given responses and scores, written to test/golden/group-step/.

Each case is huggingface/trl@v1.16.0's own GRPOTrainer or RLOOTrainer at work: `trainer.train()` on the CPU for one batch of
responses, with sampling and reward replaced by given numbers, and the order of the minibatches by this library's.

The policy is test/golden/gpt2-tiny, the reference the same weights times 33/32, rounded to float32. Models compute in float64; TRL
turns scores and advantages into float32. Prompts of a batch are of one length: TRL pads them on the left and gives GPT-2 no
positions, so shorter ones would be read at other places than they stand.

Needs torch 2.15, transformers 5.24 and trl 1.16. Run: python tools/reference/group_step.py
"""
import json
import os
import pathlib
import sys
import tempfile
import warnings

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}

import numpy as np
import torch
import transformers
import trl
from datasets import Dataset
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, TrainerCallback
from trl.trainer import grpo_trainer, rloo_trainer

warnings.filterwarnings("ignore")
transformers.logging.set_verbosity_error()
torch.set_num_threads(1)
GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "test" / "golden"
OUT = GOLDEN / "group-step"
MODEL = str(GOLDEN / "gpt2-tiny")
EOS, LONGEST = 100, 8
# What src/algorithms/update.ts draws for a seed of 0 in step 1. The test checks that it still does.
ORDER = [9, 4, 5, 3, 11, 0, 2, 10, 1, 7, 8, 6]


def rollouts(seed, prompts, size):
    """Random tokens, `size` responses to each prompt; a finished one ends with eos."""
    rng = np.random.default_rng(seed)
    queries = [rng.integers(0, EOS, 5).tolist() for _ in range(prompts)]
    responses = []
    for b in range(prompts * size):
        response = rng.integers(0, EOS, rng.integers(2, LONGEST + 1)).tolist()
        if len(response) < LONGEST:
            response[-1] = EOS
        responses.append(response)
    scores = rng.normal(0.5, 1.5, len(responses)).astype(np.float32).tolist()
    scores[size : 2 * size] = [0.25] * size  # a group that says nothing
    return queries, responses, scores


def weights(model):
    state = {name: p.detach().clone() for name, p in model.named_parameters()}
    state.pop("lm_head.weight", None)  # tied to the embedding
    return state


class Watch(TrainerCallback):
    """The weights after every optimizer step."""

    def __init__(self):
        self.weights = []

    def on_step_end(self, args, state, control, model=None, **_):
        self.weights.append(weights(model))


def run(name, kind, seed, size, minibatch, epochs, options, optimizer):
    queries, responses, scores = rollouts(seed, 3, size)
    rows = len(responses)
    parts = rows // minibatch
    vocabulary = {str(i): i for i in range(EOS + 1)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(vocabulary, unk_token="0")), pad_token=str(EOS), eos_token=str(EOS)
    )
    model = AutoModelForCausalLM.from_pretrained(MODEL, attn_implementation="eager", dtype=torch.float32).double()
    reference = AutoModelForCausalLM.from_pretrained(MODEL, attn_implementation="eager", dtype=torch.float32)
    for p in reference.parameters():
        p.data *= 33 / 32
    reference = reference.double().eval()
    module, config = {
        "grpo": (grpo_trainer, trl.GRPOConfig),
        "rloo": (rloo_trainer, trl.RLOOConfig),
    }[kind]
    score_of = {tuple(r): s for r, s in zip(responses, scores, strict=True)}
    assert len(score_of) == rows

    def reward(completion_ids, **_):
        return [score_of[tuple(ids)] for ids in completion_ids]

    adam = torch.optim.AdamW(
        model.parameters(), lr=optimizer["learning_rate"], eps=optimizer["eps"], weight_decay=0.0, betas=(0.9, 0.999)
    )
    watch = Watch()
    with tempfile.TemporaryDirectory() as directory:
        trainer = getattr(module, f"{kind.upper()}Trainer")(
            model=model,
            reward_funcs=reward,
            args=config(
                output_dir=directory, use_cpu=True, report_to=[], save_strategy="no", logging_steps=1,
                disable_tqdm=True, bf16=False, fp16=False, gradient_checkpointing=False, disable_dropout=True,
                shuffle_dataset=False, max_steps=parts * epochs, num_generations=size, num_iterations=epochs,
                per_device_train_batch_size=minibatch, steps_per_generation=parts, gradient_accumulation_steps=1,
                max_completion_length=LONGEST, max_grad_norm=optimizer["max_grad_norm"], pad_to_multiple_of=None,
                **options,
            ),
            train_dataset=Dataset.from_dict({"prompt": [str(i) for i in range(3)]}),
            processing_class=tokenizer,
            optimizers=(adam, torch.optim.lr_scheduler.LambdaLR(adam, lambda _: 1.0)),
            callbacks=[watch],
        )
        if trainer.ref_model is not None:  # TRL has patched it, so it gets other weights in place
            for p, q in zip(trainer.ref_model.parameters(), reference.parameters(), strict=True):
                p.data = q.data
        trainer._tokenize_prompts = lambda prompts: ([queries[int(p)] for p in prompts], None, {})
        one_turn = (lambda *_, **__: (responses, None)) if kind == "grpo" else (lambda *_, **__: responses)
        trainer._generate_single_turn = one_turn
        seen = {}
        original = trainer._generate_and_score_completions

        def scored(inputs):
            seen["batch"] = original(inputs)
            return seen["batch"]

        trainer._generate_and_score_completions = scored
        order = torch.tensor(ORDER[:rows] if parts > 1 else list(range(rows)))
        module.shuffle_sequence_dict = lambda batch: {
            k: v[order] if torch.is_tensor(v) and v.dim() > 0 else v for k, v in batch.items()
        }
        before = weights(model)
        losses = []
        compute = trainer._compute_loss

        def noted(m, inputs):
            loss = compute(m, inputs)
            losses.append(float(loss))
            return loss

        trainer._compute_loss = noted
        trainer.train()
    batch = seen["batch"]
    lengths = [len(r) for r in responses]
    ragged = lambda x: [float(v) for row, n in zip(x, lengths) for v in row[:n]]
    golden = {
        "kind": kind, "numGenerations": size, "minibatch": minibatch, "epochs": epochs, "options": options,
        "optimizer": optimizer, "queries": queries, "responses": responses, "scores": scores,
        "order": order.tolist() if parts > 1 else None,
        "advantages": [float(x) for x in batch["advantages"]],
        "refLogprobs": ragged(batch["ref_per_token_logps"]) if "ref_per_token_logps" in batch else None,
        "losses": losses,
        "gradNorms": [float(entry["grad_norm"]) for entry in trainer.state.log_history if "grad_norm" in entry],
        "versions": {"trl": trl.__version__, "transformers": transformers.__version__, "torch": torch.__version__},
    }
    OUT.mkdir(exist_ok=True)
    (OUT / f"{name}.json").write_text(json.dumps(golden, indent=1) + "\n")
    change = {k: (watch.weights[-1][k] - x).to(torch.float32).contiguous() for k, x in before.items()}
    save_file(change, OUT / f"{name}.safetensors")
    print(name, len(watch.weights), "optimizer steps, losses", losses)


ADAM = {"learning_rate": 2e-3, "eps": 1e-5, "max_grad_norm": 0.5}
CASES = {
    "grpo": (
        "grpo", 1, 4, 12, 2,
        {"loss_type": "grpo", "scale_rewards": "group", "beta": 0.04, "epsilon": 0.05,
         "use_bias_correction_kl": False},
    ),
    "dr-grpo": ("grpo", 2, 4, 4, 1, {"loss_type": "dr_grpo", "scale_rewards": "none", "beta": 0.0, "epsilon": 0.02}),
    "dapo": (
        "grpo", 3, 4, 12, 2,
        {"loss_type": "dapo", "scale_rewards": "batch", "beta": 0.1, "epsilon": 0.04, "epsilon_high": 0.08,
         "temperature": 0.8, "use_bias_correction_kl": True},
    ),
    "bnpo": (
        "grpo", 4, 4, 4, 1,
        {"loss_type": "bnpo", "scale_rewards": "group", "beta": 0.04, "epsilon": 0.02, "use_bias_correction_kl": True},
    ),
    "rloo": ("rloo", 5, 4, 12, 2, {"beta": 0.05, "epsilon": 0.1, "epsilon_high": 0.2}),
    "rloo-normalized": (
        "rloo", 6, 4, 4, 1,
        {"beta": 0.2, "epsilon": 0.05, "epsilon_high": 0.1, "normalize_advantages": True, "temperature": 1.2},
    ),
}
for name in sys.argv[1:] or CASES:
    run(name, *CASES[name], ADAM)
