"""Writes test/golden/lookalikes/: directories laid out as public descendants of GPT-2 are, and what transformers makes of them.

    python tools/reference/lookalikes.py [NAME]

Each directory has config.json, the tokenizer's files and random weights of the published kind in a small size, and
expected.json: ids and texts of hard strings, logits after two prompts, 20 greedy tokens.
"""
import base64
import json
import random
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast, __version__, logging

sys.path.insert(0, str(Path(__file__).parent / "lookalikes"))
from kinds import write  # noqa: E402
from models import M  # noqa: E402
from texts import AROUND, HARD, LANGUAGES  # noqa: E402

logging.set_verbosity_error()
logging.disable_progress_bar()
torch.set_num_threads(1)
OUT = Path(__file__).resolve().parents[2] / "test" / "golden" / "lookalikes"
ALIASES = {"n_embd": "hidden_size", "n_head": "num_attention_heads", "n_layer": "num_hidden_layers", "n_positions": "max_position_embeddings"}
READERS = {"auto": AutoTokenizer, "fast": PreTrainedTokenizerFast}
LISTED = 12  # ids decoded at random


def directory_name(name):
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in name)


def resolve(value, tokenizer):
    if isinstance(value, str) and value.startswith("@"):
        id = tokenizer.convert_tokens_to_ids(value[1:])
        assert id is not None, value
        return id
    if isinstance(value, dict):
        return {k: resolve(v, tokenizer) for k, v in value.items()}
    return [resolve(v, tokenizer) for v in value] if isinstance(value, list) else value


def config_json(spec, tokenizer, rows):
    """config.json as it is published: the fields of GPT-2 with small sizes, and the model's own."""
    base = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "activation_function": "gelu_new", "initializer_range": 0.02,
            "layer_norm_epsilon": 1e-5, "n_ctx": 64, "n_embd": 4, "n_head": 2, "n_layer": 2, "n_positions": 64, "summary_activation": None,
            "summary_first_dropout": 0.1, "summary_proj_to_labels": True, "summary_type": "cls_index", "summary_use_proj": True,
            "transformers_version": "4.10.0", "vocab_size": rows}
    config = base | resolve(spec["config"], tokenizer)
    if spec["options"].get("aliases"):
        config = {k: v for k, v in config.items() if k not in ALIASES}
    return config


def random_weights(config, rng):
    with torch.device("meta"):
        shapes = {name: tuple(p.shape) for name, p in GPT2LMHeadModel(config).named_parameters()}
    state = {}
    for name, shape in shapes.items():
        x = rng.standard_normal(shape, dtype=np.float32)
        if name.endswith(("ln_1.weight", "ln_2.weight", "ln_f.weight")):
            x = 1 + 0.2 * x
        else:
            x = x * (0.2 if len(shape) == 1 else 0.6)
        state[name] = torch.from_numpy(x.astype(np.float32))
    return state


