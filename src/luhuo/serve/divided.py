"""A served model that several processes share: `python -m luhuo.launch --processes 2 -- serve MODEL`.

Each process computes its heads and its part of the MLPs (tensor parallelism). The first one is the server; the others
follow its engine until it lets them go.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from luhuo.adapter.open import open_model
from luhuo.core import processes
from luhuo.core.errors import LuhuoError, RunFailed
from luhuo.core.language import tr
from luhuo.inference.engine import Engine
from luhuo.inference.lockstep import Lockstep
from luhuo.inference.worker import Worker
from luhuo.model.decoder import Decoder
from luhuo.model.quantised_save import has_rounded
from luhuo.serve.served import Served
from luhuo.train import parallel
from luhuo.train.parallel_config import Parallel


@contextmanager
def divided(name: str, reference: str, dtype: str, device: str) -> Iterator[Served | None]:
    """The model in the first process; in the others nothing, once the first one has let them go.

    Raises `LuhuoError` for a model that is not divided, and `RunFailed` where a step failed in some process.
    """
    plan = Parallel(tp=processes.count())
    with parallel.processes(device, plan) as place:
        lockstep = Lockstep()
        model = open_model(reference, dtype, str(place))
        _refuse(model, reference)
        engine = Engine(parallel.spread(model, plan, model.dtype), lockstep=lockstep)
        if not lockstep.leads:
            for kind in (signal.SIGTERM, signal.SIGINT):  # they come to all; the first one finishes what runs
                signal.signal(kind, signal.SIG_IGN)
            lockstep.follow(engine.scheduler)
            yield None
            return
        served = Served(name, engine=engine, worker=Worker(engine), reference=reference)
        try:
            yield served
        finally:
            served.close(drain=False)
            if not lockstep.broken:
                lockstep.end()
        if lockstep.broken:  # nobody waits for the others any more
            raise RunFailed(tr("A step failed in one of the processes.", "某个进程的计算步骤失败。"))


def _refuse(model: object, reference: str) -> None:
    few = isinstance(model, Decoder) and has_rounded(model)
    if not isinstance(model, Decoder) or few:
        raise LuhuoError(
            tr("This model cannot be shared by several processes.", "该模型不能由多个进程共用。"),
            expected=tr("a decoder in fp32, bf16 or fp16", "fp32、bf16 或 fp16 的解码器"),
            found=tr("weights in few bits", "低位数权重") if few else type(model).__name__,
            where=reference,
            fix=tr("Use one process, or --dtype bf16.", "请使用单进程，或 --dtype bf16。"),
        )
