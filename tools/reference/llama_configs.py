"""Writes test/golden/llama/configs.json and refused.json: config.json of the Llama family, as it is written and as it is read.

configs.json: what transformers makes of each: sizes, rotary frequencies, names and shapes of parameters.
refused.json: what valuehead must not compute, and what transformers does with it: a small model with that config and one with
the plain config get the same weights and the same ids.
"""
import copy
import json
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, CONFIG_MAPPING, __version__, logging

from op_cases import numbers

logging.set_verbosity(logging.CRITICAL)
torch.set_num_threads(1)
OUT = Path(__file__).resolve().parents[2] / "test" / "golden" / "llama"
FIELDS = ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
          "max_position_embeddings", "rms_norm_eps", "initializer_range", "hidden_act", "tie_word_embeddings", "bos_token_id",
          "eos_token_id", "pad_token_id"]
LLAMA31 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
LLAMA, QWEN2, QWEN3 = ({
    "model_type": t, "vocab_size": 53, "hidden_size": 32, "intermediate_size": 20, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64} | more
    for t, more in (("llama", {}), ("qwen2", {}), ("qwen3", {"head_dim": 8})))


def without(config, *names):
    return {k: v for k, v in config.items() if k not in names}


CONFIGS = {
    # Nothing but the type, and models as they are published
    "llama, all defaults": {"model_type": "llama"},
    "qwen2, all defaults": {"model_type": "qwen2"},
    "qwen3, all defaults": {"model_type": "qwen3"},
    "SmolLM2-135M-Instruct": {
        "architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2,
        "hidden_act": "silu", "hidden_size": 576, "initializer_range": 0.041666666666666664, "intermediate_size": 1536,
        "is_llama_config": True, "max_position_embeddings": 8192, "mlp_bias": False, "model_type": "llama", "num_attention_heads": 9,
        "num_hidden_layers": 30, "num_key_value_heads": 3, "pad_token_id": 2, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
        "rope_interleaved": False, "rope_scaling": None, "rope_theta": 100000, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
        "transformers_version": "4.42.3", "use_cache": True, "vocab_size": 49152},
    "TinyLlama-1.1B-Chat": {
        "architectures": ["LlamaForCausalLM"], "attention_bias": False, "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
        "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 5632, "max_position_embeddings": 2048, "model_type": "llama",
        "num_attention_heads": 32, "num_hidden_layers": 22, "num_key_value_heads": 4, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
        "rope_scaling": None, "rope_theta": 10000.0, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
        "transformers_version": "4.35.0", "use_cache": True, "vocab_size": 32000},
    "Llama-3.2-1B-Instruct": {
        "architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 128000,
        "eos_token_id": [128001, 128008, 128009], "head_dim": 64, "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02,
        "intermediate_size": 8192, "max_position_embeddings": 131072, "mlp_bias": False, "model_type": "llama", "num_attention_heads": 32,
        "num_hidden_layers": 16, "num_key_value_heads": 8, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
        "rope_scaling": LLAMA31 | {"factor": 32.0, "rope_type": "llama3"}, "rope_theta": 500000.0, "tie_word_embeddings": True,
        "torch_dtype": "bfloat16", "transformers_version": "4.45.0.dev0", "use_cache": True, "vocab_size": 128256},
    "Qwen2.5-0.5B-Instruct": {
        "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id": 151645,
        "hidden_act": "silu", "hidden_size": 896, "initializer_range": 0.02, "intermediate_size": 4864, "max_position_embeddings": 32768,
        "max_window_layers": 21, "model_type": "qwen2", "num_attention_heads": 14, "num_hidden_layers": 24, "num_key_value_heads": 2,
        "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 32768, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
        "transformers_version": "4.43.1", "use_cache": True, "use_sliding_window": False, "vocab_size": 151936},
    "Qwen3-0.6B": {
        "architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 151643,
        "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu", "hidden_size": 1024, "initializer_range": 0.02,
        "intermediate_size": 3072, "max_position_embeddings": 40960, "max_window_layers": 28, "model_type": "qwen3",
        "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 8, "rms_norm_eps": 1e-06, "rope_scaling": None,
        "rope_theta": 1000000, "sliding_window": None, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
        "transformers_version": "4.51.0", "use_cache": True, "use_sliding_window": False, "vocab_size": 151936},
    # Rotary positions
    "rope_theta": LLAMA | {"rope_theta": 500.0},
    "rope_theta, rope_scaling null": LLAMA | {"rope_theta": 500.0, "rope_scaling": None},
    "rope_parameters": LLAMA | {"rope_parameters": {"rope_theta": 500.0, "rope_type": "default"}},
    "rope_parameters without rope_type": LLAMA | {"rope_parameters": {"rope_theta": 500.0}},
    "rope_parameters without rope_theta": LLAMA | {"rope_parameters": {"rope_type": "default"}},
    "rope_parameters null": LLAMA | {"rope_parameters": None},
    "rope_parameters empty": LLAMA | {"rope_parameters": {}},
    "rope_theta beside rope_parameters with another": LLAMA | {"rope_theta": 500.0, "rope_parameters": {"rope_theta": 70.0, "rope_type": "default"}},
    "rope_theta beside rope_parameters without one": LLAMA | {"rope_theta": 500.0, "rope_parameters": {"rope_type": "default"}},
    "rope_scaling linear, type": LLAMA | {"rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 2.0}},
    "rope_scaling linear, rope_type": LLAMA | {"rope_scaling": {"rope_type": "linear", "factor": 4}},
    "rope_scaling linear, rope_type beside another type": LLAMA | {"rope_scaling": {"type": "llama3", "rope_type": "linear", "factor": 2.0}},
    "rope_scaling linear, factor below 1": LLAMA | {"rope_scaling": {"rope_type": "linear", "factor": 0.5}},
    "rope_scaling default": LLAMA | {"rope_theta": 500.0, "rope_scaling": {"type": "default"}},
    "rope_scaling with a rope_theta of its own": LLAMA | {"rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 2.0, "rope_theta": 70.0}},
    "rope_scaling beside rope_parameters": LLAMA | {
        "rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": {"rope_theta": 70.0, "rope_type": "default"}},
    "rope_parameters linear": LLAMA | {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0}},
    "rope_parameters llama3": LLAMA | {"rope_parameters": LLAMA31 | {"rope_type": "llama3", "rope_theta": 100.0, "original_max_position_embeddings": 32}},
    "rope_scaling llama3 without original_max_position_embeddings": LLAMA | {
        "rope_theta": 100.0, "rope_scaling": without(LLAMA31, "original_max_position_embeddings") | {"rope_type": "llama3"}},
    "original_max_position_embeddings outside wins": LLAMA | {
        "rope_theta": 100.0, "original_max_position_embeddings": 32, "rope_scaling": LLAMA31 | {"rope_type": "llama3"}},
    "qwen2 linear": QWEN2 | {"rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 2.0}},
    "qwen3 rope_parameters": QWEN3 | {"rope_parameters": {"rope_theta": 500.0, "rope_type": "default"}},
    # Heads
    "no num_key_value_heads": without(LLAMA, "num_key_value_heads"),
    "num_key_value_heads null": LLAMA | {"num_key_value_heads": None},
    "qwen2, num_key_value_heads null": QWEN2 | {"num_key_value_heads": None},
    "qwen2, no num_key_value_heads": without(QWEN2, "num_key_value_heads") | {"num_attention_heads": 32, "hidden_size": 64},
    "head_dim": LLAMA | {"head_dim": 10},
    "head_dim null": LLAMA | {"head_dim": None},
    "qwen2 with head_dim": QWEN2 | {"head_dim": 10},
    "qwen3, no head_dim": without(QWEN3, "head_dim"),
    "qwen3, width not divisible by heads": QWEN3 | {"hidden_size": 30},
    # Biases, activation, ties, epsilon
    "attention_bias": LLAMA | {"attention_bias": True},
    "mlp_bias": LLAMA | {"mlp_bias": True},
    "qwen3 attention_bias": QWEN3 | {"attention_bias": True},
    "qwen2, attention_bias and mlp_bias mean nothing": QWEN2 | {"attention_bias": False, "mlp_bias": True},
    "hidden_act gelu": LLAMA | {"hidden_act": "gelu"},
    "hidden_act gelu_pytorch_tanh": QWEN2 | {"hidden_act": "gelu_pytorch_tanh"},
    "tie_word_embeddings": LLAMA | {"tie_word_embeddings": True},
    "qwen2 tied": QWEN2 | {"tie_word_embeddings": True},
    "rms_norm_eps": LLAMA | {"rms_norm_eps": 1e-3},
    "layer_norm_eps and layer_norm_epsilon mean nothing": LLAMA | {"layer_norm_eps": 0.1, "layer_norm_epsilon": 0.1},
    "names of GPT-2 mean nothing": without(LLAMA, "hidden_size", "num_hidden_layers") | {"n_embd": 64, "n_layer": 1, "n_head": 8, "n_positions": 16},
    # Ends and dtypes
    "eos_token_id, a list": LLAMA | {"eos_token_id": [2, 5], "bos_token_id": 1},
    "eos_token_id null": LLAMA | {"eos_token_id": None, "bos_token_id": None},
    "pad_token_id": LLAMA | {"pad_token_id": 0},
    "torch_dtype": LLAMA | {"torch_dtype": "bfloat16"},
    "dtype": LLAMA | {"dtype": "float16"},
    # Sliding windows that are not used
    "qwen2, sliding_window of 16, not used": QWEN2 | {"use_sliding_window": False, "sliding_window": 16, "max_window_layers": 0},
    "qwen2, use_sliding_window, but no layer is above max_window_layers": QWEN2 | {
        "use_sliding_window": True, "sliding_window": 16, "max_window_layers": 2},
    "qwen2, use_sliding_window, sliding_window null": QWEN2 | {"use_sliding_window": True, "sliding_window": None, "max_window_layers": 0},
    "qwen3, layer_types all full_attention": QWEN3 | {"layer_types": ["full_attention"] * 2, "use_sliding_window": True, "sliding_window": 16},
    "llama, sliding_window means nothing": LLAMA | {"sliding_window": 4},
}


def build(config):
    config = copy.deepcopy(config)  # transformers fills in what is missing, in place
    return CONFIG_MAPPING[config.pop("model_type")].from_dict(config)


def resolved(json_config):
    config = build(json_config)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    rotary = type(model.model.rotary_emb)(config)
    attention = model.model.layers[0].self_attn
    assert not hasattr(config, "layer_types") or set(config.layer_types) == {"full_attention"}
    assert rotary.attention_scaling == 1 and len(rotary.inv_freq) == attention.head_dim // 2
    tied = model.lm_head.weight is model.model.embed_tokens.weight
    assert tied == config.tie_word_embeddings
    return {k: getattr(config, k) for k in FIELDS} | {
        "head_dim": attention.head_dim, "rope_parameters": config.rope_parameters, "inverseFrequencies": numbers(rotary.inv_freq.numpy()),
        "parameters": {n: list(p.shape) for n, p in model.named_parameters() if ".layers." not in n or ".layers.0." in n}}


QUANTIZED = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
REFUSED = {
    **{f"another family: {t}": (without(LLAMA, "model_type") | {"model_type": t} | more, why) for t, more, why in (
        ("mistral", {"sliding_window": None}, "Mistral: where it has a window, keys outside it are not seen"),
        ("mixtral", {}, "a mixture of experts"),
        ("qwen2_moe", {}, "a mixture of experts"),
        ("qwen3_moe", {"head_dim": 8}, "a mixture of experts"),
        ("gemma", {"head_dim": 8}, "Gemma: embeddings are scaled, norms have 1 + weight"),
        ("gemma2", {"head_dim": 8}, "Gemma 2: more norms, soft caps"),
        ("phi3", {"pad_token_id": 0}, "Phi-3: q, k, v in one matrix"),
        ("granite", {}, "Granite: multipliers of embeddings, attention, residuals, logits"),
        ("smollm3", {"pad_token_id": 0}, "SmolLM3: layers without positions"),
        ("olmo2", {}, "OLMo 2: norms after the blocks"),
        ("llama4_text", {"head_dim": 8}, "Llama 4: a mixture of experts, layers without positions"),
    )},
    "qwen2, sliding window in every layer": (
        QWEN2 | {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 0}, "a sliding window is in use"),
    "qwen2, sliding window in the last layer": (
        QWEN2 | {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}, "a sliding window is in use"),
    "qwen3, sliding window by layer_types": (
        QWEN3 | {"use_sliding_window": True, "sliding_window": 4, "layer_types": ["full_attention", "sliding_attention"]},
        "a sliding window is in use"),
    **{f"rope {t}": (LLAMA | {"rope_theta": 100.0, "rope_scaling": {"rope_type": t} | more}, f"{t} scaling of rotary positions") for t, more in (
        ("yarn", {"factor": 4.0, "original_max_position_embeddings": 16}),
        ("dynamic", {"factor": 4.0}),
        ("longrope", {"factor": 4.0, "original_max_position_embeddings": 4, "short_factor": [1.5] * 4, "long_factor": [2.0, 3.0, 4.0, 5.0]}),
        ("proportional", {"factor": 4.0}),
    )},
    "rope yarn in rope_parameters": (
        QWEN3 | {"rope_parameters": {"rope_type": "yarn", "rope_theta": 100.0, "factor": 4.0, "original_max_position_embeddings": 16}},
        "yarn scaling of rotary positions"),
    "rope of an unknown type": (LLAMA | {"rope_scaling": {"type": "ntk", "factor": 2.0}}, "an unknown rope type"),
    "rope linear without factor": (LLAMA | {"rope_scaling": {"type": "linear"}}, "factor is missing"),
    "rope llama3 without low_freq_factor": (
        LLAMA | {"rope_scaling": without(LLAMA31, "low_freq_factor") | {"rope_type": "llama3"}}, "low_freq_factor is missing"),
    "rope_parameters by layer type": (
        QWEN3 | {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 100.0}}}, "rope_parameters of each layer type"),
    "partial_rotary_factor": (LLAMA | {"partial_rotary_factor": 0.5}, "part of a head is to be rotated"),
    "partial_rotary_factor in rope_parameters": (
        LLAMA | {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 100.0, "partial_rotary_factor": 0.5}},
        "part of a head is to be rotated"),
    "quantization_config": (LLAMA | {"quantization_config": QUANTIZED}, "weights are stored in 4 bits"),
    "pretraining_tp 2": (LLAMA | {"pretraining_tp": 2}, "products were summed in slices during pre-training"),
    "hidden_act unknown": (LLAMA | {"hidden_act": "geglu"}, "an unknown activation"),
    "key-value heads do not divide heads": (LLAMA | {"num_key_value_heads": 3}, "3 key-value heads for 4 heads"),
    "width is no multiple of heads": (LLAMA | {"hidden_size": 30}, "width 30, 4 heads and no head_dim"),
    "odd head_dim": (LLAMA | {"head_dim": 7}, "rotary positions need an even head_dim"),
}


