"""Spreading a model over the processes of `torchrun`: copies, FSDP, experts, tensor parallelism, and their products.

Processes that hold copies of a parameter sum its gradients once a step, after the last micro-batch (`Ranks.reduce`).
FSDP is PyTorch's (`fully_shard`; Zhao et al. 2023): each block's parameters are gathered when it computes, and the
gradients of a step are summed and scattered in its last backward pass. The result is that of one process: the loss is
a sum divided by the global weight, so gradients are summed, never averaged.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import torch
from torch import distributed, nn
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor

from luhuo.core.device import pick_device
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.model.base import LanguageModel
from luhuo.model.block import Block
from luhuo.model.moe import Router
from luhuo.model.mtp import Prediction
from luhuo.model.stack import Stack, StackBlock
from luhuo.train import mesh as meshes
from luhuo.train.expert_parallel import divide_experts
from luhuo.train.mesh import Mesh
from luhuo.train.parallel_config import Parallel
from luhuo.train.pieces import Cut, Split, gathered, local, note
from luhuo.train.quantisation.rounding import copy_rounding
from luhuo.train.tensor_parallel import Plan, divide, told

PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others before it gives up."""
METHODS = ("hidden", "head", "text", "mtp_states", "read")
"""Of models, beside `forward`: what objectives call. None may call another: FSDP would forget parameters too early."""

Model = TypeVar("Model", bound=LanguageModel)


@contextmanager
def processes(device: str, parallel: Parallel | None = None) -> Iterator[torch.device]:
    """Join the other processes if `torchrun` started this one, arranged as `parallel` says; yields the device.

    Raises `LuhuoError` if the number of processes does not fit `parallel`.
    """
    parallel = parallel or Parallel()
    if "WORLD_SIZE" not in os.environ or distributed.is_initialized():
        meshes.use(parallel)
        yield pick_device(device)
        return
    parallel.sizes(int(os.environ["WORLD_SIZE"]))  # before anybody waits for anybody
    place = pick_device(device)
    if place.type == "cuda":
        place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(place)
    # Collectives of offloaded parameters need a backend for each kind of memory.
    backend = "cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo"
    distributed.init_process_group(backend, timeout=PATIENCE)
    try:
        meshes.use(parallel)
        distributed.barrier()
        yield place
        distributed.barrier()  # a process that leaves early takes its connections with it
    finally:
        distributed.destroy_process_group()


def spread(model: Model, parallel: Parallel, dtype: torch.dtype = torch.float32) -> Model:
    """Divide a model among the processes as `parallel` says, in place; `dtype` is what it will compute in.

    With FSDP, parameters travel in `dtype`; their gradients are summed in fp32. All processes must hold equal
    parameters when they call this. Raises `LuhuoError` for sizes that fit neither the processes nor the model.
    """
    mesh = meshes.use(parallel)
    if mesh.count == 1:
        return model
    if getattr(model.config, "shared_layers", ()) and mesh.count != mesh.sizes["dp"]:
        raise LuhuoError(
            tr("Layers that share weights are not divided among processes.", "共享权重的层不能在进程间切分。"),
            expected="dp",
            found=parallel.model_dump(),
            where="parallel",
        )
    splits: dict[str, Split] = {}
    plan = Plan(mesh.member("tp"), mesh)
    if mesh.sizes["ep"] > 1 or mesh.sizes["tp"] > 1:
        splits |= divide_experts(model, mesh)
    experts = set(splits)
    if mesh.sizes["tp"] > 1:
        plan = divide(model, mesh)
        splits |= plan.splits
        if distributed.get_rank() == 0 and plan.whole:
            say(told(plan))
    if mesh.sizes["fsdp"] > 1:
        _fully_shard(model, mesh, parallel.offload, dtype)
    for name, parameter in model.named_parameters():
        note(parameter, _cut(name, parameter, mesh, splits.get(name), plan, name in experts))
    return model


