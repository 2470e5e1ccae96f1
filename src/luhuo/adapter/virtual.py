"""Virtual tokens in front of every text: prompt tuning, prefix tuning and P-tuning v2.

What stands in front of a text sees nothing of it, so its keys and values are the same for all texts: they are made
once a pass, and every document of a packed row looks at them. The text's positions come behind theirs.
Layers with a window see them too.

- prompt tuning (Lester et al. 2021): embeddings are trained, the model makes keys and values of them;
- P-tuning v2 (Liu et al. 2021): keys and values of all layers are trained themselves;
- prefix tuning (Li and Liang 2021): the same through two layers with an inner width, which makes training stabler and
  is not needed afterwards.

All begin as what real tokens are: from random numbers they learn far worse.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from luhuo.adapter.adapter import Adapter
from luhuo.adapter.config import AdapterConfig
from luhuo.adapter.matrices import fill
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.seeds import derive_seed
from luhuo.model.base import LanguageModel
from luhuo.model.config import ModelConfig
from luhuo.model.decoder import Decoder
from luhuo.model.layers import Attention

TEXT = "Read what follows and answer it as well as you can. 请阅读下面的内容，尽你所能作答。"
"""What the virtual tokens begin as, repeated or cut to their number."""
Memory = list[tuple[Tensor, Tensor]]
"""Keys and values (1, K, P, D) by layer."""


class Virtual(nn.Module):
    """What stands in front of every text. In evaluation without gradients, what was computed last is kept."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length
        self._kept: tuple[tuple[Any, ...], Memory] | None = None

    def forward(self, model: Decoder) -> Memory:
        if torch.is_grad_enabled() or self.training:
            self._kept = None
            return self.memory(model)
        state = (model.dtype, *((p.data_ptr(), p._version) for p in self.parameters()))
        if self._kept is None or self._kept[0] != state:
            self._kept = state, self.memory(model)
        return self._kept[1]

    def memory(self, model: Decoder) -> Memory:
        """Keys and values for every layer."""
        raise AssertionError("a kind of virtual tokens says how")


class Prompt(Virtual):
    """Embeddings (P, width)."""

    def __init__(self, start: Tensor) -> None:
        super().__init__(len(start))
        self.embeddings = nn.Parameter(start)

    def memory(self, model: Decoder) -> Memory:
        return model.keys_and_values(self.embeddings[None])


class Keys(Virtual):
    """Keys and values themselves: (P, layers · 2 · K · D), as peft lays them out. With an inner width they are changed
    by what two layers make of an embedding for each virtual token."""

    def __init__(self, start: Tensor, config: ModelConfig, inner: int = 0, random: torch.Generator | None = None):
        super().__init__(len(start))
        self.config = config
        self.start = nn.Parameter(start, requires_grad=not inner)
        self.inner: nn.Sequential | None = None
        if inner:
            first, last = nn.Linear(inner, inner), nn.Linear(inner, start.shape[1])
            self.tokens = nn.Parameter(torch.randn(len(start), inner, generator=random))
            with torch.no_grad():
                bound = inner**-0.5
                first.weight.copy_(torch.rand(inner, inner, generator=random) * 2 * bound - bound)
                first.bias.zero_()
                last.weight.zero_()
                last.bias.zero_()
            self.inner = nn.Sequential(first, nn.Tanh(), last)

    def flat(self) -> Tensor:
        """All numbers (P, layers · 2 · K · D)."""
        return self.start if self.inner is None else self.start + self.inner(self.tokens)

    def memory(self, model: Decoder) -> Memory:
        config = self.config
        both = self.flat().view(self.length, config.layers, 2, config.kv_heads, config.head_dim)
        parts = both.permute(1, 2, 3, 0, 4).to(model.dtype)  # (layers, 2, K, P, D)
        return [(part[0][None], part[1][None]) for part in parts]


