"""Tensor parallelism (Shoeybi et al. 2019, "Megatron-LM", section 3): each process computes its heads, its part of
the MLP's inner width and its experts, for the same tokens, and the parts are summed.

A projection into heads or the inner width is divided by rows (`Columns`: output features), the one back by columns
(`Rows`). One sum of activations goes forward and one of gradients backward for each pair. Parameters are DTensors
over the mesh's dimension `tp`; the products use their local parts, since the model's hand-written gradients take
plain tensors. What cannot be divided evenly is computed by every process alike, and `divide` says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor, Shard
from torch.nn import functional as F

from luhuo.core.language import tr
from luhuo.model.layers import MLP, Attention, Linear
from luhuo.model.linear_attention import LinearAttention
from luhuo.model.mla import LatentAttention
from luhuo.model.norms import RMSNorm
from luhuo.model.stack_attention import CrossAttention, DisentangledAttention, SelfAttention
from luhuo.train.mesh import Mesh
from luhuo.train.pieces import Member, Split, local


class _Copy(torch.autograd.Function):
    """What every process has, on its way into a divided product: the gradients of the parts are summed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: distributed.ProcessGroup | None) -> Tensor:
        ctx.group = group
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _summed(gradients[0], ctx.group), None


class _Sum(torch.autograd.Function):
    """The sum of the parts: every part has the gradient of the whole."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: distributed.ProcessGroup | None) -> Tensor:
        return _summed(x, group)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


def _summed(x: Tensor, group: distributed.ProcessGroup | None) -> Tensor:
    total = x.clone(memory_format=torch.contiguous_format)
    distributed.all_reduce(total, group=group)
    return total


def copied(x: Tensor, member: Member) -> Tensor:
    """x, whose gradient is the sum over the group."""
    return _Copy.apply(x, member.group)  # type: ignore[return-value]


def summed(x: Tensor, member: Member) -> Tensor:
    """The sum of x over the group; its gradient goes to all."""
    return _Sum.apply(x, member.group)  # type: ignore[return-value]


class Columns(Linear):
    """Some of a projection's output features; where the parameter is whole, those `picked`."""

    member: Member
    picked: Tensor | None
    copies: bool

    def dense(self, dtype: torch.dtype) -> Tensor:
        """This process's rows."""
        weight = local(self.weight)
        return (weight if self.picked is None else weight[self.picked]).to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = local(self.weight), None if self.bias is None else local(self.bias)
        if self.picked is not None:
            weight, bias = weight[self.picked], None if bias is None else bias[self.picked]
        if self.copies:
            x = copied(x, self.member)
        return F.linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype))


class Rows(Linear):
    """Products with some of the input features, summed over the group; the bias is added once."""

    member: Member

    def forward(self, x: Tensor) -> Tensor:
        total = summed(F.linear(x, local(self.weight).to(x.dtype)), self.member)
        return total if self.bias is None else total + self.bias.to(x.dtype)


class SharedColumns(Linear):
    """A whole projection whose results each process uses for its own heads: their gradients are summed."""

    member: Member

    def forward(self, x: Tensor) -> Tensor:
        return copied(super().forward(x), self.member)


class PickedNorm(RMSNorm):
    """A norm with a weight for each head, of which this process uses its own."""

    heads: slice

    @property
    def factor(self) -> Tensor:
        """What the normalised features of these heads are multiplied by."""
        return super().factor[self.heads]


@dataclass
class Plan:
    """What has been divided, by parameter, and what has not."""

    member: Member
    mesh: Mesh
    splits: dict[str, Split] = field(default_factory=dict)
    partial: set[str] = field(default_factory=set)
    """Whole parameters of whose gradient each process computes a part."""
    whole: list[str] = field(default_factory=list)
    """Modules that every process computes alike."""

    def columns(self, module: Linear, name: str, *sizes: int, copies: bool = True) -> None:
        """Divide the output features of a projection, those of each of the fused `sizes`."""
        module.__class__ = Columns
        assert isinstance(module, Columns)
        module.member, module.picked, module.copies = self.member, None, copies
        self._split(module, name, "weight", Split(0, sizes, self.member.count))
        if module.bias is not None:
            self._split(module, name, "bias", Split(0, sizes, self.member.count))

    def rows(self, module: Linear, name: str) -> None:
        """Divide the input features of a projection, and sum its results."""
        module.__class__ = Rows
        assert isinstance(module, Rows)
        module.member = self.member
        self._split(module, name, "weight", Split(1, (module.weight.shape[1],), self.member.count))

    def pick(self, module: Linear, name: str, ranges: list[tuple[int, int]]) -> None:
        """Keep a projection whole, and compute the features (start, length) only."""
        module.__class__ = Columns
        assert isinstance(module, Columns)
        picked = torch.cat([torch.arange(start, start + length) for start, length in ranges])
        module.member, module.picked, module.copies = self.member, picked.to(module.weight.device), True
        self.partial |= {f"{name}.{key}" for key, _ in module.named_parameters(recurse=False)}

    def _split(self, module: nn.Module, name: str, key: str, split: Split) -> None:
        shard(module, key, split, self.mesh, ("tp",))
        self.splits[f"{name}.{key}"] = split

    def divides(self, *numbers: int) -> bool:
        """Whether each process gets an equal part of all these."""
        return all(number % self.member.count == 0 for number in numbers)


