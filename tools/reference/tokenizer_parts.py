"""Writes test/golden/tokenizer-parts.json: what Python's `tokenizers` makes of hard and random texts, part by part.

    python tools/reference/tokenizer_parts.py [TEXTS PER TOKENIZER] [SEED] [FILE]

Every entry is a whole tokenizer.json that differs from a plain one in one part: a normalizer, a pre-tokenizer, a model, flags of added
tokens, a post-processor, a decoder. A case is [text, ids, decoded, decoded without special tokens].
"""
import base64
import io
import json
import random
import sys
from pathlib import Path

import sentencepiece
import tokenizers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

ROOT = Path(__file__).resolve().parents[2]
COUNT, SEED = (int(x) for x in (sys.argv[1:3] + ["14", "7"][len(sys.argv[1:3]):]))
OUT = Path(sys.argv[3]) if len(sys.argv) > 3 else ROOT / "test/golden/tokenizer-parts.json"
WORDS = "the movie was great and I would watch it again don't it's 1234 x-y \u4e2d\u6587 \u0434\u0430 caf\u00e9 <x> ab abc abcd hello world low lower"
POOL = (
    list("abcdehlorwtx ABX'.,!?-_$+<=>^`|~0123456789\n\t\r\"()") + [" ", " ", "  ", "   ", "'s", "'RE", "'\u017f", " the", "movie", "low", "lower", "\u2581", "_"]
    + ["\u00e9", "e\u0301", "\x85", "\ufeff", "\u180e", "\u200b", "\u200d", "\u200c", "\u00a0", "\u3000", "\u2028", "\x1c", "\x0b", "\x00", "\x7f", "\u00ad", "\u4e2d", "\u6587", "\U00020000"]
    + ["\U0001f600", "\u0434", "\u0416", "\u03a3", "\u03c3\u03a3", "\u0130", "\u00df", "\ufb01", "\u212b", "\uff21", "\uff11", "\u0661", "\u00bd", "\u2167", "\u0301", "\u0327", "\u093f", "\u1112\u1161", "\ud55c"]
    + ["\ufffd", "\u2460", "\u3002", "\u00ab", "\u2014", "\u20ac", "\u203f", "\u00aa", "\u0903", "<x>", "<y>", "<z>", "[S]", "<N>", "hello", "<0x41>", "##"]
)
GPT4 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN = GPT4.replace(r"\p{N}{1,3}", r"\p{N}")
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
    r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
BYTE = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
GPT2_REGEX = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
META = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always", "split": True}
split = lambda regex, behavior="Isolated", invert=False: {"type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": invert}
sequence = lambda *parts: {"type": "Sequence", "pretokenizers": list(parts)}


def trained(model, trainer, pre, text=WORDS, **options):
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre
    tokenizer.train_from_iterator([text], trainer(show_progress=False, **options))
    return json.loads(tokenizer.to_str())["model"]


def added(contents, start):
    """Tokens with each flag, after the vocabulary."""
    return [dict(id=start + i, single_word=False, lstrip=False, rstrip=False, normalized=False, special=True) | dict(content=c, **f) for i, (c, f) in enumerate(contents)]


