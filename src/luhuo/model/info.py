"""What a model is and what it needs, from its files' headers alone: nothing of the weights is read.

Memory figures are estimates from the shapes; each function says what it counts.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import asdict, dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from luhuo.core.artifact import MANIFEST, read_manifest
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.files.references import resolve
from luhuo.model import count, count_stack
from luhuo.model.config import ModelConfig
from luhuo.model.factorised import METHOD as LOW_RANK
from luhuo.model.families import fit, links, read_config
from luhuo.model.info_gguf import read_gguf
from luhuo.model.load import read_values
from luhuo.model.sentence import encoder_folder
from luhuo.model.weights import SafetensorsWeights, weight_files

BITS = {"fp32": 32.0, "bf16": 16.0, "int8": 8.5, "int4": 4.5}
"""Bits a weight of a matrix takes; int8 and int4 in groups of 32 with a 16-bit scale (GGUF's Q8_0 and Q4_0)."""

CACHE_BYTES = {"fp32": 4, "bf16": 2, "int8": 2, "int4": 2}
"""Bytes a number of the key-value cache and of an activation takes."""

LENGTH = 4096
"""Tokens of a sequence for the figures that depend on it, unless the context is shorter or another number is asked."""

RANK = 16
"""Rank of the adapters with which a quantised model is trained (QLoRA, Dettmers et al. 2023)."""

ADAM_BYTES = 16
"""A trained weight in fp32, its gradient, and AdamW's two moments."""


@dataclass(frozen=True)
class TokenizerInfo:
    """What is known of a model's tokenizer."""

    kind: str | None = None
    vocabulary: int | None = None
    chat_template: bool = False
    stop_tokens: tuple[str, ...] = ()


@dataclass(frozen=True)
class Info:
    """A model in figures. Sizes are bytes; `None` where the files do not tell, or the shape is not a decoder's."""

    reference: str
    path: str
    format: str
    architecture: str
    family: str | None
    licence: str | None
    bytes: int | None
    stored: dict[str, int]
    """Numbers stored in the weight files, by type."""
    parts: dict[str, int]
    """Parameters by part of the model."""
    tokenizer: TokenizerInfo
    compression: str | None = None
    """How matrices are kept where they are not kept as plain numbers: method, bits, or ranks."""
    shape: dict[str, Any] = field(default_factory=dict)
    active: int | None = None
    context: int | None = None
    length: int | None = None
    batch: int = 1
    flops: dict[str, int] = field(default_factory=dict)
    """Operations per token in a sequence of `length`: "forward", and "train" with the backward pass."""
    cache_per_token: dict[str, int] = field(default_factory=dict)
    """Bytes by number format."""
    cache_of_context: dict[str, int] = field(default_factory=dict)
    """The same for one sequence as long as the model's context."""
    serve: dict[str, dict[str, int]] = field(default_factory=dict)
    """By number format: weights, cache of `batch` sequences of `length`, total."""
    train: dict[str, dict[str, int]] = field(default_factory=dict)
    """By number format: weights, gradients, optimiser, activations of `batch` rows of `length`, total."""

    @property
    def parameters(self) -> int:
        """All parameters."""
        return sum(self.parts.values())

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"parameters": self.parameters}


def describe(reference: str | Path, *, length: int | None = None, batch: int = 1) -> Info:
    """Describe a model directory, a GGUF file or a reference to either.

    length: tokens of a sequence for the figures that depend on it; by default the model's context, at most 4,096.
    Raises `LuhuoError` for what is no model.
    """
    found = resolve(str(reference), weights=False)
    if found.path.is_file():
        told, config = read_gguf(found.path)
        told["tokenizer"] = TokenizerInfo(**told["tokenizer"])
    else:
        told, config = _read_folder(found.path, whole=Path(reference).exists())
    facts: dict[str, Any] = {"reference": str(reference), "path": str(found.path)} | told
    facts["licence"] = facts["licence"] or found.licence
    if isinstance(config, ModelConfig):
        facts |= costs(config, length or min(LENGTH, config.max_positions), batch)
    return Info(**facts)


def _read_folder(folder: Path, *, whole: bool) -> tuple[dict[str, Any], Any]:
    """What a model directory in the Hugging Face layout tells, and its config.

    whole: False for what came from a hub without its weights, where they are not looked at.
    """
    root = encoder_folder(folder)
    values = read_values(root)
    config = read_config(values, root / "config.json")
    files: list[Path] = []
    if whole or any(root.glob("*.safetensors")):
        files = weight_files(root)
        with SafetensorsWeights(root) as weights:
            config = _as_stored(config, weights.shapes())
    names = values.get("architectures") or [values.get("model_type")]
    facts = {
        "format": "safetensors",
        "architecture": ", ".join(map(str, names)),
        "family": config.family,
        "licence": _licence(folder),
        "bytes": sum(file.stat().st_size for file in files) or _announced(root),
        "stored": _stored(files),
        "parts": parts(config),
        "tokenizer": _tokenizer(root, getattr(config, "stop_ids", ())),
        "compression": _compression(values.get("quantization_config")),
    }
    return facts, config


