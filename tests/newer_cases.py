"""Cases of the families since 2023, and of the Chinese ones before."""

from __future__ import annotations

from tests.family_checks import SMALL, Case
from tests.newer_layouts import CHATGLM2, MINICPM

GQA = {**SMALL, "num_key_value_heads": 2}
WINDOWED = {**GQA, "num_hidden_layers": 4, "sliding_window": 9}
LONG = {"rope_type": "longrope", "short_factor": [1.0, 1.1, 1.3], "long_factor": [1.5, 4.0, 9.0]}
LONG_FOUR = {
    "rope_type": "longrope",
    "rope_theta": 5000.0,
    "original_max_position_embeddings": 26,
    "short_factor": [1.0, 1.1, 1.3, 1.4],
    "long_factor": [1.5, 4.0, 9.0, 10.0],
}
FIRST_GLM = {
    "architectures": ["ChatGLMModel"],
    "vocab_size": 97,
    "hidden_size": 32,
    "num_layers": 3,
    "num_attention_heads": 4,
    "inner_hidden_size": 48,
    "max_sequence_length": 128,
    "layernorm_epsilon": 1e-5,
    "bos_token_id": 5,
    "gmask_token_id": 55,
    "mask_token_id": 29,
    "eos_token_id": 2,
    "pad_token_id": 3,
}
PANGU = {
    "architectures": ["GPTPanguForCausalLM"],
    "vocab_size": 97,
    "hidden_size": 32,
    "num_layers": 3,
    "num_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
}
GLM130B = {"architectures": ["GLM130BModel"], "position_encoding_2d": False}
BEE = {
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "dim_head": 12,
    "dim_ff": 48,
    "eps": 1e-6,
    "position_bias_num_buckets": 16,
    "position_bias_num_segment_buckets": 24,
    "position_bias_max_distance": 20,
    "bos_token_id": 55,
    "ans_token_id": 79,
    "mask_modules": None,
}
PRUNED = [[False, True], [True, False], [True, True], [False, False]]
YARN = {"rope_type": "yarn", "rope_theta": 5000.0, "factor": 4.0, "original_max_position_embeddings": 32}
HALF = {"head_dim": 16, "partial_rotary_factor": 0.5}
WHOLE_LINEAR = {
    "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 9000.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
}
WHOLE_YARN = {"full_attention": YARN, "sliding_attention": {"rope_type": "default", "rope_theta": 5000.0}}
FACTORS = {
    "embedding_multiplier": 3.0,
    "residual_multiplier": 0.4,
    "attention_multiplier": 0.2,
    "logits_scaling": 2.0,
}

