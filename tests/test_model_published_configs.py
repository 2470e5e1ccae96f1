"""Configs as they were published: with keys left out, in the spelling of their year, or of variants not supported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("transformers")

import transformers

from luhuo.core.errors import LuhuoError
from luhuo.model.families import read_config
from luhuo.model.load import load
from luhuo.model.save import save
from tests.family_checks import SMALL, difference, random_ids

LLAMA = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
}
CHATGLM2 = {
    "architectures": ["ChatGLMModel"],
    "padded_vocab_size": 100,
    "hidden_size": 64,
    "num_layers": 2,
    "num_attention_heads": 4,
    "kv_channels": 16,
    "ffn_hidden_size": 96,
    "seq_length": 64,
    "layernorm_epsilon": 1e-5,
    "add_qkv_bias": True,
    "multi_query_attention": True,
    "multi_query_group_num": 2,
}


def read(architecture: str, **values: Any) -> Any:
    return read_config({**LLAMA, "architectures": [architecture], **values})


def test_gemma_3_with_images_says_only_what_differs_from_the_smallest() -> None:
    text = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 12, "sliding_window": 8}
    text |= {"rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "model_type": "gemma3_text"}
    config = read_config({"architectures": ["Gemma3ForConditionalGeneration"], "text_config": text, "pad_token_id": 0})
    assert (config.heads, config.kv_heads, config.head_dim, config.vocab_size) == (8, 4, 256, 262_208)
    assert config.windows == (8, 8, 8, 8, 8, 0) * 2
    assert (config.rope.kind, config.rope.factor, config.rope.theta) == ("linear", 8.0, 1_000_000.0)
    assert config.local_rope is not None
    assert (config.local_rope.kind, config.local_rope.theta) == ("plain", 10_000.0)
    assert (config.attention_scale, config.tie_embeddings) == (256**-0.5, True)


@torch.no_grad()
def test_the_text_part_of_gemma_3_with_images_is_used_and_written_alone(tmp_path: Path) -> None:
    text = {**SMALL, "num_key_value_heads": 2, "head_dim": 16, "sliding_window": 9, "num_hidden_layers": 6}
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision |= {"image_size": 28, "patch_size": 14}
    torch.manual_seed(0)
    whole = transformers.Gemma3ForConditionalGeneration(
        transformers.Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=1, image_token_index=90)
    ).eval()
    whole.save_pretrained(tmp_path / "whole")
    ours = load(tmp_path / "whole", dtype="fp32", device="cpu")
    ids = random_ids(2, 30).clamp(max=80)
    expected = whole(input_ids=ids).logits
    assert difference(ours(ids), expected) < 1e-4
    save(ours, tmp_path / "text")
    again = transformers.Gemma3ForCausalLM.from_pretrained(tmp_path / "text", dtype=torch.float32).eval()
    assert difference(again(ids).logits, expected) < 1e-4


def test_early_gemma_says_gelu_and_means_its_approximation() -> None:
    config = read("GemmaForCausalLM", head_dim=16, hidden_act="gelu", hidden_activation=None)
    assert (config.activation, config.tie_embeddings, config.norm_plus_one) == ("gelu_tanh", True, True)
    with pytest.raises(LuhuoError, match="Gemma"):
        read("GemmaForCausalLM", head_dim=16, hidden_act="relu")


def test_layers_with_a_window_are_told_by_letters_by_numbers_or_by_name() -> None:
    expected = (9, 9, 9, 0)
    assert read("Exaone4ForCausalLM", sliding_window=9, sliding_window_pattern="LLLG").windows == expected
    assert read("Cohere2ForCausalLM", sliding_window=9, sliding_window_pattern=4).windows == expected
    kinds = ["sliding_attention"] * 3 + ["full_attention"]
    assert read("MinistralForCausalLM", sliding_window=9, layer_types=kinds).windows == expected
    assert read("MistralForCausalLM", sliding_window=9).windows == (9,) * 4
    assert read("MistralForCausalLM", sliding_window=None).windows == ()


@pytest.mark.parametrize("kinds", [["chunked_attention"] * 4, ["full_attention"] * 3])
def test_unknown_or_missing_kinds_of_layers_are_refused(kinds: list[str]) -> None:
    with pytest.raises(LuhuoError, match="layer_types"):
        read("MinistralForCausalLM", sliding_window=9, layer_types=kinds)


@pytest.mark.parametrize("name", ["su", "yarn", "longrope"])
def test_longrope_went_by_other_names(name: str) -> None:
    scaling = {"type": name, "short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
    rope = read("Phi3ForCausalLM", rope_scaling=scaling, original_max_position_embeddings=16).rope
    assert (rope.kind, rope.original_positions, len(rope.long_factors)) == ("longrope", 16, 8)


def test_models_that_leave_out_positions_in_some_layers() -> None:
    assert read("SmolLM3ForCausalLM").unrotated == (3,)
    assert read("SmolLM3ForCausalLM", no_rope_layers=[0, 1, 1, 0]).unrotated == (0, 3)
    assert read("Exaone4ForCausalLM", sliding_window=None, layer_types=["full_attention"] * 4).unrotated == ()
    assert read("Cohere2ForCausalLM").unrotated == (3,)


def test_chatglm_of_all_generations_goes_by_one_name() -> None:
    second = read_config({**CHATGLM2, "rope_ratio": 500})
    assert (second.family, second.kv_heads, second.rope.theta, second.rope.dim) == ("chatglm2", 2, 5_000_000.0, 8)
    first = {"hidden_size": 64, "num_layers": 8, "num_attention_heads": 4, "inner_hidden_size": 256, "vocab_size": 100}
    first |= {"architectures": ["ChatGLMModel"], "position_encoding_2d": True, "bos_token_id": 90}
    config = read_config({**first, "gmask_token_id": 89, "mask_token_id": 88})
    assert (config.family, config.prefix_end, config.gap_ids, config.rope.axes) == ("chatglm", 90, (89, 88), 2)
    assert config.carry_scale == 4.0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({**CHATGLM2, "rmsnorm": False}, "rmsnorm"),
        ({**CHATGLM2, "multi_query_attention": False}, "multi_query_attention"),
        ({**LLAMA, "architectures": ["MiniCPMForCausalLM"], "sparse_config": {"topk": 64}}, "sparse_config"),
        ({**LLAMA, "architectures": ["MiniCPMForCausalLM"], "num_experts": 8}, "num_experts"),
        ({**LLAMA, "architectures": ["Gemma2ForCausalLM"], "use_bidirectional_attention": True}, "bidirectional"),
        ({**LLAMA, "architectures": ["MistralForCausalLM"], "hidden_act": "relu"}, "hidden_act"),
        ({**LLAMA, "architectures": ["GraniteForCausalLM"], "hidden_act": "swoosh"}, "swoosh"),
        ({**LLAMA, "architectures": ["GlmForCausalLM"], "hidden_size": None}, "config.json|not valid"),
    ],
)
def test_variants_that_would_be_computed_wrongly_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(LuhuoError, match=message):
        read_config(values)
