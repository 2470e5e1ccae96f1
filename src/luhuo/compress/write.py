"""Writing the model directory of what a walk made, matrix by matrix, from its parts and the original's files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from luhuo.compress.walk import Walk
from luhuo.core.memory import give_back
from luhuo.model.matrices import Kept
from luhuo.model.quantised_save import published, quantisation_config
from luhuo.model.save import describe, save_tokenizer, write_shards

FLOATS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
SHARD_BYTES = 1_000_000_000
"""Largest file of weights: as much of it is in memory at once."""


def write_model(walk: Walk, root: Path, changed: Mapping[str, Kept]) -> None:
    """Write the directory: `changed` parameters by the names of ours, the others as the original has them."""
    config, metadata = save_tokenizer(root, walk.config, walk.model.tokenizer)
    dtype = FLOATS.get(str(walk.values.get("dtype") or walk.values.get("torch_dtype")), torch.float32)
    sizes = [(name, tensor.nbytes) for name, tensor in _tensors(walk, changed)]
    tensors = ((name, tensor.contiguous()) for name, tensor in _tensors(walk, changed))
    write_shards(root, sizes, tensors, metadata, SHARD_BYTES)
    rounded = {name: kept for name, kept in changed.items() if not isinstance(kept.value, Tensor)}
    describe(root, config, dtype, quantisation_config(rounded, walk.config) if rounded else None)


def _tensors(walk: Walk, changed: Mapping[str, Kept]) -> Iterator[tuple[str, Tensor]]:
    for link, names in walk.links:
        give_back()
        kept = changed.get(link.ours)
        if kept is None:
            yield from zip(link.theirs, (walk.weights.tensor(name) for name in names), strict=True)
            continue
        if isinstance(kept.value, Tensor):
            was = walk.weights.tensor(names[0]).dtype
            kept = Kept(kept.value.to(was) if was.is_floating_point and was.itemsize > 1 else kept.value.bfloat16())
        yield from published(link, kept)
