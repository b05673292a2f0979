"""python smollm2.py DIR OUT.json

DIR is a checkpoint of a real instruct model of the Llama family with its tokenizer, SmolLM2-135M-Instruct for one. OUT.json
gets what transformers computes with it in float32, eager attention, for three prompts of different length; not kept in the
repository. The README has the layout.
"""
import json
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, __version__, logging

logging.set_verbosity_error()
logging.disable_progress_bar()
torch.set_num_threads(2)
directory, out = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(directory)
models = [AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, attn_implementation="eager").eval()
          for dtype in (torch.float32, torch.float64)]
LONG = """The tide went out before dawn and left the harbour empty. Mara walked along the wet stones with her brother's lamp, counting
the boats that had not come home. "Four," she said, "and one of them is ours." Nobody answered. The wind had turned to the
north in the night, and every fisherman in the village knew what that meant for those who were still out beyond the light."""
CHAT = [{"role": "user", "content": "Write one sentence about the sea."}]
texts = ["The capital of France is", tokenizer.apply_chat_template(CHAT, add_generation_prompt=True, tokenize=False), LONG]
prompts = []
for text in texts:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    inputs = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
    with torch.no_grad():
        logits, exact = (model(**inputs, use_cache=False).logits[0] for model in models)
        tokens = models[0].generate(**inputs, do_sample=False, num_beams=1, max_new_tokens=20)[0, len(ids):].tolist()
        whole = models[0](torch.tensor([ids + tokens]), use_cache=False).logits[0, len(ids) - 1:-1].topk(2).values
    assert torch.allclose(logits.double(), exact, atol=1e-3), "float32 and float64 differ"
    last = logits[-1].double()
    logprobs = logits.double().log_softmax(-1)[:-1].gather(-1, torch.tensor(ids[1:])[:, None])[:, 0]
    prompts.append({
        "text": text, "ids": ids, "logits": logits[-1, :50].tolist(), "logits64": exact[-1, :50].tolist(), "sum": last.sum().item(), "sumOfSquares": (last ** 2).sum().item(),
        "argmax": last.argmax().item(), "logprobs": logprobs.tolist(), "greedy": tokens, "greedyText": tokenizer.decode(tokens),
        "smallestLead": (whole[:, 0] - whole[:, 1]).min().item(), "float64Difference": (logits.double() - exact).abs().max().item(),
    })
    shown = {k: v for k, v in prompts[-1].items() if k not in ("logits", "logits64", "ids", "logprobs")}
    print(len(ids), "tokens", json.dumps(shown))
with open(out, "w") as file:
    json.dump({"transformers": __version__, "prompts": prompts}, file, indent=1)
