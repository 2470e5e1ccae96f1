"""Variants that llama.cpp computes, where the general cases choose one that it does not."""

from __future__ import annotations

from tests.family_cases import CASES, LLAMA3
from tests.family_checks import Case


def _with(name: str, **settings: object) -> Case:
    case = CASES[name]
    return Case(case.family, case.reference, {**case.settings, **settings}, layout=case.layout)


GGUF_CASES = {
    "llama-3.1-wide": _with("llama", head_dim=64, rope_parameters={**LLAMA3, "original_max_position_embeddings": 100}),
    "gemma2-16": _with("gemma2", query_pre_attn_scalar=16),
    "gemma3-16": _with("gemma3", query_pre_attn_scalar=16),
    "internlm2-short": _with("internlm2", max_position_embeddings=128),
    "internlm3-short": _with("internlm3", max_position_embeddings=128),
    "olmoe-many-keys": _with("olmoe", num_key_value_heads=4),
    "qwen2-moe-sparse": _with("qwen2-moe", decoder_sparse_step=1, mlp_only_layers=[], norm_topk_prob=False),
    "deepseek-v2-plain": _with("deepseek-v2", topk_method="greedy", n_group=1, topk_group=1, rope_parameters=None),
    "deepseek-v3-yarn": _with(
        "deepseek-v3",
        rope_parameters={
            "rope_type": "yarn",
            "rope_theta": 10_000.0,
            "factor": 40.0,
            "original_max_position_embeddings": 32,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
        },
    ),
    "nemotron-square": _with("nemotron-bias", head_dim=8),
}

REFUSED = {
    "gemma2": "attention_scale",
    "smollm3-window": "unrotated",
    "cohere-qk-norm": "qk_norm",
    "ernie4.5-bias": "mlp_bias",
    "gpt2-variant": "activation",
    "gpt_neox-sequential": "qkv_bias",
    "mpt-scale": "attention_scale",
    "bloom-6-heads": "carry_normed",
    "falcon-rw": "alibi",
    "nemotron-bias": "head_dim",
    "qwen3-moe-mixed": "normalise",
    "olmoe": "kv_heads",
    "deepseek-v2": "groups",
    "deepseek-v2-lite": "q_rank",
    "opt": "opt",
    "gpt_neo": "gpt_neo",
}
"""Variants that llama.cpp does not compute, and what the message names."""

WRITTEN = (
    "llama", "llama-3.1", "llama-bias", "qwen3", "mistral-whole", "gemma", "phi3-longrope", "granite", "granite-bias",
    "smollm3", "cohere", "cohere2", "glm4", "exaone4-whole", "seed-oss", "arcee", "ernie4.5", "gpt2", "gpt_neox",
    "gpt_bigcode", "gpt_bigcode-heads", "stablelm", "stablelm-1.6b", "stablelm-12b", "mpt", "mpt-6-heads", "bloom",
    "falcon-7b", "falcon-40b", "falcon-11b", "starcoder2", "qwen2", "qwen2-yarn", "phi", "olmo", "olmo2", "nemotron",
    "mixtral", "qwen3-moe",
)  # fmt: skip
"""General cases that come back from a file with equal logits."""

GGUF_CASES |= {name: CASES[name] for name in WRITTEN}
