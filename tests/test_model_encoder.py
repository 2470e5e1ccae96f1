"""What an encoder promises beyond equal numbers: documents kept apart, heads, labels, old files, clear refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from luhuo.core.errors import LuhuoError
from luhuo.model.count_stack import flops_per_token, parameters
from luhuo.model.encoder import Encoder
from luhuo.model.encoder_config import EncoderConfig
from luhuo.model.families import read_config
from luhuo.model.initialise_stack import initialise_stack
from luhuo.model.load import load, load_decoder
from luhuo.model.save import save
from luhuo.model.stack import stack_norm

SMALL: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 24,
    "layers": 2,
    "heads": 3,
    "head_dim": 8,
    "intermediate_size": 40,
    "max_positions": 40,
    "token_types": 2,
}
PRE = {"block": "pre", "first_norm": False, "final_norm": True, "norm_bias": False, "gated": True, "mlp_bias": False}
SHAPES: dict[str, dict[str, Any]] = {
    "plain": {"head": "masked_lm"},
    "shared": {"layers": 4, "groups": 2, "group_blocks": 2, "embedding_size": 12, "head": "pretraining"},
    "disentangled": {
        "positions": "none",
        "disentangled": {"span": 4, "buckets": 4, "shared": False, "kernel": 3},
        "head": "classification",
        "labels": ("yes", "no", "也许"),
    },
    "windows": {"positions": "rope", "windows": (0, 3), "local_rope": {"theta": 100.0}, **PRE, "head": "detection"},
    "buckets": {"norm": "rms", "positions": "buckets", "buckets": 8, "embedding_norm": False, "head": "relation"},
    "bare": {"pooler": True},
}


def model_of(name: str, seed: int = 0) -> Encoder:
    """A model of one of the shapes, with biases and tables that are not zero."""
    model = initialise_stack(Encoder(EncoderConfig.parse({**SMALL, **SHAPES[name]})), seed).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def ids_of(*shape: int) -> Tensor:
    return torch.randint(1, 61, shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("name", SHAPES)
def test_documents_in_one_row_do_not_see_one_another(name: str) -> None:
    model, ids = model_of(name), ids_of(1, 24)
    segments = torch.tensor([[1] * 9 + [2] * 15])
    changed = ids.clone()
    changed[0, 9:] = 60
    with torch.no_grad():
        first = model.hidden(ids, segments=segments)
        assert torch.equal(first[0, :9], model.hidden(changed, segments=segments)[0, :9])
        alone = model.hidden(ids[:, 9:])
    assert (first[0, 9:] - alone[0]).abs().max() < 1e-5


@pytest.mark.parametrize("name", SHAPES)
def test_an_encoder_looks_both_ways(name: str) -> None:
    model, ids = model_of(name), ids_of(1, 12)
    changed = ids.clone()
    changed[0, 2] = 60
    with torch.no_grad():
        gap = (model.hidden(ids) - model.hidden(changed)).abs().amax(-1)[0]
    assert gap[0] > 1e-4 and gap[5] > 1e-4


@pytest.mark.parametrize("name", SHAPES)
def test_the_parts_of_the_count_add_up_to_the_model(name: str) -> None:
    model = model_of(name)
    assert sum(parameters(model.config).values()) == sum(p.numel() for p in model.parameters())


def test_shared_layers_cost_operations_each_time_they_are_passed() -> None:
    once = EncoderConfig.parse({**SMALL, "layers": 1, "groups": 1})
    often = once.model_copy(update={"layers": 5})
    assert parameters(once) == parameters(often)
    assert flops_per_token(often, 100) == 5 * flops_per_token(once, 100)


@pytest.mark.parametrize("name", SHAPES)
def test_every_parameter_takes_part_and_has_a_gradient(name: str) -> None:
    model, ids = model_of(name), ids_of(2, 24)
    hidden = model.hidden(ids, types=(ids > 30).long())
    outputs = [hidden]
    if model.masked_tokens is not None or model.token_labels is not None:
        outputs.append(model.head(hidden))
    if model.text_labels is not None:
        outputs.append(model.text(hidden))
    sum(F.gelu(output).square().sum() for output in outputs).backward()  # type: ignore[union-attr]
    idle = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not idle


@pytest.mark.parametrize("name", SHAPES)
def test_the_same_seed_gives_the_same_model_and_another_seed_another(name: str) -> None:
    config = EncoderConfig.parse({**SMALL, **SHAPES[name]})
    one, two, three = (initialise_stack(Encoder(config), seed).state_dict() for seed in (5, 5, 6))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not torch.equal(one["embedding"], three["embedding"])


def test_a_fresh_pre_norm_stack_is_the_identity_and_a_post_norm_one_keeps_its_scale() -> None:
    config = EncoderConfig.parse({**SMALL, **SHAPES["windows"]})
    model, ids = initialise_stack(Encoder(config), 0).eval(), ids_of(1, 10)
    embedded = F.embedding(ids, model.embedding) + model.types[0]  # type: ignore[index]
    norm = stack_norm(config, 24)
    assert (model.hidden(ids) - norm(norm(embedded))).abs().max() < 1e-5
    deep = EncoderConfig.parse({**SMALL, "layers": 12})
    spread = initialise_stack(Encoder(deep), 0).eval().hidden(ids).std(1).mean()
    assert 0.5 < spread < 1.5  # tokens stay apart through twelve fresh layers


def test_a_masked_language_model_learns_to_fill_gaps() -> None:
    """Rows count upwards; the token behind the mask follows from its neighbours."""
    config = EncoderConfig.parse({**SMALL, "head": "masked_lm"})
    model = initialise_stack(Encoder(config), 0)
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)

    def batch(size: int) -> tuple[Tensor, Tensor, Tensor]:
        ids = torch.randint(1, 40, (size, 1), generator=generator) + torch.arange(10)
        place = torch.randint(0, 10, (size, 1), generator=generator)
        return ids, ids.scatter(1, place, 0), place

    for _ in range(300):
        ids, masked, place = batch(32)
        logits = model(masked).gather(1, place[..., None].expand(-1, -1, 61))[:, 0]
        loss = F.cross_entropy(logits, ids.gather(1, place)[:, 0])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    ids, masked, place = batch(200)
    found = model(masked).gather(1, place[..., None].expand(-1, -1, 61))[:, 0].argmax(-1)
    assert (found == ids.gather(1, place)[:, 0]).float().mean() > 0.4  # chance: 1 in 49


def test_a_head_for_texts_reads_the_first_real_token_wherever_padding_stands() -> None:
    model, ids = model_of("disentangled"), ids_of(1, 10)
    with torch.no_grad():
        alone = model(ids)
        for before, after in ((0, 5), (5, 0), (2, 3)):
            row, segments = F.pad(ids, (before, after)), F.pad(torch.ones_like(ids), (before, after))
            assert (model(row, segments=segments) - alone).abs().max() < 1e-5


def test_asking_for_a_head_that_is_not_there_is_an_error() -> None:
    model = model_of("plain")
    hidden = torch.zeros(1, 3, 24)
    with pytest.raises(LuhuoError, match=r"no such head|没有这种输出头"):
        model.text(hidden)
    with pytest.raises(LuhuoError, match=r"no such head|没有这种输出头"):
        model_of("bare").head(hidden)


def test_a_text_beyond_the_table_of_positions_is_refused_and_packed_short_ones_are_not() -> None:
    model, ids = model_of("plain"), ids_of(1, 60)
    with pytest.raises(LuhuoError) as caught:
        model(ids)
    assert "40" in str(caught.value) and "60" in str(caught.value)
    assert model(ids, segments=torch.tensor([[1] * 30 + [2] * 30])).shape == (1, 60, 61)


def test_bf16_stays_near_fp32_and_half_precision_is_kept_throughout() -> None:
    for name in SHAPES:
        model, ids = model_of(name), ids_of(2, 24)
        with torch.no_grad():
            full = model.hidden(ids)
            half = model.compute_in(torch.bfloat16).hidden(ids)
        assert half.dtype == torch.bfloat16
        assert (half.float() - full).abs().mean() < 0.06


BERT = {
    "architectures": ["BertForSequenceClassification"],
    "model_type": "bert",
    "vocab_size": 61,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 40,
    "id2label": {"0": "负面", "1": "neutral", "2": "正面"},
}


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """A directory in BERT's layout."""
    save(initialise_stack(Encoder(read_config(BERT)), 0), tmp_path)
    return tmp_path


