"""Spreading a model over the processes of `torchrun`: copies of it, pieces of it, or copies of pieces.

Processes that hold copies sum their gradients after the backward pass (`Ranks.reduce`). Pieces are PyTorch's FSDP2
(`fully_shard`; Zhao et al. 2023): each block's parameters are gathered when it computes, and its gradients are summed
and scattered at once. The result is that of one process: the loss is a sum divided by the global weight, so gradients
are summed, never averaged.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, OffloadPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from luhuo.core.device import pick_device
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.decoder import Decoder

PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others before it gives up."""


@contextmanager
def processes(device: str) -> Iterator[torch.device]:
    """Join the other processes if `torchrun` started this one; yields the device of this process."""
    if "WORLD_SIZE" not in os.environ or distributed.is_initialized():
        yield pick_device(device)
        return
    place = pick_device(device)
    if place.type == "cuda":
        place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(place)
    distributed.init_process_group("nccl" if place.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        distributed.barrier()
        yield place
        distributed.barrier()  # a process that leaves early takes its connections with it
    finally:
        distributed.destroy_process_group()


def spread(model: Decoder, shard: int, *, offload: bool = False) -> Decoder:
    """Divide the parameters into `shard` pieces (0: one for each process); 1 leaves them whole.

    With fewer pieces than processes there are several copies of the pieces (hybrid sharding). `offload` keeps the
    pieces in the CPU's memory. All processes must hold equal parameters when they call this.
    """
    count = distributed.get_world_size() if distributed.is_initialized() else 1
    shard = shard or count
    if count % shard:
        raise LuhuoError(
            tr("The processes cannot be divided into groups of this size.", "进程数不能被该分片数整除。"),
            expected=tr(f"a divisor of {count}", f"{count} 的约数"),
            found=f"shard={shard}",
        )
    if shard == 1:
        return model
    kind = model.device.type
    if shard == count:
        mesh = init_device_mesh(kind, (count,), mesh_dim_names=("shard",))
    else:
        mesh = init_device_mesh(kind, (count // shard, shard), mesh_dim_names=("copy", "shard"))
    policy = CPUOffloadPolicy() if offload else OffloadPolicy()
    for module in [*model.blocks, *model.mtp, model]:
        sharded = fully_shard(module, mesh=mesh, offload_policy=policy)  # type: ignore[arg-type]
        sharded.set_gradient_divide_factor(1.0)
        sharded.set_force_sum_reduction_for_comms(True)
    for method in ("hidden", "mtp_hidden", "mtp_states"):
        register_fsdp_forward_method(model, method)
    return model


def whole(model: Decoder) -> Decoder | None:
    """A model of whole parameters on the CPU, on rank 0; None on the others. All processes call this together."""
    if not any(isinstance(parameter, DTensor) for parameter in model.parameters()):
        return model if not distributed.is_initialized() or distributed.get_rank() == 0 else None
    main = distributed.get_rank() == 0
    gathered = None
    if main:
        with torch.device("meta"):
            gathered = type(model)(copy.copy(model.config)).to_empty(device="cpu")
        gathered.tokenizer = model.tokenizer
    targets: dict[str, nn.Parameter] = dict(gathered.named_parameters()) if gathered is not None else {}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            full = parameter.full_tensor() if isinstance(parameter, DTensor) else parameter
            if main:
                targets[name].copy_(full)
    return gathered
