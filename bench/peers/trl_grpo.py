"""python trl_grpo.py --model DIR [--threads N]: a GRPO step of TRL 1.16.0's GRPOTrainer. See serve.py.

    {"run": "grpo", "queries": [[...], ...], "generations": G, "tokens": N, "microBatch": M}
    a step: G responses to each prompt, one optimizer step on all of them, M at a time; the reward is (place in the batch mod 4) / 4
    -> also "responses"; "numbers": entropy, norm of the gradient

A training run of TRL's goes on in a thread of its own. It waits before every step until one is asked for, so that a step's time has nothing of
the run's beginning and end in it.
"""
from serve import args, serve  # isort: skip (before the libraries, so that they print to stderr)

import os
import tempfile
import threading
import warnings
from queue import Queue

os.environ |= {"TRL_EXPERIMENTAL_SILENCE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}

import torch
import transformers
import trl
from datasets import Dataset
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, TrainerCallback

warnings.simplefilter("ignore")
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
torch.set_num_threads(args.threads)

tokenizer = PreTrainedTokenizerFast.from_pretrained(args.model)
tokenizer.pad_token = tokenizer.eos_token
model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
asked, done = Queue(), Queue()
found = {}


class Stepwise(TrainerCallback):
    """Waits for a clock before each step and stops it after the step."""

    def on_step_begin(self, *_, **__):
        self.clock = asked.get()
        self.before = len(self.entropies())
        self.clock.__enter__()

    def on_step_end(self, *_, **__):
        self.clock.__exit__()
        new = self.entropies()[self.before :]
        found["entropy"] = sum(new) / len(new)
        done.put(None)

    def entropies(self):
        """Of the microbatches since TRL last wrote its log."""
        return trainer._metrics["train"]["entropy"]


def reward(completion_ids, **_):
    found["responses"] = [list(ids) for ids in completion_ids]
    return [place % 4 / 4 for place in range(len(completion_ids))]


def make_trainer(queries, generations, tokens, micro_batch):
    parts = len(queries) * generations // micro_batch
    config = trl.GRPOConfig(
        output_dir=tempfile.mkdtemp(), use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True, bf16=False, max_steps=1000,
        shuffle_dataset=False, num_generations=generations, per_device_train_batch_size=micro_batch, gradient_accumulation_steps=parts,
        steps_per_generation=parts, max_completion_length=tokens, generation_kwargs={"min_new_tokens": tokens}, beta=0.04,
        use_bias_correction_kl=False, disable_dropout=True, gradient_checkpointing=False,
    )
    trainer = trl.GRPOTrainer(
        model=model, reward_funcs=reward, args=config, processing_class=tokenizer, callbacks=[Stepwise()],
        train_dataset=Dataset.from_dict({"prompt": [str(i) for i in range(len(queries))] * 50}),
    )
    trainer._tokenize_prompts = lambda prompts: ([queries[int(p)] for p in prompts], None, {})
    norm_of = trainer._get_grad_norm

    def norm(*given, **named):
        found["norm"] = float(norm_of(*given, **named))
        return found["norm"]

    trainer._get_grad_norm = norm
    return trainer


trainer = None


def run():
    try:
        trainer.train()
    except BaseException as error:
        done.put(error)


def grpo(command, clock):
    global trainer
    if trainer is None:
        trainer = make_trainer(command["queries"], command["generations"], command["tokens"], command["microBatch"])
        threading.Thread(target=run, daemon=True).start()
    asked.put(clock)
    if error := done.get():
        raise error
    return {"numbers": [found["entropy"], found["norm"]], "responses": found["responses"]}


about = {
    "torch": torch.__version__, "transformers": transformers.__version__, "trl": trl.__version__,
    "threads": torch.get_num_threads(), "attention": model.config._attn_implementation,
}
serve(about, {"grpo": grpo})
