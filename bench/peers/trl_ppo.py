"""python trl_ppo.py --model DIR [--adapter DIR] [--threads N] [--device gpu]: a PPO step of TRL 0.11.4, of an adapter with PEFT. See serve.py.

    {"run": "ppo", "queries": [[...], ...], "batch": B, "tokens": N, "epochs": E, "miniBatch": M, "sampleBatch": S}
    a PPO step; the reward is (place in the batch mod 4) / 4
    -> also "responses", "times" (TRL's own), "responseTokens" (mean), "optimizerSteps"
"""
from serve import args, find_device, serve  # isort: skip (before the libraries, so that they print to stderr)

import time
import warnings

import torch
import transformers
import trl
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast
from trl import AutoModelForCausalLMWithValueHead, PPOConfig, PPOTrainer

warnings.simplefilter("ignore")
transformers.logging.set_verbosity_error()
torch.set_num_threads(args.threads)

tokenizer = PreTrainedTokenizerFast.from_pretrained(args.model)  # whatever class transformers 5 wrote into its config
tokenizer.pad_token = tokenizer.eos_token
config = AutoConfig.from_pretrained(args.model)
if rope := getattr(config, "rope_parameters", None):  # transformers 5's name, which 4.45 passes over
    config.rope_theta = rope["rope_theta"]
if args.adapter:
    import peft
    from safetensors.torch import load_file

    adapted = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(args.model, config=config), args.adapter, is_trainable=True)
    model = AutoModelForCausalLMWithValueHead.from_pretrained(adapted)
    head = load_file(f"{args.adapter}/v_head.safetensors")
    model.v_head.load_state_dict({name.removeprefix("v_head."): tensor for name, tensor in head.items()})
    reference = None  # the base without the adapter
else:
    model = AutoModelForCausalLMWithValueHead.from_pretrained(args.model, config=config)
    reference = AutoModelForCausalLMWithValueHead.from_pretrained(args.model, config=config)
device = find_device(torch)
trainer = PPOTrainer(PPOConfig(accelerator_kwargs={"cpu": device == "cpu"}), model, reference, tokenizer)
optimizer_steps = 0


def count_step(*_):
    global optimizer_steps
    optimizer_steps += 1


trainer.optimizer.optimizer.register_step_post_hook(count_step)


def ppo(command, clock):
    global optimizer_steps
    optimizer_steps = 0
    queries = [torch.tensor(q) for q in command["queries"][: command["batch"]]]
    config = trainer.config
    config.batch_size, config.ppo_epochs = len(queries), command["epochs"]
    config.mini_batch_size = config.backward_batch_size = command["miniBatch"]
    scores = [torch.tensor(place % 4 / 4) for place in range(len(queries))]
    with clock:
        start = time.perf_counter()
        responses = trainer.generate(
            queries, batch_size=command["sampleBatch"], return_prompt=False, max_new_tokens=command["tokens"],
            do_sample=True, top_k=0, top_p=1.0, pad_token_id=tokenizer.eos_token_id,
        )
        sampled = time.perf_counter() - start
        stats = trainer.step(queries, responses, scores)
    times = {name: float(stats[name]) for name in stats if name.startswith("time/")}
    return {
        "numbers": [float(stats[n]) for n in ("objective/entropy", "ppo/returns/mean", "ppo/val/mean")],
        "responses": [r.tolist() for r in responses],
        "times": {"time/get_response": sampled} | times,
        "responseTokens": sum(len(r) for r in responses) / len(responses),
        "optimizerSteps": optimizer_steps,
    }


about = {
    "torch": torch.__version__, "transformers": transformers.__version__, "trl": trl.__version__,
    "threads": torch.get_num_threads(), "attention": model.pretrained_model.config._attn_implementation,
    "device": torch.cuda.get_device_name() if device == "cuda" else device,
} | ({"peft": peft.__version__} if args.adapter else {})
serve(about, {"ppo": ppo})