def test_names_of_classes_survive_a_round_trip(bert: Path) -> None:
    assert load(bert, dtype="fp32").config.labels == ("负面", "neutral", "正面")
    values = json.loads((bert / "config.json").read_text(encoding="utf-8"))
    assert values["id2label"] == BERT["id2label"] and values["label2id"]["正面"] == 2


def test_files_of_2018_with_gamma_and_beta_load(bert: Path) -> None:
    expected = load(bert, dtype="fp32")(ids_of(1, 9))
    file = bert / "model.safetensors"
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    renamed = {}
    for name, tensor in load_file(file).items():
        for new, was in old.items():
            name = name.replace(new, was)
        renamed[name] = tensor
    assert any("gamma" in name for name in renamed)
    save_file(renamed, file)
    assert torch.equal(load(bert, dtype="fp32")(ids_of(1, 9)), expected)


def test_a_checkpoint_with_more_heads_than_its_class_loads_without_them(bert: Path) -> None:
    """BERT's own files say BertForMaskedLM and hold the pooler and the next-sentence head as well."""
    values = {**BERT, "architectures": ["BertForPreTraining"]}
    save(initialise_stack(Encoder(read_config(values)), 0), bert)
    written = json.loads((bert / "config.json").read_text(encoding="utf-8"))
    (bert / "config.json").write_text(json.dumps({**written, "architectures": ["BertForMaskedLM"]}))
    model = load(bert, dtype="fp32")
    assert model.config.head == "masked_lm" and model(ids_of(1, 9)).shape == (1, 9, 61)


