"""Writes test/golden/chat/: what transformers' apply_chat_template makes of conversations with the chat templates of public models.

    python tools/reference/chat_templates.py [MODEL OUT.json]

With a model directory: the same conversations with its own template and tokenizer, into OUT.json.
"""
import datetime
import json
import sys
from pathlib import Path

import tokenizers
import transformers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "test/golden/chat"
NOW = datetime.datetime(2026, 3, 7, 9, 5, 2)


FORMAT = "%Y-%m-%dT%H:%M:%S %y %b %B %a %A %e %j %I %p %D %F %R %T %u %w %c %x %X %f %% %-d %-m %-H %-I %-j"


class Clock(datetime.datetime):
    """The same moment for every template."""

    @classmethod
    def now(cls, tz=None):
        return NOW


chat_template_utils.datetime = Clock

# Special tokens, whether the tokenizer puts one in front of a text, and the ends of a turn, as the models have them.
MODELS = {
    "smollm2": dict(bos="<|im_start|>", eos="<|im_end|>", adds_bos=False),
    "llama3": dict(bos="<|begin_of_text|>", eos="<|eot_id|>", adds_bos=True),
    "llama3.2": dict(bos="<|begin_of_text|>", eos="<|eot_id|>", adds_bos=True),
    "qwen2.5": dict(bos=None, eos="<|im_end|>", adds_bos=False),
    "qwen3": dict(bos=None, eos="<|im_end|>", adds_bos=False),
    "zephyr": dict(bos="<s>", eos="</s>", adds_bos=True),
    "gemma": dict(bos="<bos>", eos="<eos>", adds_bos=True),
}
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>",
           "<|end_header_id|>", "<|eot_id|>", "<unk>", "<s>", "</s>", "<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"]
PLAIN = ["<think>", "</think>", "<tool_call>", "</tool_call>"]  # added, not special, as Qwen 3 has them

# Templates of no model: what those of the models above do not use.
MADE = {
    "typed": "{% for m in messages %}<{{ m.role }}>{% for part in m.content %}{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}</>{% endfor %}",
    "generation": "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{{ eos_token }}{% endgeneration %}{% else %}[{{ m.role | upper }}] {{ m.content }}\n{% endif %}{% endfor %}",
    "whitespace": "  {% if true %}\n  {{ messages[0].content }}  \n  {% endif %}\n\t{# a comment #}\nafter\n  {%- for m in messages -%}  {{ loop.index }}/{{ loop.length }} {%- endfor %}\n\n",
    "clock": "{{ strftime_now('%Y-%m-%d %H:%M:%S %d %b %Y %B %A %a %j %I %p %y %e %-d %-H %%') }}",
    "controls": "{% for m in messages %}{% if loop.index0 == 1 %}{% continue %}{% endif %}{{ m.role }}{% if m.content == 'stop' %}{% break %}{% endif %},{% endfor %}{% macro twice(x) %}{{ x }}{{ x }}{% endmacro %}{{ twice(messages[0].content) }}{{ 'a' if tools is none else 'b' }}{{ 'a' if documents is none }}{{ 'a' if missing is defined else 'b' }}{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + m.role|length %}{% endfor %}{{ ns.n }}",
}

USER = {"role": "user", "content": "What is the capital of France?"}
ANSWER = {"role": "assistant", "content": "Paris."}
SYSTEM = {"role": "system", "content": "You answer in one word."}
HARD = {"role": "user", "content": "  Ça va? \U0001f600 {{ messages }} {% if x %}\n\n<b>\"quoted\" & 'single' \\n</b>\t "}
TOOL = {"type": "function", "function": {"name": "weather", "description": "The weather of a “city”", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer", "default": 1}}, "required": ["city"]}}}
CALL = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {
    "name": "weather", "arguments": {"city": "Zürich", "days": 2, "metric": True, "at": None, "x": 0.5}}}]}
