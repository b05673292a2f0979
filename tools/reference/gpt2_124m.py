"""python gpt2_124m.py OUT [--corpus TEXT.jsonl.gz]

Writes a random GPT-2 124M with a value head to OUT in Hugging Face layout, and OUT/reference.safetensors with what
PyTorch computes with it in float64. With a corpus (one {"text": ...} a line), also trains a byte-level BPE tokenizer of
GPT-2's size on it and writes vocab.json, merges.txt, tokenizer.json and tokenizer_config.json.
"""
import argparse
import gzip
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from common import gpt2_config, load_checkpoint, next_logprobs, pad_right, random_state, write_checkpoint

EOS, LENGTHS = "<|endoftext|>", [16, 9]


def write_tokenizer(corpus, out, size):
    """Ids 0..255 are the bytes, then the merges; EOS is size - 1 as in GPT-2, whatever number of merges was found."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=size - 1, min_frequency=2, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    with gzip.open(corpus, "rt", encoding="utf-8") as lines:
        tokenizer.train_from_iterator((json.loads(line)["text"] for line in lines), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    vocab, merges = model["vocab"] | {EOS: size - 1}, [tuple(m) for m in model["merges"]]

    tokenizer = Tokenizer(models.BPE(vocab, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([EOS])
    tokenizer.save(str(out / "tokenizer.json"))
    tokenizer.model.save(str(out))
    settings = {
        "add_prefix_space": False, "bos_token": EOS, "eos_token": EOS, "unk_token": EOS, "model_max_length": 1024,
        "tokenizer_class": "GPT2Tokenizer",
    }
    (out / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    print(f"tokenizer: {len(merges)} merges, {EOS} = {tokenizer.token_to_id(EOS)}")


def write_reference(out, vocab_size, rng):
    model, v_weight, v_bias = load_checkpoint(out, torch.float64)
    ids, mask = pad_right([rng.integers(0, vocab_size - 1, n).tolist() for n in LENGTHS], pad=vocab_size - 1)
    with torch.no_grad():
        result = model(input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False)
        values = result.hidden_states[-1] @ v_weight[0] + v_bias
    positions = torch.tensor([[n - 3, n - 2, n - 1] for n in LENGTHS])
    rows = torch.arange(len(LENGTHS))[:, None]
    save_file({
        "inputIds": ids.int(),  # [2, 16]
        "attentionMask": mask.int(),  # [2, 16]
        "positions": positions.int(),  # [2, 3]: where logits are kept
        "logits": result.logits[rows, positions].float(),  # [2, 3, V]
        "values": (values * mask).float(),  # [2, 16]
        "logprobs": next_logprobs(result.logits, ids, mask).float(),  # [2, 16]: of ids[t + 1] at t
        "greedy": (result.logits.argmax(-1) * mask).int(),  # [2, 16]
    }, out / "reference.safetensors")


parser = argparse.ArgumentParser()
parser.add_argument("out", type=Path)
parser.add_argument("--corpus", type=Path)
options = parser.parse_args()
torch.set_num_threads(1)
rng = np.random.default_rng(124)
config = gpt2_config()
# Twice GPT-2's 0.02: with it the attention of random weights is close to uniform.
write_checkpoint(options.out, config, random_state(config, rng, std=0.04, position_std=0.04, value_std=0.04))
write_reference(options.out, config.vocab_size, rng)
if options.corpus:
    write_tokenizer(options.corpus, options.out, config.vocab_size)
