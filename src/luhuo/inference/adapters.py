"""The adapters of an engine: loaded by name from peft's layout, chosen by each request, unloaded when none uses them.

Only low-rank updates can share a batch, because they are sums beside the model's own products. Whatever else an
adapter may be (other embeddings, virtual tokens, factors on activations) runs as a model of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from luhuo.adapter.adalora import Singular
from luhuo.adapter.attach import attached, needed
from luhuo.adapter.files import load, read_config
from luhuo.adapter.lora import LowRank
from luhuo.adapter.matrices import MatrixMethod, Part
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.files.references import resolve
from luhuo.inference.lockstep import refuse_divided
from luhuo.inference.multi_lora import Factors
from luhuo.model.decoder import Decoder
from luhuo.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    from luhuo.inference.scheduler import Scheduler

MIXABLE = ("lora", "adalora")
"""Methods whose work is a low-rank update."""

_serials = itertools.count(1)


@dataclass(eq=False)
class LoadedAdapter:
    """An adapter in an engine."""

    name: str
    slot: int
    """Its place among the factors; 0 once it is unloaded."""
    tokenizer: Tokenizer | None
    """Its own tokenizer, where it brings one: the same tokens, perhaps another chat template or other ends."""
    serial: int
    """No two adapters have the same, not even of one name: what was cached for one is never found for another."""

    @property
    def ends(self) -> frozenset[int]:
        """Tokens that end an answer, besides the model's."""
        return self.tokenizer.stop_ids if self.tokenizer else frozenset()


class Adapters:
    """The adapters by name. `lock` is the engine's."""

    def __init__(self, scheduler: Scheduler | None, lock: AbstractContextManager[object]) -> None:
        self._scheduler, self._lock = scheduler, lock
        self._loaded: dict[str, LoadedAdapter] = {}

    def __iter__(self) -> Iterator[LoadedAdapter]:
        return iter(list(self._loaded.values()))

    def __len__(self) -> int:
        return len(self._loaded)

    def find(self, name: str | None) -> LoadedAdapter | None:
        """The adapter of a name; None for None. Raises `LuhuoError` for one that is not loaded."""
        if name is None:
            return None
        found = self._loaded.get(name)
        if found is None:
            raise LuhuoError(
                tr("There is no adapter of this name.", "没有此名称的适配器。"),
                expected=", ".join(self._loaded) or tr("(none is loaded)", "（尚未加载）"),
                found=name,
            )
        return found

    def load(self, name: str, folder: str | Path, *, base: str = "") -> LoadedAdapter:
        """Load an adapter from its folder, under a name. `base` is the reference of the model, to be checked.

        What runs goes on meanwhile. Raises `LuhuoError` for a name in use, for an adapter of another model, and for
        one that cannot share a batch with others.
        """
        model = self._model
        self._refuse_name(name)
        factors, tokenizer = read(model, folder, base)
        with self._lock:
            self._refuse_name(name)
            assert self._scheduler is not None and self._scheduler.adapters is not None
            slot = self._scheduler.adapters.add(factors)
            loaded = self._loaded[name] = LoadedAdapter(name, slot, tokenizer, next(_serials))
        return loaded

    def unload(self, name: str) -> None:
        """Forget an adapter and all that was cached for it. Raises `LuhuoError` while requests use it."""
        with self._lock:
            found = self.find(name)
            assert found is not None and self._scheduler is not None and self._scheduler.adapters is not None
            count = self._scheduler.using(found)
            if count:
                raise LuhuoError(
                    tr("The adapter is in use.", "适配器正在使用中。"),
                    found=tr(f"{count} requests", f"{count} 个请求"),
                    where=name,
                    fix=tr("Wait until they have ended.", "请等待这些请求结束。"),
                )
            del self._loaded[name]
            self._scheduler.adapters.remove(found.slot)
            found.slot = 0
            if self._scheduler.pool.prefix:
                self._scheduler.pool.prefix.forget(found.serial)

    def in_use(self, adapter: LoadedAdapter) -> int:
        """Requests that run or wait with an adapter."""
        with self._lock:
            return self._scheduler.using(adapter) if self._scheduler else 0

    def alone(self, adapter: LoadedAdapter | None) -> AbstractContextManager[None]:
        """Forward passes outside of the schedule, all rows with this adapter. To be used under the engine's lock."""
        if adapter is None or self._scheduler is None or self._scheduler.adapters is None:
            return nullcontext()
        if not adapter.slot:
            raise unloaded(adapter)
        return self._scheduler.adapters.rows([adapter.slot])

    @property
    def _model(self) -> Decoder:
        model = self._scheduler.model if self._scheduler else None
        if not isinstance(model, Decoder):
            raise LuhuoError(tr("Only decoders take adapters by name.", "只有解码器模型支持按名称使用适配器。"))
        refuse_divided(self._scheduler.lockstep if self._scheduler else None)
        if attached(model) is not None:
            raise LuhuoError(
                tr("The model has an adapter of its own.", "模型自身已带有适配器。"),
                fix=tr("Merge it first.", "请先合并。"),
            )
        return model

    def _refuse_name(self, name: str) -> None:
        if not name or name in self._loaded:
            raise LuhuoError(tr("There is an adapter of this name already.", "已有同名适配器。"), found=name)


