"""Writes test/golden/checkpoints/: one small random GPT-2 saved in every way transformers and TRL save it, and what PyTorch
computes with each file.

    python checkpoints.py         in the environment of README.md: what transformers saves
    python checkpoints.py --trl   in the environment of rl.py (TRL 0.11.4): what AutoModelForCausalLMWithValueHead saves

`expected.safetensors` in each directory: inputIds [B, T], logits [B, T, V] and, from TRL, values [B, T]. The model is loaded
back from its files by the library that wrote them, made float64 (half precision is exact in it), and run.
"""
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Model, logging

OUT = Path(__file__).resolve().parents[2] / "test" / "golden" / "checkpoints"
logging.set_verbosity_error()
logging.disable_progress_bar()
torch.set_num_threads(1)
torch.manual_seed(5)
SIZES = {"n_layer": 2, "n_embd": 16, "n_head": 2, "n_positions": 12, "vocab_size": 40, "bos_token_id": 0,
         "eos_token_id": 0, "initializer_range": 0.3}
ids = torch.randint(0, 40, (2, 9))


def model(kind=GPT2LMHeadModel, **options):
    made = kind(GPT2Config(**SIZES, **options)).eval()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if parameter.dim() == 1:  # biases and gains are not left at 0 and 1
                parameter.add_(0.2 * torch.randn_like(parameter))
    return made


def expect(directory, **tensors):
    kept = {"inputIds": ids.int(), **{n: x.detach().float().contiguous() for n, x in tensors.items()}}
    save_file(kept, directory / "expected.safetensors")
    for extra in ("generation_config.json", "README.md"):
        (directory / extra).unlink(missing_ok=True)
    print(f"{directory.name:20}", sorted(f.name for f in directory.iterdir()))


def fresh(name):
    shutil.rmtree(OUT / name, ignore_errors=True)
    (OUT / name).mkdir(parents=True)
    return OUT / name


def transformers_files():
    def logits(directory):
        return GPT2LMHeadModel.from_pretrained(directory).double().eval()(ids, use_cache=False).logits

    def case(name, made, **how):
        directory = fresh(name)
        made.save_pretrained(directory, **how)
        expect(directory, logits=logits(directory))

    case("single", model())
    case("sharded", model(), max_shard_size="12KB")
    case("fp16", model().half())
    case("bf16", model().bfloat16())
    case("untied", model(tie_word_embeddings=False))
    directory = fresh("no-prefix")
    bare = model(GPT2Model)
    bare.save_pretrained(directory)
    hidden = GPT2Model.from_pretrained(directory).double().eval()(ids, use_cache=False).last_hidden_state
    expect(directory, logits=hidden @ bare.wte.weight.double().T)


def trl_files():
    from trl import AutoModelForCausalLMWithValueHead

    def case(name, dtype=torch.float32, **how):
        directory = fresh(name)
        made = AutoModelForCausalLMWithValueHead.from_pretrained(model().to(dtype))
        made.v_head.summary.weight.data.normal_(0, 0.4)
        made.save_pretrained(str(directory), **how)
        if how:  # TRL 0.11.4 does not find the value head in a local directory of shards
            again = made.double().eval()
        else:
            again = AutoModelForCausalLMWithValueHead.from_pretrained(str(directory)).double().eval()
        assert torch.equal(again.v_head.summary.weight, made.v_head.summary.weight.double()), "the value head was not read"
        logits, _, values = again(ids)
        expect(directory, logits=logits, values=values)

    case("trl")
    case("trl-bf16", torch.bfloat16)
    case("trl-sharded", max_shard_size="12KB")


trl_files() if "--trl" in sys.argv else transformers_files()
print(sum(f.stat().st_size for f in OUT.rglob("*") if f.is_file()), "bytes")
