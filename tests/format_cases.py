"""Tiny models whose matrices are rounded in all ways a directory can hold, and the directories they are written to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from luhuo.model.config import ModelConfig
from luhuo.model.decoder import Decoder
from luhuo.model.families import links
from luhuo.model.grid import Grid
from luhuo.model.initialise import initialise
from luhuo.model.matrices import Float8, Kept
from luhuo.model.quantised import Rounded
from luhuo.model.quantised_save import published, quantisation_config
from luhuo.model.save import describe, write_shards

SMALL: dict[str, Any] = {
    "family": "llama",
    "qk_norm": "none",
    "vocab_size": 96,
    "hidden_size": 64,
    "layers": 2,
    "heads": 4,
    "kv_heads": 2,
    "head_dim": 16,
    "intermediate_size": 96,
    "tie_embeddings": False,
}


def small(**changes: Any) -> Decoder:
    """A decoder with random weights everywhere."""
    model = initialise(Decoder(ModelConfig(**SMALL | changes)), 0).eval()
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():  # the usual start has zeros where a branch ends
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = parameter + 0.2 * noise if parameter.dim() == 1 else noise * parameter.shape[1] ** -0.5
    return model


def ids(count: int = 20) -> Tensor:
    return torch.randint(SMALL["vocab_size"], (2, count), generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def logits(model: Any) -> Tensor:
    found = model(ids())
    return getattr(found, "logits", found).float()


def rounded(weight: Tensor, grid: Grid) -> Rounded:
    return grid.round(weight, *grid.scales(weight))


def moved(weight: Tensor, grid: Grid) -> Rounded:
    """Rounded with its columns in another order."""
    order = torch.randperm(weight.shape[1], generator=torch.Generator().manual_seed(weight.shape[1]))
    there = weight[:, order]
    scale, zero = grid.scales(there)
    q = grid.nearest(there.unflatten(1, (-1, grid.width(weight.shape[1]))), scale[..., None], zero[..., None])
    return grid.rounded(q.flatten(1), scale, zero, order.int())


def float8(weight: Tensor, *, whole: bool = False) -> Float8:
    largest = weight.abs().amax().view(1, 1) if whole else weight.abs().amax(1, keepdim=True)
    scale = largest / 448
    return Float8((weight / scale).to(torch.float8_e4m3fn), scale)


def matrices(model: Decoder) -> dict[str, Tensor]:
    return {
        name: parameter.detach()
        for name, parameter in model.named_parameters()
        if name.startswith("blocks.") and parameter.dim() == 2
    }


def kept_by(model: Decoder, change: Callable[[str, Tensor], Kept]) -> dict[str, Kept]:
    return {name: change(name, weight) for name, weight in matrices(model).items()}


def write(model: Decoder, kept: dict[str, Kept], folder: Path, dtype: torch.dtype = torch.float32) -> Path:
    """The model's directory with these matrices in the place of its own, all else in `dtype`."""
    folder.mkdir(parents=True, exist_ok=True)
    parameters = dict(model.named_parameters())
    tensors = [
        pair
        for link in links(model.config)
        for pair in published(link, kept.get(link.ours, Kept(parameters[link.ours].detach().to(dtype))))
    ]
    sizes = [(name, tensor.nbytes) for name, tensor in tensors]
    write_shards(folder, sizes, iter(tensors), {"format": "pt"})
    describe(folder, model.config, dtype, quantisation_config(kept, model.config))
    return folder


def different(first: Path, second: Path) -> set[str]:
    """Names of tensors that two directories do not both have, with equal bytes."""
    one, other = (load_file(folder / "model.safetensors") for folder in (first, second))
    same = {n for n in one.keys() & other.keys() if one[n].dtype == other[n].dtype and torch.equal(one[n], other[n])}
    return (one.keys() | other.keys()) - same


def dense_of(kept: Kept) -> Tensor:
    """The numbers of a matrix, written out from the definition."""
    value = kept.value
    if isinstance(value, Float8):
        return value.values.float() * value.scale
    assert isinstance(value, Rounded)
    columns = value.q.shape[1]
    group = torch.arange(columns) // value.group
    wide = value.q.float() * value.scale.float()[:, group]
    wide = wide if value.low is None else wide + value.low.float()[:, group]
    if value.order is None:
        return wide
    result = torch.empty_like(wide)
    result[:, value.order.long()] = wide
    return result


def dense_model(model: Decoder, kept: dict[str, Kept]) -> Decoder:
    """The model with the numbers of these matrices."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, one in kept.items():
            parameters[name].copy_(dense_of(one))
    return model