NEWER = {
    "mistral": Case("mistral", "MistralForCausalLM", WINDOWED, "Mistral 7B 0.1"),
    "mistral-whole": Case(
        "mistral",
        "MistralForCausalLM",
        {**GQA, "head_dim": 16, "sliding_window": None},
        "Mistral 7B 0.2 and later, Nemo, Small",
    ),
    "ministral": Case(
        "ministral",
        "MinistralForCausalLM",
        {**WINDOWED, "head_dim": 8, "layer_types": ["full_attention", *["sliding_attention"] * 3]},
        "Ministral 8B",
    ),
    "gemma": Case("gemma", "GemmaForCausalLM", {**SMALL, "num_key_value_heads": 1, "head_dim": 16}, "Gemma 1"),
    "gemma2": Case(
        "gemma2",
        "Gemma2ForCausalLM",
        {
            **WINDOWED,
            "head_dim": 16,
            "query_pre_attn_scalar": 12,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0,
        },
        "Gemma 2",
    ),
    "gemma3": Case(
        "gemma3",
        "Gemma3ForCausalLM",
        {
            **WINDOWED,
            "head_dim": 16,
            "query_pre_attn_scalar": 12,
            "num_hidden_layers": 7,
            "rope_parameters": WHOLE_LINEAR,
        },
        "Gemma 3",
    ),
    "phi3": Case("phi3", "Phi3ForCausalLM", {**WINDOWED, "num_key_value_heads": 4}, "Phi-3, Phi-4"),
    "phi3-longrope": Case(
        "phi3",
        "Phi3ForCausalLM",
        {
            **GQA,
            "original_max_position_embeddings": 26,
            "partial_rotary_factor": 0.75,
            "rope_parameters": {**LONG, "rope_theta": 5000.0, "partial_rotary_factor": 0.75},
            "tie_word_embeddings": True,
        },
        "Phi-3 128k, Phi-3.5, Phi-4-mini",
    ),
    "granite": Case("granite", "GraniteForCausalLM", {**GQA, **FACTORS, "tie_word_embeddings": True}, "Granite 3"),
    "granite-bias": Case(
        "granite", "GraniteForCausalLM", {**GQA, **FACTORS, "attention_bias": True, "mlp_bias": True}
    ),
    "smollm3": Case(
        "smollm3", "SmolLM3ForCausalLM", {**GQA, "num_hidden_layers": 5, "tie_word_embeddings": True}, "SmolLM3"
    ),
    "smollm3-window": Case(
        "smollm3",
        "SmolLM3ForCausalLM",
        {**WINDOWED, "use_sliding_window": True, "no_rope_layer_interval": 2, "rope_parameters": YARN},
    ),
    "cohere": Case("cohere", "CohereForCausalLM", {**GQA, "logit_scale": 0.3}, "Command-R, Aya"),
    "cohere-qk-norm": Case(
        "cohere", "CohereForCausalLM", {**GQA, "use_qk_norm": True, "attention_bias": True}, "Command-R+"
    ),
    "cohere2": Case("cohere2", "Cohere2ForCausalLM", {**WINDOWED, "num_hidden_layers": 5}, "Command-R7B, Command A"),
    "glm": Case("glm", "GlmForCausalLM", {**GQA, **HALF}, "GLM-4-9B (-hf), GLM-Edge"),
    "glm4": Case("glm4", "Glm4ForCausalLM", {**GQA, **HALF}, "GLM-4-0414, GLM-Z1"),
    "exaone4": Case("exaone4", "Exaone4ForCausalLM", {**WINDOWED, "num_hidden_layers": 5}, "EXAONE 4 32B"),
    "exaone4-whole": Case(
        "exaone4",
        "Exaone4ForCausalLM",
        {**GQA, "sliding_window": None, "layer_types": ["full_attention"] * 3, "tie_word_embeddings": True},
        "EXAONE 4 1.2B",
    ),
    "seed-oss": Case("seed_oss", "SeedOssForCausalLM", {**GQA, "head_dim": 16}, "Seed-OSS"),
    "arcee": Case("arcee", "ArceeForCausalLM", {**GQA, "rope_parameters": YARN}, "AFM 4.5B"),
    "ernie4.5": Case(
        "ernie4_5", "Ernie4_5ForCausalLM", {**GQA, "head_dim": 16, "tie_word_embeddings": True}, "ERNIE 4.5 0.3B"
    ),
    "ernie4.5-bias": Case("ernie4_5", "Ernie4_5ForCausalLM", {**GQA, "head_dim": 8, "use_bias": True}),
    "helium": Case("helium", "HeliumForCausalLM", {**SMALL, "num_key_value_heads": 4, "head_dim": 8}, "Helium 1"),
    "olmo3": Case("olmo3", "Olmo3ForCausalLM", {**WINDOWED, "rope_parameters": WHOLE_YARN}, "OLMo 3"),
    "minicpm": Case(
        "minicpm",
        "GraniteForCausalLM",
        {**GQA, **FACTORS, "attention_multiplier": 8**-0.5, "tie_word_embeddings": True},
        "MiniCPM 1 and 2",
        layout=MINICPM,
    ),
    "minicpm-longrope": Case(
        "minicpm",
        "GraniteForCausalLM",
        {**GQA, **FACTORS, "attention_multiplier": 8**-0.5, "rope_parameters": LONG_FOUR},
        "MiniCPM 4",
        layout=MINICPM,
    ),
    "chatglm2": Case("chatglm2", "GlmForCausalLM", {**GQA, **HALF}, "ChatGLM2, ChatGLM3, GLM-4-9B", layout=CHATGLM2),
    "chatglm": Case("chatglm", "chatglm:ChatGLM", {**FIRST_GLM, "position_encoding_2d": True}, "ChatGLM-6B"),
    "pangu-alpha": Case("pangu_alpha", "pangu_alpha:PanGuAlpha", PANGU, "PanGu-α"),
    "cpm-bee": Case("cpm_bee", "cpm_bee:CpmBee", BEE, "CPM-Bee 10B"),
    "cpm-bee-pruned": Case("cpm_bee", "cpm_bee:CpmBee", {**BEE, "mask_modules": PRUNED}, "1B, 2B, 5B"),
    "glm-130b": Case("glm130b", "chatglm:ChatGLM", {**FIRST_GLM, **GLM130B}, "GLM-130B"),
}
