"""The model that an alignment stage trains: opened with its adapter, kept as a model directory or as the adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from luhuo.adapter.config import AdapterConfig
from luhuo.core.config import Input, field
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.train.config import TrainerConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

    from luhuo.model.decoder import Decoder


class PolicyConfig(TrainerConfig):
    """What the alignment stages share: the model, how it is adapted, and where it computes."""

    model: Input = field(..., "The model to start from.", "起始模型。")
    adapter: AdapterConfig | None = field(
        None,
        "Train an adapter instead of the whole model: {method: lora, rank: 16}.",
        "只训练适配器而非整个模型：{method: lora, rank: 16}。",
    )
    device: str = field("auto", "cpu, cuda, mps or auto.", "cpu、cuda、mps 或 auto。")
    threads: int = field(0, "CPU threads; 0: one a core.", "CPU 线程数；0 为每核一个。", ge=0)

    def trainer_config(self, **changes: object) -> TrainerConfig:
        """The settings of the training loop alone, with `changes`."""
        settings = {name: getattr(self, name) for name in TrainerConfig.model_fields}
        return TrainerConfig(**settings | changes)  # type: ignore[arg-type]


def open_policy(
    config: PolicyConfig, device: str = "cpu", seed: int = 0, change: Callable[[Decoder], Decoder] | None = None
) -> Decoder:
    """The model in fp32 on `device`, with a fresh adapter or the one of `adapter.path`; what is not trained is frozen.

    `change` is applied to the model before its adapter is attached (new tokens, a longer context). A `model` that is
    an adapter's directory is its base with the adapter merged. Raises `LuhuoError` for an adapter
    with `parallel` other than copies of the model.
    """
    from luhuo.adapter.attach import attach, needed
    from luhuo.adapter.files import load
    from luhuo.adapter.open import open_decoder

    chosen = config.adapter
    model = open_decoder(config.model, dtype="fp32" if chosen is None else chosen.base, device=device)
    if change is not None:
        model = change(model)
    if chosen is None:
        return model
    divided = {name: getattr(config.parallel, name) for name in ("fsdp", "tp", "ep")}
    if any(count != 1 for count in divided.values()):
        raise LuhuoError(
            tr("An adapter is trained on whole copies of the model.", "适配器只能在完整的模型副本上训练。"),
            expected="parallel: {dp: …}",
            found=divided,
        )
    if chosen.path is not None:
        load(model, chosen.path, base=config.model)
        adapter = needed(model)
        adapter.first = {name: p.detach().clone() for name, p in adapter.trained().items()}
    else:
        attach(model, chosen, seed).base = config.model
    return model


def keep_policy(model: nn.Module, out: Path, extra: Mapping[str, Tensor] | None = None) -> None:
    """Write the result into `out`: the model directory, or the adapter beside its tokenizer and chat template.

    A model trained with rounded matrices is written with them, its adapter merged. `extra` are tensors of heads by
    published name, saved with an adapter.
    """
    from luhuo.adapter.attach import attached
    from luhuo.adapter.files import save as save_adapter
    from luhuo.model.decoder import Decoder
    from luhuo.model.save import save
    from luhuo.train.quantisation.training import settle

    adapter = attached(settle(model))
    if adapter is None or adapter.whole:
        assert isinstance(model, Decoder)
        save(model, out)
        return
    save_adapter(model, out, extra)
    if adapter.model.tokenizer is not None:
        adapter.model.tokenizer.save(out)


@contextmanager
def reference(model: nn.Module) -> Iterator[None]:
    """The model computes what it computed before training, without gradients: its adapter is off or, where training
    went on from a trained one, as it was then, and nothing is rounded. Raises `LuhuoError` if there is no adapter:
    hold a frozen copy then."""
    import torch

    from luhuo.adapter.attach import disabled, needed
    from luhuo.adapter.open import open_decoder
    from luhuo.train.quantisation.training import unrounded

    adapter = needed(model)
    if adapter.whole and adapter.base and not adapter.originals:
        before = dict(open_decoder(adapter.base, dtype="fp32", device=str(adapter.model.device)).named_parameters())
        adapter.originals = {name: before[name].data for name in adapter.extra}
    if adapter.first is None:
        with disabled(model), unrounded(model):
            yield
        return
    with torch.no_grad(), unrounded(model):
        now = adapter.swap(adapter.first)
        try:
            yield
        finally:
            adapter.swap(now)
