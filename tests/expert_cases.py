"""The cases of families with a mixture of experts or latent attention; `tests/family_cases.py` takes them up."""

from __future__ import annotations

from tests.family_checks import SMALL, Case

GQA = {**SMALL, "num_key_value_heads": 2}
QWEN_EXPERTS = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
LOCAL_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
LATENT = {
    **SMALL,
    "num_key_value_heads": 4,
    "q_lora_rank": 20,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 10,
}
DEEPSEEK = {
    **LATENT,
    "moe_intermediate_size": 16,
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "n_shared_experts": 2,
    "first_k_dense_replace": 1,
    "routed_scaling_factor": 1.7,
}
GROUPS = {"n_group": 4, "topk_group": 2}
DEEPSEEK_YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 40.0,
    "original_max_position_embeddings": 32,
    "beta_fast": 32,
    "beta_slow": 1,
    "mscale": 0.707,
    "mscale_all_dim": 0.9,
}
OSS_YARN = {
    "rope_type": "yarn",
    "rope_theta": 150000.0,
    "factor": 32.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "truncate": False,
    "original_max_position_embeddings": 32,
}

EXPERTS = {
    "mixtral": Case("mixtral", "MixtralForCausalLM", {**GQA, **LOCAL_EXPERTS}, "Mixtral 8x7B, 8x22B"),
    "mixtral-window": Case(
        "mixtral", "MixtralForCausalLM", {**GQA, **LOCAL_EXPERTS, "sliding_window": 9, "head_dim": 16}
    ),
    "qwen2-moe": Case(
        "qwen2_moe",
        "Qwen2MoeForCausalLM",
        {**GQA, **QWEN_EXPERTS, "shared_expert_intermediate_size": 24, "mlp_only_layers": [0]},
        "Qwen1.5-MoE, Qwen2-57B-A14B",
    ),
    "qwen2-moe-window": Case(
        "qwen2_moe",
        "Qwen2MoeForCausalLM",
        {
            **GQA,
            **QWEN_EXPERTS,
            "shared_expert_intermediate_size": 24,
            "decoder_sparse_step": 2,
            "norm_topk_prob": True,
            "use_sliding_window": True,
            "sliding_window": 9,
            "max_window_layers": 2,
            "qkv_bias": False,
            "tie_word_embeddings": True,
        },
    ),
    "qwen3-moe": Case(
        "qwen3_moe",
        "Qwen3MoeForCausalLM",
        {**GQA, **QWEN_EXPERTS, "head_dim": 16, "norm_topk_prob": True},
        "Qwen3-30B-A3B, Qwen3-235B-A22B, Qwen3-Coder",
    ),
    "qwen3-moe-mixed": Case(
        "qwen3_moe",
        "Qwen3MoeForCausalLM",
        {**GQA, **QWEN_EXPERTS, "head_dim": 8, "attention_bias": True, "decoder_sparse_step": 2},
    ),
    "deepseek-v2": Case(
        "deepseek_v2",
        "DeepseekV2ForCausalLM",
        {**DEEPSEEK, **GROUPS, "topk_method": "group_limited_greedy", "rope_parameters": DEEPSEEK_YARN},
        "DeepSeek-V2, V2.5, Coder-V2",
    ),
    "deepseek-v2-lite": Case(
        "deepseek_v2", "DeepseekV2ForCausalLM", {**DEEPSEEK, "q_lora_rank": None}, "DeepSeek-V2-Lite"
    ),
    "deepseek-v2-bias": Case("deepseek_v2", "DeepseekV2ForCausalLM", {**DEEPSEEK, "attention_bias": True}),
    "deepseek-v3": Case(
        "deepseek_v3",
        "DeepseekV3ForCausalLM",
        {**DEEPSEEK, **GROUPS, "rope_parameters": DEEPSEEK_YARN},
        "DeepSeek-V3, V3.1, R1",
    ),
    "deepseek-v3-moonlight": Case(
        "deepseek_v3",
        "DeepseekV3ForCausalLM",
        {**DEEPSEEK, "n_group": 1, "topk_group": 1, "q_lora_rank": None},
        "Moonlight, Kimi-K2",
    ),
    "deepseek-v3-halves": Case(
        "deepseek_v3",
        "DeepseekV3ForCausalLM",
        {**DEEPSEEK, **GROUPS, "rope_interleave": False, "norm_topk_prob": False, "attention_bias": True},
    ),
    "gpt-oss": Case(
        "gpt_oss",
        "GptOssForCausalLM",
        {**GQA, **LOCAL_EXPERTS, "head_dim": 16, "sliding_window": 9, "rope_parameters": OSS_YARN},
        "gpt-oss-20b, gpt-oss-120b",
    ),
    "glm4-moe": Case(
        "glm4_moe",
        "Glm4MoeForCausalLM",
        {**DEEPSEEK, "num_key_value_heads": 2, "head_dim": 16, "n_group": 1, "topk_group": 1, "use_qk_norm": True},
        "GLM-4.5, GLM-4.6",
    ),
    "glm4-moe-air": Case(
        "glm4_moe",
        "Glm4MoeForCausalLM",
        {**DEEPSEEK, **GROUPS, "num_key_value_heads": 2, "head_dim": 8, "attention_bias": True},
        "GLM-4.5-Air",
    ),
}
