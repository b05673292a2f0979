"""Writes conversations as Hugging Face `datasets` saves them: test/golden/chat/*.parquet, and their rows in parquet.json.

    (in the environment of rl.py, which has datasets) python tools/reference/chat_parquet.py
"""
import json
from pathlib import Path

import datasets
from datasets import Dataset, Features, Sequence, Value

OUT = Path(__file__).resolve().parents[2] / "test" / "golden" / "chat"
USER, ANSWER = {"role": "user", "content": "Où est Paris? 🎬"}, {"role": "assistant", "content": "In France."}
SYSTEM = {"role": "system", "content": "Be brief."}
turns = [{"role": Value("string"), "content": Value("string")}]
MESSAGES = [[SYSTEM, USER], [USER, ANSWER], [USER, ANSWER, {"role": "user", "content": "And Rome?"}], []]
rows = [{"messages": m, "label": i} for i, m in enumerate(MESSAGES)]

# A list of structs, as most data sets have it; other fields are null where a message has none.
Dataset.from_list(rows, features=Features({"messages": turns, "label": Value("int64")})).to_parquet(OUT / "messages.parquet")
tools = [{**turns[0], "name": Value("string"), "tool_calls": [{"id": Value("string")}]}]
wide = [{"messages": [{**m, "name": None, "tool_calls": None} for m in r["messages"]], "label": r["label"]} for r in rows]
Dataset.from_list(wide, features=Features({"messages": tools, "label": Value("int64")})).to_parquet(OUT / "nulls.parquet")
# A column `prompt` of messages, as TRL's conversational data sets have it.
Dataset.from_list([{"prompt": m} for m in MESSAGES[:3]], features=Features({"prompt": turns})).to_parquet(OUT / "prompt.parquet")
# What a Sequence of dicts was: a struct of lists.
old = Features({"messages": {"role": Sequence(Value("string")), "content": Sequence(Value("string"))}})
lists = [{"messages": {"role": [x["role"] for x in m], "content": [x["content"] for x in m]}} for m in MESSAGES]
Dataset.from_list(lists, features=old).to_parquet(OUT / "lists.parquet")
# Content as a list of parts.
parts = [{"role": Value("string"), "content": [{"type": Value("string"), "text": Value("string")}]}]
typed = [{"messages": [{"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]}]}]
Dataset.from_list(typed, features=Features({"messages": parts})).to_parquet(OUT / "parts.parquet")
(OUT / "parquet.json").write_text(json.dumps({"datasets": datasets.__version__, "messages": MESSAGES}, ensure_ascii=False) + "\n", encoding="utf-8")
print({path.name: path.stat().st_size for path in sorted(OUT.glob("*.parquet"))})
