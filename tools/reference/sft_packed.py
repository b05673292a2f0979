"""Two steps of huggingface/trl@v1.16.0's own SFTTrainer on examples of which the completions count, each in a row of its own, all in
each step; and what its best-fit packing makes of some lengths: test/golden/sft-packed.json, and -gpt2 and -llama .safetensors. The
models are test/golden/gpt2-tiny and llama/llama-tiny and compute in float64.

Needs torch 2.15, transformers 5.24 and trl 1.16. Run: python tools/reference/sft_packed.py
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
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer
from trl.data_utils import pack_dataset

warnings.filterwarnings("ignore")
transformers.logging.set_verbosity_error()
torch.set_num_threads(1)
GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "test" / "golden"
OPTIMIZER = {"learning_rate": 2e-3, "eps": 1e-5, "max_grad_norm": 0.5}
STEPS = 2

rng = np.random.default_rng(11)
lengths = [5, 9, 3, 12, 7, 2, 6, 4, 8]
examples = [rng.integers(0, 50, n).tolist() for n in lengths]
begins = [int(rng.integers(1, n)) for n in lengths]  # where each completion begins: at the second token at the earliest
masks = [[int(i >= begin) for i in range(n)] for n, begin in zip(lengths, begins)]
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=Tokenizer(WordLevel({str(i): i for i in range(53)}, unk_token="0")), pad_token="52", eos_token="52"
)


def steps(directory: pathlib.Path, name: str) -> dict:
    model = AutoModelForCausalLM.from_pretrained(str(directory), attn_implementation="eager", dtype=torch.float32).double()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    adam = torch.optim.AdamW(model.parameters(), lr=OPTIMIZER["learning_rate"], eps=OPTIMIZER["eps"], weight_decay=0.0, betas=(0.9, 0.95))
    with tempfile.TemporaryDirectory() as out:
        trainer = SFTTrainer(
            model=model,
            args=SFTConfig(
                output_dir=out, use_cpu=True, report_to=[], save_strategy="no", logging_steps=1, disable_tqdm=True, bf16=False, fp16=False,
                gradient_checkpointing=False, max_steps=STEPS, per_device_train_batch_size=len(examples), max_length=None,
                completion_only_loss=True, max_grad_norm=OPTIMIZER["max_grad_norm"], packing=False,
            ),
            train_dataset=Dataset.from_dict({"input_ids": examples, "completion_mask": masks}),
            processing_class=tokenizer,
            optimizers=(adam, torch.optim.lr_scheduler.LambdaLR(adam, lambda _: 1.0)),
        )
        for module in trainer.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        trainer.train()
    logs = [entry for entry in trainer.state.log_history if "grad_norm" in entry]
    change = {n: (p.detach() - before[n]).to(torch.float32).contiguous() for n, p in model.named_parameters()}
    if model.config.tie_word_embeddings:
        change.pop("lm_head.weight", None)
    save_file(change, GOLDEN / f"sft-packed-{name}.safetensors")
    return {"losses": [float(e["loss"]) for e in logs], "gradNorms": [float(e["grad_norm"]) for e in logs]}


def fills(sizes: list[int], capacity: int) -> list[int]:
    packed = pack_dataset(Dataset.from_dict({"input_ids": [[0] * n for n in sizes]}), capacity, strategy="bfd")
    return sorted(len(row) for row in packed["input_ids"])


packings = []
for capacity, count in [(16, 9), (24, 60), (64, 500)]:
    sizes = rng.integers(1, capacity + 1, count).tolist()
    packings.append({"sizes": sizes, "capacity": capacity, "fills": fills(sizes, capacity)})

golden = {
    "examples": examples, "begins": begins, "steps": STEPS, "optimizer": OPTIMIZER,
    "gpt2": steps(GOLDEN / "gpt2-tiny", "gpt2"), "llama": steps(GOLDEN / "llama" / "llama-tiny", "llama"),
    "packings": packings,
    "versions": {"trl": trl.__version__, "transformers": transformers.__version__, "torch": torch.__version__},
}
(GOLDEN / "sft-packed.json").write_text(json.dumps(golden) + "\n")
print(golden["gpt2"], golden["llama"])
