"""Three steps of reward models on given data, written to test/golden/reward-step/: huggingface/trl@v1.16.0's own RewardTrainer on pairs, and
transformers' own loss of AutoModelForSequenceClassification (regression, single_label_classification) with torch's AdamW.

The body is test/golden/gpt2-tiny or test/golden/llama/llama-tiny, the matrix on top is drawn here and stands in the golden file. Models
compute in float64. Every step takes all the data, so its order is of no account. The padding token is the end of text for GPT-2, as TRL
makes it, and another one for Llama.

Needs torch 2.15, transformers 5.24 and trl 1.16. Run: python tools/reference/reward_step.py
"""
import json
import os
import pathlib
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
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast
from trl import RewardConfig, RewardTrainer

warnings.filterwarnings("ignore")
transformers.logging.set_verbosity_error()
torch.set_num_threads(1)
GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "test" / "golden"
OUT = GOLDEN / "reward-step"
STEPS = 3
OPTIMIZER = {"learning_rate": 2e-3, "eps": 1e-5, "max_grad_norm": 0.5}
MODELS = {"gpt2": ("gpt2-tiny", 101, 100, 100), "llama": ("llama/llama-tiny", 53, 1, 2)}  # directory, vocabulary, eos, pad


def load(directory, labels, pad, problem):
    model = AutoModelForSequenceClassification.from_pretrained(
        str(GOLDEN / directory), attn_implementation="eager", dtype=torch.float32, num_labels=labels, problem_type=problem
    )
    rng = np.random.default_rng(11)
    score = rng.standard_normal(model.score.weight.shape, dtype=np.float32) * np.float32(0.3)
    model.score.weight.data = torch.from_numpy(score)
    model.config.pad_token_id = pad
    return model.double().train(False), score


def weights(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def texts_of(rng, vocabulary, eos, n, most=11):
    """Random tokens without eos and pad; the end of text follows every text."""
    return [rng.integers(3, vocabulary - 1, rng.integers(2, most)).tolist() for _ in range(n)]


def write(name, golden, before, model, score):
    golden |= {"steps": STEPS, "optimizer": OPTIMIZER, "score": score.tolist(),
               "versions": {"trl": trl.__version__, "transformers": transformers.__version__, "torch": torch.__version__}}
    OUT.mkdir(exist_ok=True)
    (OUT / f"{name}.json").write_text(json.dumps(golden, indent=1) + "\n")
    save_file({k: (x - before[k]).to(torch.float32).contiguous() for k, x in weights(model).items()}, OUT / f"{name}.safetensors")
    print(name, golden["losses"])


def pairs(name, family, margins, centering):
    directory, vocabulary, eos, pad = MODELS[family]
    rng = np.random.default_rng(7)
    sides = texts_of(rng, vocabulary, eos, 10)
    given = [{"chosen": sides[2 * p], "rejected": sides[2 * p + 1]} for p in range(5)]
    if margins:
        for pair, margin in zip(given, rng.uniform(0, 1, 5).astype(np.float32)):
            pair["margin"] = float(margin)
    words = {str(i): i for i in range(vocabulary) if i not in (eos, pad)} | {"<eos>": eos} | ({"<pad>": pad} if pad != eos else {})
    tokenizer = Tokenizer(WordLevel(words, unk_token="0"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>" if pad != eos else "<eos>", eos_token="<eos>")
    text = lambda ids: " ".join(map(str, ids)) + " "
    # Without a prompt: the implicit one. TRL puts the end of text behind every text.
    rows = [{**pair, "chosen": text(pair["chosen"]), "rejected": text(pair["rejected"])} for pair in given]
    model, score = load(directory, 1, pad, None)
    adam = torch.optim.AdamW(model.parameters(), lr=OPTIMIZER["learning_rate"], eps=OPTIMIZER["eps"], weight_decay=0.0, betas=(0.9, 0.999))
    before = weights(model)
    with tempfile.TemporaryDirectory() as out:
        trainer = RewardTrainer(
            model=model,
            args=RewardConfig(
                output_dir=out, use_cpu=True, report_to=[], save_strategy="no", logging_steps=1, disable_tqdm=True, bf16=False,
                fp16=False, gradient_checkpointing=False, disable_dropout=True, max_steps=STEPS, per_device_train_batch_size=5,
                max_grad_norm=OPTIMIZER["max_grad_norm"], max_length=None, center_rewards_coefficient=centering,
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            optimizers=(adam, torch.optim.lr_scheduler.LambdaLR(adam, lambda _: 1.0)),
        )
        losses = []
        compute = trainer.compute_loss

        def noted(m, inputs, *rest, **more):
            result = compute(m, inputs, *rest, **more)
            losses.append(float(result[0] if isinstance(result, tuple) else result))
            return result

        trainer.compute_loss = noted
        trainer.train()
    logs = [entry for entry in trainer.state.log_history if "margin" in entry]
    golden = {"kind": "pairs", "model": directory, "pad": pad, "eos": eos, "data": given, "centering": centering or 0, "losses": losses,
              "metrics": [{key: entry[key] for key in ("accuracy", "margin", "mean_reward", "grad_norm")} for entry in logs]}
    write(name, golden, before, model, score)


def labelled(name, family, kind, labels):
    directory, vocabulary, eos, pad = MODELS[family]
    rng = np.random.default_rng(8)
    texts = texts_of(rng, vocabulary, eos, 6)
    targets = rng.uniform(-2, 2, 6).astype(np.float32).tolist() if kind == "scores" else [0, 2, 1, 2, 0, 1]
    problem = "regression" if kind == "scores" else "single_label_classification"
    model, score = load(directory, labels, pad, problem)
    adam = torch.optim.AdamW(model.parameters(), lr=OPTIMIZER["learning_rate"], eps=OPTIMIZER["eps"], weight_decay=0.0, betas=(0.9, 0.999))
    before = weights(model)
    whole = [text + [eos] for text in texts]
    width = max(map(len, whole))
    ids = torch.tensor([text + [pad] * (width - len(text)) for text in whole])
    mask = torch.tensor([[1] * len(text) + [0] * (width - len(text)) for text in whole])
    wanted = torch.tensor(targets, dtype=torch.float64 if kind == "scores" else torch.long)
    losses, norms = [], []
    for _ in range(STEPS):
        loss = model(input_ids=ids, attention_mask=mask, labels=wanted).loss
        adam.zero_grad()
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), OPTIMIZER["max_grad_norm"])))
        adam.step()
        losses.append(float(loss))
    golden = {"kind": kind, "model": directory, "pad": pad, "eos": eos, "data": [{"text": text, "target": target} for text, target in zip(texts, targets)],
              "losses": losses, "metrics": [{"grad_norm": norm} for norm in norms]}
    write(name, golden, before, model, score)


pairs("pairs-gpt2", "gpt2", False, None)
pairs("pairs-margin", "gpt2", True, 0.02)
pairs("pairs-llama", "llama", False, None)
labelled("scores-gpt2", "gpt2", "scores", 1)
labelled("labels-llama", "llama", "labels", 3)
