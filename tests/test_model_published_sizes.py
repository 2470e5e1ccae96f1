"""Configs as the models were published: the sizes their reports state, and variants that would go wrong silently."""

from __future__ import annotations

from typing import Any

import pytest

from luhuo.core.errors import LuhuoError
from luhuo.model.count import active_parameters, parameters
from luhuo.model.families import read_config


def config(
    name: str, vocab: int, width: int, inner: int, layers: int, heads: int, kv: int, **more: Any
) -> dict[str, Any]:
    """A config.json with the keys that most families share."""
    return {
        "architectures": [name],
        "vocab_size": vocab,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": False,
        **more,
    }


LATENT = {"kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128}
V3 = {**LATENT, "q_lora_rank": 1536, "moe_intermediate_size": 2048, "num_experts_per_tok": 8, "n_shared_experts": 1}
QWEN3 = {"num_experts": 128, "num_experts_per_tok": 8, "head_dim": 128}

# Billions; a report that leaves embeddings out of the active parameters has them added here.
PUBLISHED: dict[str, tuple[dict[str, Any], float, float]] = {
    "Mixtral 8x7B": (
        config("MixtralForCausalLM", 32000, 4096, 14336, 32, 32, 8, num_local_experts=8, num_experts_per_tok=2),
        46.7,
        12.9,
    ),
    "Qwen1.5-MoE-A2.7B": (
        config(
            "Qwen2MoeForCausalLM",
            *(151936, 2048, 5632, 24, 16, 16),
            num_experts=60,
            num_experts_per_tok=4,
            moe_intermediate_size=1408,
            shared_expert_intermediate_size=5632,
        ),
        14.3,
        2.7,
    ),
    "Qwen3-30B-A3B": (
        config("Qwen3MoeForCausalLM", 151936, 2048, 6144, 48, 32, 4, **QWEN3, moe_intermediate_size=768),
        30.5,
        3.3,
    ),
    "Qwen3-235B-A22B": (
        config("Qwen3MoeForCausalLM", 151936, 4096, 12288, 94, 64, 4, **QWEN3, moe_intermediate_size=1536),
        235,
        22,
    ),
    "DeepSeek-V2": (
        config(
            "DeepseekV2ForCausalLM",
            *(102400, 5120, 12288, 60, 128, 128),
            **LATENT,
            q_lora_rank=1536,
            moe_intermediate_size=1536,
            n_routed_experts=160,
            n_shared_experts=2,
            num_experts_per_tok=6,
            first_k_dense_replace=1,
            topk_method="group_limited_greedy",
            n_group=8,
            topk_group=3,
        ),
        236,
        21,
    ),
    "DeepSeek-V3": (
        config(
            "DeepseekV3ForCausalLM",
            *(129280, 7168, 18432, 61, 128, 128),
            **V3,
            n_routed_experts=256,
            first_k_dense_replace=3,
            n_group=8,
            topk_group=4,
            num_nextn_predict_layers=0,
        ),
        671,
        37,
    ),
    "Kimi-K2": (
        config(
            "DeepseekV3ForCausalLM",
            *(163840, 7168, 18432, 61, 64, 64),
            **V3,
            n_routed_experts=384,
            first_k_dense_replace=1,
            n_group=1,
            topk_group=1,
            num_nextn_predict_layers=0,
        ),
        1027,
        32.6,
    ),
    "GLM-4.5": (
        config(
            "Glm4MoeForCausalLM",
            *(151552, 5120, 12288, 92, 96, 8),
            head_dim=128,
            moe_intermediate_size=1536,
            n_routed_experts=160,
            num_experts_per_tok=8,
            n_shared_experts=1,
            first_k_dense_replace=3,
            use_qk_norm=True,
            attention_bias=True,
            num_nextn_predict_layers=0,
        ),
        355,
        32 + 0.78,  # without the input embedding
    ),
    "gpt-oss-120b": (
        config(
            "GptOssForCausalLM",
            *(201088, 2880, 2880, 36, 64, 8),
            head_dim=64,
            num_local_experts=128,
            num_experts_per_tok=4,
            sliding_window=128,
        ),
        116.8,
        5.13 + 0.58,  # without the input embedding
    ),
    "gpt-oss-20b": (
        config(
            "GptOssForCausalLM",
            *(201088, 2880, 2880, 24, 64, 8),
            head_dim=64,
            num_local_experts=32,
            num_experts_per_tok=4,
            sliding_window=128,
        ),
        20.9,
        3.61 + 0.58,
    ),
    "MiniMax-M2": (
        config(
            "MiniMaxM2ForCausalLM",
            *(200064, 3072, 1536, 62, 48, 8),
            head_dim=128,
            rotary_dim=64,
            num_local_experts=256,
            num_experts_per_tok=8,
        ),
        230,
        10 + 0.61,  # without the input embedding
    ),
    "MiniMax-M1": (
        config(
            "MiniMaxM1ForCausalLM",
            *(200064, 6144, 9216, 80, 64, 8),
            head_dim=128,
            rotary_dim=64,
            num_local_experts=32,
            num_experts_per_tok=2,
            attn_type_list=[0, 0, 0, 0, 0, 0, 0, 1] * 10,
            postnorm=True,
        ),
        456,
        45.9 + 2.46,  # without both embeddings
    ),
    "Hunyuan-A13B": (
        config(
            "HunYuanMoEV1ForCausalLM",
            *(128167, 4096, 3072, 32, 32, 8),
            head_dim=128,
            num_experts=64,
            moe_topk=[8] * 32,
            num_shared_expert=[1] * 32,
            moe_intermediate_size=[3072] * 32,
            use_mixed_mlp_moe=True,
            use_qk_norm=True,
        ),
        80,
        13,
    ),
    "Hunyuan-Large": (
        config(
            "HunYuanForCausalLM",
            *(128512, 6400, 18304, 64, 80, 8),
            num_experts=16,
            moe_topk=1,
            num_shared_expert=1,
            use_mixed_mlp_moe=True,
            use_cla=True,
            cla_share_factor=2,
        ),
        389,
        52,
    ),
    "Grok-1": (
        config("Grok1ModelForCausalLM", 131072, 6144, 32768, 64, 48, 8, num_experts=8, num_experts_per_tok=2),
        314,
        86,
    ),
    "Phi-3.5-MoE": (
        config("PhimoeForCausalLM", 32064, 4096, 6400, 32, 32, 8, num_local_experts=16, num_experts_per_tok=2),
        41.9,
        6.6,
    ),
    "OLMoE-1B-7B": (
        config("OlmoeForCausalLM", 50304, 2048, 1024, 16, 16, 16, num_experts=64, num_experts_per_tok=8),
        6.9,
        1.3,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_total_and_active_parameters_are_those_of_the_report(name: str) -> None:
    values, total, active = PUBLISHED[name]
    found = read_config(values)
    assert sum(parameters(found).values()) / 1e9 == pytest.approx(total, rel=0.015)
    assert active_parameters(found) / 1e9 == pytest.approx(active, rel=0.05)


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("DeepSeek-V3", {"scoring_func": "softmax"}),
    ("DeepSeek-V2", {"topk_method": "noaux_tc"}),
    ("DeepSeek-V2", {"norm_topk_prob": True}),
    ("OLMoE-1B-7B", {"clip_qkv": 8.0}),
    ("MiniMax-M1", {"layernorm_mlp_alpha": 2.0}),
    ("MiniMax-M1", {"postnorm": False}),
    ("MiniMax-M1", {"shared_intermediate_size": 100}),
    ("MiniMax-M2", {"scoring_func": "softmax"}),
    ("Hunyuan-A13B", {"moe_topk": [8] * 31 + [4]}),
    ("gpt-oss-20b", {"swiglu_alpha": 2.0}),
    ("Qwen3-30B-A3B", {"hidden_act": "gelu"}),
    ("Phi-3.5-MoE", {"rope_scaling": {"type": "longrope", "short_mscale": 1.0, "long_mscale": 1.2}}),
]


@pytest.mark.parametrize(("name", "changes"), REFUSED, ids=[f"{name} {next(iter(keys))}" for name, keys in REFUSED])
def test_a_setting_that_changes_the_result_and_is_not_computed_is_refused(name: str, changes: dict[str, Any]) -> None:
    with pytest.raises(LuhuoError, match=r"not supported|不支持"):
        read_config({**PUBLISHED[name][0], **changes})
