"""The architectures of GGUF that are read and written: which families they stand for, and how they arrange tensors.

Every row is checked by logits: `bench/gguf_llama_cpp.py --families` opens what is written here in llama.cpp.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

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
    biases: Literal["none", "any", "all"] = "none"
    """Biases of attention's output and the MLP: never, where the tensors are there, or always (as for q, k and v)."""
    square: bool = False
    """The heads' features together must be as many as the model is wide."""


GELU_TANH = {"hidden_activation": "gelu_pytorch_tanh", "hidden_act": "gelu_pytorch_tanh"}

LAYOUTS = (
    Layout("llama", "LlamaForCausalLM", ("llama",), PAIRS, biases="any"),
    Layout("llama", "MistralForCausalLM", ("mistral", "ministral"), PAIRS),
    Layout("llama", "InternLM3ForCausalLM", ("internlm3",), PAIRS, biases="any"),
    Layout("llama", "MixtralForCausalLM", ("mixtral",), PAIRS),
    Layout("qwen2", "Qwen2ForCausalLM", ("qwen2",), square=True),
    Layout("qwen3", "Qwen3ForCausalLM", ("qwen3",)),
    Layout("qwen2moe", "Qwen2MoeForCausalLM", ("qwen2_moe",), fixed={"norm_topk_prob": False}, square=True),
    Layout("qwen3moe", "Qwen3MoeForCausalLM", ("qwen3_moe",), fixed={"norm_topk_prob": True}),
    Layout("gemma", "GemmaForCausalLM", ("gemma",), fixed=GELU_TANH),
    Layout("gemma2", "Gemma2ForCausalLM", ("gemma2",), fixed=GELU_TANH),
    Layout("gemma3", "Gemma3ForCausalLM", ("gemma3",), fixed=GELU_TANH),
    Layout("phi2", "PhiForCausalLM", ("phi",), fixed={"hidden_act": "gelu_new"}, head=True, biases="all"),
    Layout("phi3", "Phi3ForCausalLM", ("phi3",), Arrangement(one_qkv=True, one_gate_up=True), square=True),
    Layout("gpt2", "GPT2LMHeadModel", ("gpt2",), ONE_QKV, biases="all"),
    Layout("starcoder", "GPTBigCodeForCausalLM", ("gpt_bigcode",), ONE_QKV, biases="all"),
    Layout("starcoder2", "Starcoder2ForCausalLM", ("starcoder2",), fixed={"use_bias": True}, biases="all"),
    Layout("gptneox", "GPTNeoXForCausalLM", ("gpt_neox",), ONE_QKV, head=True, biases="all"),
    Layout("bloom", "BloomForCausalLM", ("bloom",), ONE_QKV, biases="all"),
    Layout("mpt", "MPTForCausalLM", ("mpt",), ONE_QKV),
    Layout(
        "falcon",
        "FalconForCausalLM",
        ("falcon",),
        Arrangement(one_qkv=True, first_norm="attn_norm_2", second_norm="attn_norm"),
        fixed={"bias": False},
    ),
    Layout(
        "falcon",
        "FalconForCausalLM",
        ("falcon",),
        ONE_QKV,
        fixed={"bias": False, "parallel_attn": True},
    ),
    Layout("stablelm", "StableLmForCausalLM", ("stablelm",), head=True, square=True),
    Layout("command-r", "CohereForCausalLM", ("cohere",), PAIRS, square=True),
    Layout("cohere2", "Cohere2ForCausalLM", ("cohere2",), PAIRS, square=True),
    Layout("olmo", "OlmoForCausalLM", ("olmo",), PAIRS, square=True),
    Layout("olmo2", "Olmo2ForCausalLM", ("olmo2",), head=True, square=True),
    Layout("granite", "GraniteForCausalLM", ("granite",), PAIRS, biases="any"),
    Layout("nemotron", "NemotronForCausalLM", ("nemotron",), head=True, biases="any", square=True),
    Layout("exaone4", "Exaone4ForCausalLM", ("exaone4",), square=True),
    Layout("glm4", "Glm4ForCausalLM", ("glm4",), Arrangement("pairs", one_gate_up=True)),
    Layout("smollm3", "SmolLM3ForCausalLM", ("smollm3",), PAIRS),
    Layout("arcee", "ArceeForCausalLM", ("arcee",), PAIRS),
    Layout("seed_oss", "SeedOssForCausalLM", ("seed_oss",), Arrangement(second_norm="post_attention_norm")),
    Layout("ernie4_5", "Ernie4_5ForCausalLM", ("ernie4_5",), PAIRS),
    Layout("internlm2", "InternLM2ForCausalLM", ("internlm2",), PAIRS, head=True, square=True),
    Layout("olmoe", "OlmoeForCausalLM", ("olmoe",), fixed={"norm_topk_prob": False}, head=True, square=True),
    Layout("deepseek2", "DeepseekV2ForCausalLM", ("deepseek_v2",), PAIRS),
    Layout("deepseek2", "DeepseekV3ForCausalLM", ("deepseek_v3",), PAIRS),
)
