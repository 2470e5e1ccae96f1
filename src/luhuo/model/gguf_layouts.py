"""The architectures of GGUF that are read and written: which families they stand for, and how they arrange tensors.

Every row is checked by logits: `bench/gguf_llama_cpp.py --families` opens what is written here in llama.cpp.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from luhuo.model.gguf_links import Arrangement

HALVES, PAIRS = Arrangement(), Arrangement("pairs")
ONE_QKV = Arrangement(one_qkv=True)


@dataclass(frozen=True)
class Layout:
    """One architecture: `published` is the class that a config.json would name, `families` those that are written."""

    architecture: str
    published: str
    families: tuple[str, ...]
    how: Arrangement = HALVES
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Keys of the config.json that llama.cpp takes for granted."""
    head: bool = False
    """The file must hold an output matrix, even if it equals the embedding."""


GELU_TANH = {"hidden_activation": "gelu_pytorch_tanh", "hidden_act": "gelu_pytorch_tanh"}

LAYOUTS = (
    Layout("llama", "LlamaForCausalLM", ("llama", "mistral", "ministral"), PAIRS),
    Layout("llama", "MixtralForCausalLM", ("mixtral",), PAIRS),
    Layout("qwen2", "Qwen2ForCausalLM", ("qwen2",)),
    Layout("qwen3", "Qwen3ForCausalLM", ("qwen3",)),
    Layout("qwen2moe", "Qwen2MoeForCausalLM", ("qwen2_moe",), fixed={"norm_topk_prob": False}),
    Layout("qwen3moe", "Qwen3MoeForCausalLM", ("qwen3_moe",), fixed={"norm_topk_prob": True}),
    Layout("gemma", "GemmaForCausalLM", ("gemma",), fixed=GELU_TANH),
    Layout("gemma2", "Gemma2ForCausalLM", ("gemma2",), fixed=GELU_TANH),
    Layout("gemma3", "Gemma3ForCausalLM", ("gemma3",), fixed=GELU_TANH),
    Layout("phi2", "PhiForCausalLM", ("phi",), fixed={"hidden_act": "gelu_new"}, head=True),
    Layout("phi3", "Phi3ForCausalLM", ("phi3",), Arrangement(one_qkv=True, one_gate_up=True)),
    Layout("gpt2", "GPT2LMHeadModel", ("gpt2",), ONE_QKV),
    Layout("starcoder", "GPTBigCodeForCausalLM", ("gpt_bigcode",), ONE_QKV),
    Layout("starcoder2", "Starcoder2ForCausalLM", ("starcoder2",), fixed={"use_bias": True}),
    Layout("gptneox", "GPTNeoXForCausalLM", ("gpt_neox",), ONE_QKV, head=True),
    Layout("bloom", "BloomForCausalLM", ("bloom",), ONE_QKV),
    Layout("mpt", "MPTForCausalLM", ("mpt",), ONE_QKV),
    Layout(
        "falcon",
        "FalconForCausalLM",
        ("falcon",),
        Arrangement(one_qkv=True, first_norm="attn_norm_2", second_norm="attn_norm"),
        fixed={"new_decoder_architecture": True, "bias": False},
    ),
    Layout(
        "falcon",
        "FalconForCausalLM",
        ("falcon",),
        ONE_QKV,
        fixed={"new_decoder_architecture": False, "bias": False, "parallel_attn": True},
    ),
    Layout("stablelm", "StableLmForCausalLM", ("stablelm",), head=True),
    Layout("command-r", "CohereForCausalLM", ("cohere",), PAIRS),
    Layout("cohere2", "Cohere2ForCausalLM", ("cohere2",), PAIRS),
    Layout("olmo", "OlmoForCausalLM", ("olmo",), PAIRS),
    Layout("olmo2", "Olmo2ForCausalLM", ("olmo2",), head=True),
    Layout("granite", "GraniteForCausalLM", ("granite",), PAIRS),
    Layout("nemotron", "NemotronForCausalLM", ("nemotron",), head=True),
    Layout("exaone4", "Exaone4ForCausalLM", ("exaone4",), fixed={"sliding_window": None}),
    Layout("glm4", "Glm4ForCausalLM", ("glm4",), Arrangement("pairs", one_gate_up=True)),
    Layout("smollm3", "SmolLM3ForCausalLM", ("smollm3",), PAIRS),
    Layout("arcee", "ArceeForCausalLM", ("arcee",), PAIRS),
    Layout("seed_oss", "SeedOssForCausalLM", ("seed_oss",)),
    Layout("ernie4_5", "Ernie4_5ForCausalLM", ("ernie4_5",), PAIRS),
    Layout("deepseek2", "DeepseekV2ForCausalLM", ("deepseek_v2",), PAIRS),
    Layout("deepseek2", "DeepseekV3ForCausalLM", ("deepseek_v3",), PAIRS),
)