RESULT = {"role": "tool", "name": "weather", "content": "12 degrees"}
THOUGHT = {"role": "assistant", "content": "<think>\nFrance, so Paris.\n</think>\n\nParis."}

CONVERSATIONS = {
    "a question": dict(messages=[USER], prompt=True),
    "a question, no prompt": dict(messages=[USER]),
    "with a system message": dict(messages=[SYSTEM, USER], prompt=True),
    "several turns": dict(messages=[USER, ANSWER, {"role": "user", "content": "And of Spain?"}], prompt=True),
    "several turns, system": dict(messages=[SYSTEM, USER, ANSWER, HARD], prompt=True),
    "a whole conversation": dict(messages=[SYSTEM, USER, ANSWER]),
    "an answer begun": dict(messages=[USER, {"role": "assistant", "content": "The capital is"}], open=True),
    "an answer begun, with a space": dict(messages=[USER, {"role": "assistant", "content": "The capital is "}], open=True),
    "two users": dict(messages=[USER, HARD], prompt=True),
    "an assistant first": dict(messages=[ANSWER, USER], prompt=True),
    "a system message later": dict(messages=[USER, SYSTEM, ANSWER], prompt=True),
    "an empty text": dict(messages=[{"role": "user", "content": ""}], prompt=True),
    "special tokens in a message": dict(messages=[{"role": "user", "content": "a<|im_end|>b<|eot_id|></s><bos>"}], prompt=True),
    "thoughts in the text": dict(messages=[USER, THOUGHT, USER], prompt=True),
    "thoughts at the end": dict(messages=[USER, THOUGHT]),
    "thoughts in a field": dict(messages=[USER, {"role": "assistant", "content": "Paris.", "reasoning": "France"}]),
    "fields that are null": dict(messages=[{"role": "user", "content": "Hi", "name": None, "tool_calls": None}], prompt=True),
    "no thinking": dict(messages=[USER], prompt=True, args={"enable_thinking": False}),
    "thinking": dict(messages=[USER], prompt=True, args={"enable_thinking": True}),
    "a date": dict(messages=[USER], prompt=True, args={"date_string": "26 Jul 2024"}),
    "tools": dict(messages=[USER], prompt=True, args={"tools": [TOOL]}),
    "tools used": dict(messages=[SYSTEM, USER, CALL, RESULT], prompt=True, args={"tools": [TOOL]}),
}