byte_model = trained(models.BPE(), trainers.BpeTrainer, pre_tokenizers.ByteLevel(add_prefix_space=False), vocab_size=320, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
few_bytes = trained(models.BPE(), trainers.BpeTrainer, pre_tokenizers.ByteLevel(add_prefix_space=False), vocab_size=90)
meta_model = trained(models.BPE(unk_token="<unk>"), trainers.BpeTrainer, pre_tokenizers.Metaspace(), vocab_size=90, special_tokens=["<unk>", "<s>", "</s>"])
letters = sorted(set(WORDS) - {" "})  # by hand, as these trainers differ from run to run


def by_hand(vocab, merges, **fields):
    return {"type": "BPE", "dropout": None, "unk_token": "<unk>", "fuse_unk": False, "byte_fallback": False, "vocab": {t: i for i, t in enumerate(vocab)}, "merges": [m.split(" ") for m in merges]} | fields


end_model = by_hand(["<unk>", *letters, *(c + "</w>" for c in letters), "lo", "low", "low</w>", "th", "the</w>", "er</w>", "an", "and</w>"],
                    ["l o", "lo w", "lo w</w>", "t h", "th e</w>", "e r</w>", "a n", "an d</w>"], end_of_word_suffix="</w>")
prefix_model = by_hand(["<unk>", *letters, *("##" + c for c in letters), "lo", "low", "##er", "th", "the", "##34", "##ll", "##llo"],
                       ["l ##o", "lo ##w", "##e ##r", "t ##h", "th ##e", "##3 ##4", "##l ##l", "##ll ##o"], continuing_subword_prefix="##")
pieces = ["[UNK]", "[CLS]", "[SEP]", *letters, *("##" + c for c in letters), "the", "low", "##er", "movie", "##ie", "hell", "##ello", "12", "##34", "caf", "\u4e2d\u6587"]
piece_model = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": {t: i for i, t in enumerate(pieces)}}
word_model = {"type": "WordLevel", "unk_token": "[UNK]", "vocab": {t: i for i, t in enumerate(["[UNK]", *dict.fromkeys(WORDS.split())])}}
words = ["\u2581the", "\u2581", "the", "low", "\u2581low", "er", "hello", "ell", "he", "llo", "\u2581movie", "mov", "ie", "ab", "abc", "bcd", "12", "34", "234", "\u2581a", "\u2581an", "d"]
unigram = {"type": "Unigram", "unk_id": 0, "byte_fallback": False, "vocab": [["<unk>", 0.0], ["<s>", 0.0], *([w, -2.5 - 0.13 * i] for i, w in enumerate(words)), *([c, -7.0 - 0.01 * i] for i, c in enumerate(letters) if c not in words)]}
llama_vocab = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{b:02X}>": 3 + b for b in range(256)}
for token in meta_model["vocab"]:
    llama_vocab.setdefault(token, len(llama_vocab))
llama_model = meta_model | {"vocab": llama_vocab, "byte_fallback": True, "fuse_unk": True}
byte_unigram = unigram | {"vocab": unigram["vocab"] + [[f"<0x{b:02X}>", 0.0] for b in range(256)], "byte_fallback": True}


def charsmap(rule):
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter([WORDS] * 3), model_writer=out, vocab_size=60, hard_vocab_limit=False, normalization_rule_name=rule, minloglevel=2)
    from sentencepiece import sentencepiece_model_pb2 as pb
    proto = pb.ModelProto()
    proto.ParseFromString(out.getvalue())
    return base64.b64encode(proto.normalizer_spec.precompiled_charsmap).decode()


FLAGS = [("<x>", {}), ("<y>", dict(lstrip=True)), ("<z>", dict(rstrip=True)), ("[S]", dict(lstrip=True, rstrip=True, special=False)), ("<N>", dict(normalized=True, special=False)),
         ("hello", dict(single_word=True, special=False, normalized=True)), ("low", dict(special=False, single_word=True)), ("caf\u00e9", dict(special=False)), ("   ", dict(special=False, normalized=True))]
DECODERS = {
    "llama": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
}
llama_normalizer = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"}, {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]}


