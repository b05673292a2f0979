"""Writes test/golden/decode-in-context.json: what transformers makes of prompt + response for small tokenizers of every kind.

    python tools/reference/decode_in_context.py

Each tokenizer: its tokenizer.json, and cases {prompt, response: ids; before, text, before_skip, text_skip: decode(prompt) and
decode(prompt + response), special tokens kept and left out}.
"""

import json
import random
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

ROOT = Path(__file__).resolve().parents[2]
TEXT = [
    "The movie was great and I would watch it again.", "I was bored, so I left.", "It isn't bad, but don't go.",
    "caf\u00e9 na\u00efve \u4f60\u597d \U0001f600 \uc601\ud654\uac00 \uc7ac\ubc0c\ub2e4", "was I there? I was. We were not!",
] * 3
SPECIAL = ["<|endoftext|>", "<|user|>", "[UNK]"]


def trained(model, trainer, **parts):
    tokenizer = Tokenizer(model)
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    tokenizer.train_from_iterator(TEXT, trainer)
    return tokenizer


def tokenizers():
    sizes = dict(vocab_size=220, special_tokens=SPECIAL, show_progress=False)
    yield "metaspace-bpe", trained(
        models.BPE(unk_token="[UNK]"), trainers.BpeTrainer(**sizes),
        pre_tokenizer=pre_tokenizers.Metaspace(), decoder=decoders.Metaspace())
    yield "wordpiece", trained(
        models.WordPiece(unk_token="[UNK]"), trainers.WordPieceTrainer(**sizes),
        pre_tokenizer=pre_tokenizers.BertPreTokenizer(), decoder=decoders.WordPiece())
    yield "end-of-word-bpe", trained(
        models.BPE(unk_token="[UNK]", end_of_word_suffix="</w>"), trainers.BpeTrainer(end_of_word_suffix="</w>", **sizes),
        pre_tokenizer=pre_tokenizers.WhitespaceSplit(), decoder=decoders.BPEDecoder(suffix="</w>"))
    yield "byte-level", trained(
        models.BPE(), trainers.BpeTrainer(**(sizes | dict(vocab_size=300)), initial_alphabet=pre_tokenizers.ByteLevel.alphabet()),
        pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False), decoder=decoders.ByteLevel())


def main():
    rng = random.Random(1)
    out = []
    for name, tokenizer in tokenizers():
        fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>", clean_up_tokenization_spaces=False)
        size = tokenizer.get_vocab_size()
        pairs = []
        for text in TEXT[:5]:  # every way to cut a text in two, inside characters too
            ids = tokenizer.encode(text).ids
            pairs += [(ids[:n], ids[n:]) for n in range(1, len(ids))]
        for _ in range(40):
            draw = lambda: [rng.randrange(size) for _ in range(rng.randint(1, 6))]
            pairs.append((draw(), draw()))
        cases = []
        for prompt, response in pairs:
            say = lambda ids, skip: fast.decode(ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False)
            cases.append(dict(
                prompt=prompt, response=response, before=say(prompt, False), text=say(prompt + response, False),
                before_skip=say(prompt, True), text_skip=say(prompt + response, True)))
        out.append(dict(name=name, json=json.loads(tokenizer.to_str()), cases=cases))
    path = ROOT / "test/golden/decode-in-context.json"
    path.write_text("[\n" + ",\n".join(json.dumps(x, separators=(",", ":"), ensure_ascii=True) for x in out) + "\n]\n")


main()
