"""Trains the tokenizer of models/tiny: byte-level BPE with 8192 entries on the training half of the IMDB reviews.

    python tools/tiny/train_tokenizer.py TRAIN.jsonl.gz models/tiny

Needs the `tokenizers` package (tokenizer.json was made with 0.23.3). The corpus is one JSON object with a `text` field per
line. The result is the same on every run: BPE training breaks ties by the order of the alphabet, not by chance.
"""

import gzip
import json
import sys
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

VOCABULARY = 8192
CONTEXT = 256
END = "<|endoftext|>"


def texts(path):
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)["text"]


def train(path):
    tokenizer = Tokenizer(models.BPE())
    # GPT-2's regular expression; nothing is normalised and no space is put in front, so decode(encode(x)) == x.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        # One place is kept for END, which must be the last id, as in GPT-2; the trainer itself would make it the first.
        vocab_size=VOCABULARY - 1,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(path), trainer=trainer)

    # END is an entry of the BPE vocabulary as well as an added token: readers that count only the former then agree.
    spec = json.loads(tokenizer.to_str())
    assert len(spec["model"]["vocab"]) == VOCABULARY - 1
    spec["model"]["vocab"][END] = VOCABULARY - 1
    tokenizer = Tokenizer.from_str(json.dumps(spec))
    tokenizer.add_special_tokens([AddedToken(END, normalized=False, special=True)])
    return tokenizer


def main(corpus, out):
    tokenizer = train(corpus)
    vocabulary = tokenizer.get_vocab()
    assert len(vocabulary) == VOCABULARY and vocabulary[END] == VOCABULARY - 1
    assert all(letter in vocabulary for letter in pre_tokenizers.ByteLevel.alphabet())

    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    # Compact JSON: half the size of the pretty form.
    spec = json.loads(tokenizer.to_str())
    (out / "tokenizer.json").write_text(json.dumps(spec, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
    config = {
        "add_prefix_space": False,
        "bos_token": END,
        "eos_token": END,
        "unk_token": END,
        "clean_up_tokenization_spaces": False,
        "model_max_length": CONTEXT,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    (out / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    print(f"{len(vocabulary)} entries, {(out / 'tokenizer.json').stat().st_size} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
