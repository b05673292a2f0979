"""Two steps of huggingface/trl@v1.16.0's own SFTTrainer on given windows of tokens of which some count, all windows in each step:
test/golden/sft-responses.json and .safetensors. The model is test/golden/gpt2-tiny and computes in float64.

Needs torch 2.15, transformers 5.24 and trl 1.16. Run: python tools/reference/sft_responses.py
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

warnings.filterwarnings("ignore")
transformers.logging.set_verbosity_error()
torch.set_num_threads(1)
GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "test" / "golden"
OPTIMIZER = {"learning_rate": 2e-3, "eps": 1e-5, "max_grad_norm": 0.5}
B, T, STEPS = 4, 9, 2

rng = np.random.default_rng(3)
ids = rng.integers(0, 100, (B, T + 1)).tolist()
counted = (rng.random((B, T + 1)) < 0.4).astype(int)
counted[:, 0] = 0  # nothing predicts the first token
model = AutoModelForCausalLM.from_pretrained(str(GOLDEN / "gpt2-tiny"), attn_implementation="eager", dtype=torch.float32).double()
before = {name: p.detach().clone() for name, p in model.named_parameters()}
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=Tokenizer(WordLevel({str(i): i for i in range(101)}, unk_token="0")), pad_token="100", eos_token="100"
)
adam = torch.optim.AdamW(model.parameters(), lr=OPTIMIZER["learning_rate"], eps=OPTIMIZER["eps"], weight_decay=0.0, betas=(0.9, 0.95))
with tempfile.TemporaryDirectory() as directory:
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=directory, use_cpu=True, report_to=[], save_strategy="no", logging_steps=1, disable_tqdm=True, bf16=False,
            fp16=False, gradient_checkpointing=False, max_steps=STEPS, per_device_train_batch_size=B, max_length=None,
            completion_only_loss=True, max_grad_norm=OPTIMIZER["max_grad_norm"],
        ),
        train_dataset=Dataset.from_dict({"input_ids": ids, "completion_mask": counted.tolist()}),
        processing_class=tokenizer,
        optimizers=(adam, torch.optim.lr_scheduler.LambdaLR(adam, lambda _: 1.0)),
    )
    for module in trainer.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    trainer.train()
logs = [entry for entry in trainer.state.log_history if "grad_norm" in entry]
golden = {
    "ids": ids, "counted": counted.tolist(), "steps": STEPS, "optimizer": OPTIMIZER,
    "losses": [float(entry["loss"]) for entry in logs], "gradNorms": [float(entry["grad_norm"]) for entry in logs],
    "versions": {"trl": trl.__version__, "transformers": transformers.__version__, "torch": torch.__version__},
}
(GOLDEN / "sft-responses.json").write_text(json.dumps(golden, indent=1) + "\n")
change = {
    name: (p.detach() - before[name]).to(torch.float32).contiguous() for name, p in model.named_parameters() if name != "lm_head.weight"
}
save_file(change, GOLDEN / "sft-responses.safetensors")
print(golden["losses"], golden["gradNorms"])
