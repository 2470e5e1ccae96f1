"""The decoders from before Llama and those that kept their ways: LayerNorm, learned positions, ALiBi, plain MLPs."""

from __future__ import annotations

from tests.classic_layouts import (
    BAICHUAN,
    BAICHUAN2,
    INTERNLM,
    INTERNLM2,
    INTERNLM3,
    MOSS,
    OLD_FALCON,
    OLD_STABLELM,
    QWEN,
)
from tests.family_checks import SMALL, Case

GPT = {
    "vocab_size": 97,
    "n_embd": 32,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": 128,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
"""Sizes as GPT-2 and its successors name them."""
NEO = {**SMALL, "num_layers": 3, "num_heads": 4, "attention_types": [[["global", "local"], 1], [["local"], 1]]}
NEO = {key: value for key, value in NEO.items() if key not in ("num_hidden_layers", "num_attention_heads")}

CLASSIC = {
    "gpt": Case("gpt", "OpenAIGPTLMHeadModel", GPT, "GPT-1"),
    "gpt2": Case("gpt2", "GPT2LMHeadModel", GPT, "GPT-2, DistilGPT-2, CPM-1, Chinese GPT-2"),
    "gpt2-variant": Case(
        "gpt2",
        "GPT2LMHeadModel",
        {
            **GPT,
            "tie_word_embeddings": False,
            "scale_attn_weights": False,
            "n_inner": 40,
            "activation_function": "relu",
        },
    ),
    "gpt_neo": Case("gpt_neo", "GPTNeoForCausalLM", {**NEO, "window_size": 9}, "GPT-Neo"),
    "gpt_neox": Case(
        "gpt_neox", "GPTNeoXForCausalLM", {**SMALL, "rotary_pct": 0.25}, "GPT-NeoX, Pythia, StableLM-alpha, Dolly 2"
    ),
    "gpt_neox-sequential": Case(
        "gpt_neox",
        "GPTNeoXForCausalLM",
        {
            **SMALL,
            "rope_scaling": {"rope_type": "linear", "factor": 2.0},
            "rotary_pct": 0.5,
            "rotary_emb_base": 5000,
            "use_parallel_residual": False,
            "tie_word_embeddings": True,
            "attention_bias": False,
        },
    ),
    "gptj": Case("gptj", "GPTJForCausalLM", {**GPT, "rotary_dim": 4}, "GPT-J"),
    "gptj-whole": Case("gptj", "GPTJForCausalLM", {**GPT, "rotary_dim": 8, "n_inner": 48}),
    "codegen": Case("codegen", "CodeGenForCausalLM", {**GPT, "n_head": 8, "rotary_dim": 2}, "CodeGen, MOSS"),
    "gpt_bigcode": Case("gpt_bigcode", "GPTBigCodeForCausalLM", GPT, "StarCoder, SantaCoder"),
    "gpt_bigcode-heads": Case("gpt_bigcode", "GPTBigCodeForCausalLM", {**GPT, "multi_query": False}),
}

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "rope_theta": 10000.0}
MPT = {
    "vocab_size": 97,
    "d_model": 32,
    "n_layers": 3,
    "n_heads": 4,
    "max_seq_len": 128,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
OPT = {
    **{key: value for key, value in SMALL.items() if key not in ("intermediate_size", "initializer_range")},
    "ffn_dim": 48,
    "init_std": 0.2,
}
BLOOM = {
    "vocab_size": 97,
    "hidden_size": 32,
    "n_layer": 3,
    "n_head": 4,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
FALCON = {key: value for key, value in SMALL.items() if key != "intermediate_size"}

CLASSIC |= {
    "stablelm": Case("stablelm", "StableLmForCausalLM", {**SMALL, "num_key_value_heads": 4}, "StableLM 3B, Zephyr 3B"),
    "stablelm-1.6b": Case(
        "stablelm",
        "StableLmForCausalLM",
        {
            **SMALL,
            "num_key_value_heads": 4,
            "use_qkv_bias": True,
            "partial_rotary_factor": 0.5,
            "tie_word_embeddings": True,
        },
        "StableLM 2 1.6B",
    ),
    "stablelm-12b": Case(
        "stablelm",
        "StableLmForCausalLM",
        {**SMALL, "num_key_value_heads": 2, "qk_layernorm": True, "use_parallel_residual": True},
        "StableLM 2 12B",
    ),
    "mpt": Case("mpt", "MptForCausalLM", MPT, "MPT-7B, MPT-30B, Replit-code"),
    "mpt-6-heads": Case(
        "mpt",
        "MptForCausalLM",
        {**MPT, "d_model": 48, "n_heads": 6, "attn_config": {"clip_qkv": 0.7}},
    ),
    "mpt-scale": Case("mpt", "MptForCausalLM", {**MPT, "attn_config": {"softmax_scale": 0.3}}),
    "opt": Case("opt", "OPTForCausalLM", OPT, "OPT"),
    "opt-350m": Case(
        "opt", "OPTForCausalLM", {**OPT, "do_layer_norm_before": False, "word_embed_proj_dim": 24}, "OPT-350M"
    ),
    "opt-galactica": Case(
        "opt", "OPTForCausalLM", {**OPT, "enable_bias": False, "activation_function": "gelu"}, "Galactica"
    ),
    "opt-bare": Case(
        "opt",
        "OPTForCausalLM",
        {
            **OPT,
            "layer_norm_elementwise_affine": False,
            "tie_word_embeddings": False,
            "_remove_final_layer_norm": True,
        },
    ),
    "bloom": Case("bloom", "BloomForCausalLM", BLOOM, "BLOOM, BLOOMZ"),
    "bloom-6-heads": Case(
        "bloom",
        "BloomForCausalLM",
        {**BLOOM, "hidden_size": 48, "n_head": 6, "apply_residual_connection_post_layernorm": True},
    ),
    "falcon-7b": Case("falcon", "FalconForCausalLM", FALCON, "Falcon-7B"),
    "falcon-40b": Case(
        "falcon",
        "FalconForCausalLM",
        {**FALCON, "new_decoder_architecture": True, "num_kv_heads": 2},
        "Falcon-40B, Falcon-180B",
    ),
    "falcon-11b": Case(
        "falcon",
        "FalconForCausalLM",
        {
            **FALCON,
            "new_decoder_architecture": True,
            "num_kv_heads": 2,
            "num_ln_in_parallel_attn": 1,
            "tie_word_embeddings": False,
            "ffn_hidden_size": 56,
            "rope_theta": 5000.0,
        },
        "Falcon 2 11B",
    ),
    "falcon-rw": Case(
        "falcon",
        "FalconForCausalLM",
        {**FALCON, "alibi": True, "multi_query": False, "parallel_attn": False, "bias": True},
        "Falcon-RW-1B and 7B",
    ),
    "starcoder2": Case("starcoder2", "Starcoder2ForCausalLM", {**SMALL, "num_key_value_heads": 2}, "StarCoder 2"),
    "starcoder2-window": Case(
        "starcoder2",
        "Starcoder2ForCausalLM",
        {**SMALL, "num_key_value_heads": 1, "sliding_window": 9, "use_bias": False, "tie_word_embeddings": False},
    ),
    "qwen2": Case(
        "qwen2",
        "Qwen2ForCausalLM",
        {**SMALL, "num_key_value_heads": 2},
        "Qwen 1.5, Qwen 2, Qwen 2.5, QwQ, DeepSeek-R1-Distill-Qwen",
    ),
    "qwen2-yarn": Case(
        "qwen2",
        "Qwen2ForCausalLM",
        {**SMALL, "num_key_value_heads": 2, "tie_word_embeddings": True, "rope_parameters": YARN},
    ),
    "qwen2-window": Case(
        "qwen2",
        "Qwen2ForCausalLM",
        {**SMALL, "num_key_value_heads": 2, "use_sliding_window": True, "sliding_window": 9, "max_window_layers": 1},
    ),
    "phi": Case("phi", "PhiForCausalLM", {**SMALL, "partial_rotary_factor": 0.5}, "Phi-1, Phi-1.5, Phi-2"),
    "phi-qk-norm": Case(
        "phi", "PhiForCausalLM", {**SMALL, "qk_layernorm": True, "num_key_value_heads": 2, "hidden_act": "relu"}
    ),
    "persimmon": Case("persimmon", "PersimmonForCausalLM", SMALL, "Persimmon 8B"),
    "persimmon-plain": Case(
        "persimmon",
        "PersimmonForCausalLM",
        {**SMALL, "qk_layernorm": False, "partial_rotary_factor": 1.0, "tie_word_embeddings": True},
    ),
    "olmo": Case("olmo", "OlmoForCausalLM", {**SMALL, "clip_qkv": 0.7}, "OLMo 1B, OLMo 7B"),
    "olmo-bias": Case(
        "olmo",
        "OlmoForCausalLM",
        {**SMALL, "attention_bias": True, "tie_word_embeddings": True, "num_key_value_heads": 2},
    ),
    "olmo2": Case("olmo2", "Olmo2ForCausalLM", {**SMALL, "num_key_value_heads": 2}, "OLMo 2"),
    "nemotron": Case(
        "nemotron", "NemotronForCausalLM", {**SMALL, "num_key_value_heads": 2}, "Nemotron-3 8B, Nemotron-4, Minitron"
    ),
    "nemotron-bias": Case(
        "nemotron",
        "NemotronForCausalLM",
        {
            **SMALL,
            "num_key_value_heads": 2,
            "head_dim": 12,
            "attention_bias": True,
            "mlp_bias": True,
            "tie_word_embeddings": True,
        },
    ),
}

DYNAMIC = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
LONG = {**SMALL, "max_position_embeddings": 32}
"""A context shorter than the longest text of the checks."""
XGLM = {
    "vocab_size": 97,
    "d_model": 32,
    "num_layers": 3,
    "attention_heads": 4,
    "ffn_dim": 48,
    "max_position_embeddings": 128,
    "init_std": 0.2,
}
OWN_MPT = {key: value for key, value in MPT.items() if key != "initializer_range"}
OWN_QWEN = {
    "vocab_size": 97,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "kv_channels": 8,
    "intermediate_size": 96,
    "seq_length": 32,
    "max_position_embeddings": 128,
    "layer_norm_epsilon": 1e-6,
    "rotary_emb_base": 10000,
    "tie_word_embeddings": False,
    "use_dynamic_ntk": True,
    "use_logn_attn": True,
    "no_bias": True,
}
OWN_BAICHUAN = {
    "vocab_size": 97,
    "hidden_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "intermediate_size": 64,
    "model_max_length": 128,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
}

CLASSIC |= {
    "moss": Case("codegen", "CodeGenForCausalLM", {**GPT, "n_head": 8, "rotary_dim": 2}, "MOSS", layout=MOSS),
    "falcon-old": Case(
        "falcon",
        "FalconForCausalLM",
        {**FALCON, "new_decoder_architecture": True, "num_kv_heads": 2},
        "Falcon-40B as first published",
        layout=OLD_FALCON,
    ),
    "stablelm-epoch": Case(
        "stablelm",
        "StableLmForCausalLM",
        {**SMALL, "num_key_value_heads": 4, "partial_rotary_factor": 0.5},
        "StableLM 3B as first published",
        layout=OLD_STABLELM,
    ),
    "mpt-own": Case(
        "mpt",
        "mpt:MPT",
        {
            **OWN_MPT,
            "expansion_ratio": 2,
            "attn_config": {"qk_ln": True, "clip_qkv": 0.7, "alibi_bias_max": 16, "softmax_scale": 0.4},
        },
        "MPT-7B StoryWriter",
    ),
    "internlm": Case(
        "internlm",
        "LlamaForCausalLM",
        {**LONG, "attention_bias": True, "rope_parameters": DYNAMIC},
        "InternLM 7B, 20B",
        layout=INTERNLM,
    ),
    "internlm2": Case(
        "internlm2",
        "LlamaForCausalLM",
        {**LONG, "num_key_value_heads": 2, "rope_parameters": {**DYNAMIC, "rope_theta": 5000.0}},
        "InternLM 2, InternLM 2.5",
        layout=INTERNLM2,
    ),
    "internlm2-bias": Case(
        "internlm2",
        "LlamaForCausalLM",
        {
            **LONG,
            "num_key_value_heads": 2,
            "attention_bias": True,
            "rope_parameters": {**DYNAMIC, "rope_theta": 5000.0},
        },
        layout=INTERNLM2,
    ),
    "internlm3": Case(
        "internlm3",
        "LlamaForCausalLM",
        {
            **LONG,
            "num_key_value_heads": 2,
            "attention_bias": True,
            "mlp_bias": True,
            "rope_parameters": {"rope_type": "dynamic", "factor": 6.0, "rope_theta": 5000.0},
        },
        "InternLM 3",
        layout=INTERNLM3,
    ),
    "qwen": Case(
        "qwen",
        "Qwen2ForCausalLM",
        {**SMALL, "num_key_value_heads": 4, "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0}},
        "Qwen 1",
        layout=QWEN,
    ),
    "qwen-long": Case("qwen", "qwen:Qwen", OWN_QWEN, "Qwen 1 beyond its training length"),
    "baichuan-7b": Case("baichuan", "LlamaForCausalLM", SMALL, "Baichuan 7B", layout=BAICHUAN),
    "baichuan2-7b": Case("baichuan", "LlamaForCausalLM", SMALL, "Baichuan 2 7B", layout=BAICHUAN2),
    "baichuan-13b": Case("baichuan", "baichuan:Baichuan", OWN_BAICHUAN, "Baichuan 13B"),
    "baichuan2-13b": Case("baichuan", "baichuan:Baichuan", {**OWN_BAICHUAN, "z_loss_weight": 0}, "Baichuan 2 13B"),
    "xglm": Case("xglm", "XGLMForCausalLM", XGLM, "XGLM"),
    "xglm-unscaled": Case(
        "xglm", "XGLMForCausalLM", {**XGLM, "scale_embedding": False, "activation_function": "relu"}
    ),
}
