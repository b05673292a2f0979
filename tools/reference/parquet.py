"""Writes test/golden/parquet/: small Parquet files by PyPI's pyarrow, with the codecs and encodings data sets come in.

    python3 -m venv .venv-parquet && .venv-parquet/bin/pip install pyarrow==21.0.0
    .venv-parquet/bin/python tools/reference/parquet.py
"""
import datetime
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

OUT = Path(__file__).resolve().parents[2] / "test" / "golden" / "parquet"
OUT.mkdir(parents=True, exist_ok=True)

TEXTS = ["This film", "The naïve plot\nof it", None, "", "This film", "I saw \"it\", twice; twice 🎬", "  spaces  "]
ROWS = {
    "text": TEXTS,
    "label": [0, 1, 1, None, 2**53 - 1, -5, 0],
    "weight": [0.5, -1.25, None, 0.0, 1e-3, 2.0, 3.0],
    "liked": [True, False, None, True, True, False, False],
    "tags": [["a", "b"], [], None, ["c"], [None], ["d"], ["e"]],
    "source": [{"id": i, "name": f"n{i}"} for i in range(6)] + [None],
}
TABLE = pa.table(
    {
        "text": pa.array(ROWS["text"], pa.string()),
        "label": pa.array(ROWS["label"], pa.int64()),
        "weight": pa.array(ROWS["weight"], pa.float64()),
        "liked": pa.array(ROWS["liked"], pa.bool_()),
        "tags": pa.array(ROWS["tags"], pa.list_(pa.string())),
        "source": pa.array(ROWS["source"], pa.struct([("id", pa.int64()), ("name", pa.string())])),
    }
)
# Rows in groups of three: the reader must put groups together and count rows over all of them.
for codec in ["none", "snappy", "gzip", "zstd", "brotli", "lz4"]:
    for dictionary in [True, False]:
        name = f"{codec}-{'dictionary' if dictionary else 'plain'}.parquet"
        pq.write_table(TABLE, OUT / name, compression=codec, use_dictionary=dictionary, row_group_size=3)
pq.write_table(TABLE, OUT / "pages-v2.parquet", compression="zstd", data_page_version="2.0", row_group_size=4)
pq.write_table(
    TABLE.select(["text", "label"]),
    OUT / "delta.parquet",
    use_dictionary=False,
    column_encoding={"text": "DELTA_LENGTH_BYTE_ARRAY", "label": "DELTA_BINARY_PACKED"},
)
pq.write_table(TABLE.slice(0, 0), OUT / "empty.parquet")
# What a number of JavaScript cannot hold, and what JSON has no form for.
pq.write_table(
    pa.table({"query": ["a"], "large": pa.array([2**60], pa.int64()), "day": [datetime.date(2021, 2, 28)]}),
    OUT / "types.parquet",
)
(OUT / "rows.json").write_text(json.dumps([dict(zip(ROWS, row)) for row in zip(*ROWS.values())], ensure_ascii=False))
