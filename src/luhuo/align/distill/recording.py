"""What goes on inside a model while it reads: states after each block, and queries, keys and values of its attention.

Shapes: B batch, T time, H heads, K key heads, D head size, C width.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.decoder import Decoder
from luhuo.model.encoder import Encoder
from luhuo.model.layers import Attention
from luhuo.model.shared_attention import SharedAttention
from luhuo.model.stack_attention import DisentangledAttention, SelfAttention

Reader = Decoder | Encoder


@dataclass
class Record:
    """What one forward pass left behind. Layer 0 are the embeddings, layer i what comes out of block i."""

    states: dict[int, Tensor] = field(default_factory=dict)
    """(B, T, C) by layer."""
    inputs: dict[int, tuple[Attention | SelfAttention, Tensor, Any]] = field(default_factory=dict)
    """Attention, what it read, and the context of the pass, by layer."""

    def queries_keys_values(self, layer: int) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, H, T, D), keys and values (B, K, T, D) of a layer."""
        module, x, context = self.inputs[layer]
        return module.queries_keys_values(x, context)


def depth(model: Reader) -> int:
    """Layers that a text passes, blocks that are used again counted each time."""
    return len(model.stack.config.order) if isinstance(model, Encoder) else len(_blocks(model))


def attention_of(model: Reader, layer: int, *, whole_score: bool) -> Attention | SelfAttention:
    """The attention of a layer, from 1. Raises `LuhuoError` for a kind whose queries, keys and values do not say what
    it does, or, if `whole_score`, that adds something of its own to their products."""
    blocks = _blocks(model)
    block = blocks[model.stack.config.order[layer - 1]] if isinstance(model, Encoder) else blocks[layer - 1]
    found = block.attention
    fits = isinstance(found, (Attention, SelfAttention)) and not isinstance(found, SharedAttention)
    if not fits or (whole_score and isinstance(found, DisentangledAttention)):
        raise LuhuoError(
            tr("The attention of this model cannot be matched.", "该模型的注意力无法匹配。"),
            expected=tr("softmax attention over keys of its own", "对自身键的 softmax 注意力"),
            found=type(found).__name__,
            where="attention",
            fix=tr("Match hidden states alone.", "请仅匹配隐藏状态。"),
        )
    return found  # type: ignore[return-value]


@contextmanager
def recording(model: Reader, states: Iterable[int] = (), attentions: Iterable[int] = ()) -> Iterator[Record]:
    """Within this context the next forward pass is recorded, at these layers. A pass that is computed again for its
    gradient is not."""
    record, wanted, asked = Record(), set(states), set(attentions)
    calls = {"block": 0, "attention": 0}

    def before(module: nn.Module, given: tuple[Any, ...]) -> None:
        if calls["block"] == 0 and 0 in wanted and 0 not in record.states:
            record.states[0] = given[0]

    def after(module: nn.Module, given: tuple[Any, ...], found: Tensor) -> None:
        calls["block"] += 1
        if calls["block"] in wanted:
            record.states[calls["block"]] = found

    def attending(module: nn.Module, given: tuple[Any, ...]) -> None:
        calls["attention"] += 1
        if calls["attention"] in asked:
            record.inputs[calls["attention"]] = (module, *given[:2])  # type: ignore[assignment]

    hooks = []
    for block in _blocks(model):
        hooks += [block.register_forward_pre_hook(before), block.register_forward_hook(after)]
        if asked:
            hooks.append(block.attention.register_forward_pre_hook(attending))  # type: ignore[union-attr]
    try:
        yield record
    finally:
        for hook in hooks:
            hook.remove()


def _blocks(model: Reader) -> list[Any]:
    return list(model.stack.blocks if isinstance(model, Encoder) else model.blocks)
