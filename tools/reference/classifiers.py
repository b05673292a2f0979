"""Writes test/golden/classifiers/NAME/: random sequence classifiers, and what transformers' AutoModelForSequenceClassification says with them.

    python tools/reference/classifiers.py

config.json and model.safetensors are what save_pretrained writes. Weights are float32, torch computes in float64 and rounds once at
the end. Texts are ragged, padded on the right; one ends with the padding token, one has it in the middle, one is nothing else.
Needs torch 2.15 and transformers 5.24.
"""
import json
from pathlib import Path

import numpy as np
import torch
import transformers
from transformers import AutoModelForSequenceClassification, GPT2Config, LlamaConfig, Qwen2Config, Qwen3Config, logging

logging.set_verbosity_error()
logging.disable_progress_bar()
torch.set_num_threads(1)
OUT = Path(__file__).resolve().parents[2] / "test" / "golden" / "classifiers"
PAD = 52
SMALL = dict(vocab_size=53, hidden_size=24, intermediate_size=20, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=32, bos_token_id=0, eos_token_id=1, pad_token_id=PAD)
LABELS = {0: "negative", 1: "neutral", 2: "positive"}
names = lambda labels: dict(id2label=labels, label2id={name: i for i, name in labels.items()})
MODELS = {
    "gpt2": GPT2Config(vocab_size=53, n_embd=24, n_layer=2, n_head=4, n_positions=32, bos_token_id=PAD, eos_token_id=PAD,
                       pad_token_id=PAD, **names({0: "NEGATIVE", 1: "POSITIVE"}), problem_type="single_label_classification"),
    "llama": LlamaConfig(**SMALL, num_labels=1, tie_word_embeddings=False, problem_type="regression"),
    "qwen2": Qwen2Config(**SMALL, **names(LABELS), tie_word_embeddings=True),
    "qwen3": Qwen3Config(**SMALL, head_dim=8, num_labels=1, tie_word_embeddings=True),
}


def run(name, config, rng):
    model = AutoModelForSequenceClassification.from_config(config)
    for key, p in model.named_parameters():
        x = rng.standard_normal(p.shape, dtype=np.float32)
        x = 1 + 0.3 * x if "norm.weight" in key or key.endswith(("ln_1.weight", "ln_2.weight", "ln_f.weight")) else 0.25 * x
        p.data = torch.from_numpy(x.astype(np.float32))
    model.save_pretrained(OUT / name)
    model = AutoModelForSequenceClassification.from_pretrained(OUT / name, dtype=torch.float64, attn_implementation="eager").eval()
    ids = lambda n: rng.integers(2, PAD, n).tolist()
    texts = [ids(9), ids(1), ids(5) + [PAD], ids(3) + [PAD] + ids(4), [PAD, PAD], ids(12)]
    width = max(map(len, texts))
    padded = torch.tensor([text + [PAD] * (width - len(text)) for text in texts])
    with torch.no_grad():
        # Every token is looked at, the padding tokens inside of texts too: attention is causal, so those behind do not matter.
        logits = model(input_ids=padded, attention_mask=torch.ones_like(padded)).logits
    golden = {"texts": texts, "logits": logits.float().tolist(), "architectures": model.config.architectures,
              "versions": {"transformers": transformers.__version__, "torch": torch.__version__}}
    (OUT / name / "golden.json").write_text(json.dumps(golden) + "\n")
    print(name, golden["architectures"], logits.shape)


rng = np.random.default_rng(5)
for name, config in MODELS.items():
    run(name, config, rng)
