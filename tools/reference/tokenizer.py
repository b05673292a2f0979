"""Writes test/golden/tokenizer.json: what Python's `tokenizers` makes of hard strings with the tokenizer of models/tiny.

    python tools/reference/tokenizer.py

Each case: text, ids, decoded (all tokens), decoded_skip (special tokens left out), each (every token decoded alone).
"""

import json
import random
from pathlib import Path

import tokenizers
import transformers

ROOT = Path(__file__).resolve().parents[2]
END = "<|endoftext|>"

HARD = [
    "",
    " ",
    "a",
    "The movie was great, and I'd watch it again.",
    "I'm he's we'll they've you're I'd don't DON'T I'M it'S 'sx 'll 'twas rock'n'roll '",
    "  two   three    four     spaces\tand\t\ttabs ",
    "line\nbreak\n\nparagraph\r\nwindows \n trailing\n\n\n",
    "\n \n  \n   x",
    "x \t\n\v\f\r y",
    "price: $1,234.56 (50% off!!!) ... #1 & more -- <br /><br />",
    "3.14159 1e-10 0x7f 2001's 1st 22nd \u00bd \u00b2 \u2167 \u0661\u0662\u0663 \U0001d7d8\U0001d7d9",
    "emoji \U0001f600\U0001f602 \U0001f1e9\U0001f1ea \U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f44d\U0001f3fd \u2764\ufe0f",
    "\u4f60\u597d\uff0c\u4e16\u754c\u3002\u65e5\u672c\u8a9e\u306e\u6620\u753b \ud55c\uad6d \uc601\ud654",
    "\u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd \u041f\u0440\u0438\u0432\u0435\u0442 \u0393\u03b5\u03b9\u03ac \u0928\u092e\u0938\u094d\u0924\u0947 \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35",
    "caf\u00e9 cafe\u0301 na\u00efve \u00c5ngstr\u00f6m \ufb01ne \u0130stanbul \u00df \u1e9e",
    "nul \x00 in \x00\x00 text\x00",
    "".join(chr(c) for c in range(32)) + "\x7f",
    "".join(chr(c) for c in range(0x80, 0x100)),
    # Where the white space of languages differs: U+0085, U+FEFF, U+001C to U+001F, U+180E, U+200B.
    "a\x85b \x85 c\n\x85d  \x85",
    "\ufeffbom a\ufeffb a \ufeff b\ufeff! \n\ufeff\n",
    "a\x1c \x1d\x1e \x1fb x\x1f\x1f y",
    "a\u180eb  c \u200b d\u200b",
    "a\u00a0b\u00a0 c\u1680d\u2000e\u2003 f\u2028g\u2029 h\u202fi\u205fj\u3000k",
    "\ufffd replacement \ufffd\ufffd",
    "\uffff\ufdd0\U0010ffff \ue000",
    "antidisestablishmentarianism supercalifragilisticexpialidocious " + "lo" * 300,
    "a" * 1000,
    " " * 257 + "x",
    "=" * 80 + "\n" + "-" * 33,
    "mIxEdCaSe camelCase snake_case kebab-case UPPER www.example.com/path?query=1&x=y user@example.org",
    "\u0430a\u0430 latin\u041a\u0438\u0440\u0438\u043b\u043b\u0438\u0446\u0430 abc\u65e5\u672c\u8a9edef 123abc abc123",
    END,
    END + END,
    "one review." + END + "Another review.",
    "  " + END + "  after \n" + END,
    "not special: <|endoftext| > <|EndOfText|> <|endoftext <|endoftext|" + END + "|>",
    "zalgo z\u0351\u0343\u0323a\u0334\u0359l\u0321g\u035eo\u0337",
    "code: for (let i = 0; i < n; i++) { x[i] += `${y}`; } // ok\n\treturn \"x\\n\";",
]

# Pieces that meet in every order in the random strings.
POOL = (
    list("aeiou stnrl'.,!?-0123\n\t\r\"()") + [" ", " ", " ", "'s", "'re", " the", " movie", "\u00e9", "\u0301", "\x85", "\ufeff"]
    + ["\u00a0", "\u3000", "\u4e2d", "\U0001f600", "\u200d", "\u0416", "\u0661", "\u00bd", "\x00", "\x1f", "<|", "|>", END, "\ufffd"]
)


def case(tokenizer, text):
    ids = tokenizer.encode(text).ids
    return {
        "text": text,
        "ids": ids,
        "decoded": tokenizer.decode(ids, skip_special_tokens=False),
        "decoded_skip": tokenizer.decode(ids, skip_special_tokens=True),
        "each": [tokenizer.decode([i], skip_special_tokens=False) for i in ids],
    }


def main():
    tokenizer = tokenizers.Tokenizer.from_file(str(ROOT / "models/tiny/tokenizer.json"))
    rng = random.Random(1)
    texts = HARD + ["".join(rng.choices(POOL, k=rng.randint(5, 40))) for _ in range(120)]
    cases = [case(tokenizer, text) for text in texts]

    # transformers reads the same files and agrees.
    fast = transformers.AutoTokenizer.from_pretrained(ROOT / "models/tiny")
    assert len(fast) == 8192 and fast.eos_token_id == fast.bos_token_id == fast.unk_token_id == 8191
    for c in cases:
        assert fast(c["text"])["input_ids"] == c["ids"]
        assert fast.decode(c["ids"], clean_up_tokenization_spaces=False) == c["decoded"] == c["text"]

    # Ids that are not the encoding of any text: bytes that are not UTF-8, characters cut by a special token.
    vocabulary = tokenizer.get_vocab()
    letters = [vocabulary[c] for c in "\u00e2\u0124\u00ac\u00f0\u0141\u013a\u0122\u00ff\u00c0"]  # e2 82 ac f0 9f 98 80 ff c0
    sequences = [letters[:2], letters[:3], letters[1:3], letters[3:6] + [64], letters[:2] + [8191] + letters[2:3]]
    sequences += [letters[7:9], letters[3:5] + letters[:3], letters]
    sequences += [[rng.randrange(8192) for _ in range(30)] for _ in range(20)]
    sequences += [[rng.choice(letters) for _ in range(12)] for _ in range(20)]
    decodes = [
        {
            "ids": ids,
            "decoded": tokenizer.decode(ids, skip_special_tokens=False),
            "decoded_skip": tokenizer.decode(ids, skip_special_tokens=True),
        }
        for ids in sequences
    ]
    golden = {"tokenizers": tokenizers.__version__, "transformers": transformers.__version__, "cases": cases, "decodes": decodes}
    out = ROOT / "test/golden/tokenizer.json"
    out.write_text(json.dumps(golden, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{len(cases)} texts, {len(decodes)} id sequences, {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
