"""Model directories: ours open in transformers and theirs here, with equal logits; what does not fit is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from luhuo.core.errors import LuhuoError
from luhuo.model.load import load
from luhuo.model.save import save
from luhuo.tokenizer.tokenizer import Tokenizer
from luhuo.tokenizer.training import train
from tests.test_model_decoder import CONFIG, random_ids, random_model

transformers = pytest.importorskip("transformers")


@pytest.mark.parametrize("tied", [True, False])
def test_transformers_opens_our_directory_with_equal_logits(tmp_path: Path, tied: bool) -> None:
    model, ids = random_model(CONFIG.model_copy(update={"tie_embeddings": tied})), random_ids(2, 70)
    save(model, tmp_path)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(theirs).__name__ == "Qwen3ForCausalLM"
    with torch.no_grad():
        assert (theirs(ids).logits - model(ids)).abs().max() < 1e-4


@pytest.mark.parametrize("tied", [True, False])
def test_we_open_a_directory_of_transformers_with_equal_logits(tmp_path: Path, tied: bool) -> None:
    config = transformers.Qwen3Config(
        vocab_size=97,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        intermediate_size=48,
        tie_word_embeddings=tied,
        initializer_range=0.2,
    )
    theirs = transformers.Qwen3ForCausalLM(config)
    theirs.save_pretrained(tmp_path)
    ours, ids = load(tmp_path), random_ids(2, 70)
    assert ours.tokenizer is None
    with torch.no_grad():
        assert (theirs(ids).logits - ours(ids)).abs().max() < 1e-4


def test_saving_what_was_loaded_gives_back_every_byte(tmp_path: Path) -> None:
    save(random_model(), tmp_path / "one")
    save(load(tmp_path / "one"), tmp_path / "two")
    for name in ("config.json", "model.safetensors", "generation_config.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_sharded_directory_loads_like_a_single_file(tmp_path: Path) -> None:
    model, ids = random_model(), random_ids(1, 9)
    save(model, tmp_path, shard_bytes=8000)
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    assert torch.equal(load(tmp_path)(ids), model(ids))
    assert transformers.AutoModelForCausalLM.from_pretrained(tmp_path) is not None


def test_weights_that_do_not_fit_are_named_in_one_message(tmp_path: Path) -> None:
    save(random_model(), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.norm.weight"]
    tensors["model.layers.0.mlp.up_proj.weight"] = torch.zeros(3, 3)
    tensors["surprise"] = torch.zeros(1)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(LuhuoError) as caught:
        load(tmp_path)
    assert all(part in str(caught.value) for part in ("model.norm.weight", "[3, 3]", "surprise"))


def test_a_truncated_weight_file_is_reported(tmp_path: Path) -> None:
    save(random_model(), tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(LuhuoError, match=r"damaged|损坏"):
        load(tmp_path)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    save(random_model(), tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(LuhuoError, match=r"pytorch_model\.bin"):
        load(tmp_path)


def test_another_architecture_and_a_missing_folder_are_refused(tmp_path: Path) -> None:
    save(random_model(), tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**values, "architectures": ["OtherForCausalLM"]}))
    with pytest.raises(LuhuoError, match="OtherForCausalLM"):
        load(tmp_path)
    with pytest.raises(LuhuoError):
        load(tmp_path / "nowhere")


def test_the_tokenizer_travels_with_the_weights_and_cannot_be_swapped(tmp_path: Path) -> None:
    model = random_model(CONFIG.model_copy(update={"vocab_size": 300}))
    model.tokenizer = train(["the cat sat on the mat", "炉火纯青"] * 20, vocab_size=300)
    save(model, tmp_path)
    loaded = load(tmp_path)
    assert isinstance(loaded.tokenizer, Tokenizer)
    assert loaded.config.stop_ids == (model.tokenizer.end_of_turn_id, model.tokenizer.eos_id)
    train(["something else entirely"] * 20, vocab_size=290).save(tmp_path)
    with pytest.raises(LuhuoError, match=r"tokenizer|分词器"):
        load(tmp_path)


def test_equal_models_are_equal_files(tmp_path: Path) -> None:
    """safetensors itself writes its metadata in an order that differs from call to call."""
    model = random_model()
    model.tokenizer = train(["the cat sat on the mat", "炉火纯青"] * 20, vocab_size=300)
    for i in range(6):
        save(model, tmp_path / str(i))
    assert len({(tmp_path / str(i) / "model.safetensors").read_bytes() for i in range(6)}) == 1
