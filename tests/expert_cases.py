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

GRANITE_FACTORS = {
    "embedding_multiplier": 3.0,
    "logits_scaling": 1.7,
    "residual_multiplier": 0.6,
    "attention_multiplier": 0.3,
}
HUNYUAN_ROPE = {"rope_type": "dynamic", "rope_theta": 10000.0, "alpha": 50.0, "factor": 1.0}
PHI_ROPE = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0, 1.1, 1.5, 2.0],
    "long_factor": [1.0, 2.0, 3.0, 5.0],
    "short_mscale": 1.24,
    "long_mscale": 1.24,
    "original_max_position_embeddings": 64,
}
HUNYUAN_LARGE = {
    **GQA,
    "num_hidden_layers": 4,
    "head_dim": 16,
    "num_experts": 4,
    "moe_topk": 1,
    "use_mixed_mlp_moe": True,
    "num_shared_expert": 1,
    "use_cla": True,
    "cla_share_factor": 2,
    "use_qk_norm": True,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": True,
    "rope_theta": 10000.0,
    "rope_scaling": {"type": "dynamic", "alpha": 50.0, "factor": 1.0},
}
MINIMAX_FACTORS = {
    "block_size": 16,
    "layer_types": ["linear_attention", "linear_attention", "full_attention", "linear_attention"],
    **{f"{part}_alpha_factor": 1.6 for part in ("full_attn", "linear_attn", "mlp")},
    **{f"{part}_beta_factor": 0.8 for part in ("full_attn", "linear_attn", "mlp")},
}
GROK = {
    **GQA,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "rms_norm_eps": 1e-5,
    "attn_output_multiplier": 0.4,
    "max_attn_value": 3.0,
    "embedding_multiplier_scale": 4.0,
    "output_multiplier_scale": 0.6,
    "tie_word_embeddings": True,
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
    "minicpm3": Case(
        "minicpm3",
        "MiniCPM3ForCausalLM",
        {**LATENT, "scale_emb": 3, "scale_depth": 1.4, "dim_model_base": 16},
        "MiniCPM3-4B",
    ),
    "minicpm3-long": Case(
        "minicpm3",
        "MiniCPM3ForCausalLM",
        {
            **LATENT,
            "q_lora_rank": None,
            "v_head_dim": None,
            "tie_word_embeddings": False,
            "attention_bias": True,
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "short_factor": [1.0, 1.3],
                "long_factor": [1.5, 4.0],
                "original_max_position_embeddings": 26,
            },
        },
    ),
    "olmoe": Case("olmoe", "OlmoeForCausalLM", {**GQA, **QWEN_EXPERTS}, "OLMoE-1B-7B"),
    "granite-moe": Case(
        "granite_moe",
        "GraniteMoeForCausalLM",
        {**GQA, **LOCAL_EXPERTS, **GRANITE_FACTORS, "tie_word_embeddings": True},
        "Granite 3 1B-A400M, 3B-A800M, PowerMoE",
    ),
    "granite-moe-shared": Case(
        "granite_moe",
        "GraniteMoeSharedForCausalLM",
        {**GQA, **LOCAL_EXPERTS, **GRANITE_FACTORS, "shared_intermediate_size": 24, "attention_bias": True},
    ),
    "minimax-m2": Case(
        "minimax_m2",
        "MiniMaxM2ForCausalLM",
        {**GQA, **LOCAL_EXPERTS, "head_dim": 16, "rotary_dim": 8},
        "MiniMax-M2",
    ),
    "hunyuan": Case(
        "hunyuan",
        "HunYuanDenseV1ForCausalLM",
        {**GQA, "head_dim": 16, "tie_word_embeddings": True, "rope_parameters": HUNYUAN_ROPE},
        "Hunyuan 0.5B to 7B",
    ),
    "hunyuan-bias": Case("hunyuan", "HunYuanDenseV1ForCausalLM", {**GQA, "head_dim": 8, "attention_bias": True}),
    "hunyuan-moe": Case(
        "hunyuan",
        "HunYuanMoEV1ForCausalLM",
        {**GQA, "head_dim": 16, "num_experts": 4, "moe_topk": [2, 2, 2], "rope_parameters": HUNYUAN_ROPE},
        "Hunyuan-A13B",
    ),
    "grok1": Case("grok1", "grok1:Grok1", GROK, "Grok-1"),
    "grok1-untied": Case("grok1", "grok1:Grok1", {**GROK, "tie_word_embeddings": False}),
    "phimoe": Case(
        "phimoe",
        "PhimoeForCausalLM",
        {**GQA, **LOCAL_EXPERTS, "attention_bias": True, "lm_head_bias": True, "rope_parameters": PHI_ROPE},
        "Phi-3.5-MoE",
    ),
    "phimoe-window": Case(
        "phimoe",
        "PhimoeForCausalLM",
        {**GQA, **LOCAL_EXPERTS, "sliding_window": 9, "router_jitter_noise": 0.2},
    ),
    "minimax": Case(
        "minimax",
        "MiniMaxForCausalLM",
        {**GQA, **LOCAL_EXPERTS, "num_hidden_layers": 4, "head_dim": 16, **MINIMAX_FACTORS},
        "MiniMax-Text-01, MiniMax-M1",
    ),
    "hunyuan-large": Case("hunyuan", "hunyuan_large:HunyuanLarge", HUNYUAN_LARGE, "Hunyuan-Large (A52B)"),
}
