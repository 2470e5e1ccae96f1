"""Multi-token prediction: the reference's logits, packed and cached, its loss, and its tensors in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from luhuo.core.errors import LuhuoError
from luhuo.model.config import MLAConfig, ModelConfig, MoEConfig, RopeConfig
from luhuo.model.count import active_parameters, parameters
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from luhuo.model.load import load
from luhuo.model.save import save
from luhuo.train.config import TrainerConfig
from luhuo.train.objective import MTP_WEIGHT, CausalLM
from luhuo.train.optimisers import Optimiser

CONFIG = ModelConfig(
    family="deepseek_v3",
    vocab_size=61,
    hidden_size=24,
    layers=2,
    heads=4,
    kv_heads=4,
    head_dim=10,
    intermediate_size=32,
    qk_norm="none",
    tie_embeddings=False,
    mla=MLAConfig(q_rank=12, kv_rank=16, nope_dim=6, rope_dim=4, value_dim=5),
    rope=RopeConfig(interleaved=True),
    moe=MoEConfig(
        experts=4,
        active=2,
        intermediate_size=8,
        shared_size=8,
        score="sigmoid",
        correction=True,
        group_score="top2",
        balance_over="sequence",
        dense_layers=(0,),
    ),
    mtp_layers=2,
)


def random_model() -> Decoder:
    model = initialise(Decoder(CONFIG), 0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def random_ids(*shape: int) -> Tensor:
    return torch.randint(0, 61, shape, generator=torch.Generator().manual_seed(2))


def further_logits(model: Decoder, ids: Tensor, segments: Tensor | None = None) -> list[Tensor]:
    before = None if segments is None else segments[:, :-1]
    hidden = model.hidden(ids[:, :-1], segments=before)
    return model.mtp_logits(hidden, ids[:, 1:], segments=before)


@torch.no_grad()
def test_logits_are_those_of_the_reference(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    layers = pytest.importorskip("transformers.modeling_layers")
    if not hasattr(layers, "MtpModel"):
        pytest.skip("this version of transformers has no multi-token prediction")
    ours, ids = random_model(), random_ids(1, 20)
    save(ours, tmp_path)
    main = transformers.DeepseekV3ForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    assert main.config.num_mtp_layers == 2
    reference = layers.MtpModel(main, 2).eval()
    _fill_reference(reference, load_file(tmp_path / "model.safetensors"))
    states = main.model(ids[:, :-1]).last_hidden_state
    for depth, found in enumerate(further_logits(ours, ids)):
        further = ids[:, 1 + depth :]
        places = torch.arange(further.shape[1])[None] + 1 + depth
        states = reference.forward_layer(depth, states[:, : further.shape[1]], places, None, input_ids=further)
        torch.testing.assert_close(found, main.lm_head(states), rtol=1e-4, atol=1e-4)


def _fill_reference(reference: Any, published: dict[str, Tensor]) -> None:
    """Give the reference's prediction blocks the published tensors of layers 2 and 3."""
    for name, parameter in [*reference.named_parameters(), *reference.named_buffers()]:
        if not name.startswith("layers."):
            continue
        _, depth, rest = name.split(".", 2)
        start = f"model.layers.{2 + int(depth)}."
        rest = rest.replace("mtp_block.", "").replace("post_norm", "shared_head.norm", rest.startswith("post_norm"))
        if rest.endswith("experts.gate_up_proj"):
            kinds = [("gate_proj", "up_proj")]
        elif rest.endswith("experts.down_proj"):
            kinds = [("down_proj",)]
        else:
            parameter.copy_(published[start + rest])
            continue
        each = [torch.cat([published[f"{start}mlp.experts.{e}.{k}.weight"] for k in kinds[0]]) for e in range(4)]
        parameter.copy_(torch.stack(each))


@torch.no_grad()
def test_each_depth_sees_one_token_more_and_no_later_one() -> None:
    model, ids = random_model(), random_ids(1, 20)
    changed = ids.clone()
    changed[0, 12] = (ids[0, 12] + 1) % 61
    for depth, (before, after) in enumerate(
        zip(further_logits(model, ids), further_logits(model, changed), strict=True)
    ):
        assert before.shape == (1, 19 - depth, 61)
        moved = (before - after).abs().amax(-1)[0] > 1e-4
        assert moved.nonzero()[0].item() == 12 - 1 - depth