def _compression(told: Any) -> str | None:
    """What `quantization_config` says, in a line."""
    if not isinstance(told, dict):
        return None
    method = str(told.get("quant_method", "?"))
    if method == LOW_RANK and isinstance(told.get("ranks"), dict):
        ranks = [rank for rank in told["ranks"].values() if isinstance(rank, int)]
        return f"{method}, {len(ranks)} matrices, rank {min(ranks, default=0)} to {max(ranks, default=0)}"
    groups = told.get("config_groups")
    schemes = [group.get("weights") for group in groups.values()] if isinstance(groups, dict) else [told]
    found = [scheme.get("num_bits", scheme.get("bits")) for scheme in schemes if isinstance(scheme, dict)]
    named = " / ".join(str(bits) for bits in sorted({bits for bits in found if isinstance(bits, int)}))
    return f"{method}, {named} bits" if named else method


def _announced(root: Path) -> int | None:
    """The size of the weights as their index gives it; None for a model in one file, which has no index."""
    size = _json(root / "model.safetensors.index.json").get("metadata", {}).get("total_size")
    return int(size) if isinstance(size, (int, float)) else None


def _as_stored(config: Any, shapes: dict[str, tuple[int, ...]]) -> Any:
    """The config with the optional parts that the files hold: heads, poolers, blocks of multi-token prediction."""
    config = fit(config, shapes)
    if getattr(config, "mtp_layers", 0):
        names = {name for link in links(config) if link.ours.startswith("mtp.") for name in link.theirs}
        if not names & shapes.keys():
            return config.model_copy(update={"mtp_layers": 0})
    return config


def parts(config: Any) -> dict[str, int]:
    """Parameters by part, computed from the shape."""
    return count.parameters(config) if isinstance(config, ModelConfig) else count_stack.parameters(config)


def _stored(files: list[Path]) -> dict[str, int]:
    numbers: Counter[str] = Counter()
    for file in files:
        try:
            with safe_open(file, "numpy") as tensors:
                for name in tensors.keys():  # noqa: SIM118 (not a dict)
                    part = tensors.get_slice(name)
                    numbers[part.get_dtype()] += prod(part.get_shape())
        except SafetensorError as error:
            raise LuhuoError(
                tr("A weight file is damaged.", "权重文件已损坏。"), found=str(error), where=file
            ) from None
    return dict(numbers)


def _licence(root: Path) -> str | None:
    """What the model card says, else the manifest of the run that made it, else the first line of a licence file."""
    card = root / "README.md"
    if card.is_file():
        head = card.read_text(encoding="utf-8", errors="replace")[:20_000]
        front = head.partition("---\n")[2].partition("\n---")[0] if head.startswith("---") else ""
        named = re.search(r"^license_name:\s*(\S.*)$", front, re.M) or re.search(r"^license:\s*(\S.*)$", front, re.M)
        if named:
            return named[1].strip(" '\"")
    if (root / MANIFEST).is_file():
        return ", ".join(read_manifest(root).get("licences", [])) or None
    for file in sorted(root.glob("LICENSE*")):
        lines = file.read_text(encoding="utf-8", errors="replace")[:4_000].split("\n")
        return next((line.strip() for line in lines if line.strip()), None)
    return None


def _tokenizer(root: Path, stop_ids: tuple[int, ...]) -> TokenizerInfo:
    """From the tokenizer's files; the vocabulary counts added tokens."""
    from luhuo.tokenizer.tokenizer import Tokenizer

    template = (root / "chat_template.jinja").is_file() or bool(
        _json(root / "tokenizer_config.json").get("chat_template")
    )
    kind = _tokenizer_kind(root)
    if kind is None:
        return TokenizerInfo(chat_template=template)
    try:
        tokenizer = Tokenizer.load(root)
        stops = tuple(tokenizer.decode([i]) for i in stop_ids if i < tokenizer.vocab_size)
        return TokenizerInfo(kind, tokenizer.vocab_size, template, stops)
    except LuhuoError as error:
        return TokenizerInfo(f"{kind} ({error.problem})", None, template, tuple(map(str, stop_ids)))