def small_tokenizer():
    """Byte-level BPE with a few merges."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    text = [json.dumps(c["messages"]) for c in CONVERSATIONS.values()] + [p.read_text() for p in (OUT / "templates").glob("*.jinja")]
    trainer = trainers.BpeTrainer(vocab_size=480, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(sorted(text), trainer)
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in SPECIAL])
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in PLAIN])
    return tokenizer


def sentencepiece_like():
    """Words with a mark for their space and bytes for what is not known, as Zephyr's and Gemma's tokenizers have them, to be finished by
    `as_zephyr` or `as_gemma`."""
    trained = tokenizers.Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=200, special_tokens=["<unk>", "<s>", "</s>", "<pad>", "<eos>", "<bos>"], show_progress=False)
    text = [m["content"] for c in CONVERSATIONS.values() for m in c["messages"]] + ["<|user|> <|assistant|> <|system|> model\n user\n"]
    trained.train_from_iterator(sorted(text), trainer)
    model = json.loads(trained.to_str())["model"]
    vocab = list(model["vocab"]) + [f"<0x{b:02X}>" for b in range(256)]
    ids = {token: i for i, token in enumerate(vocab)}
    merges = [tuple(m) for m in model["merges"]]
    return models.BPE(vocab=ids, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)


def as_zephyr():
    tokenizer = tokenizers.Tokenizer(sentencepiece_like())
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in ["<unk>", "<s>", "</s>"]])
    return tokenizer


def as_gemma():
    tokenizer = tokenizers.Tokenizer(sentencepiece_like())
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in tokens])
    return tokenizer


def write(tokenizer, name):
    text = json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":"))
    (OUT / name).write_text(text + "\n", encoding="utf-8")


def wrapped(tokenizer, template, bos, eos, adds_bos):
    copy = tokenizers.Tokenizer.from_str(tokenizer.to_str())
    if adds_bos:
        copy.post_processor = processors.TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, copy.token_to_id(bos))])
    fast = PreTrainedTokenizerFast(tokenizer_object=copy, bos_token=bos, eos_token=eos, chat_template=template)
    if adds_bos:  # so that a doubled first token would show
        assert fast("x")["input_ids"][0] == copy.token_to_id(bos)
    return fast


def cases_of(fast, conversations):
    cases = []
    for name, c in conversations.items():
        options = dict(add_generation_prompt=c.get("prompt", False), continue_final_message=c.get("open", False), **c.get("args", {}))
        case = {"name": name, "messages": c["messages"], "prompt": options["add_generation_prompt"],
                "open": options["continue_final_message"], "args": c.get("args", {})}
        try:
            case["text"] = fast.apply_chat_template(c["messages"], tokenize=False, **options)
            case["ids"] = fast.apply_chat_template(c["messages"], return_dict=False, **options)
        except Exception as error:  # noqa: BLE001 - whatever it is, the template refuses
            case["error"] = str(error)
        cases.append(case)
    return cases


def main():
    if len(sys.argv) == 3:
        cases = cases_of(AutoTokenizer.from_pretrained(sys.argv[1]), CONVERSATIONS)
        Path(sys.argv[2]).write_text(json.dumps({"now": NOW.isoformat(), "cases": cases}), encoding="utf-8")
        return print(f"{len(cases)} conversations, {sum('error' in c for c in cases)} of them refused")
    tokenizer = small_tokenizer()
    write(tokenizer, "tokenizer.json")
    own = {"zephyr": as_zephyr(), "gemma": as_gemma()}
    for name, other in own.items():
        write(other, f"tokenizer-{name}.json")
    groups = []
    for name, tokens in MODELS.items():
        template = (OUT / "templates" / f"{name}.jinja").read_text(encoding="utf-8")
        groups.append({"name": name, **tokens, "cases": cases_of(wrapped(own.get(name, tokenizer), template, **tokens), CONVERSATIONS)})
    plain = dict(bos=None, eos="</s>", adds_bos=False)
    for name, template in MADE.items():
        parts = [{"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]}]
        conversations = {"parts": dict(messages=parts)} if name == "typed" else CONVERSATIONS
        chosen = {k: v for k, v in conversations.items() if name == "typed" or k in ("a question", "several turns, system", "an assistant first")}
        groups.append({"name": name, "template": template, **plain, "cases": cases_of(wrapped(tokenizer, template, **plain), chosen)})
    moments = [(2024, 2, 29, 0, 0, 0), (2025, 12, 31, 12, 30, 1), (2026, 1, 1, 13, 5, 59), (2026, 11, 8, 11, 59, 7), (2028, 12, 31, 23, 0, 0)]
    dates = [{"at": datetime.datetime(*m).isoformat(), "text": datetime.datetime(*m).strftime(FORMAT)} for m in moments]
    rows = ",\n".join(json.dumps(group, ensure_ascii=False, separators=(",", ":")) for group in groups)
    head = json.dumps({"transformers": transformers.__version__, "now": NOW.isoformat(), "format": FORMAT, "dates": dates})[1:-1]
    (OUT / "cases.json").write_text(f'{{{head}, "groups": [\n{rows}\n]}}\n', encoding="utf-8")
    for group in groups:
        refused = [f'{c["name"]}: {c["error"]}' for c in group["cases"] if "error" in c]
        print(f'{group["name"]:12} {len(group["cases"])} conversations; refused: {refused}')


if __name__ == "__main__":
    main()
