"""CodeGen and MOSS: GPT-J with one projection whose rows are in the order of four former devices."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from luhuo.model.config import ModelConfig
from luhuo.model.families import gptj
from luhuo.model.families.common import Values, check
from luhuo.model.families.links import Link
from luhuo.model.families.tables import table_links

ARCHITECTURES = ("CodeGenForCausalLM", "MossForCausalLM")
DEFAULTS = {"bos_token_id": 50256, "eos_token_id": 50256}
PREFIX = gptj.PREFIX
IGNORED = r"attn\.(causal_mask|masked_bias|bias|embed_positions)$"
NAMES = dataclasses.replace(gptj.NAMES, qkv="attn.qkv_proj")
DEVICES = 4


def read(values: Values) -> dict[str, Any]:
    """Fields of our config: GPT-J's. MOSS was published quantised too; that is not read."""
    check(values, {"wbits": 32}, "MOSS")
    return gptj.read(values)


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {**gptj.write(config), "model_type": "codegen", "n_ctx": config.max_positions}


def qkv_order(config: ModelConfig) -> Tensor:
    """For each device the queries, the values, then the keys of its share of the heads."""
    rows = torch.arange(3 * config.hidden_size).view(DEVICES, 3, -1)
    return rows[:, [0, 2, 1]].transpose(0, 1).flatten()


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    return table_links(config, NAMES, order=qkv_order(config))
