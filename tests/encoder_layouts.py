"""Published layouts of encoder-decoders that the reference has under other names only."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from tests.family_checks import Files, Layout

CPM2_NAMES = [
    ("shared.weight", "word_embeds.weight"),
    (".block.", ".blocks."),
    (".layer.0.SelfAttention.o.", ".self_attn.self_attn.dense."),
    (".layer.0.SelfAttention.", ".self_attn.self_attn."),
    (".layer.0.layer_norm.", ".self_attn.layer_norm."),
    (".layer.1.EncDecAttention.q.", ".cross_attn.cross_attn.project_q."),
    (".layer.1.EncDecAttention.o.", ".cross_attn.cross_attn.dense."),
    (".layer.1.EncDecAttention.", ".cross_attn.cross_attn."),
    ("final_layer_norm", "final_layernorm"),
]
"""T5's name and CPM-2's; the MLP's place differs between the halves and is handled apart."""

FUSED = {"project": ("q", "k", "v"), "project_kv": ("k", "v")}


def publish_cpm2(values: dict[str, Any], tensors: dict[str, Tensor]) -> Files:
    """T5 1.1's files to those of CPM-2, its parts joined."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        new = re.sub(r"decoder(.*)\.layer\.2\.(DenseReluDense|layer_norm)", r"decoder\1.ff.\2", name)
        new = re.sub(r"encoder(.*)\.layer\.1\.(DenseReluDense|layer_norm)", r"encoder\1.ff.\2", new)
        new = new.replace("DenseReluDense", "dense_relu_dense")
        for theirs, published in CPM2_NAMES:
            new = new.replace(theirs, published)
        new = re.sub(r"decoder(.*)\.layer\.1\.layer_norm", r"decoder\1.cross_attn.layer_norm", new)
        found[new] = tensor
    for part, pieces in FUSED.items():
        middle = "cross_attn.cross_attn." if part == "project_kv" else "self_attn.self_attn."
        for name in [name for name in found if name.endswith(f"{middle}{pieces[0]}.weight")]:
            stem = name.removesuffix(f"{pieces[0]}.weight")
            found[f"{stem}{part}.weight"] = torch.cat([found.pop(f"{stem}{piece}.weight") for piece in pieces])
    settings = {**values, "architectures": ["EncDecModel"], "model_type": "cpm2", "feed_forward_proj": "relu"}
    return settings, found


def restore_cpm2(values: dict[str, Any], tensors: dict[str, Tensor]) -> Files:
    """CPM-2's files, as we write them, to those of T5 1.1."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        stem, _, part = name.removesuffix(".weight").rpartition(".")
        if part in FUSED:
            pieces = FUSED[part]
            found |= {f"{stem}.{p}.weight": t for p, t in zip(pieces, tensor.chunk(len(pieces)), strict=True)}
        else:
            found[name] = tensor
    renamed: dict[str, Tensor] = {}
    for name, tensor in found.items():
        new = re.sub(r"decoder(.*)\.cross_attn\.layer_norm", r"decoder\1.layer.1.layer_norm", name)
        for theirs, published in CPM2_NAMES:
            new = new.replace(published, theirs)
        new = new.replace("dense_relu_dense", "DenseReluDense")
        new = re.sub(r"(encoder.*)\.ff\.", r"\1.layer.1.", new)
        renamed[re.sub(r"(decoder.*)\.ff\.", r"\1.layer.2.", new)] = tensor
    settings = {**values, "architectures": ["T5ForConditionalGeneration"], "model_type": "t5",
                "tie_word_embeddings": False}  # fmt: skip
    return settings, renamed


CPM2 = Layout(publish_cpm2, restore_cpm2)
