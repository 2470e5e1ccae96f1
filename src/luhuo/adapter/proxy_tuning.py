"""Proxy-tuning: a large model writes as if it had been tuned as a small one was (Liu et al. 2024, section 3).

    logits = large + alpha · (tuned − base)

`tuned` and `base` are a small model after and before its tuning. The weights of the large model are never touched, and
need not be known beyond its logits. Penalties, constraints and sampling come after the combination.

The three are one `Decoder` here: its states are theirs side by side, its cache has the layers of all three in one row,
and its head combines. So batching, chunked prompts, the prefix cache, beams, guesses and scoring are the engine's own,
and no part of them knows of it. It lies in this room, not beside the engine, because references are opened here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from luhuo.adapter.proxy_files import NAMES
from luhuo.core.config import field
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.model.base import LanguageModel
from luhuo.model.cache import KVCache
from luhuo.model.config import ModelConfig
from luhuo.model.decoder import Decoder

if TYPE_CHECKING:
    from luhuo.tokenizer.tokenizer import Tokenizer


class ProxyConfig(ModelConfig):
    """The large model's config, with what the three can read together, and the layers of all of them to cache."""

    members: tuple[ModelConfig, ...] = field(..., "The three models.", "三个模型。")

    @property
    def layer_widths(self) -> tuple[tuple[tuple[int, int], tuple[int, int]], ...]:
        """The large model's layers, then those of the tuned and the base model."""
        return tuple(widths for member in self.members for widths in member.layer_widths)


class ProxyTuned(Decoder):
    """`model` with the difference that tuning made to a small model; to be used, not to be trained.

    `alpha` 0 is the large model alone, 1 the paper's choice, more goes beyond. Models of one computing dtype on one
    device; rows that a table has beyond the shortest one are padding and have no logits. The tokenizer, with its chat
    template, is that of `tuned`. Raises `LuhuoError` where vocabularies differ or a model needs its prompt at once.
    """

    def __init__(self, model: Decoder, tuned: Decoder, base: Decoder, alpha: float = 1.0) -> None:
        LanguageModel.__init__(self)  # a decoder's parameters are those of its members
        self.members = nn.ModuleList([model, tuned, base])
        self.alpha = alpha
        self._check()
        self.tokenizer = tuned.tokenizer or model.tokenizer
        self.compute_in(model.dtype)
        self.mtp = nn.ModuleList()
        self.register_module("virtual", None)
        parts = (model.config, tuned.config, base.config)
        shared = {
            "vocab_size": min(part.vocab_size for part in parts),
            "max_positions": min(one.config.max_positions - one.ahead for one in self._decoders()),
            "stop_ids": tuple(sorted({*model.config.stop_ids, *tuned.config.stop_ids})),
            "mtp_layers": 0,
        }
        self.config = ProxyConfig(**{**dict(model.config), **shared}, members=parts)
        self.eval()

    def hidden(
        self,
        ids: Tensor,
        *,
        segments: Tensor | None = None,
        positions: Tensor | None = None,
        cache: KVCache | None = None,
        trunks: Tensor | None = None,
    ) -> Tensor:
        """The last states of the three side by side (batch, time, sum of their widths); see `Decoder.hidden`."""
        found, first = [], 0
        for member in self._decoders():
            part = None if cache is None else _Part(cache, first, member.config.layers)
            found.append(member.hidden(ids, segments=segments, positions=positions, cache=part, trunks=trunks))
            first += member.config.layers
        if cache is not None:
            cache.advance(ids.shape[1] if segments is None else (segments != 0).sum(1).tolist())
        return torch.cat(found, -1)

    def head(self, hidden: Tensor) -> Tensor:
        """Combined logits (…, vocab) fp32 of states (…, sum of widths)."""
        members = self._decoders()
        states = hidden.split([member.config.hidden_size for member in members], -1)
        rows = self.config.vocab_size
        large, tuned, base = (
            member.head(part)[..., :rows].float() for member, part in zip(members, states, strict=True)
        )
        # In this order the large model's own logits cancel exactly where it is the base model itself.
        return (large - self.alpha * base) + self.alpha * tuned

    def train(self, mode: bool = True) -> Self:
        """Raises `LuhuoError` for training mode: there is nothing to train here."""
        if mode:
            raise LuhuoError(
                tr(
                    "A proxy-tuned model is not trained: it is put together when text is written.",
                    "代理调优的模型不能训练：它只在生成时组合而成。",
                ),
                fix=tr("Train the small model, and use the result as `tuned`.", "请训练小模型，并将结果用作 tuned。"),
            )
        return super().train(False)

    @property
    def embedding(self) -> nn.Parameter:
        """That of the large model: says where the model lies and what it is kept in."""
        return self._decoders()[0].embedding

    @property
    def head_weight(self) -> Tensor:
        """The three heads as one matrix (vocab, sum of widths) over the states side by side, scales and caps aside."""
        rows = self.config.vocab_size
        large, tuned, base = (member.head_weight[:rows] for member in self._decoders())
        return torch.cat([large, self.alpha * tuned, -self.alpha * base], 1)

    def _decoders(self) -> list[Decoder]:
        return [member for member in self.members if isinstance(member, Decoder)]

    def _check(self) -> None:
        """Raise `LuhuoError` unless the three can be combined."""
        large, tuned, base = self._decoders()
        for name, other in (("tuned", tuned), ("base", base)):
            found = _difference(large, other)
            if found is not None:
                raise LuhuoError(
                    tr(
                        "Proxy-tuning adds logits token by token: the models need the same vocabulary.",
                        "代理调优按词元相加 logits：各模型的词表必须相同。",
                    ),
                    expected=f"model: {found[0]}",
                    found=f"{name}: {found[1]}",
                    fix=tr("Take small models of the large one's family.", "请使用与大模型同一系列的小模型。"),
                )
        for name, member in zip(NAMES, self._decoders(), strict=True):
            if isinstance(member, ProxyTuned) or member.config.reads_back or member.config.rope.by_length:
                raise LuhuoError(
                    tr(
                        "A model that is put together itself, or reads its prompt again as the text grows, cannot be "
                        "part of this.",
                        "组合而成的模型，或会随文本增长重读提示的模型，不能用于代理调优。",
                    ),
                    where=name,
                    found=member.config.family,
                )
        kinds = {(member.dtype, str(member.device)) for member in self._decoders()}
        if len(kinds) > 1:
            raise LuhuoError(
                tr(
                    "The three models must compute in the same numbers on the same device.",
                    "三个模型必须使用相同的数值格式与设备。",
                ),
                found=", ".join(sorted(f"{str(dtype).removeprefix('torch.')} on {device}" for dtype, device in kinds)),
            )


