"""One line for each family (and for each variant of one that takes another way through the code)."""

from __future__ import annotations

from tests.classic_cases import CLASSIC
from tests.expert_cases import EXPERTS
from tests.family_checks import SMALL, Case
from tests.newer_cases import NEWER

GQA = {**SMALL, "num_key_value_heads": 2}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}

CASES = {
    "llama": Case(
        "llama", "LlamaForCausalLM", GQA, "Llama 1 to 3, Alpaca, Vicuna, OpenLLaMA, Yi, DeepSeek-LLM, SmolLM"
    ),
    "llama-3.1": Case("llama", "LlamaForCausalLM", {**GQA, "rope_parameters": LLAMA3}, "Llama 3.1 to 3.3"),
    "llama-bias": Case("llama", "LlamaForCausalLM", {**GQA, "attention_bias": True, "mlp_bias": True}),
    "qwen3": Case("qwen3", "Qwen3ForCausalLM", {**GQA, "head_dim": 16}, "Qwen3; models born here"),
    **NEWER,
    **CLASSIC,
    **EXPERTS,
}
