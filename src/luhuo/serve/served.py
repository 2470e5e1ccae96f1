"""The models of a server: each with its name, its engine and the thread that runs it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.serve.errors import ApiError, not_offered, too_long, unknown_model

if TYPE_CHECKING:
    from luhuo.inference.adapters import LoadedAdapter
    from luhuo.inference.engine import Engine
    from luhuo.inference.request import Request
    from luhuo.inference.sampling import Sampling
    from luhuo.inference.worker import Worker
    from luhuo.model.encoder import Encoder
    from luhuo.tokenizer.tokenizer import Tokenizer


@dataclass
class Served:
    """One model. A decoder has an engine and a worker; an encoder makes embeddings only.

    One with an `adapter` has those of the model it was trained on, its `parent`.
    """

    name: str
    engine: Engine | None = None
    worker: Worker | None = None
    encoder: Encoder | None = None
    reference: str = ""
    """Where its weights came from, if that is known."""
    adapter: LoadedAdapter | None = None
    parent: Served | None = None
    created: int = field(default_factory=lambda: int(time.time()))
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @classmethod
    def of(cls, name: str, model: Any, reference: str = "") -> Served:
        """Serve a loaded model under a name. Raises `LuhuoError` for a kind that no endpoint can use."""
        from luhuo.inference.engine import Engine
        from luhuo.inference.worker import Worker
        from luhuo.model.decoder import Decoder
        from luhuo.model.encoder import Encoder

        if isinstance(model, Encoder):
            return cls(name, encoder=model, reference=reference)
        if not isinstance(model, Decoder):
            raise LuhuoError(
                tr("This kind of model is not served over HTTP.", "这类模型不能通过 HTTP 提供服务。"),
                expected=tr("a decoder or an encoder", "解码器或编码器"),
                found=type(model).__name__,
                where=name,
            )
        engine = Engine(model)
        return cls(name, engine=engine, worker=Worker(engine), reference=reference)

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the model, or the adapter's own. Raises `ApiError` without one."""
        if self.adapter is not None and self.adapter.tokenizer is not None:
            return self.adapter.tokenizer
        model = self.encoder or self.writer.model
        if model.tokenizer is None:
            raise not_offered(tr("text for a model without a tokenizer", "没有分词器的模型无法处理文本"), "model")
        return model.tokenizer

    @property
    def writer(self) -> Engine:
        """The engine. Raises `ApiError` for a model that writes no text."""
        if self.engine is None:
            raise not_offered(tr(f"generating text with “{self.name}”", f"用“{self.name}”生成文本"), "model")
        return self.engine

    @property
    def context(self) -> int:
        """Tokens that the model can look at."""
        return self.engine.context if self.engine else self.encoder.config.max_positions  # type: ignore[union-attr]

    @property
    def chats(self) -> bool:
        """Whether the model has a chat template."""
        if self.engine is None or (self.engine.model.tokenizer is None and self.adapter is None):
            return False
        return bool(self.tokenizer.chat_template)

    @property
    def embedding_limit(self) -> int:
        """Tokens of a text that an encoder reads."""
        sentence = self.encoder.config.sentence if self.encoder else None
        return min((sentence.max_length if sentence else None) or self.context, self.context)

    def room(self, ids: list[int], param: str) -> int:
        """Tokens that an answer may have. Raises `ApiError` when there are none, or `ids` are no tokens."""
        engine = self.writer
        vocab = engine.model.config.vocab_size
        if max(ids) >= vocab:
            message = tr(
                f"Token {max(ids)} is outside of the vocabulary of {vocab}.",
                f"词元 {max(ids)} 超出词表（共 {vocab} 个）。",
            )
            raise ApiError(400, message, param=param)
        if len(ids) >= engine.context:
            raise too_long(len(ids), engine.context, param)
        return engine.context - len(ids)

    def requests(self, ids: list[int], sampling: Sampling) -> list[Request]:
        """The requests that together answer a prompt."""
        return self.writer.requests(ids, sampling, self.adapter.name if self.adapter else None)

    def close(self, drain: bool) -> None:
        """Stop the model's thread, which an adapter does not have; with `drain` what runs is finished first."""
        if self.worker and self.parent is None:
            self.worker.close(drain)


class Models:
    """The served models by name, in the order given."""

    def __init__(self, served: list[Served]) -> None:
        self._models = {one.name: one for one in served}

    def __iter__(self):
        return iter(list(self._models.values()))

    def find(self, name: str) -> Served:
        """The model of a name. Raises `ApiError` 404."""
        found = self._models.get(name)
        if found is None:
            raise unknown_model(name[:200], list(self._models))
        return found

    def add(self, served: Served) -> None:
        """Serve one more. Raises `ApiError` when the name is taken."""
        if served.name in self._models:
            served.close(drain=False)
            raise ApiError(409, tr("There is a model of this name already.", "已有同名模型。"), param="name")
        self._models[served.name] = served

    def children(self, served: Served) -> list[Served]:
        """The adapters on a model."""
        return [one for one in self if one.parent is served]

    def remove(self, name: str) -> Served:
        """Serve one less. Raises `ApiError` 404."""
        found = self.find(name)
        del self._models[name]
        return found


def named(words: list[str]) -> list[tuple[str, str]]:
    """(name, reference) for each of `NAME=REFERENCE` or `REFERENCE`. Raises `LuhuoError` for a name used twice."""
    pairs = []
    for word in words:
        name, equals, reference = word.partition("=")
        if not equals or "/" in name or ":" in name:  # an equals sign inside of a path or of pypi:…==…
            name, reference = PurePath(word.rstrip("/")).name or word, word
        pairs.append((name, reference))
    names = [name for name, _ in pairs]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise LuhuoError(
            tr("Two models have the same name.", "两个模型同名。"),
            found=twice,
            fix=tr("Give names: NAME=MODEL", "请命名：名称=模型"),
        )
    return pairs