def test_a_bare_encoder_has_a_pooler_only_if_its_files_have(bert: Path) -> None:
    values = {**BERT, "architectures": ["BertModel"]}
    for pooler in (True, False):
        config = read_config(values).model_copy(update={"pooler": pooler})
        save(initialise_stack(Encoder(config), 0), bert)
        assert load(bert, dtype="fp32").config.pooler is pooler


def test_a_missing_head_is_named(bert: Path) -> None:
    file = bert / "model.safetensors"
    tensors = load_file(file)
    del tensors["classifier.weight"]
    save_file(tensors, file)
    with pytest.raises(LuhuoError, match=r"classifier\.weight"):
        load(bert)


def test_whoever_needs_a_decoder_is_told_that_this_is_none(bert: Path) -> None:
    with pytest.raises(LuhuoError, match=r"Encoder \(bert\)"):
        load_decoder(bert)


REFUSED = [
    (BERT, {"position_embedding_type": "relative_key"}),
    (BERT, {"is_decoder": True}),
    (BERT, {"tie_word_embeddings": False}),
    (BERT, {"hidden_act": "gelu_10"}),
    (BERT, {"num_attention_heads": 0}),
    ({**BERT, "architectures": ["AlbertModel"]}, {"embedding_size": 24}),
    ({**BERT, "architectures": ["DebertaV2Model"]}, {"relative_attention": False}),
    ({**BERT, "architectures": ["DebertaV2Model"]}, {"relative_attention": True, "position_buckets": 1}),
    ({**BERT, "architectures": ["DebertaV2Model"]}, {"relative_attention": True, "legacy": False}),
    ({**BERT, "architectures": ["DebertaV2Model"]}, {"relative_attention": True, "embedding_size": 12}),
    ({**BERT, "architectures": ["ModernBertModel"]}, {"layer_types": ["full_attention"]}),
]


@pytest.mark.parametrize(("values", "change"), REFUSED)
def test_a_variant_that_would_come_out_wrong_is_refused(values: dict[str, Any], change: dict[str, Any]) -> None:
    with pytest.raises(LuhuoError):
        read_config({**values, **change})
