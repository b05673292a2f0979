"""Three DPO steps on given pairs, written to test/golden/dpo-step/: huggingface/trl@v1.16.0's own DPOTrainer at work, once for each loss.

The policy is test/golden/gpt2-tiny, the reference the same weights times 33/32, rounded to float32. Models compute in float64. Every
step takes all pairs, so their order is of no account.

Needs torch 2.15, transformers 5.24 and trl 1.16. Run: python tools/reference/dpo_step.py
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
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer

warnings.filterwarnings("ignore")
transformers.logging.set_verbosity_error()
torch.set_num_threads(1)
GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "test" / "golden"
OUT = GOLDEN / "dpo-step"
MODEL = str(GOLDEN / "gpt2-tiny")
EOS, STEPS = 100, 3
OPTIMIZER = {"learning_rate": 2e-3, "eps": 1e-5, "max_grad_norm": 0.5}


def pairs():
    """Random tokens; the end of text follows every response."""
    rng = np.random.default_rng(7)
    ids = lambda most: rng.integers(0, EOS, rng.integers(1, most)).tolist()
    return [{"prompt": ids(7), "chosen": ids(9), "rejected": ids(9)} for _ in range(5)]


def load(factor):
    model = AutoModelForCausalLM.from_pretrained(MODEL, attn_implementation="eager", dtype=torch.float32)
    for p in model.parameters():
        p.data *= factor
    return model.double()


def weights(model):
    state = {name: p.detach().clone() for name, p in model.named_parameters()}
    state.pop("lm_head.weight", None)  # tied to the embedding
    return state




def run(name, loss, beta, label_smoothing):
    given = pairs()
    vocabulary = {str(i): i for i in range(EOS)} | {"<eos>": EOS}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="0"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<eos>", eos_token="<eos>")
    text = lambda ids, start="": start + " ".join(map(str, ids))
    rows = [
        {"prompt": text(p["prompt"]), "chosen": text(p["chosen"], " ") + " ", "rejected": text(p["rejected"], " ") + " "}
        for p in given
    ]
    model = load(1.0)
    adam = torch.optim.AdamW(
        model.parameters(), lr=OPTIMIZER["learning_rate"], eps=OPTIMIZER["eps"], weight_decay=0.0, betas=(0.9, 0.999)
    )
    before = weights(model)
    with tempfile.TemporaryDirectory() as directory:
        trainer = DPOTrainer(
            model=model,
            ref_model=load(33 / 32),
            args=DPOConfig(
                output_dir=directory, use_cpu=True, report_to=[], save_strategy="no", logging_steps=1, disable_tqdm=True,
                bf16=False, fp16=False, gradient_checkpointing=False, disable_dropout=True, max_steps=STEPS,
                per_device_train_batch_size=len(given), max_grad_norm=OPTIMIZER["max_grad_norm"], max_length=None,
                loss_type=[loss], beta=beta, label_smoothing=label_smoothing,
            ),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            optimizers=(adam, torch.optim.lr_scheduler.LambdaLR(adam, lambda _: 1.0)),
        )
        losses = []
        compute = trainer._compute_loss

        def noted(m, inputs, return_outputs):
            result = compute(m, inputs, return_outputs)
            losses.append(float(result[0] if isinstance(result, tuple) else result))
            return result

        trainer._compute_loss = noted
        trainer.train()
    logs = [entry for entry in trainer.state.log_history if "rewards/margins" in entry]
    golden = {
        "loss": loss, "beta": beta, "labelSmoothing": label_smoothing, "steps": STEPS, "optimizer": OPTIMIZER, "pairs": given,
        "losses": losses,
        "metrics": [
            {name: entry[name] for name in ("rewards/margins", "rewards/accuracies", "rewards/chosen", "logps/chosen", "grad_norm")}
            for entry in logs
        ],
        "versions": {"trl": trl.__version__, "transformers": transformers.__version__, "torch": torch.__version__},
    }
    OUT.mkdir(exist_ok=True)
    (OUT / f"{name}.json").write_text(json.dumps(golden, indent=1) + "\n")
    save_file({k: (x - before[k]).to(torch.float32).contiguous() for k, x in weights(model).items()}, OUT / f"{name}.safetensors")
    print(name, losses)


run("sigmoid", "sigmoid", 0.3, 0.0)
run("ipo", "ipo", 0.2, 0.0)
run("hinge", "hinge", 0.5, 0.0)
run("robust", "robust", 0.3, 0.15)