class _Part(KVCache):
    """The layers of one member in a cache of all. Lengths move when all members have read."""

    def __init__(self, whole: KVCache, first: int, layers: int) -> None:
        self.whole, self.first, self.layers = whole, first, layers
        self.dtype, self.stored, self.ids = whole.dtype, whole.stored, None
        self._look()

    def _look(self) -> None:
        own = slice(self.first, self.first + self.layers)
        self.keys, self.values, self.key_scales, self.value_scales = (tensors[own] for tensors in self.whole.lists)
        self.lengths = list(self.whole.lengths)

    def reserve(self, capacity: int) -> None:
        self.whole.reserve(capacity)
        self._look()

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        return self.whole.append(self.first + layer, key, value)


def _difference(one: Decoder, other: Decoder) -> tuple[str, str] | None:
    """Where two vocabularies differ first, as both have it; None if they are the same."""
    if one.tokenizer is None or other.tokenizer is None:
        sizes = one.config.vocab_size, other.config.vocab_size
        return None if sizes[0] == sizes[1] else (f"{sizes[0]}", f"{sizes[1]}")
    first, second = one.tokenizer, other.tokenizer
    if first.fingerprint == second.fingerprint:
        return None
    for number in range(max(first.vocab_size, second.vocab_size)):
        texts = _token(first, number), _token(second, number)
        if texts[0] != texts[1]:
            return f"{number} = {texts[0]}", f"{number} = {texts[1]}"
    return None


def _token(tokenizer: Tokenizer, number: int) -> str:
    """A token to be shown; a number without one has none."""
    try:
        return repr(tokenizer.token_text(number))
    except LuhuoError:
        return "–"
