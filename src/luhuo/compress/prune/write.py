"""Writing the directory of a smaller model, a parameter at a time, from the whole one's files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from luhuo.compress.parts import dense_of
from luhuo.compress.prune.parts import Parts
from luhuo.compress.walk import Walk
from luhuo.compress.write import FLOATS, SHARD_BYTES
from luhuo.model.config import ModelConfig
from luhuo.model.decoder import Decoder
from luhuo.model.families import links
from luhuo.model.matrices import Kept
from luhuo.model.save import describe, save_tokenizer, write_shards


def write_smaller(walk: Walk, parts: Parts, root: Path, changed: Mapping[str, Kept]) -> ModelConfig:
    """Write what stays; `changed` parameters, by their names in the whole model, in place of those of its files.

    Raises `LuhuoError` before anything is written if the family cannot describe the smaller model.
    """
    smaller = parts.config(walk.config)
    root.mkdir(parents=True, exist_ok=True)
    config, metadata = save_tokenizer(root, smaller, walk.model.tokenizer)
    dtype = FLOATS.get(str(walk.values.get("dtype") or walk.values.get("torch_dtype")), torch.float32)
    with torch.device("meta"):
        empty = dict(Decoder(smaller).named_parameters())
    sizes = [(name, part.nbytes) for name, part in _published(walk, parts, smaller, empty, None)]
    tensors = ((name, part.contiguous()) for name, part in _published(walk, parts, smaller, empty, changed))
    write_shards(root, sizes, tensors, metadata, SHARD_BYTES)
    describe(root, config, dtype, None)
    return smaller


def _published(
    walk: Walk, parts: Parts, smaller: ModelConfig, empty: Mapping[str, Tensor], changed: Mapping[str, Kept] | None
) -> Iterator[tuple[str, Tensor]]:
    """The published tensors of the smaller model; without `changed` only their shapes and dtypes."""
    sources = {link.ours: (link, names) for link, names in walk.links}
    for link in links(smaller):
        source = parts.source(link.ours)
        whole, names = sources[source]
        dtype = walk.weights.tensor(names[0]).dtype
        if changed is None:
            value = torch.empty(empty[link.ours].shape, dtype=dtype, device="meta")
        else:
            kept = changed.get(source)
            value = whole.join([walk.weights.tensor(name) for name in names]) if kept is None else dense_of(kept.value)
            value = parts.cut(source, value, walk.config).to(dtype)
            assert value.shape == empty[link.ours].shape, f"{link.ours}: {value.shape} ≠ {empty[link.ours].shape}"
        yield from zip(link.theirs, link.split(value), strict=True)