@torch.no_grad()
def test_packed_documents_have_the_logits_they_have_alone() -> None:
    model, ids = random_model(), random_ids(1, 30)
    segments = torch.tensor([[1] * 13 + [2] * 17])
    packed = further_logits(model, ids, segments)
    for start, end in ((0, 13), (13, 30)):
        for depth, alone in enumerate(further_logits(model, ids[:, start:end])):
            torch.testing.assert_close(packed[depth][:, start : end - 1 - depth], alone, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_cache_gives_the_states_of_a_whole_pass_row_by_row() -> None:
    model, ids = random_model(), random_ids(2, 24)
    hidden = model.hidden(ids[:, :-1])
    expected = model.mtp_hidden(0, hidden, ids[:, 1:])
    cache, lengths = model.mtp_cache(2), [9, 5]
    real = (torch.arange(9) < torch.tensor(lengths)[:, None]).int()
    found = [model.mtp_hidden(0, hidden[:, :9], ids[:, 1:10], segments=real, cache=cache)]
    assert cache.lengths == lengths
    for step in range(6):
        places = torch.tensor(lengths)[:, None] + step
        states = hidden.gather(1, places[..., None].expand(-1, -1, 24))
        found.append(model.mtp_hidden(0, states, ids.gather(1, places + 1), cache=cache))
    for row, length in enumerate(lengths):
        parts = torch.cat([found[0][row, :length], *(part[row] for part in found[1:])])
        torch.testing.assert_close(parts, expected[row, : length + 6], rtol=1e-4, atol=1e-5)


def test_the_objective_adds_the_mean_loss_of_all_depths_in_training_only() -> None:
    model, ids = random_model(), random_ids(2, 14)
    alone, weight, none = CausalLM().loss(model, {"ids": ids})
    both, again, metrics = CausalLM().loss(model.train(), {"ids": ids})
    logits = further_logits(model, ids[:, :-1])
    losses = [
        F.cross_entropy(found.flatten(0, 1), ids[:, depth + 2 :].flatten(), reduction="sum")
        for depth, found in enumerate(logits)
    ]
    expected = MTP_WEIGHT * (losses[0] + losses[1]) / 2
    assert not none and weight == again == 26
    torch.testing.assert_close(metrics["further_tokens"], expected, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(both, alone + expected, rtol=1e-4, atol=1e-3)


def test_the_loss_of_packed_documents_is_the_sum_of_their_losses_alone() -> None:
    model, ids = random_model().train(), random_ids(1, 31)
    segments = torch.tensor([[1] * 12 + [2] * 16 + [0] * 3])
    packed, _, _ = CausalLM().loss(model, {"ids": ids, "segments": segments})
    parts = [CausalLM().loss(model, {"ids": part})[0] for part in (ids[:, :12], ids[:, 12:28])]
    torch.testing.assert_close(packed, parts[0] + parts[1], rtol=1e-4, atol=1e-3)


def test_training_moves_every_parameter_and_teaches_the_token_after_the_next() -> None:
    model = initialise(Decoder(CONFIG), 0).train()
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimiser = Optimiser(model, TrainerConfig(steps=40, learning_rate=1e-2))
    generator = torch.Generator().manual_seed(0)
    for _ in range(40):  # counting: every token follows from any one before it
        ids = (torch.randint(0, 61, (16, 1), generator=generator) + torch.arange(12)) % 61
        loss, weight, _ = CausalLM().loss(model, {"ids": ids})
        (loss / weight).backward()
        optimiser.step(1.0)
        model.zero_grad()
        model.update_balance(1e-3)
    assert all(not torch.equal(start[name], p) for name, p in model.named_parameters())
    ids = torch.arange(20)[None] + 30
    for depth, logits in enumerate(further_logits(model.eval(), ids)):
        assert (logits[0, :-1].argmax(-1) == ids[0, depth + 2 :]).float().mean() > 0.9


def test_tensors_come_back_bit_for_bit_and_copies_of_shared_ones_are_ignored(tmp_path: Path) -> None:
    model = random_model()
    save(model, tmp_path / "one")
    tensors = load_file(tmp_path / "one" / "model.safetensors")
    assert {"model.layers.2.eh_proj.weight", "model.layers.3.shared_head.norm.weight"} <= tensors.keys()
    again = load(tmp_path / "one", dtype="fp32")
    assert again.config.mtp_layers == 2
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    copies = {"embed_tokens": "model.embed_tokens.weight", "shared_head.head": "lm_head.weight"}
    more = {f"model.layers.2.{name}.weight": tensors[of].clone() for name, of in copies.items()}
    save_file({**tensors, **more}, tmp_path / "one" / "model.safetensors", {"format": "pt"})
    save(load(tmp_path / "one", dtype="fp32"), tmp_path / "two")
    written = load_file(tmp_path / "two" / "model.safetensors")
    assert written.keys() == tensors.keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in tensors.items())


def test_they_can_be_dropped_and_files_may_lack_them(tmp_path: Path) -> None:
    model, ids = random_model(), random_ids(1, 12)
    save(model, tmp_path / "full")
    dropped = load(tmp_path / "full", dtype="fp32", mtp=False)
    assert dropped.config.mtp_layers == 0
    torch.testing.assert_close(dropped(ids), model(ids))
    tensors = load_file(tmp_path / "full" / "model.safetensors")
    kept = {
        name: tensor for name, tensor in tensors.items() if not name.startswith(("model.layers.2", "model.layers.3"))
    }
    save_file(kept, tmp_path / "full" / "model.safetensors", {"format": "pt"})
    lacking = load(tmp_path / "full", dtype="fp32")
    assert lacking.config.mtp_layers == 0
    torch.testing.assert_close(lacking(ids), model(ids))


def test_half_a_prediction_block_is_an_error(tmp_path: Path) -> None:
    save(random_model(), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.layers.3.enorm.weight"]
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(LuhuoError, match=r"model\.layers\.3\.enorm\.weight"):
        load(tmp_path)


def test_parameters_are_those_counted_and_take_no_part_in_a_token() -> None:
    model = Decoder(CONFIG)
    own = sum(p.numel() for p in model.mtp.parameters())
    assert parameters(CONFIG)["mtp"] == own
    assert sum(parameters(CONFIG).values()) == sum(p.numel() for p in model.parameters())
    assert active_parameters(CONFIG) == active_parameters(CONFIG.model_copy(update={"mtp_layers": 0}))