def _tokenizer_kind(root: Path) -> str | None:
    model = _json(root / "tokenizer.json").get("model")
    if isinstance(model, dict):
        return str(model.get("type") or "BPE")
    if any(root.glob("*.tiktoken")):
        return "tiktoken"
    if any((root / name).is_file() for name in ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")):
        return "SentencePiece"
    if (root / "vocab.txt").is_file():
        return "WordPiece"
    return "BPE" if (root / "merges.txt").is_file() else None


def _json(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def costs(config: ModelConfig, length: int, batch: int) -> dict[str, Any]:
    train = count.flops_per_token(config, length)
    forward = count.flops_per_token(config.model_copy(update={"mtp_layers": 0}), length) // 3
    numbers = count.cache_per_token(config)
    shown = ("layers", "hidden_size", "heads", "kv_heads", "head_dim", "intermediate_size", "vocab_size")
    shape = {name: getattr(config, name) for name in shown}
    if config.moe:
        shape |= {"experts": config.moe.experts, "active_experts": config.moe.active}
    return {
        "shape": shape,
        "active": count.active_parameters(config),
        "context": config.max_positions,
        "length": length,
        "batch": batch,
        "flops": {"forward": forward, "train": train},
        "cache_per_token": {name: numbers * size for name, size in CACHE_BYTES.items()},
        "cache_of_context": {name: numbers * size * config.max_positions for name, size in CACHE_BYTES.items()},
        "serve": {name: _serving(config, name, length, batch) for name in BITS},
        "train": {name: _training(config, name, length, batch) for name in BITS},
    }


def weight_bytes(config: ModelConfig, form: str) -> int:
    """Bytes of the weights: the matrices of the blocks in `form`, the rest in 16 bits where that is below 16."""
    counted = count.parameters(config)
    inside = sum(counted.get(name, 0) for name in ("attention", "mlp", "experts", "mtp"))
    outside = sum(counted.values()) - inside
    return round(inside * BITS[form] / 8 + outside * max(BITS[form], 16.0) / 8)


def _serving(config: ModelConfig, form: str, length: int, batch: int) -> dict[str, int]:
    weights = weight_bytes(config, form)
    cache = count.cache_per_token(config) * CACHE_BYTES[form] * length * batch
    return {"weights": weights, "cache": cache, "total": weights + cache}


def _training(config: ModelConfig, form: str, length: int, batch: int) -> dict[str, int]:
    """AdamW over all weights in fp32 (the computing format changes the activations and adds a working copy); of a
    quantised model over adapters of rank 16 on every matrix of the blocks, the model itself frozen."""
    total = sum(count.parameters(config).values())
    if form in ("fp32", "bf16"):
        weights, trained = total * (4 if form == "fp32" else 6), total
    else:
        trained = adapter_parameters(config, RANK)
        weights = weight_bytes(config, form) + 4 * trained
    parts = {"weights": weights, "gradients": 4 * trained, "optimiser": (ADAM_BYTES - 8) * trained}
    parts["activations"] = activations(config) * CACHE_BYTES[form] * length * batch
    return parts | {"total": sum(parts.values())}


def activations(config: ModelConfig) -> int:
    """Numbers kept for the backward pass of one token, without recomputation (after Korthikanti et al. 2022, sec. 4).

    In each block: what enters both norms and what leaves them (4 widths); queries and keys before and after the
    rotation, values, attention's output; of a gated MLP the gate before and after its activation, the other half and
    the product (4 inner widths), of a plain one 2; with experts that for each one a token goes to, and its input and
    output. Attention's scores, which only the CPU's path keeps, and logits, which are never kept whole, are left out.
    """
    queries, keys = config.heads * config.head_dim, config.kv_heads * config.head_dim
    values = config.kv_heads * config.value_dim
    if config.mla:
        queries = keys = config.heads * (config.mla.nope_dim + config.mla.rope_dim)
        values = config.heads * config.value_dim + config.mla.kv_rank + (config.mla.q_rank or 0)
    attention = 2 * (queries + keys) + values + config.heads * config.value_dim
    inner = 4 if config.gated else 2
    total = config.hidden_size
    for layer in range(config.layers):
        width, routed = config.intermediate_size, 0
        if config.moe and config.sparse(layer):
            width = config.moe.active * config.moe.intermediate_size + config.moe.shared_size
            routed = 2 * config.moe.active * config.hidden_size
        total += 4 * config.hidden_size + attention + inner * width + routed
    return total


def adapter_parameters(config: ModelConfig, rank: int) -> int:
    """Parameters of low-rank adapters on every matrix of the blocks: rank · (inputs + outputs) of each."""
    hidden, value = config.hidden_size, config.heads * config.value_dim
    if config.mla:
        mla = config.mla
        queries, down = config.heads * (mla.nope_dim + mla.rope_dim), mla.kv_rank + mla.rope_dim
        query = (hidden + mla.q_rank + mla.q_rank + queries) if mla.q_rank else hidden + queries
        attention = query + hidden + down + mla.kv_rank + config.heads * (mla.nope_dim + mla.value_dim)
    else:
        attention = 3 * hidden + sum(config.qkv_rows)
    attention += value + hidden
    matrices = 3 if config.gated else 2
    total = config.layers * attention
    for layer in range(config.layers):
        if config.moe and config.sparse(layer):
            experts = config.moe.experts * (hidden + config.moe.intermediate_size)
            total += matrices * (experts + (hidden + config.moe.shared_size if config.moe.shared_size else 0))
        else:
            total += matrices * (hidden + config.intermediate_size)
    return rank * total