def _cut(name: str, parameter: nn.Parameter, mesh: Mesh, split: Split | None, plan: Plan, expert: bool) -> Cut:
    """What this process holds of a parameter, and which sums its gradient still needs."""
    sharded = mesh.sizes["fsdp"] > 1 and isinstance(parameter, DTensor) and not _ignored(name)
    names = ("ep", "tp") if expert else ("tp",)
    divided = {"fsdp"} if sharded else set()
    divided |= {dimension for dimension in names if split is not None}
    over = [dimension for dimension in ("dp", "fsdp", "ep", "tp") if dimension not in divided]
    copies = mesh.count
    for dimension in divided:
        copies //= mesh.sizes[dimension]
    whole = split is None and name not in plan.partial
    return Cut(
        split=split,
        splitter=None if split is None else mesh.member(*names),
        rows=mesh.member("fsdp") if sharded else None,
        copies=copies,
        first=all(mesh.place[dimension] == 0 for dimension in over),
        over=tuple(over),
        share=1 / mesh.sizes["tp"] if whole else 1.0,
    )


def _ignored(name: str) -> bool:
    """The routers' corrections: no gradient moves them, so every process keeps all of them."""
    return name.endswith("router.correction")


def _fully_shard(model: LanguageModel, mesh: Mesh, offload: bool, dtype: torch.dtype) -> None:
    """FSDP over the blocks and what is left of the model. Routers decide in fp32, so theirs travel in it."""
    assert mesh.devices is not None
    policy = CPUOffloadPolicy() if offload else OffloadPolicy()
    plain = MixedPrecisionPolicy()
    lower = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    ignored = {parameter for name, parameter in model.named_parameters() if _ignored(name)}
    for module in [*_units(model), model]:
        fully_shard(
            module,
            mesh=mesh.devices["fsdp"],
            mp_policy=plain if dtype == torch.float32 or isinstance(module, Router) else lower,
            offload_policy=policy,
            ignored_params=ignored,
        )
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    for method in METHODS:
        if hasattr(model, method):
            register_fsdp_forward_method(model, method)


def _units(model: LanguageModel) -> list[nn.Module]:
    """What is gathered at once, inner parts first. Blocks that a pass uses again and again stay in one unit."""
    repeated = {
        block
        for stack in model.modules()
        if isinstance(stack, Stack) and stack.config.groups
        for block in stack.blocks
    }
    routers = [module for module in model.modules() if isinstance(module, Router)]
    predictions = [module for module in model.modules() if isinstance(module, Prediction)]
    inside = {part for module in predictions for part in module.modules()}
    blocks = [module for module in model.modules() if isinstance(module, Block | StackBlock)]
    return [*routers, *(block for block in blocks if block not in inside and block not in repeated), *predictions]


def synchronise(model: nn.Module, now: bool) -> None:
    """Say whether the next backward pass sums gradients over FSDP's processes, or keeps them for a later one."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(now)


def reshard(model: nn.Module) -> None:
    """Forget gathered parameters: the pieces are about to change."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def whole(model: Model) -> Model | None:
    """A model of whole parameters on the CPU, on rank 0; None on the others. All processes call this together."""
    if not any(isinstance(parameter, DTensor) for parameter in model.parameters()):
        return model if not distributed.is_initialized() or distributed.get_rank() == 0 else None
    reshard(model)
    main = distributed.get_rank() == 0
    result = None
    if main:
        kind = next(base for base in type(model).__mro__ if not issubclass(base, FSDPModule))
        with torch.device("meta"):
            result = kind(copy.copy(model.config)).to_empty(device="cpu")  # type: ignore[call-arg]
        result.tokenizer = model.tokenizer
        copy_rounding(model, result)
    targets: dict[str, nn.Parameter] = dict(result.named_parameters()) if result is not None else {}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            full = gathered(local(parameter.detach()), parameter)
            if main:
                targets[name].copy_(full)
    return result  # type: ignore[return-value]
