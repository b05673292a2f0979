"""Writes test/golden/tensorboard/: an event file by PyPI's tensorboard (its protobufs and its record writer), and what it says.

    python tools/reference/tensorboard.py               # events.bin, golden.json
    python tools/reference/tensorboard.py --read DIR    # prints the scalars TensorBoard finds in DIR
"""
import json
import sys
from pathlib import Path

# Running this file puts its folder first, where its own name would hide the package.
sys.path.pop(0)
from importlib.metadata import version  # noqa: E402

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: E402
from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # noqa: E402
from tensorboard.compat.proto.summary_pb2 import Summary  # noqa: E402
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import crc32c  # noqa: E402
from tensorboard.summary.writer.record_writer import RecordWriter  # noqa: E402

OUT = Path(__file__).resolve().parents[2] / "test" / "golden" / "tensorboard"

# Milliseconds; the file's own first record has FILE_TIME. One step in JSON: infinities and NaN are strings.
FILE_TIME, FIRST_STEP = 1700000000123, 3
STEPS = [
    {"now": 1700000001000, "step": 3, "values": {"objective/kl": 0.1, "env/reward_mean": -2.5}},
    {"now": 1700000002250, "step": 127, "values": {"ppo/loss/value": 0.0}},
    {"now": 1700000003999, "step": 128, "values": {"a": "NaN", "b": "Infinity", "c": "-Infinity", "d": 1e-40}},
    {"now": 1700000004001, "step": 2**40 + 5, "values": {"größe/€": 16777217.0, "x" * 200: 3.4e38}},
    {"now": 1700000005000, "step": 0, "values": {"objective/kl": 1e-7}},
]


def write():
    OUT.mkdir(parents=True, exist_ok=True)
    events = [
        Event(wall_time=FILE_TIME / 1000, file_version="brain.Event:2"),
        Event(wall_time=FILE_TIME / 1000, step=FIRST_STEP, session_log=SessionLog(status=SessionLog.START)),
    ]
    for s in STEPS:
        values = [Summary.Value(tag=tag, simple_value=float(x)) for tag, x in s["values"].items()]
        events.append(Event(wall_time=s["now"] / 1000, step=s["step"], summary=Summary(value=values)))
    with open(OUT / "events.bin", "wb") as file:
        writer = RecordWriter(file)
        for event in events:
            writer.write(event.SerializeToString())
    golden = {
        "versions": {"tensorboard": version("tensorboard")},
        "fileTime": FILE_TIME,
        "firstStep": FIRST_STEP,
        "steps": STEPS,
        "crc32c": {text: crc32c(text.encode()) for text in ("", "a", "123456789", "valuehead")},
    }
    (OUT / "golden.json").write_text(json.dumps(golden, ensure_ascii=False) + "\n")


def read(directory):
    accumulator = EventAccumulator(directory, size_guidance={"scalars": 0}).Reload()
    print("file version", accumulator.file_version)
    for tag in accumulator.Tags()["scalars"]:
        for point in accumulator.Scalars(tag):
            print(json.dumps({"tag": tag, "step": point.step, "value": point.value, "wallTime": point.wall_time}))


if sys.argv[1:2] == ["--read"]:
    read(sys.argv[2])
else:
    write()
