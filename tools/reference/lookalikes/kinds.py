"""The kinds of tokenizer that GPT-2's descendants are published with, each trained on a little text and written as its files."""
import io
import json

import sentencepiece
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertTokenizer, T5Tokenizer

EOT = "<|endoftext|>"
MERGES = 40


def write(directory, name, contents):
    if contents is not None:
        (directory / name).write_text(contents if isinstance(contents, str) else json.dumps(contents, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")


def configs(directory, tokenizer_config=None, special_tokens_map=None, **_):
    write(directory, "tokenizer_config.json", tokenizer_config)
    write(directory, "special_tokens_map.json", special_tokens_map)


def byte_bpe(text, special=(), at_end=False):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=256 + MERGES + (0 if at_end else len(special)), special_tokens=[] if at_end else list(special),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False,
    )
    tokenizer.train_from_iterator([text], trainer)
    model = json.loads(tokenizer.to_str())["model"]
    if at_end:
        for token in special:
            model["vocab"][token] = len(model["vocab"])
    return model["vocab"], [" ".join(pair) for pair in model["merges"]]


def token(content, id, **flags):
    return dict(id=id, content=content, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True) | flags


def official_gpt2(directory, text, added=(), special_tokens_map=None, tokenizer_config=None, aliases=False):
    """The files of openai-community/gpt2: the model has no type, the pre-tokenizer no use_regex."""
    vocab, merges = byte_bpe(text, [EOT], at_end=True)
    end = token(EOT, vocab[EOT], normalized=True)
    more = [token(id=len(vocab) + i, **t) for i, t in enumerate(added)]
    write(directory, "tokenizer.json", {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": [end, *more], "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True},
        "post_processor": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True},
        "model": {"dropout": None, "unk_token": None, "continuing_subword_prefix": "", "end_of_word_suffix": "", "fuse_unk": False,
                  "vocab": vocab, "merges": merges},
    })
    write(directory, "vocab.json", vocab)
    write(directory, "merges.txt", "#version: 0.2\n" + "\n".join(merges) + "\n")
    configs(directory, tokenizer_config or {"model_max_length": 1024}, special_tokens_map)


def byte_slow(directory, text, special=(), added_tokens=(), decoder_special=None, tokenizer_config=None, special_tokens_map=None):
    """vocab.json and merges.txt, as the slow tokenizers save."""
    vocab, merges = byte_bpe(text, special, at_end=tuple(special) == (EOT,))
    write(directory, "vocab.json", vocab)
    write(directory, "merges.txt", "#version: 0.2\n" + "\n".join(merges) + "\n")
    if added_tokens:
        write(directory, "added_tokens.json", {t: len(vocab) + i for i, t in enumerate(added_tokens)})
    if decoder_special is not None:
        named = {t: True for t in special} | decoder_special
        ids = vocab | {t: len(vocab) + i for i, t in enumerate(added_tokens)}
        tokenizer_config = (tokenizer_config or {}) | {"added_tokens_decoder": {
            str(ids[t]): dict(content=t, lstrip=False, normalized=not s, rstrip=False, single_word=False, special=s) for t, s in named.items()
        }}
    configs(directory, tokenizer_config, special_tokens_map)


def byte_fast(directory, text, special=(), in_json=None, at_end=False, also_slow=False, normalizer=None, split="plain", template=None, pairs=False,
              extra_json=(), tokenizer_config=None, special_tokens_map=None):
    """tokenizer.json of a byte-level BPE as the tokenizers library writes it."""
    vocab, merges = byte_bpe(text, special, at_end)
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    sequence = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, byte_level]}
    named = [token(t, vocab[t]) for t in special if in_json is None or t in in_json]
    more = [token(id=len(vocab) + i, **t) for i, t in enumerate(extra_json)]
    post = byte_level | {"trim_offsets": False}
    if template:
        tokens = {t: {"id": t, "ids": [vocab[t]], "tokens": [t]} for t in template}
        special_token = lambda t: {"SpecialToken": {"id": t, "type_id": 0}}
        sequence_a, sequence_b = ({"Sequence": {"id": s, "type_id": i}} for i, s in enumerate("AB"))
        single = [special_token(template[0]), sequence_a, special_token(template[1])]
        post = {"type": "TemplateProcessing", "single": single, "pair": [*single, sequence_b], "special_tokens": tokens}
    write(directory, "tokenizer.json", {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": named + more, "normalizer": {"type": normalizer} if normalizer else None,
        "pre_tokenizer": sequence if split == "sequence" else byte_level, "post_processor": post, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False,
                  "byte_fallback": False, "vocab": vocab, "merges": [m.split(" ") for m in merges] if pairs else merges},
    })
    if also_slow:
        write(directory, "vocab.json", vocab)
        write(directory, "merges.txt", "#version: 0.2\n" + "\n".join(merges) + "\n")
    configs(directory, tokenizer_config, special_tokens_map)


