"""peft and Luhuo read each other's adapters: equal logits on a tiny Llama, and on a GPT-2 with turned matrices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from luhuo.adapter.attach import attach, attached, merged
from luhuo.adapter.config import AdapterConfig
from luhuo.adapter.files import load, save
from luhuo.adapter.open import open_model
from luhuo.core.errors import LuhuoError
from luhuo.model.load import load_decoder

peft = pytest.importorskip("peft", reason="peft is in the test extra")

OURS: dict[str, dict[str, Any]] = {
    "lora": {"method": "lora", "rank": 4},
    "lora of some": {"method": "lora", "rank": 3, "targets": ["q_proj", "down_proj"], "layers": [1]},
    "rslora": {"method": "lora", "rank": 4, "rslora": True, "alpha": 5.0},
    "pissa": {"method": "lora", "rank": 4, "init": "pissa"},
    "olora": {"method": "lora", "rank": 4, "init": "olora", "rslora": True},
    "lora with head": {"method": "lora", "rank": 4, "train": ["lm_head", "embed_tokens"]},
    "dora": {"method": "dora", "rank": 4},
    "adalora": {"method": "adalora", "rank": 2},
    "dylora": {"method": "dylora", "rank": 4},
    "vera": {"method": "vera", "rank": 16},
    "ia3": {"method": "ia3"},
    "prefix": {"method": "prefix", "tokens": 5, "rank": 8},
    "p-tuning-v2": {"method": "p-tuning-v2", "tokens": 5},
    "prompt": {"method": "prompt", "tokens": 5},
}
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def their_configs() -> dict[str, Any]:
    task = {"task_type": "CAUSAL_LM"}
    adalora = {"init_r": 3, "target_r": 2, "total_step": 10, "tinit": 0, "tfinal": 0}
    return {
        "lora": peft.LoraConfig(r=4, lora_alpha=7, target_modules=LINEAR, **task),
        "all-linear": peft.LoraConfig(r=4, target_modules="all-linear", **task),
        "lora with norm": peft.LoraConfig(r=4, target_modules=["v_proj"], modules_to_save=["norm"], **task),
        "rslora": peft.LoraConfig(r=4, lora_alpha=7, use_rslora=True, target_modules=["q_proj", "o_proj"], **task),
        "dora": peft.LoraConfig(r=4, lora_alpha=7, use_dora=True, target_modules=LINEAR, **task),
        "adalora": peft.AdaLoraConfig(**adalora, lora_alpha=7, target_modules=["q_proj", "up_proj"], **task),
        "vera": peft.VeraConfig(r=8, target_modules=LINEAR, **task),
        "ia3": peft.IA3Config(
            target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"], **task
        ),
        "prefix": peft.PrefixTuningConfig(num_virtual_tokens=4, **task),
        "prefix with projection": peft.PrefixTuningConfig(num_virtual_tokens=4, prefix_projection=True, **task),
        "prompt": peft.PromptTuningConfig(num_virtual_tokens=4, **task),
    }


THEIRS = (
    "lora",
    "all-linear",
    "lora with norm",
    "rslora",
    "dora",
    "adalora",
    "vera",
    "ia3",
    "prefix",
    "prefix with projection",
    "prompt",
)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=90, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.3, tie_word_embeddings=False,
    )  # fmt: skip
    return written(transformers.LlamaForCausalLM(config), tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=90, n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.3
    )
    return written(transformers.GPT2LMHeadModel(config), tmp_path_factory.mktemp("gpt2"))


@pytest.fixture(scope="module")
def neox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    config = transformers.GPTNeoXConfig(
        vocab_size=90, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    return written(transformers.GPTNeoXForCausalLM(config), tmp_path_factory.mktemp("neox"))


def written(model: Any, folder: Path) -> Path:
    model.save_pretrained(folder)
    return folder


def ids_of() -> Tensor:
    return torch.randint(0, 90, (2, 11), generator=torch.Generator().manual_seed(3))


def moved(parameters: dict[str, torch.nn.Parameter]) -> None:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name in sorted(parameters):
            parameters[name] += torch.randn(parameters[name].shape, generator=generator) * 0.05


def logits(model: Any) -> Tensor:
    """The logits of the text alone."""
    with torch.no_grad():
        found = model(ids_of()) if not hasattr(model, "generate") else model(input_ids=ids_of()).logits
    return found[:, -ids_of().shape[1] :]


def assert_equal(found: Tensor, expected: Tensor) -> None:
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def ours_of(base: Path, values: dict[str, Any]) -> Any:
    model = load_decoder(base, dtype="fp32", device="cpu")
    adapter = attach(model, AdapterConfig.parse(values), 1)
    adapter.base = str(base)
    moved(adapter.trained())
    return model


def opened_by_peft(base: Path, folder: Path) -> Any:
    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    return peft.PeftModel.from_pretrained(model, folder).eval()


@pytest.mark.parametrize("name", OURS)
def test_peft_computes_what_our_adapter_does(name: str, llama: Path, tmp_path: Path):
    model = ours_of(llama, OURS[name])
    save(model, tmp_path)
    assert_equal(logits(opened_by_peft(llama, tmp_path)), logits(model))


@pytest.mark.parametrize("name", ["lora", "ia3", "dora", "p-tuning-v2"])
def test_matrices_published_the_other_way_round_are_adapted_alike(name: str, gpt2: Path, tmp_path: Path):
    model = ours_of(gpt2, OURS[name])
    save(model, tmp_path)
    assert_equal(logits(opened_by_peft(gpt2, tmp_path)), logits(model))


@pytest.mark.parametrize("name", ["lora", "ia3", "dora", "vera"])
def test_rows_published_in_another_order_are_adapted_alike(name: str, neox: Path, tmp_path: Path):
    """GPT-NeoX has query, key and value of each head beside one another."""
    model = ours_of(neox, OURS[name])
    save(model, tmp_path)
    assert_equal(logits(opened_by_peft(neox, tmp_path)), logits(model))
    with merged(model):
        assert_equal(logits(model), logits(opened_by_peft(neox, tmp_path)))


@pytest.mark.parametrize("method", ["lora", "ia3"])
@pytest.mark.parametrize("chosen", [{}, {"targets": ["attention"]}, {"targets": ["mlp"], "layers": [1]}])
def test_matrices_of_one_name_are_told_apart(method: str, chosen: dict[str, Any], tmp_path: Path):
    """BERT calls three matrices of a block `dense`, and one more above the blocks."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=90, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    base = written(transformers.BertForMaskedLM(config), tmp_path / "bert")
    model = open_model(str(base), dtype="fp32", device="cpu")
    untouched = logits(model)
    adapter = attach(model, AdapterConfig.parse({"method": method, **chosen}), 1)
    moved(adapter.trained())
    save(model, tmp_path / "adapter")
    again = open_model(str(base), dtype="fp32", device="cpu")
    assert load(again, tmp_path / "adapter") == {}
    read = attached(again)
    assert read is not None and read.trained().keys() == adapter.trained().keys()
    assert torch.equal(logits(again), logits(model)) and not torch.allclose(logits(model), untouched, atol=1e-2)
    theirs = transformers.BertForMaskedLM.from_pretrained(base)
    theirs = peft.PeftModel.from_pretrained(theirs, tmp_path / "adapter").eval()
    with torch.no_grad():
        assert_equal(theirs(input_ids=ids_of()).logits, logits(model))
    inside = {name for name, _ in theirs.named_parameters() if "lora_A" in name or "ia3_l" in name}
    assert len(inside) == len([name for name in adapter.tensors() if "lora_A" in name or "ia3_l" in name])


