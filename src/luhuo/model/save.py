"""Writing a model directory in the Hugging Face layout."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from luhuo.core.atomic import atomic_path, write_json
from luhuo.files.safetensors_write import save_file
from luhuo.model.config import ModelConfig
from luhuo.model.decoder import Decoder
from luhuo.model.encoder import Encoder
from luhuo.model.encoder_config import EncoderConfig
from luhuo.model.encoder_decoder import EncoderDecoder
from luhuo.model.factorised import METHOD as LOW_RANK
from luhuo.model.factorised import factorised, low_rank_config, published_factorised
from luhuo.model.families import write_config
from luhuo.model.quantised_save import has_rounded, kept_of, published_rounded, quantisation_config
from luhuo.model.sentence import write_sentence
from luhuo.model.weights import published_tensors

if TYPE_CHECKING:
    from luhuo.tokenizer.tokenizer import Tokenizer

TOKENIZER_KEY = "luhuo.tokenizer"
"""Key in the weights' metadata that holds the fingerprint of the tokenizer they were trained with."""

EXACT = "router.correction"
"""Parameters that stay in fp32: sums of steps that bf16 would swallow."""

SHARD_BYTES = 4_000_000_000
"""Largest file of weights."""

Model = Decoder | Encoder | EncoderDecoder
"""What can be saved and loaded."""


def save(
    model: Model,
    directory: str | Path,
    *,
    dtype: torch.dtype | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write weights, configs and tokenizer files; `config.json` comes last, so a half-written folder has none.

    Weights are written in `dtype` (the parameters' own by default), in files of at most `shard_bytes`. Matrices kept
    in few bits are written as compressed-tensors has them (`quantised_save`), factors as they are (`factorised`).
    """
    root = Path(directory)
    root.mkdir(parents=True, exist_ok=True)
    dtype = dtype or model.embedding.dtype
    config, metadata = save_tokenizer(root, model.config, model.tokenizer)
    rounded, ranks = has_rounded(model), {name: one.rank for name, one in factorised(model).items()}
    extra = low_rank_config(ranks) if ranks else None
    if ranks:
        sizes = [(name, t.numel() * dtype.itemsize) for name, t in published_factorised(model, model.config)]
        parts = published_factorised(model, model.config)
        write_shards(root, sizes, ((n, t.to("cpu", dtype).contiguous()) for n, t in parts), metadata, shard_bytes)
    elif rounded:
        kept = kept_of(model, model.config)
        extra = quantisation_config(kept, model.config) if kept else None
        sizes = [(name, tensor.nbytes) for name, tensor in published_rounded(model, model.config)]
        tensors = ((name, tensor.contiguous()) for name, tensor in published_rounded(model, model.config))
        write_shards(root, sizes, tensors, metadata, shard_bytes)
    else:
        _write_weights(root, model, dtype, metadata, shard_bytes)
    describe(root, config, dtype, extra)


def save_tokenizer(root: Path, config: Any, tokenizer: Tokenizer | None) -> tuple[Any, dict[str, str]]:
    """Write a tokenizer's files; the config with its stop tokens, and the metadata of the weights that go with it."""
    metadata = {"format": "pt"}
    if tokenizer is None:
        return config, metadata
    tokenizer.save(root)
    return with_stops(config, tokenizer), metadata | {TOKENIZER_KEY: tokenizer.fingerprint}


def describe(root: Path, config: Any, dtype: torch.dtype, quantisation: Mapping[str, Any] | None) -> None:
    """Write the configs of a model directory, `config.json` last."""
    generation = {"eos_token_id": list(config.stop_ids), "pad_token_id": config.pad_id, "do_sample": False}
    write_json(root / "generation_config.json", {k: v for k, v in generation.items() if v not in (None, [])})
    if isinstance(config, EncoderConfig) and config.sentence is not None:
        write_sentence(root, config.sentence, config.hidden_size)
    extra: dict[str, Any] = {} if quantisation is None else {"quantization_config": quantisation}
    if quantisation is not None and quantisation["quant_method"] == LOW_RANK:
        extra["model_type"] = LOW_RANK  # others would pass over a method they do not know, and start from noise
    write_json(root / "config.json", write_config(config, dtype) | extra)


def with_stops(config: Any, tokenizer: Tokenizer) -> Any:
    """The config of a decoder with its tokenizer's stop and padding tokens; others keep their own."""
    if not isinstance(config, ModelConfig):
        return config
    stops = (tokenizer.end_of_turn_id, tokenizer.eos_id)
    return config.model_copy(update={"stop_ids": stops, "pad_id": tokenizer.pad_id})


def _write_weights(root: Path, model: Model, dtype: torch.dtype, metadata: dict[str, str], shard_bytes: int) -> None:
    """Plan the files on the empty device first, so that only one file's tensors are held at a time."""
    held = list(model.named_parameters(remove_duplicate=False))
    kinds = {name: torch.float32 if name.endswith(EXACT) else dtype for name, _ in held}
    empty = {name: torch.empty(p.shape, dtype=kinds[name], device="meta") for name, p in held}
    planned = list(published_tensors(model.config, empty))
    published = published_tensors(model.config, dict(held))
    twice = len(held) > len(list(model.parameters()))  # layers that share weights: a file has them apart
    tensors = (
        (name, tensor.to("cpu", plan.dtype, copy=twice))
        for (_, plan), (name, tensor) in zip(planned, published, strict=True)
    )
    write_shards(root, [(name, plan.nbytes) for name, plan in planned], tensors, metadata, shard_bytes)


def write_shards(
    root: Path,
    sizes: Iterable[tuple[str, int]],
    tensors: Iterator[tuple[str, Tensor]],
    metadata: dict[str, str],
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write tensors, whose names and bytes are known before, in files of at most `shard_bytes`, and the index."""
    shards: list[list[str]] = [[]]
    size = total = 0
    for name, count in sizes:
        if shards[-1] and size + count > shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += count
        total += count
    if len(shards) == 1:
        names = ["model.safetensors"]
    else:
        names = [f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors" for i in range(len(shards))]
    for name, members in zip(names, shards, strict=True):
        held = dict(islice(tensors, len(members)))
        with atomic_path(root / name) as temporary:
            save_file(held, temporary, metadata)
            _sort_metadata(temporary)
    if len(shards) > 1:
        places = {tensor: name for name, members in zip(names, shards, strict=True) for tensor in members}
        write_json(root / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": places})


def _sort_metadata(path: Path) -> None:
    """Put the header's metadata in order: safetensors writes it in a random one, and equal models are equal files."""
    with path.open("r+b") as handle:
        length = int.from_bytes(handle.read(8), "little")
        header = json.loads(handle.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) > length:
            raise AssertionError("the sorted header is longer than the one that was written")
        handle.seek(8)
        handle.write(text.ljust(length))
