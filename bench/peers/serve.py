"""What the Python peers share. A peer says what it is in one JSON line, then answers each JSON line on stdin with one on
stdout, until stdin ends:

    {"run": NAME, ...}
    -> {"seconds": ..., "rss": peak resident bytes of this run, "idle": CPU seconds used since the last answer,
        "numbers": what both sides must agree on, ...}
"""
import argparse
import gc
import json
import os
import resource
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"

parser = argparse.ArgumentParser()
parser.add_argument("--model", help="a checkpoint in Hugging Face layout")
parser.add_argument("--adapter", help="a LoRA adapter for it, in PEFT's layout, which is trained instead of its weights")
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu", help="gpu: CUDA or Apple's MPS, and an error where there is neither")
args = parser.parse_args()

# What libraries print must not get among the answers.
answers = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)


def reset_peak():
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass  # not Linux: the peak is that of the whole process


def peak_bytes():
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def find_device(torch):
    """PyTorch's name of the device that is asked for."""
    if args.device == "cpu":
        return "cpu"
    name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else None
    if name is None:
        sys.exit("Error: no GPU that this PyTorch can use")
    Clock.settle = staticmethod(getattr(torch, name).synchronize)
    return name


class Clock:
    """Times what is inside `with`. A second use replaces the first."""

    settle = staticmethod(lambda: None)  # waits until a GPU has done what it was asked

    def __enter__(self):
        reset_peak()
        Clock.settle()
        self.start = time.perf_counter()

    def __exit__(self, *_):
        Clock.settle()
        self.seconds = time.perf_counter() - self.start


def say(answer):
    answers.write(json.dumps(answer) + "\n")


def serve(about, runs):
    """`runs[name](command, clock)` does its preparations, its work inside `with clock`, and gives a dict of findings."""
    say({"python": sys.version.split()[0]} | about)
    cpu = time.process_time()
    for line in sys.stdin:
        idle = time.process_time() - cpu
        command, clock = json.loads(line), Clock()
        found = runs[command["run"]](command, clock)
        say({"numbers": []} | found | {"seconds": clock.seconds, "rss": peak_bytes(), "idle": idle})
        del found
        gc.collect()
        cpu = time.process_time()
