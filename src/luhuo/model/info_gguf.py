"""What a GGUF file tells of its model: the keys of its metadata and the types of its tensors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.files.gguf import GGUF
from luhuo.model.config import ModelConfig
from luhuo.model.gguf import GGUFWeights
from luhuo.model.gguf_config import read_metadata

PARTS = (
    (r".*norm.*", "norms"),
    (r"token_embd\..*|token_types\..*|per_layer_token_embd\..*", "embedding"),
    (r"position_embd\..*", "positions"),
    (r"output\..*", "head"),
    (r"blk\.\d+\.(ffn_.*_(exps|shexp)|ffn_gate_inp|exp_probs_b).*", "experts"),
    (r"blk\.\d+\.ffn_.*", "mlp"),
    (r"blk\.\d+\.attn_.*", "attention"),
)
"""Tensor names of the format, the first that fits."""

END_KEYS = ("eos_token_id", "eot_token_id", "eom_token_id")


def read_gguf(path: Path) -> tuple[dict[str, Any], ModelConfig | None]:
    """The fields of `Info` that the header of a GGUF file fills, and its config where its architecture is known here.

    Raises `LuhuoError` if it is no sound model file.
    """
    file = GGUF(path)
    metadata = file.metadata
    architecture = metadata.get("general.architecture")
    if not isinstance(architecture, str) or not file.tensors:
        raise LuhuoError(
            tr("This GGUF file holds no model.", "该 GGUF 文件里没有模型。"),
            expected="general.architecture",
            found=architecture,
            where=path,
        )
    stored: Counter[str] = Counter()
    parts: Counter[str] = Counter()
    for name, info in file.tensors.items():
        numbers = prod(info.shape)
        stored[info.kind.name] += numbers
        parts[next((part for pattern, part in PARTS if re.fullmatch(pattern, name)), "other")] += numbers
    context = metadata.get(f"{architecture}.context_length")
    licence = metadata.get("general.license")
    config = _config(path)
    facts = {
        "format": "gguf",
        "architecture": architecture,
        "family": config.family if config else None,
        "licence": licence if isinstance(licence, str) else None,
        "bytes": path.stat().st_size,
        "stored": dict(stored),
        "parts": dict(parts),
        "context": context if isinstance(context, int) else None,
        "tokenizer": _tokenizer(metadata),
    }
    return facts, config


def _config(path: Path) -> ModelConfig | None:
    """The shape of the model; None for an architecture that is not read, of which the header still tells much."""
    try:
        weights = GGUFWeights(path)
        return read_metadata(weights.metadata, weights.shapes, weights.vector, path)[1]
    except LuhuoError:
        return None


def _tokenizer(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Kind, vocabulary, template and the tokens that end a turn."""
    kind, tokens = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.tokens")
    tokens = tokens if isinstance(tokens, list) else []
    ends = dict.fromkeys(metadata.get(f"tokenizer.ggml.{key}") for key in END_KEYS)
    cut = metadata.get("tokenizer.ggml.pre")
    return {
        "kind": f"{kind}, {cut}" if kind and cut else kind,
        "vocabulary": len(tokens) or None,
        "chat_template": "tokenizer.chat_template" in metadata,
        "stop_tokens": tuple(str(tokens[end]) for end in ends if isinstance(end, int) and 0 <= end < len(tokens)),
    }
