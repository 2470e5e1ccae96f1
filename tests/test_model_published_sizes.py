"""Configs with the keys and values of published models are read, and give the models' published parameter counts.

The counts are those of the files' own indices: what a wrong default, a forgotten bias or an untied head would change.
"""

from __future__ import annotations

from typing import Any

import pytest

from luhuo.model.count import parameters
from luhuo.model.families import read_config

PUBLISHED: dict[str, tuple[int, dict[str, Any]]] = {
    "GPT-1": (
        116_534_784,
        {"architectures": ["OpenAIGPTLMHeadModel"], "afn": "gelu", "n_embd": 768, "n_head": 12, "n_layer": 12,
         "n_positions": 512, "vocab_size": 40478, "layer_norm_epsilon": 1e-5},
    ),
    "GPT-2": (
        124_439_808,
        {"architectures": ["GPT2LMHeadModel"], "activation_function": "gelu_new", "n_ctx": 1024, "n_embd": 768,
         "n_head": 12, "n_layer": 12, "n_positions": 1024, "vocab_size": 50257, "layer_norm_epsilon": 1e-5},
    ),
    "GPT-Neo-125M": (
        125_198_592,
        {"architectures": ["GPTNeoForCausalLM"], "activation_function": "gelu_new", "hidden_size": 768,
         "attention_types": [[["global", "local"], 6]], "intermediate_size": None, "num_heads": 12, "num_layers": 12,
         "max_position_embeddings": 2048, "vocab_size": 50257, "window_size": 256},
    ),
    "GPT-J-6B": (
        6_050_882_784,
        {"architectures": ["GPTJForCausalLM"], "activation_function": "gelu_new", "n_embd": 4096, "n_head": 16,
         "n_inner": None, "n_layer": 28, "n_positions": 2048, "rotary": True, "rotary_dim": 64, "vocab_size": 50400,
         "tie_word_embeddings": False},
    ),
    "CodeGen-350M": (
        356_712_448,
        {"architectures": ["CodeGenForCausalLM"], "activation_function": "gelu_new", "n_ctx": 2048, "n_embd": 1024,
         "n_head": 16, "n_inner": None, "n_layer": 20, "n_positions": 2048, "rotary_dim": 32, "vocab_size": 51200,
         "tie_word_embeddings": False},
    ),
    "Pythia-160M": (
        162_322_944,
        {"architectures": ["GPTNeoXForCausalLM"], "hidden_act": "gelu", "hidden_size": 768, "num_hidden_layers": 12,
         "intermediate_size": 3072, "num_attention_heads": 12, "rotary_emb_base": 10000, "rotary_pct": 0.25,
         "max_position_embeddings": 2048, "vocab_size": 50304, "use_parallel_residual": True},
    ),
    "OPT-125M": (
        125_239_296,
        {"architectures": ["OPTForCausalLM"], "activation_function": "relu", "do_layer_norm_before": True,
         "ffn_dim": 3072, "hidden_size": 768, "max_position_embeddings": 2048, "num_attention_heads": 12,
         "num_hidden_layers": 12, "vocab_size": 50272, "word_embed_proj_dim": 768},
    ),
    "OPT-350M": (
        331_196_416,
        {"architectures": ["OPTForCausalLM"], "activation_function": "relu", "do_layer_norm_before": False,
         "ffn_dim": 4096, "hidden_size": 1024, "max_position_embeddings": 2048, "num_attention_heads": 16,
         "num_hidden_layers": 24, "vocab_size": 50272, "word_embed_proj_dim": 512},
    ),
    "BLOOM-560M": (
        559_214_592,
        {"architectures": ["BloomForCausalLM"], "n_embed": 1024, "n_layer": 24, "num_attention_heads": 16,
         "seq_length": 2048, "vocab_size": 250880, "offset_alibi": 100},
    ),
    "Falcon-RW-1B": (
        1_311_625_216,
        {"architectures": ["FalconForCausalLM"], "alibi": True, "bias": True, "hidden_size": 2048,
         "multi_query": False, "new_decoder_architecture": False, "num_attention_heads": 32, "num_hidden_layers": 24,
         "parallel_attn": False, "vocab_size": 50304},
    ),
    "Falcon-7B": (
        6_921_720_704,
        {"architectures": ["FalconForCausalLM"], "alibi": False, "bias": False, "hidden_size": 4544,
         "multi_query": True, "new_decoder_architecture": False, "num_attention_heads": 71, "num_hidden_layers": 32,
         "parallel_attn": True, "vocab_size": 65024},
    ),
    "Falcon-40B": (
        41_303_293_952,
        {"architectures": ["FalconForCausalLM"], "alibi": False, "bias": False, "hidden_size": 8192,
         "multi_query": True, "new_decoder_architecture": True, "num_attention_heads": 128, "num_kv_heads": 8,
         "num_hidden_layers": 60, "parallel_attn": True, "vocab_size": 65024},
    ),
    "MPT-7B": (
        6_649_286_656,
        {"architectures": ["MPTForCausalLM"], "d_model": 4096, "expansion_ratio": 4, "logit_scale": None,
         "learned_pos_emb": True, "max_seq_len": 2048, "n_heads": 32, "n_layers": 32, "no_bias": True,
         "norm_type": "low_precision_layernorm", "vocab_size": 50432, "attn_config": {
             "alibi": True, "alibi_bias_max": 8, "attn_type": "multihead_attention", "clip_qkv": None,
             "prefix_lm": False, "qk_ln": False, "softmax_scale": None}},
    ),
    "StarCoder": (
        15_517_456_384,
        {"architectures": ["GPTBigCodeForCausalLM"], "activation_function": "gelu", "multi_query": True,
         "n_embd": 6144, "n_head": 48, "n_inner": 24576, "n_layer": 40, "n_positions": 8192, "vocab_size": 49152},
    ),
    "StarCoder2-3B": (
        3_030_371_328,
        {"architectures": ["Starcoder2ForCausalLM"], "hidden_act": "gelu_pytorch_tanh", "hidden_size": 3072,
         "intermediate_size": 12288, "max_position_embeddings": 16384, "num_attention_heads": 24,
         "num_hidden_layers": 30, "num_key_value_heads": 2, "rope_theta": 999999.4420358813, "sliding_window": 4096,
         "use_bias": True, "vocab_size": 49152},
    ),
    "StableLM-2-1.6B": (
        1_644_515_328,
        {"architectures": ["StableLmForCausalLM"], "hidden_size": 2048, "intermediate_size": 5632,
         "max_position_embeddings": 4096, "num_attention_heads": 32, "num_hidden_layers": 24,
         "num_key_value_heads": 32, "partial_rotary_factor": 0.25, "use_qkv_bias": True, "vocab_size": 100352},
    ),
    "Phi-2": (
        2_779_683_840,
        {"architectures": ["PhiForCausalLM"], "hidden_act": "gelu_new", "hidden_size": 2560,
         "intermediate_size": 10240, "max_position_embeddings": 2048, "num_attention_heads": 32,
         "num_hidden_layers": 32, "num_key_value_heads": 32, "partial_rotary_factor": 0.4, "qk_layernorm": False,
         "vocab_size": 51200},
    ),
    "OLMo-1B": (
        1_176_764_416,
        {"architectures": ["OlmoForCausalLM"], "clip_qkv": None, "hidden_size": 2048, "intermediate_size": 8192,
         "max_position_embeddings": 2048, "num_attention_heads": 16, "num_hidden_layers": 16,
         "num_key_value_heads": 16, "tie_word_embeddings": True, "vocab_size": 50304},
    ),
    "OLMo-2-7B": (
        7_298_617_344,
        {"architectures": ["Olmo2ForCausalLM"], "hidden_size": 4096, "intermediate_size": 11008,
         "max_position_embeddings": 4096, "num_attention_heads": 32, "num_hidden_layers": 32,
         "num_key_value_heads": 32, "rms_norm_eps": 1e-6, "rope_theta": 500000, "vocab_size": 100352},
    ),
    "Qwen-7B": (
        7_721_324_544,
        {"architectures": ["QWenLMHeadModel"], "hidden_size": 4096, "intermediate_size": 22016, "kv_channels": 128,
         "layer_norm_epsilon": 1e-6, "max_position_embeddings": 32768, "no_bias": True, "num_attention_heads": 32,
         "num_hidden_layers": 32, "rotary_emb_base": 10000, "rotary_pct": 1.0, "scale_attn_weights": True,
         "seq_length": 8192, "use_dynamic_ntk": True, "use_logn_attn": True, "vocab_size": 151936},
    ),
    "Qwen2.5-0.5B": (
        494_032_768,
        {"architectures": ["Qwen2ForCausalLM"], "hidden_act": "silu", "hidden_size": 896, "intermediate_size": 4864,
         "max_position_embeddings": 32768, "max_window_layers": 24, "num_attention_heads": 14,
         "num_hidden_layers": 24, "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0,
         "sliding_window": 32768, "tie_word_embeddings": True, "use_sliding_window": False, "vocab_size": 151936},
    ),
    "Baichuan-7B": (
        7_000_559_616,
        {"architectures": ["BaiChuanForCausalLM"], "hidden_act": "silu", "hidden_size": 4096,
         "intermediate_size": 11008, "max_position_embeddings": 4096, "num_attention_heads": 32,
         "num_hidden_layers": 32, "rms_norm_eps": 1e-6, "vocab_size": 64000},
    ),
    "Baichuan2-13B": (
        13_896_668_160,
        {"architectures": ["BaichuanForCausalLM"], "hidden_act": "silu", "hidden_size": 5120,
         "intermediate_size": 13696, "model_max_length": 4096, "num_attention_heads": 40, "num_hidden_layers": 40,
         "rms_norm_eps": 1e-6, "vocab_size": 125696, "z_loss_weight": 0},
    ),
    "InternLM2-7B": (
        7_737_708_544,
        {"architectures": ["InternLM2ForCausalLM"], "bias": False, "hidden_act": "silu", "hidden_size": 4096,
         "intermediate_size": 14336, "max_position_embeddings": 32768, "num_attention_heads": 32,
         "num_hidden_layers": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-5,
         "rope_scaling": {"factor": 3.0, "type": "dynamic"}, "rope_theta": 1000000, "vocab_size": 92544},
    ),
    "XGLM-564M": (
        564_463_616,
        {"architectures": ["XGLMForCausalLM"], "activation_function": "gelu", "attention_heads": 16, "d_model": 1024,
         "ffn_dim": 4096, "max_position_embeddings": 2048, "num_layers": 24, "scale_embedding": True,
         "vocab_size": 256008},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_config_gives_the_published_number_of_parameters(name: str) -> None:
    total, values = PUBLISHED[name]
    assert sum(parameters(read_config(values)).values()) == total