def shard(module: nn.Module, key: str, split: Split, mesh: Mesh, names: tuple[str, ...]) -> None:
    """Put this process's part of a parameter in its place: a DTensor over the dimensions `names` of the mesh."""
    whole = module.get_parameter(key)
    mine = split.taken(whole.detach(), mesh.member(*names).index).clone()
    assert mesh.devices is not None
    devices = mesh.devices[names]
    divided = DTensor.from_local(
        mine, devices, [Shard(split.dim)] * len(names), run_check=False, shape=whole.shape, stride=whole.stride()
    )
    module.register_parameter(key, nn.Parameter(divided, requires_grad=whole.requires_grad))


def divide(model: nn.Module, mesh: Mesh) -> Plan:
    """Divide attention and MLPs of any of the model room's architectures among the processes of dimension `tp`."""
    plan = Plan(mesh.member("tp"), mesh)
    for name, module in list(model.named_modules()):
        rule = next((rule for kind, rule in RULES if isinstance(module, kind)), None)
        if rule is not None and not rule(plan, name, module):
            plan.whole.append(name)
    for key in ("relation_bias", "encoder.bucket_bias", "decoder.bucket_bias", "stack.bucket_bias"):
        plan.partial |= {name for name, _ in model.named_parameters() if name == key}
    return plan