def all_tokenizers():
    """name -> (model, normalizer, pre-tokenizer, post-processor, decoder, added tokens)"""
    out = {}

    def put(name, model=byte_model, normalizer=None, pre=BYTE, post=None, decoder=BYTE, tokens=()):
        saved = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added(tokens, len(model["vocab"])), "normalizer": normalizer,
                 "pre_tokenizer": pre, "post_processor": post, "decoder": decoder, "model": model}
        out[name] = saved

    put("byte-level")
    put("model without a type", {k: v for k, v in byte_model.items() if k != "type"}, pre={k: v for k, v in BYTE.items() if k != "use_regex"})
    put("add_prefix_space", pre=BYTE | {"add_prefix_space": True}, tokens=FLAGS[:3])
    put("Sequence of one", pre=sequence(BYTE))
    put("Split by GPT-2's regex, ByteLevel", pre=sequence(split(GPT2_REGEX), BYTE | {"use_regex": False}))
    put("Split by GPT-4's regex", byte_model | {"ignore_merges": True}, pre=sequence(split(GPT4), BYTE | {"use_regex": False}), tokens=FLAGS[:2])
    put("Split by Qwen's regex, NFC", normalizer={"type": "NFC"}, pre=sequence(split(QWEN), BYTE | {"use_regex": False}), tokens=FLAGS[:1])
    put("Split by o200k's regex", pre=sequence(split(O200K), BYTE | {"use_regex": False}))
    put("Digits alone, ByteLevel", pre=sequence({"type": "Digits", "individual_digits": True}, BYTE))
    put("Digits in runs", pre=sequence({"type": "Digits", "individual_digits": False}, BYTE))
    put("Punctuation, Digits, ByteLevel (Falcon)", pre=sequence({"type": "Punctuation", "behavior": "Contiguous"}, BYTE, {"type": "Digits", "individual_digits": False}, split("[0-9][0-9][0-9]")))
    for behavior in ("Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"):
        put(f"Split {behavior}", pre=sequence(split(r"\s|[a-c]", behavior), BYTE | {"use_regex": False}))
        put(f"Split {behavior}, inverted", pre=sequence(split(r"\w+|\s", behavior, True), BYTE | {"use_regex": False}))
        put(f"Punctuation {behavior}", pre=sequence({"type": "Punctuation", "behavior": behavior}, BYTE))
    put("Split by a string", pre=sequence({"type": "Split", "pattern": {"String": "."}, "behavior": "MergedWithNext", "invert": False}, BYTE))
    put("Whitespace", pre=sequence({"type": "Whitespace"}, BYTE | {"use_regex": False}))
    put("WhitespaceSplit", pre=sequence({"type": "WhitespaceSplit"}, BYTE | {"use_regex": False}))
    put("CharDelimiterSplit", pre=sequence({"type": "CharDelimiterSplit", "delimiter": "a"}, BYTE | {"use_regex": False}))
    put("BertPreTokenizer", pre=sequence({"type": "BertPreTokenizer"}, BYTE | {"use_regex": False}))
    for form in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt"):
        put(form, normalizer={"type": form}, tokens=FLAGS)
    put("Strip", normalizer={"type": "Strip", "strip_left": True, "strip_right": True}, tokens=FLAGS[:8])  # three spaces would become an empty pattern, with which the library never ends
    put("Replace", normalizer={"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": {"Regex": r"\s{2,}"}, "content": "$1 "}, {"type": "Replace", "pattern": {"String": "a"}, "content": "$&"}]})
    put("BertNormalizer", normalizer={"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True})
    put("BertNormalizer, cased", normalizer={"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": False})
    put("ByteLevel as normalizer", normalizer={"type": "ByteLevel"}, pre=split("a"))
    # The maps are large: the others only in a file of one's own.
    for rule in ("nmt_nfkc", "nfkc", "nmt_nfkc_cf")[: 1 if len(sys.argv) < 4 else 3]:
        put(f"Precompiled {rule}", normalizer={"type": "Precompiled", "precompiled_charsmap": charsmap(rule)})
    put("added tokens with every flag", tokens=FLAGS)
    put("added tokens in lower-cased text", normalizer={"type": "Lowercase"}, tokens=FLAGS)
    put("an alphabet with gaps", few_bytes)
    put("Metaspace", meta_model, pre=META, decoder=META, tokens=FLAGS[:5])
    put("Metaspace, old fields", meta_model, pre={"type": "Metaspace", "replacement": "\u2581", "add_prefix_space": True}, decoder={"type": "Metaspace", "replacement": "\u2581", "add_prefix_space": True})
    put("Metaspace first", meta_model, pre=META | {"prepend_scheme": "first", "split": False}, decoder=META | {"prepend_scheme": "first", "split": False}, tokens=FLAGS[:5])
    put("Metaspace never", meta_model, pre=META | {"prepend_scheme": "never"}, decoder=META | {"prepend_scheme": "never"}, tokens=FLAGS[:5])
    put("Metaspace, unknown fused", meta_model | {"fuse_unk": True}, pre=META, decoder=META)
    put("Llama: byte fallback, no pre-tokenizer", llama_model, normalizer=llama_normalizer, pre=None, decoder=DECODERS["llama"], tokens=[("<x>", {}), ("<N>", dict(normalized=True, special=False))])
    put("Llama: Metaspace first", llama_model, pre=META | {"prepend_scheme": "first", "split": False}, decoder=DECODERS["llama"], tokens=[("<x>", {})])
    put("Gemma: spaces replaced", llama_model, normalizer={"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}, pre={"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False},
        decoder={"type": "Sequence", "decoders": DECODERS["llama"]["decoders"][:3]}, tokens=[("<x>", {})])
    put("byte fallback without all bytes", llama_model | {"vocab": {t: i for i, t in enumerate(t for t in llama_vocab if t not in ("<0xF0>", "<0xE4>"))}}, pre=META, decoder=DECODERS["llama"])
    put("end of word", end_model, pre={"type": "Whitespace"}, decoder={"type": "BPEDecoder", "suffix": "</w>"})
    put("continuing prefix", prefix_model, pre={"type": "Whitespace"}, decoder={"type": "WordPiece", "prefix": "##", "cleanup": False})
    bert_post = {"type": "BertProcessing", "cls": ["[CLS]", 1], "sep": ["[SEP]", 2]}
    put("WordPiece", piece_model, normalizer={"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True},
        pre={"type": "BertPreTokenizer"}, post=bert_post, decoder={"type": "WordPiece", "prefix": "##", "cleanup": True})
    put("WordPiece, short words", piece_model | {"max_input_chars_per_word": 4}, pre={"type": "WhitespaceSplit"}, decoder={"type": "WordPiece", "prefix": "##", "cleanup": False})
    put("WordLevel", word_model, pre={"type": "Whitespace"}, decoder=None)
    put("Unigram", unigram, pre=META, decoder=META, tokens=FLAGS[:5])
    put("Unigram, T5", unigram, normalizer={"type": "Precompiled", "precompiled_charsmap": charsmap("nmt_nfkc")}, pre=sequence({"type": "WhitespaceSplit"}, META), decoder=META,
        post={"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "<s>", "type_id": 0}}], "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}], "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}})
    put("Unigram with byte fallback", byte_unigram, pre=META, decoder=DECODERS["llama"])
    put("RobertaProcessing", post={"type": "RobertaProcessing", "sep": ["b", 66], "cls": ["a", 65], "trim_offsets": True, "add_prefix_space": False})
    put("post-processors in sequence", post={"type": "Sequence", "processors": [BYTE, {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}], "special_tokens": {"x": {"id": "x", "ids": [3, 4], "tokens": ["$", "%"]}}}]})
    return out


HARD = ["", " ", "  the low lower  movie ", "good \u0085bad \ufeffb \u180ec", "<x> <y>  <z>  a[S] b hello hellox <N> <n> low,lower", "caf\u00e9 \u4e2d\u6587 \U0001f600\U00020000 1234567 \u0661\u00bd\u2167",
        "it's IT'S it'\u017f don't 'S'RE", "a\n\n b \r\n\tc   d\n ", "x" * 120 + " ab", "\u2581low \u2581\u2581 low\u2581"]


def main():
    rng = random.Random(SEED)
    golden = []
    for name, saved in all_tokenizers().items():
        tokenizer = Tokenizer.from_str(json.dumps(saved))
        texts = HARD + ["".join(rng.choices(POOL, k=rng.randint(3, 26))) for _ in range(COUNT)]
        cases = []
        for text in texts:
            ids = tokenizer.encode(text).ids
            cases.append([text, ids, tokenizer.decode(ids, skip_special_tokens=False), tokenizer.decode(ids, skip_special_tokens=True)])
        decodes = []
        known = sorted(tokenizer.get_vocab().values())
        for _ in range(4):
            ids = rng.choices(known, k=10)
            decodes.append([ids, tokenizer.decode(ids, skip_special_tokens=False), tokenizer.decode(ids, skip_special_tokens=True)])
        golden.append({"name": name, "json": saved, "cases": cases, "decodes": decodes})
    # Models and character maps are many times the same: each is written once.
    shared, places = [], {}
    for entry in golden:
        for key in ("model", "normalizer"):
            text = json.dumps(entry["json"][key])
            if len(text) > 300:
                if text not in places:
                    places[text] = len(shared)
                    shared.append(entry["json"][key])
                entry["json"] = entry["json"] | {key: {"shared": places[text]}}
    OUT.write_text(json.dumps({"tokenizers": tokenizers.__version__, "shared": shared, "tokenizers_and_cases": golden}, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{len(golden)} tokenizers, {sum(len(e['cases']) for e in golden)} texts, {OUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()
