"""Writes test/golden/onnx-classifier/: a tiny random DistilBERT with a tokenizer of a few words, as ONNX, and what transformers says with it.

    pip install onnx onnxscript
    python tools/reference/onnx_classifier.py

The directory is laid out as @huggingface/transformers reads it: onnx/model.onnx beside config.json and the tokenizer's files.
Needs torch 2.15, transformers 5.24, onnx 1.23 and onnxscript 0.7.
"""
import json
import shutil
from pathlib import Path

import onnx
import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from transformers import DistilBertConfig, DistilBertForSequenceClassification, PreTrainedTokenizerFast

torch.manual_seed(3)
torch.set_num_threads(1)
OUT = Path(__file__).resolve().parents[2] / "test" / "golden" / "onnx-classifier"
WORDS = "a film it was great bad and boring superb the acting is . !".split()
VOCAB = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
TEXTS = ["a film it was great", "it was bad and boring .", "the acting is superb !", "great", ""]

shutil.rmtree(OUT, ignore_errors=True)
(OUT / "onnx").mkdir(parents=True)
fast = Tokenizer(WordLevel(VOCAB, unk_token="[UNK]"))
fast.pre_tokenizer = Whitespace()
fast.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=fast, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", model_max_length=16
)
tokenizer.save_pretrained(OUT)
labels = {0: "NEGATIVE", 1: "POSITIVE"}
config = DistilBertConfig(
    vocab_size=len(VOCAB), dim=16, n_layers=1, n_heads=2, hidden_dim=24, max_position_embeddings=16, initializer_range=0.5,
    attn_implementation="eager", id2label=labels, label2id={name: i for i, name in labels.items()},
)
model = DistilBertForSequenceClassification(config).eval()
model.config.architectures = ["DistilBertForSequenceClassification"]
model.config.save_pretrained(OUT)
batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
ids, mask = batch["input_ids"], batch["attention_mask"]
torch.onnx.export(
    model, (), OUT / "onnx" / "model.onnx", kwargs={"input_ids": ids, "attention_mask": mask}, input_names=["input_ids", "attention_mask"],
    output_names=["logits"], dynamic_shapes={"input_ids": {0: "batch", 1: "length"}, "attention_mask": {0: "batch", 1: "length"}},
    dynamo=True, external_data=False,
)
# Without the exporter's notes on where in its Python files each node is from.
path = OUT / "onnx" / "model.onnx"
graph = onnx.load(path)
for thing in [graph, graph.graph, *graph.graph.node, *graph.graph.value_info, *graph.functions, *[n for f in graph.functions for n in f.node]]:
    del thing.metadata_props[:]
onnx.save(graph, path)
with torch.no_grad():
    logits = model(input_ids=ids, attention_mask=mask).logits
golden = {"texts": TEXTS, "logits": logits.tolist(), "versions": {"transformers": transformers.__version__, "torch": torch.__version__}}
(OUT / "golden.json").write_text(json.dumps(golden) + "\n")
print(logits, (OUT / "onnx" / "model.onnx").stat().st_size)