def _heads(plan: Plan, module: nn.Module, config: Any, **heads: int) -> None:
    """Let an attention module see a model of its own heads only, and cut masks by head to those."""
    own = config.heads // plan.member.count
    mine = slice(plan.member.index * own, (plan.member.index + 1) * own)
    module.config = config.model_copy(update={"heads": own, **heads})  # type: ignore[assignment]

    def cut(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        x, context, *others = arguments
        masks = {k: m if m is None or m.shape[1] == 1 else m[:, mine] for k, m in context.masks.items()}
        return x, replace(context, masks=masks), *others

    if getattr(config, "alibi_slopes", ()) or getattr(config, "record", None) or config.positions == "buckets":
        module.register_forward_pre_hook(cut)


def _attention(plan: Plan, name: str, module: Attention) -> bool:
    config, count, index = module.config, plan.member.count, plan.member.index
    per_head = config.qk_norm == "heads"
    even = plan.divides(config.kv_heads)
    shared = count % config.kv_heads == 0  # each key head serves several processes
    if not plan.divides(config.heads) or not (even or shared) or config.qk_norm == "full":
        return False
    if per_head and not (even and isinstance(module.q_norm, RMSNorm) and isinstance(module.k_norm, RMSNorm)):
        return False
    size, (queries, keys, _) = config.head_dim, config.qkv_rows
    own = config.kv_heads // count if even else 1
    query = getattr(module, "query", None)
    if query is not None:  # of a layer that uses another one's keys
        plan.columns(query, f"{name}.query", queries)
    elif even:
        plan.columns(module.qkv, f"{name}.qkv", *config.qkv_rows)
    else:
        key = queries + index * config.kv_heads // count * size
        mine = [(index * queries // count, queries // count), (key, size), (key + keys, size)]
        plan.pick(module.qkv, f"{name}.qkv", mine)
    plan.rows(module.out, f"{name}.out")
    _norms(plan, name, module, own if per_head else 0)
    if module.sinks is not None:
        split = Split(0, (config.heads,), count)
        plan.partial.add(f"{name}.sinks")
        module.__class__ = _with_picked_sinks(type(module))
        module.own_sinks = slice(*_span(split, index))  # type: ignore[assignment]
    module.heads = replace(module.heads, queries=config.heads // count, keys=own)
    _heads(plan, module, config, kv_heads=own)
    return True


def _span(split: Split, index: int) -> tuple[int, int]:
    ((start, length),) = split.ranges(index)
    return start, start + length


def _norms(plan: Plan, name: str, module: Attention, kv_heads: int) -> None:
    """Norms of queries and keys are whole; each process computes a part of their gradient."""
    norms = {"q_norm": module.q_norm, "k_norm": module.k_norm}
    for key, norm in norms.items():
        if norm is None:
            continue
        plan.partial |= {f"{name}.{key}.{part}" for part, _ in norm.named_parameters()}
        if kv_heads:
            own = module.config.heads // plan.member.count if key == "q_norm" else kv_heads
            assert isinstance(norm, RMSNorm)
            norm.__class__ = PickedNorm
            assert isinstance(norm, PickedNorm)
            norm.heads = slice(plan.member.index * own, (plan.member.index + 1) * own)


def _with_picked_sinks(kind: type[Attention]) -> type[Attention]:
    """The attention whose sinks are those of its own heads."""

    class PickedSinks(kind):
        own_sinks: slice

        @property
        def sink_scores(self) -> Tensor | None:
            """The scores of this process's heads."""
            return None if self.sinks is None else self.sinks[self.own_sinks]

    return PickedSinks


def _latent(plan: Plan, name: str, module: LatentAttention) -> bool:
    mla, config = module.mla, module.config
    if not plan.divides(config.heads):
        return False
    rows = config.heads * (mla.nope_dim + mla.rope_dim)
    plan.columns(module.q if mla.q_rank is None else module.q_up, f"{name}.{'q_up' if mla.q_rank else 'q'}", rows)
    # The rotary key goes into every head as it is, so gradients meet behind `kv_down`, not in front of `kv_up`.
    module.kv_down.__class__ = SharedColumns
    assert isinstance(module.kv_down, SharedColumns)
    module.kv_down.member = plan.member
    plan.partial |= {f"{name}.kv_latent_norm.{key}" for key, _ in module.kv_latent_norm.named_parameters()}
    plan.columns(module.kv_up, f"{name}.kv_up", config.heads * (mla.nope_dim + mla.value_dim), copies=False)
    plan.rows(module.out, f"{name}.out")
    _heads(plan, module, config)
    return True


def _self_attention(plan: Plan, name: str, module: SelfAttention) -> bool:
    config = module.config
    if isinstance(module, DisentangledAttention) or not plan.divides(config.heads):
        return False
    width = config.heads * config.head_dim
    plan.columns(module.qkv, f"{name}.qkv", width, width, width)
    plan.rows(module.out, f"{name}.out")
    _heads(plan, module, config)
    return True


def _cross_attention(plan: Plan, name: str, module: CrossAttention) -> bool:
    config = module.config
    if not plan.divides(config.heads):
        return False
    width = config.heads * config.head_dim
    plan.columns(module.query, f"{name}.query", width)
    plan.columns(module.key_value, f"{name}.key_value", width, width)
    plan.rows(module.out, f"{name}.out")
    _heads(plan, module, config)
    return True


def _mlp(plan: Plan, name: str, module: MLP) -> bool:
    inner = module.down.weight.shape[1]
    if not plan.divides(inner):
        return False
    if module.gated:
        plan.columns(module.gate_up, f"{name}.gate_up", inner, inner)
    else:
        plan.columns(module.up, f"{name}.up", inner)
    plan.rows(module.down, f"{name}.down")
    return True


RULES: list[tuple[type[nn.Module], Callable[[Plan, str, Any], bool]]] = [
    (Attention, _attention),
    (LatentAttention, _latent),
    (SelfAttention, _self_attention),
    (CrossAttention, _cross_attention),
    (LinearAttention, lambda plan, name, module: False),  # its norm goes over all heads
    (MLP, _mlp),
]


def told(plan: Plan) -> str:
    """What is not divided, for people; empty if all is."""
    if not plan.whole:
        return ""
    names = ", ".join(plan.whole[:4]) + (" …" if len(plan.whole) > 4 else "")
    return tr(
        f"Tensor parallelism: {len(plan.whole)} modules do not divide into {plan.member.count} parts, "
        f"every process computes them: {names}",
        f"张量并行：{len(plan.whole)} 个模块不能切成 {plan.member.count} 份，由各进程重复计算：{names}",
    )
