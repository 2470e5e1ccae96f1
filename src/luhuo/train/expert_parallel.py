"""Expert parallelism (Lepikhin et al. 2020, "GShard", section 3.2): each process has some experts of every layer.

Every process routes its own tokens. Rows travel to the processes that have their experts (all-to-all), are multiplied
there, and travel back; the backward pass takes the same ways. No token is dropped, so that the result is that of one
process. Within a tensor-parallel group, whose processes see the same tokens, each serves the experts it has and the
answers are summed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.moe import ExpertMatrices, Experts, grouped_linear
from luhuo.train.mesh import Mesh
from luhuo.train.pieces import Member, Split, local
from luhuo.train.tensor_parallel import copied, shard, summed


class SharedExperts(Experts):
    """The experts of one process, which answer the rows of all."""

    among: Member
    """Processes with other tokens (dimension `ep`)."""
    beside: Member
    """Processes with the same tokens (dimension `tp`)."""

    def forward(self, x: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """Weighted sum of the chosen experts' answers: x (N, C), chosen and weights (N, k) give (N, C)."""
        if self.beside.count > 1:
            x, weights = copied(x, self.beside), copied(weights, self.beside)
        flat = chosen.flatten()
        own = len(_mine(self.gate_up))
        order = flat.argsort(stable=True)
        order = order[flat[order] // own % self.beside.count == self.beside.index]
        experts = flat[order]
        spread = x.unsqueeze(1).expand(-1, chosen.shape[1], -1).flatten(0, 1)  # its gradient is a sum, in order
        answers = self._asked(spread[order], experts, own)
        filled = answers.new_zeros(len(flat), x.shape[1]).index_copy(0, order, answers)
        mixed = torch.einsum("nk,nkc->nc", weights.to(filled.dtype), filled.view(*chosen.shape, -1))
        return summed(mixed, self.beside) if self.beside.count > 1 else mixed

    def _asked(self, rows: Tensor, experts: Tensor, own: int) -> Tensor:
        """Answers (M, C) for rows (M, C), sorted by expert, wherever the experts are."""
        count, stride = self.among.count, own * self.beside.count
        table = torch.bincount(experts // stride * own + experts % own, minlength=count * own).view(count, own)
        if count == 1:
            return self._answered(rows, table[0])
        theirs = torch.empty_like(table)
        distributed.all_to_all_single(theirs, table, group=self.among.group)
        sent, got = table.sum(1).tolist(), theirs.sum(1).tolist()
        arrived = _exchange(rows, sent, got, self.among)
        kinds = torch.arange(own, device=rows.device).repeat(count).repeat_interleave(theirs.flatten())
        order = kinds.argsort(stable=True)  # rows of one expert stand together, whoever sent them
        answers = self._answered(arrived[order], theirs.sum(0))
        return _exchange(torch.empty_like(answers).index_copy(0, order, answers), got, sent, self.among)

    def _answered(self, rows: Tensor, counts: Tensor) -> Tensor:
        """Answers of this process's experts: the first counts[0] rows are the first one's, and so on."""
        kinds = torch.arange(len(counts), device=rows.device).repeat_interleave(counts)
        inner = _biased(grouped_linear(rows, _mine(self.gate_up), counts), self.gate_up_bias, kinds)
        return _biased(grouped_linear(self._activated(inner), _mine(self.down), counts), self.down_bias, kinds)


def _mine(matrices: Tensor | ExpertMatrices) -> Tensor:
    assert isinstance(matrices, Tensor)  # `divide_experts` refuses others
    return local(matrices)


def _biased(x: Tensor, bias: Tensor | None, kinds: Tensor) -> Tensor:
    return x if bias is None else x + local(bias).to(x.dtype)[kinds]


class _Exchange(torch.autograd.Function):
    """Rows to their processes; their gradients come back the same way."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, sent: list[int], got: list[int], member: Member) -> Tensor:
        ctx.sent, ctx.got, ctx.member = sent, got, member
        return _moved(rows, sent, got, member)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        return _moved(gradients[0], ctx.got, ctx.sent, ctx.member), None, None, None


def _moved(rows: Tensor, sent: list[int], got: list[int], member: Member) -> Tensor:
    arrived = rows.new_empty(sum(got), rows.shape[1])
    distributed.all_to_all_single(arrived, rows.contiguous(), got, sent, group=member.group)
    return arrived


def _exchange(rows: Tensor, sent: list[int], got: list[int], member: Member) -> Tensor:
    return _Exchange.apply(rows, sent, got, member)  # type: ignore[return-value]


def divide_experts(model: nn.Module, mesh: Mesh) -> dict[str, Split]:
    """Give each process of the dimensions `ep` and `tp` its experts; how their parameters were split, by name.

    Raises `LuhuoError` if the experts do not divide, or `ep` is asked for without any.
    """
    count = mesh.sizes["ep"] * mesh.sizes["tp"]
    names = tuple(name for name in ("ep", "tp") if mesh.sizes[name] > 1)
    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, Experts)]
    if mesh.sizes["ep"] > 1 and not layers:
        raise LuhuoError(
            tr("ep divides experts, and this model has none.", "ep 用于切分专家，而该模型没有专家。"),
            found=f"ep={mesh.sizes['ep']}",
            where="parallel",
            fix=tr("Use dp, fsdp or tp.", "请改用 dp、fsdp 或 tp。"),
        )
    splits: dict[str, Split] = {}
    for name, module in layers:
        if isinstance(module.gate_up, ExpertMatrices):
            raise LuhuoError(
                tr("Experts in few bits are not divided among processes.", "低位数的专家不能在进程间切分。"),
                where="parallel, adapter.base",
                fix="adapter.base=bf16",
            )
        experts = len(module.gate_up)
        if experts % count:
            raise LuhuoError(
                tr("The experts cannot be divided among the processes.", "专家数不能被进程数整除。"),
                expected=tr(f"a multiple of ep x tp = {count}", f"ep × tp = {count} 的倍数"),
                found=tr(f"{experts} experts", f"{experts} 个专家"),
                where="parallel",
            )
        split = Split(0, (experts,), count)
        for key, _ in list(module.named_parameters(recurse=False)):
            shard(module, key, split, mesh, names)
            splits[f"{name}.{key}"] = split
        module.__class__ = SharedExperts
        assert isinstance(module, SharedExperts)
        module.among, module.beside = mesh.member("ep"), mesh.member("tp")
    return splits