@pytest.mark.parametrize("name", THEIRS)
def test_we_compute_what_an_adapter_of_peft_does(name: str, llama: Path, tmp_path: Path):
    torch.manual_seed(1)
    base = transformers.AutoModelForCausalLM.from_pretrained(llama)
    theirs = peft.get_peft_model(base, their_configs()[name]).eval()
    moved({key: p for key, p in theirs.named_parameters() if p.requires_grad})
    expected = logits(theirs)
    theirs.save_pretrained(tmp_path)
    model = load_decoder(llama, dtype="fp32", device="cpu")
    assert load(model, tmp_path) == {}
    assert_equal(logits(model), expected)
    adapter = attached(model)
    assert adapter is not None
    if adapter.mergeable:
        with merged(model):
            assert_equal(logits(model), expected)


def test_a_merge_by_peft_is_ours(llama: Path, tmp_path: Path):
    model = ours_of(llama, OURS["lora"])
    save(model, tmp_path)
    whole = opened_by_peft(llama, tmp_path).merge_and_unload()
    with merged(model):
        assert_equal(logits(model), logits(whole))


@pytest.mark.parametrize(
    "change", [{"bias": "all"}, {"rank_pattern": {"q_proj": 2}}, {"target_modules": "q.*"}, {"peft_type": "LOHA"}]
)
def test_an_option_that_changes_the_result_and_is_not_read_is_refused(change: dict[str, Any], llama: Path, tmp_path):
    import json

    save(ours_of(llama, OURS["lora"]), tmp_path)
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(LuhuoError):
        load(load_decoder(llama, dtype="fp32", device="cpu"), tmp_path)
