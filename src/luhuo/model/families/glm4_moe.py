"""GLM-4.5, GLM-4.5-Air and GLM-4.6: grouped queries, DeepSeek-V3's routing, multi-token prediction."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from luhuo.model.config import ModelConfig
from luhuo.model.families.common import Values, attention_links, check, llama_fields, llama_values
from luhuo.model.families.deepseek_v2 import KEYS
from luhuo.model.families.deepseek_v3 import IGNORED as IGNORED
from luhuo.model.families.deepseek_v3 import read_corrected, write_corrected
from luhuo.model.families.experts import expert_links, mtp_links, sparse_links
from luhuo.model.families.links import Link

ARCHITECTURES = ("Glm4MoeForCausalLM",)
DEFAULTS = {
    "first_k_dense_replace": 1,
    "max_position_embeddings": 131072,
    "n_shared_experts": 1,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-05,
}
ONLY = {"hidden_act": "silu"}


def read(values: Values) -> dict[str, Any]:
    """Fields of our config."""
    check(values, ONLY, "GLM-4.5")
    return {
        **llama_fields({"partial_rotary_factor": 0.5, **values}),
        "qk_norm": "head" if values.get("use_qk_norm") else "none",
        "qkv_bias": bool(values.get("attention_bias")),
        "moe": read_corrected(values),
        "mtp_layers": values.get("num_nextn_predict_layers") or 0,
    }


def write(config: ModelConfig) -> dict[str, Any]:
    """`config.json`."""
    return {
        "model_type": "glm4_moe",
        **llama_values(config),
        **write_corrected(config, KEYS),
        **ONLY,
        "use_qk_norm": config.qk_norm == "head",
        "attention_bias": config.qkv_bias,
    }


def links(config: ModelConfig) -> Iterator[Link]:
    """Tensors."""
    attention = partial(attention_links, qk_norm=config.qk_norm == "head")
    yield from sparse_links(config, expert_links, attention=attention)
    yield from mtp_links(config, expert_links, attention)