def metaspace_bpe(directory, text, special, modern=False, tokenizer_config=None):
    """KoGPT2: SentencePiece's BPE, converted."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=modern))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator([text], trainers.BpeTrainer(vocab_size=220, special_tokens=list(special), show_progress=False))
    saved = json.loads(tokenizer.to_str())
    if not modern:  # as tokenizers 0.9 wrote it
        for part in ("pre_tokenizer", "decoder"):
            saved[part] = {"type": "Metaspace", "replacement": "\u2581", "add_prefix_space": True}
        saved["model"]["merges"] = [" ".join(pair) for pair in saved["model"]["merges"]]
    write(directory, "tokenizer.json", saved)
    configs(directory, tokenizer_config)


BERT = {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]"}


def wordpiece(text):
    """Characters, their continuations and whole words. (The trainer's choice differs from run to run.)"""
    plain = BertTokenizer(vocab={"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "[MASK]": 4}, do_lower_case=False).backend_tokenizer
    words = [w for w, _ in plain.pre_tokenizer.pre_tokenize_str(plain.normalizer.normalize_str(text))]
    characters = sorted({c for w in words for c in w})
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *characters, *("##" + c for c in characters), *sorted({w for w in words if len(w) > 1})]
    tokenizer = Tokenizer(models.WordPiece(vocab={t: i for i, t in enumerate(dict.fromkeys(tokens))}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    return tokenizer


def bert_vocab(directory, text, tokenizer_config=None, special_tokens_map=None):
    """vocab.txt, as BertTokenizer saves it."""
    vocab = wordpiece(text + " the was great a b c x it s 1 2 3").get_vocab()
    write(directory, "vocab.txt", "".join(t + "\n" for t in sorted(vocab, key=vocab.get)))
    configs(directory, tokenizer_config, BERT if special_tokens_map else None)


def bert_fast(directory, text, tokenizer_config=None):
    tokenizer = wordpiece(text + " the was great a b c x it s 1 2 3")
    tokenizer.decoder = decoders.WordPiece()
    ids = tokenizer.token_to_id
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[(t, ids(t)) for t in ("[CLS]", "[SEP]")])
    bert_vocab(directory, text)
    write(directory, "tokenizer.json", tokenizer.to_str())
    configs(directory, tokenizer_config, BERT)


RINNA = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "[PAD]", "extra_ids": 0, "additional_special_tokens": [], "bos_token": "<s>",
         "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]", "do_lower_case": False, "tokenizer_class": "T5Tokenizer"}


def sentencepiece_t5(directory, text):
    """rinna: a Unigram model of SentencePiece, read by T5Tokenizer."""
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text.split("。")), model_writer=out, vocab_size=170, model_type="unigram", character_coverage=0.9995,
        user_defined_symbols=["[PAD]", "[CLS]", "[SEP]", "[MASK]"], unk_id=0, bos_id=1, eos_id=2, hard_vocab_limit=False, minloglevel=2)
    (directory / "spiece.model").write_bytes(out.getvalue())
    configs(directory, RINNA, {k: v for k, v in RINNA.items() if k.endswith("_token")})


def sentencepiece_t5_saved(directory, text):
    """The same after AutoTokenizer.from_pretrained(...).save_pretrained(...)."""
    sentencepiece_t5(directory, text)
    tokenizer = T5Tokenizer.from_pretrained(directory)
    for name in ("spiece.model", "tokenizer_config.json", "special_tokens_map.json"):
        (directory / name).unlink()
    tokenizer.save_pretrained(directory)
    path = directory / "tokenizer_config.json"
    config = json.loads(path.read_text())
    write(directory, "tokenizer_config.json", {k: v for k, v in config.items() if k not in ("name_or_path", "is_local", "local_files_only")})


def whole_words(directory, text):
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator([text], trainers.WordLevelTrainer(special_tokens=["[UNK]", "[BOS]", "[EOS]", "[PAD]"], show_progress=False))
    tokenizer.add_tokens([AddedToken("<nl>", rstrip=True)])
    write(directory, "tokenizer.json", tokenizer.to_str())
    configs(directory, {"bos_token": "[BOS]", "eos_token": "[EOS]", "unk_token": "[UNK]", "pad_token": "[PAD]", "tokenizer_class": "PreTrainedTokenizerFast"})
