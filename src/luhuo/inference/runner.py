"""What the scheduler has to know of a model: what it reads, how long that may become, and how rows begin.

A decoder reads prompt and answer. An encoder-decoder reads its prompt once, when a request gets its row, and from
then on only what it writes itself, beginning with its start token.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from luhuo.adapter.proxy_tuning import ProxyTuned
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.inference.cache_pool import Running
from luhuo.inference.request import Request
from luhuo.model.cache import KVCache
from luhuo.model.config import ModelConfig
from luhuo.model.cross_cache import CrossCache
from luhuo.model.decoder import Decoder
from luhuo.model.encoder_decoder import EncoderDecoder
from luhuo.model.layers import Attention
from luhuo.model.stack_config import StackConfig

Writer = Decoder | EncoderDecoder
"""A model that writes."""


class DecoderRunner:
    """Runs a decoder."""

    def __init__(self, model: Decoder) -> None:
        self.model = model
        self.whole = model.config.reads_back or model.config.rope.by_length
        """Whether prompts are computed at once, rows are given for whole answers, and nothing is kept of them."""
        self.forced_last: int | None = None
        """The token that ends an answer at its limit."""

    def cache(self, stored: torch.dtype | None) -> KVCache:
        """An empty cache without rows."""
        model = self.model
        return KVCache(cached_config(model), 0, 0, model.dtype, model.device, stored=stored)

    def running(self, request: Request, number: int) -> Running:
        """A request with what the model will read first."""
        return Running(request, list(request.prompt), number, request.length)

    def begin(self, cache: KVCache, group: Sequence[Running]) -> None:
        """Nothing: a decoder reads its prompt as it reads everything."""

    def beside(self, one: Running) -> int:
        """Slots that a request takes besides those of what the model reads and writes."""
        return 0

    def hidden(self, ids: Tensor, segments: Tensor | None, cache: KVCache) -> Tensor:
        """The last states (rows, time, hidden) of new tokens."""
        return self.model.hidden(ids, segments=segments, cache=cache)


class EncoderDecoderRunner:
    """Runs an encoder-decoder."""

    def __init__(self, model: EncoderDecoder) -> None:
        if model.config.start_id is None:
            raise LuhuoError(
                tr("The config names no token to start from.", "配置没有指明起始词元。"),
                expected="decoder_start_token_id",
            )
        self.model = model
        self.start = model.config.start_id
        self.whole = False
        self.forced_last = model.config.forced_last_id

    def cache(self, stored: torch.dtype | None) -> CrossCache:
        """An empty cache without rows."""
        if stored not in (None, self.model.dtype):
            raise LuhuoError(
                tr(
                    "An encoder-decoder's cache is kept in the model's own number format only.",
                    "编码器-解码器的缓存只能用模型自身的数值格式。",
                ),
                expected="auto",
                found=str(stored).removeprefix("torch."),
            )
        model = self.model
        return CrossCache(model.config, 0, 0, model.dtype, model.device)

    def running(self, request: Request, number: int) -> Running:
        """A request with what the decoder will read first: its start, and the first token if that is fixed."""
        first = self.model.config.forced_first_id
        if first is not None and not request.tokens:
            request.push(first, frozenset())
            if request.reports:
                request.logprobs.append(0.0)
                request.top_logprobs.append({first: 0.0})
        return Running(request, [self.start, *request.tokens], number, 1 + request.limit)

    @torch.inference_mode()
    def begin(self, cache: KVCache, group: Sequence[Running]) -> None:
        """Read the prompts of `group`, whose rows are new."""
        assert isinstance(cache, CrossCache)
        model, texts = self.model, [one.request.prompt for one in group]
        ids = torch.zeros(len(texts), max(map(len, texts)), dtype=torch.long)
        segments = torch.zeros_like(ids)
        for row, text in enumerate(texts):
            ids[row, : len(text)] = torch.tensor(text)
            segments[row, : len(text)] = 1
        fresh = CrossCache(model.config, len(texts), 1, model.dtype, model.device)
        start = torch.full((len(texts), 1), self.start, device=model.device)
        model.hidden(ids.to(model.device), start, segments=segments.to(model.device), cache=fresh)
        cache.hear([one.row for one in group], fresh)

    def beside(self, one: Running) -> int:
        """The prompt's keys and values are kept as long as the answer's."""
        return len(one.request.prompt)

    def hidden(self, ids: Tensor, segments: Tensor | None, cache: KVCache) -> Tensor:
        """The decoder's last states (rows, time, hidden) of new tokens."""
        return self.model.hidden(None, ids, decoder_segments=segments, cache=cache)  # type: ignore[arg-type]


Runner = DecoderRunner | EncoderDecoderRunner


def runner_of(model: Writer) -> Runner:
    """The runner of a model."""
    return EncoderDecoderRunner(model) if isinstance(model, EncoderDecoder) else DecoderRunner(model)


def cached_config(model: Writer) -> ModelConfig | StackConfig:
    """The config of what grows with the answer: of a model that several processes share, with this one's heads."""
    if isinstance(model, EncoderDecoder):
        return model.config.decoder
    if isinstance(model, ProxyTuned):  # the layers of three models, not those of the first
        return model.config
    attention = next((m for m in model.modules() if isinstance(m, Attention)), None)
    return model.config if attention is None else attention.config


def longest_prompt(model: Writer) -> int:
    """Tokens that a prompt may have by the model's positions."""
    if isinstance(model, EncoderDecoder):
        return model.config.encoder.max_positions
    return model.config.max_positions - model.ahead