class VirtualTokens(Adapter):
    """Prompt tuning, prefix tuning or P-tuning v2 on a decoder with ordinary attention."""

    def __init__(self, model: LanguageModel, config: AdapterConfig, seed: int) -> None:
        super().__init__(model, config)
        decoder = _checked(model)
        rows = decoder.embedded(torch.tensor(_ids(decoder, config), device=model.device)).detach().float()
        if config.method == "prompt":
            self.virtual: Prompt | Keys = Prompt(rows.clone())
        else:
            with torch.no_grad():
                kept = decoder.keys_and_values(rows[None])
            pairs = torch.stack([torch.stack([key[0], value[0]]) for key, value in kept]).float()
            start = pairs.permute(3, 0, 1, 2, 4).reshape(config.tokens, -1).contiguous()
            inner = config.rank if config.method == "prefix" else 0
            random = torch.Generator().manual_seed(derive_seed(seed, "prefix"))
            self.virtual = Keys(start, decoder.config, inner, random).to(model.device)
        self.put(on=True)

    def put(self, *, on: bool) -> None:
        self.model.register_module("virtual", self.virtual if on else None)

    def own(self) -> dict[str, nn.Parameter]:
        named = self.virtual.named_parameters()
        return {f"virtual.{name}": p for name, p in named if name != "start" or not self._inner}

    @property
    def _inner(self) -> bool:
        return isinstance(self.virtual, Keys) and self.virtual.inner is not None

    @property
    def _table(self) -> Tensor:
        """What is kept in the end (P, width)."""
        return self.virtual.embeddings if isinstance(self.virtual, Prompt) else self.virtual.flat()

    def state(self) -> dict[str, Tensor]:
        return {"virtual.start": self.virtual.start.data} if isinstance(self.virtual, Keys) and self._inner else {}

    def tensors(self) -> dict[str, Tensor]:
        return {"prompt_embeddings": self._table.detach()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        assert not self._inner, "what is saved of prefix tuning are keys and values: it goes on as P-tuning v2"
        fill({"prompt_embeddings": self._table.data}, tensors)

    def layout(self) -> dict[str, Any]:
        decoder = _checked(self.model)
        config = decoder.config
        width = config.kv_heads * config.head_dim
        common = {"num_virtual_tokens": self.virtual.length, "num_transformer_submodules": 1}
        if self.config.method == "prompt":
            return common | {
                "peft_type": "PROMPT_TUNING",
                "token_dim": self._table.shape[1],
                "num_attention_heads": config.heads,
                "num_layers": config.layers,
                "prompt_tuning_init": "RANDOM",
            }
        return common | {
            "peft_type": "PREFIX_TUNING",
            "token_dim": width,
            "num_attention_heads": config.kv_heads,
            "num_layers": config.layers,
            "encoder_hidden_size": width,
            "prefix_projection": False,
        }


def _checked(model: LanguageModel) -> Decoder:
    """The model, if virtual tokens can stand in front of its texts. Raises `LuhuoError`."""
    plain = isinstance(model, Decoder) and all(type(block.attention) is Attention for block in model.blocks)  # type: ignore[union-attr]
    config = model.config if isinstance(model, Decoder) else None
    odd = config is not None and (config.alibi_slopes or config.reads_back or config.rope.by_length)
    if not plain or config is None or odd or config.mtp_layers:
        raise LuhuoError(
            tr("Virtual tokens cannot stand in front of this model's texts.", "该模型的文本之前不能放置虚拟词元。"),
            expected=tr("a decoder with plain attention", "使用普通注意力的解码器"),
            found=getattr(config, "family", type(model).__name__),
            fix=tr("Use lora.", "请使用 lora。"),
        )
    assert isinstance(model, Decoder)
    return model


def _ids(model: Decoder, config: AdapterConfig) -> list[int]:
    """The tokens that the virtual ones begin as; of a model without tokenizer, those of its vocabulary in order."""
    found = list(range(min(config.tokens, model.config.vocab_size)))
    if model.tokenizer is not None:
        found = model.tokenizer.encode(config.text or TEXT)
    if not found:
        raise LuhuoError(tr("The text has no tokens.", "该文本没有词元。"), found=config.text, where="adapter.text")
    return (found * -(-config.tokens // len(found)))[: config.tokens]