def unloaded(adapter: LoadedAdapter) -> LuhuoError:
    """The adapter went away between the making of a request and its turn."""
    return LuhuoError(tr("The adapter has been unloaded.", "适配器已被卸载。"), found=adapter.name)


@torch.no_grad()
def read(model: Decoder, folder: str | Path, base: str = "") -> tuple[Factors, Tokenizer | None]:
    """The factors of a saved adapter as `model` needs them, and its tokenizer if it brings another one.

    The model itself is not touched. Raises `LuhuoError` for an adapter that is not there, does not fit, or does more
    than add low-rank updates.
    """
    root = resolve(str(folder)).path
    config = read_config(root)
    if config.method not in MIXABLE or config.train:
        raise _lonely(config.method if not config.train else ", ".join(config.train), root)
    _check_rank(model, max(config.rank, config.start_rank or 0), root)
    tokenizer = _tokenizer(model, root)
    skeleton = _skeleton(model)
    left = load(skeleton, root, base=base)
    if left:
        raise _lonely(", ".join(sorted(left)[:4]), root)
    adapter = needed(skeleton)
    assert isinstance(adapter, MatrixMethod)
    return {owner: _joined(adapter, owner) for owner in adapter.on}, tokenizer


def _check_rank(model: Decoder, rank: int, root: Path) -> None:
    """Raise `LuhuoError` for a rank that no matrix has, before memory is taken for it: the file may say anything."""
    most = 2 * max(model.config.hidden_size, model.config.intermediate_size)
    if rank > most:
        raise LuhuoError(
            tr("The adapter's rank is larger than the model's matrices.", "适配器的秩大于模型的矩阵。"),
            expected=f"≤ {most}",
            found=rank,
            where=root,
        )


def _skeleton(model: Decoder) -> Decoder:
    """A model of the same config without weights, on which an adapter is read while the real one works."""
    with torch.device("meta"):
        skeleton = Decoder(model.config)
    skeleton.embedding = nn.Parameter(torch.empty(1, 1))  # adapters go where a model's embedding is
    return skeleton


def _joined(adapter: MatrixMethod, owner: str) -> tuple[Tensor, Tensor]:
    """A and B of one of our matrices, from those of the published ones in it: ranks beside one another."""
    rows = adapter.matrix(owner).dense(torch.float32).shape[0]
    pairs = [(part, *_factors(part)) for part in adapter.on[owner].parts if isinstance(part, Part)]
    a = torch.cat([a for _, a, _ in pairs])
    b, at = torch.zeros(rows, len(a)), 0
    for part, _, own in pairs:
        b[part.target.rows, at : at + own.shape[1]] = own
        at += own.shape[1]
    return a, b


def _factors(part: Part) -> tuple[Tensor, Tensor]:
    """A and B, the scale in B."""
    if isinstance(part, Singular):
        return (part.a * part.e).detach(), part.scale * part.b.detach()
    assert isinstance(part, LowRank)
    a, b = part.factors
    return a.detach(), part.scale * b.detach()


def _tokenizer(model: Decoder, root: Path) -> Tokenizer | None:
    """The tokenizer beside an adapter, if it differs from the model's. Raises `LuhuoError` if its tokens do."""
    if not (root / "tokenizer.json").is_file():
        return None
    own, base = Tokenizer.load(root), model.tokenizer
    if base is None:
        return own
    if own.vocab_size != base.vocab_size or any(
        own.token_text(number) != base.token_text(number) for number in range(base.vocab_size)
    ):
        raise _lonely(tr("a tokenizer with other tokens", "词元不同的分词器"), root)
    same = own.chat_template == base.chat_template and own.stop_ids == base.stop_ids
    return None if same else own


def _lonely(found: str, where: Path) -> LuhuoError:
    return LuhuoError(
        tr("This adapter cannot share a batch with others.", "该适配器无法与其他请求同批运行。"),
        expected=", ".join(MIXABLE),
        found=found,
        where=where,
        fix=tr("Serve it alone: give its directory as a model of its own.", "请单独提供：把其目录作为独立模型。"),
    )
