"""Up to how many rows of activations a product unpacks weights as it goes; above, the matrix is made dense first.

Which is faster depends on the processor. `luhuo doctor --measure` finds out and keeps it beside the compiled kernels;
until then `ROWS` count. Nothing is measured while a model runs: the two ways round differently in the last digits, so
what a request gets would depend on how busy the machine was when somebody first asked.
"""

from __future__ import annotations

import functools
import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

import torch
from torch.nn import functional as F

from luhuo.core.atomic import write_json
from luhuo.files.cache import cache_folder
from luhuo.kernels.native.build import processor

Form = Literal["int8", "int4", "fp8", "sparse"]

ROWS: dict[Form, int] = {"int8": 160, "int4": 160, "fp8": 160, "sparse": 512}
"""Where nothing was measured."""
TRIED = (32, 64, 96, 128, 160, 192, 256, 320, 384, 512)
SHAPE, REPEATS = (1536, 1536), 3


def most_rows(form: Form) -> int:
    """Rows up to which products with weights in this form unpack as they go, on this machine."""
    return measured().get(form, ROWS[form])


@functools.cache
def measured() -> dict[str, int]:
    """What `measure` found on this machine before; empty if it never ran, or if its file says something else."""
    try:
        found = json.loads(file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    known = found.items() if isinstance(found, dict) else ()
    return {name: rows for name, rows in known if name in get_args(Form) and type(rows) is int and 0 <= rows <= 4096}


def file() -> Path:
    """Where this machine's numbers are kept: they are of a processor, a version of PyTorch and a number of threads."""
    machine = f"{processor()}\0{torch.__version__}\0{torch.get_num_threads()}"
    return cache_folder() / "native" / f"rows-{hashlib.sha256(machine.encode()).hexdigest()[:16]}.json"


def measure() -> dict[str, int]:
    """Measure in processor time, a second or two, and keep what was found for processes that start from now on."""
    found = {form: crossing(form) for form in get_args(Form)}
    file().parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_json(file(), found)
    measured.cache_clear()
    return found


def crossing(form: Form) -> int:
    """The most rows of those tried up to which unpacking was never slower by more than a twentieth; else 0."""
    from luhuo.kernels import low_bit, sparse
    from luhuo.kernels.packed import pack

    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(SHAPE, generator=generator)
    if form == "sparse":
        weight.view(SHAPE[0], -1, 4)[..., ::2] = 0
        kept = sparse.pack(weight)
        view, dense = sparse.describe(kept), lambda: sparse.dense(kept, torch.bfloat16)
    else:
        floats = weight.to(torch.float8_e4m3fn), torch.ones(SHAPE[0], 1)
        bits: Literal[8, 4] = 4 if form == "int4" else 8
        group = SHAPE[1] if form == "fp8" else 64
        packed = pack(*(floats if form == "fp8" else low_bit.quantise(weight, bits, group)), bits=bits, group=group)
        view, dense = low_bit.describe(packed), lambda: low_bit.dense(packed, torch.bfloat16)
    best = 0
    for rows in TRIED:
        x, y = torch.randn(rows, SHAPE[1], generator=generator), torch.empty(rows, SHAPE[0])
        narrow = x.bfloat16()
        few = _seconds(lambda: low_bit.call("matrix_product", view, x, y, rows))  # noqa: B023  # called here only
        many = _seconds(lambda: F.linear(narrow, dense()))  # noqa: B023
        if few > 1.05 * many:
            break
        best = rows
    return best


def _seconds(work: Callable[[], object]) -> float:
    """Processor seconds, the best of a few."""
    work()
    best = float("inf")
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best