def write_weights(directory, state, config, prefix=True, lm_head=False, buffers=False, dtype="float32", shards=False):
    state = {name: x.to(getattr(torch, dtype)) for name, x in state.items()}
    if buffers:  # the causal masks that old versions of transformers saved, cut down
        for layer in range(config.n_layer):
            state[f"transformer.h.{layer}.attn.bias"] = torch.ones(1, 1, 4, 4).tril()
            state[f"transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    if lm_head:
        state["lm_head.weight"] = state["transformer.wte.weight"].clone()
    if not prefix:
        state = {name.removeprefix("transformer."): x for name, x in state.items()}
    metadata = {"format": "pt"}
    if not shards:
        save_file(state, directory / "model.safetensors", metadata=metadata)
        return
    names = sorted(state)
    halves = {f"model-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
    for file, part in halves.items():
        save_file({name: state[name] for name in part}, directory / file, metadata=metadata)
    total = sum(x.numel() * x.element_size() for x in state.values())
    write(directory, "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": {n: f for f, part in halves.items() for n in part}})


def expected(directory, spec, rng):
    tokenizer = READERS[spec["reader"]].from_pretrained(directory)
    model = GPT2LMHeadModel.from_pretrained(directory, attn_implementation="eager", dtype=torch.float32).eval()
    rows = model.config.vocab_size
    named = [t.content for t in tokenizer.added_tokens_decoder.values()]
    sample = LANGUAGES[spec["language"]][:90]
    texts = HARD + [sample] + [pattern.replace("{}", t) for t in named[:5] for pattern in AROUND]
    texts += ["".join(rng.choices(named + [" ", "  ", "\n", "a", "B", ".", "'s", sample[:9]], k=8)) for _ in range(4)] if named else []
    texts = list(dict.fromkeys(texts))
    cases = []
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        cases.append([text, ids, tokenizer.decode(ids), tokenizer.decode(ids, skip_special_tokens=True)])
    known = [i for i in range(len(tokenizer)) if tokenizer.convert_ids_to_tokens(i) is not None]
    lists = [[rng.choice(known) for _ in range(LISTED)] for _ in range(6)]
    decodes = [[ids, tokenizer.decode(ids), tokenizer.decode(ids, skip_special_tokens=True)] for ids in lists]

    nameless = [i for i in range(rows) if tokenizer.convert_ids_to_tokens(i) is None]  # rows without a token are never drawn here
    prompts = []
    limit = model.config.n_positions - 20
    for text in [sample, HARD[2]]:
        ids = [i for i in tokenizer(text)["input_ids"] if i < rows][:limit] or [1]
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0]
            tokens = model.generate(torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long), do_sample=False, num_beams=1,
                                    max_new_tokens=20, pad_token_id=0, suppress_tokens=nameless or None)[0, len(ids):]
        prompts.append({
            "ids": ids, "greedy": tokens.tolist(), "logits": base64.b64encode(logits[-1].numpy().astype("<f4").tobytes()).decode(),
            "argmax": logits.argmax(-1).tolist(), "logsumexp": [round(x, 5) for x in logits.logsumexp(-1).tolist()],
        })
    ids = {k: getattr(tokenizer, k + "_token_id") for k in ("bos", "eos", "pad", "unk")}
    special = sorted(tokenizer.added_tokens_decoder.items())
    return {"name": spec["name"], "peculiar": spec["peculiar"], "transformers": __version__, "class": type(tokenizer).__name__, "rows": rows, "length": len(tokenizer),
            "ids": ids, "special": [i for i, t in special if t.special]} | ({"refused": spec["refused"]} if spec["refused"] else {}) | {"cases": cases, "decodes": decodes, "prompts": prompts}


def build(spec, number):
    rng, numpy_rng = random.Random(number), np.random.default_rng(number)
    directory = OUT / directory_name(spec["name"])
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    options = {k: v for k, v in spec["options"].items() if k not in ("rows", "aliases")}
    spec["kind"](directory, LANGUAGES[spec["language"]], **options)
    # AutoTokenizer asks config.json for the class.
    write(directory, "config.json", {"model_type": "gpt2"} | {k: v for k, v in spec["config"].items() if k == "tokenizer_class"})
    tokenizer = AutoTokenizer.from_pretrained(directory)
    # Rows: those of the vocabulary's files; a token that only the configuration names has none, unless `rows` says so.
    json_file, vocab_file = directory / "tokenizer.json", directory / "vocab.json"
    if json_file.exists():
        saved = json.loads(json_file.read_text(encoding="utf-8"))
        vocab = saved["model"]["vocab"]
        count = max([len(vocab) - 1, *(t["id"] for t in saved["added_tokens"])]) + 1
    elif vocab_file.exists():
        added = directory / "added_tokens.json"
        count = len(json.loads(vocab_file.read_text(encoding="utf-8"))) + (len(json.loads(added.read_text(encoding="utf-8"))) if added.exists() else 0)
    else:
        count = len(tokenizer)
    rows = spec["options"].get("rows", 1)
    config = config_json(spec, tokenizer, -(-count // rows) * rows if rows >= 64 else count + (rows if "rows" in spec["options"] else 0))
    write(directory, "config.json", config)
    if spec["generation"]:
        write(directory, "generation_config.json", {"_from_model_config": True, "transformers_version": "4.26.0"} | resolve(spec["generation"], tokenizer))
    parsed = GPT2Config.from_dict(json.loads(json.dumps(config)))
    write_weights(directory, random_weights(parsed, numpy_rng), parsed, **spec["weights"])
    golden = expected(directory, spec, rng)
    write(directory, "expected.json", golden)
    return golden


def main():
    only = sys.argv[1:]
    if not only:
        shutil.rmtree(OUT, ignore_errors=True)
    for number, spec in enumerate(M):
        if only and not any(o in spec["name"] for o in only):
            continue
        golden = build(spec, number)
        size = sum(f.stat().st_size for f in (OUT / directory_name(spec["name"])).iterdir())
        print(f"{spec['name']:60} {golden['class']:20} {golden['rows']:5} {golden['length']:5} {len(golden['cases']):4} {size:7}")
    print(len(M), "models,", sum(f.stat().st_size for f in OUT.rglob("*") if f.is_file()), "bytes")


if __name__ == "__main__":
    main()