def behaviour(config):
    """What transformers does: an error, other logits, or the same as with the plain config of that model type."""
    plain = {"llama": LLAMA, "qwen2": QWEN2, "qwen3": QWEN3}.get(config["model_type"])
    if plain is None or "quantization_config" in config:
        AutoConfig.for_model(**copy.deepcopy(config))  # it is a config that transformers knows
        return "another model"
    ids, logits = torch.arange(80)[None] % 53, []  # longer than max_position_embeddings: dynamic scaling begins there
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    plain = plain | {k: rope[k] for k in ("rope_theta",) if k in rope} | {k: config[k] for k in ("rope_theta",) if k in config}
    for c in (plain, config):
        try:
            torch.manual_seed(0)
            model = AutoModelForCausalLM.from_config(build(c), attn_implementation="eager").eval()
            for p in model.parameters():
                torch.nn.init.normal_(p, std=0.3)
            with torch.no_grad():
                logits.append(model(ids).logits)
        except Exception as error:  # whatever it is, it is what a user would see
            return f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
    return "same logits" if torch.equal(*logits) else f"other logits, by {(logits[0] - logits[1]).abs().max():.1f}"


def write(name, value):
    (OUT / name).write_text("[\n" + ",\n".join(json.dumps(x, separators=(",", ":")) for x in value) + "\n]\n")
    print(name, len(value), "cases,", (OUT / name).stat().st_size, "bytes, transformers", __version__)


write("configs.json", [{"name": n, "config": c, "resolved": resolved(c)} for n, c in CONFIGS.items()])
refused = [{"name": n, "config": c, "why": why, "transformers": behaviour(c)} for n, (c, why) in REFUSED.items()]
for case in refused:
    print(f"{case['name']:50} {case['transformers']}")
write("refused.json", refused)
