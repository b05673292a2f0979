"""python limits.py [--threads N]: what this machine can do, by numpy and the OpenBLAS in its wheel. See serve.py.

    {"run": "sgemm", "size": N}    a product of two N x N matrices: also "flops"
    {"run": "copy", "bytes": B}    a copy of B bytes, every thread a part: also "bytes", read and written (2 B)
    {"run": "read", "bytes": B, "by": "dot" | "sum"}    each byte read once, by OpenBLAS's threads or ours: also "bytes" (B)
"""
from serve import args, serve  # isort: skip

import os

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ[name] = str(args.threads)

from concurrent.futures import ThreadPoolExecutor

import numpy as np

pool = ThreadPoolExecutor(args.threads)
kept = {}


def array(name, elements):
    """Memory that is there already: made and written once."""
    if name not in kept or kept[name].size != elements:
        kept[name] = np.ones(elements, np.float32)
    return kept[name]


def in_parts(function, *arrays):
    """numpy lets go of the interpreter's lock while it computes."""
    list(pool.map(function, *(np.array_split(a, args.threads) for a in arrays)))


def sgemm(command, clock):
    n = command["size"]
    a, b, c = (array(name, n * n).reshape(n, n) for name in "abc")
    with clock:
        np.matmul(a, b, out=c)
    return {"flops": 2 * n**3, "numbers": [float(c[-1, -1])]}


def copy(command, clock):
    a, b = (array(name, command["bytes"] // 4) for name in "ab")
    with clock:
        in_parts(np.copyto, a, b)
    return {"bytes": 2 * b.nbytes}


def read(command, clock):
    a = array("a", command["bytes"] // 4)
    with clock:
        np.dot(a, a) if command["by"] == "dot" else in_parts(np.sum, a)
    return {"bytes": a.nbytes}


blas = np.show_config("dicts")["Build Dependencies"]["blas"]
serve({"numpy": np.__version__, "blas": f'{blas["name"]} {blas["version"]}'}, {"sgemm": sgemm, "copy": copy, "read": read})
