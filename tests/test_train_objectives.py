"""Objectives of pretraining: the same loss for any split, exact resume, the statistics of the noise, and parity."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import distributed, multiprocessing

from luhuo.core.artifact import produce
from luhuo.core.errors import Interrupted, LuhuoError
from luhuo.corpus.rows import RowLoader
from luhuo.model.decoder import Decoder
from luhuo.model.encoder import Encoder
from luhuo.model.encoder_decoder import EncoderDecoder
from luhuo.model.load import load
from luhuo.model.save import save
from luhuo.tokenizer.tokenizer import Tokenizer
from luhuo.train import pretraining
from luhuo.train.denoising.setup import prepare
from luhuo.train.objective import CausalLM
from luhuo.train.stages import PretrainStage
from tests.objective_runs import OBJECTIVES, TEXTS, losses, material, rows_of, run, same_arrays, stage, write_shards


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return material(tmp_path_factory.mktemp("material"))


def tensors(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def trained(settings: PretrainStage) -> Any:
    """A new model whose weights are far from where they start, so that every part has a say in the loss."""
    model = pretraining.build(settings, Tokenizer.load(settings.tokenizer))[0]
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model


def loss_of(settings: PretrainStage) -> Any:
    return pretraining.LOSSES.get(settings.objective, CausalLM)()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_objective_trains_the_model_it_is_for_and_writes_it_with_its_tokenizer(
    name: str, tmp_path: Path, given: dict[str, str]
) -> None:
    done = produce("pretrain", stage(given, name, steps=2, eval_tokens=96), tmp_path / "model")
    model = load(done.path)
    kind = {"masked": Encoder, "span": EncoderDecoder, "infilling": EncoderDecoder}.get(name.split()[0], Decoder)
    assert isinstance(model, kind) and model.tokenizer is not None
    text = TEXTS[3]
    assert model.tokenizer.encode(text) == Tokenizer.load(given["tokenizer"]).encode(text)
    score = "middle_loss.valid" if name == "fim" else "loss.valid"
    assert 0 < done.manifest["metrics"][score] < 10


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_loss_and_its_gradients_are_equal_for_any_micro_batch_split(name: str, given: dict[str, str]) -> None:
    settings = stage(given, name)
    batch, model, objective = tensors(next(iter(rows_of(settings)))), trained(settings), loss_of(settings)
    found = []
    for parts in (1, 2, 4):
        model.zero_grad()
        total = 0.0
        for i in range(parts):
            part = {key: tensor.chunk(parts)[i] for key, tensor in batch.items()}
            loss, _, _ = objective.loss(model, part)
            loss.backward()
            total += loss.item()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        found.append((total / objective.weight(batch).item(), gradient))
    for value, gradient in found[1:]:
        assert value == pytest.approx(found[0][0], rel=1e-6)
        assert torch.allclose(gradient, found[0][1], rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_several_texts_in_one_row_have_the_loss_of_each_in_a_row_of_its_own(name: str, given: dict[str, str]) -> None:
    settings = stage(given, name, length=160)
    batch, model, objective = tensors(next(iter(rows_of(settings, batch=2)))), trained(settings), loss_of(settings)
    alone: list[dict[str, torch.Tensor]] = []
    for row in range(2):
        for text in range(1, int(batch["segments"][row].max()) + 1):
            one = {}
            for key, tensor in batch.items():
                numbers = batch["decoder_segments" if key in ("decoder_ids", "decoder_segments", "targets")
                                and "decoder_segments" in batch else "segments"][row]  # fmt: skip
                values = tensor[row][numbers == text]
                empty = -1 if key == "relation" else 0
                one[key] = torch.full_like(tensor[row], empty)
                one[key][: len(values)] = values
            alone.append(one)
    assert len(alone) > 4
    padded = {key: torch.stack([one[key] for one in alone]) for key in batch}
    with torch.no_grad():
        packed_loss, weight, _ = objective.loss(model, batch)
        padded_loss, same_weight, _ = objective.loss(model, padded)
    assert weight == same_weight
    assert packed_loss.item() == pytest.approx(padded_loss.item(), rel=1e-5)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_two_ranks_share_the_rows_of_one_and_a_loader_goes_on_where_it_was(name: str, given: dict[str, str]) -> None:
    settings = stage(given, name)
    whole, halves = iter(rows_of(settings)), [iter(rows_of(settings, batch=2, rank=r, world=2)) for r in range(2)]
    for _ in range(60):  # into the second epoch
        batch, parts = next(whole), [next(half) for half in halves]
        joined = {key: np.concatenate([part[key] for part in parts]) for key in batch}
        assert same_arrays(batch, joined)
    one = rows_of(settings)
    taken = iter(one)
    for _ in range(30):
        next(taken)
    other = rows_of(settings)
    other.restore(one.state())
    assert same_arrays(next(taken), next(iter(other)))
    with pytest.raises(LuhuoError, match="rows"):
        rows_of(settings, batch=3).restore(one.state())


@pytest.mark.parametrize("name", OBJECTIVES)
def test_stopped_and_resumed_the_weights_are_those_of_a_straight_run(
    name: str, tmp_path: Path, given: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = stage(given, name)
    straight = run(settings, tmp_path / "straight")
    take, taken = RowLoader._next, []

    def interrupt(loader: RowLoader) -> dict[str, np.ndarray]:
        taken.append(1)
        if len(taken) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return take(loader)

    monkeypatch.setattr(RowLoader, "_next", interrupt)
    with pytest.raises(Interrupted):
        run(settings, tmp_path / "cut", prefetch=0)
    resumed = run(settings, tmp_path / "cut", prefetch=0)
    assert losses(tmp_path / "straight") == losses(tmp_path / "cut")
    for (key, one), (_, other) in zip(straight.named_parameters(), resumed.named_parameters(), strict=True):
        assert torch.equal(one, other), key


def _rank(rank: int, folder: Path, given: dict[str, str]) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    for name in OBJECTIVES:
        run(stage(given, name), folder / name / f"rank{rank}", rank=rank, world=2, steps=3)
    distributed.barrier()
    distributed.destroy_process_group()


def test_two_processes_have_the_losses_of_one(tmp_path: Path, given: dict[str, str]) -> None:
    multiprocessing.start_processes(_rank, (tmp_path, given), nprocs=2, start_method="forkserver")
    for name in OBJECTIVES:
        run(stage(given, name), tmp_path / name / "alone", steps=3)
        assert losses(tmp_path / name / "rank0") == pytest.approx(losses(tmp_path / name / "alone"), rel=1e-5)


def _published(name: str, folder: Path, given: dict[str, str]) -> tuple[Any, Any, dict[str, torch.Tensor], Any]:
    """Our model, what transformers makes of its files, a batch, and our loss a target."""
    transformers = pytest.importorskip("transformers")
    settings = stage(given, name)
    model, batch = trained(settings).eval(), tensors(next(iter(rows_of(settings))))
    save(model, folder)
    kinds = {"masked": "ModernBertForMaskedLM", "masked pairs": "BertForPreTraining",
             "span": "T5ForConditionalGeneration", "infilling": "BartForConditionalGeneration"}  # fmt: skip
    theirs = getattr(transformers, kinds[name]).from_pretrained(folder, attn_implementation="eager").eval()
    # They do not know of several texts in a row: each row keeps its first text.
    first = {key: batch[key] == 1 for key in ("segments", "decoder_segments") if key in batch}
    for key in ("mask", "relation"):
        if key in batch:
            batch[key] = torch.where(first["segments"], batch[key], -1 if key == "relation" else 0)
    for key, kept in first.items():
        batch[key] = kept.int()
    with torch.no_grad():
        loss, weight, metrics = loss_of(settings).loss(model, batch)
    return theirs, metrics, batch, loss.item() / weight.item()


def test_masked_loss_is_that_of_transformers(tmp_path: Path, given: dict[str, str]) -> None:
    theirs, _, batch, ours = _published("masked", tmp_path, given)
    labels = torch.where(batch["mask"] != 0, batch["targets"], -100)
    with torch.no_grad():
        found = theirs(input_ids=batch["ids"], attention_mask=batch["segments"], labels=labels).loss
    assert ours == pytest.approx(found.item(), abs=1e-5)


def test_the_loss_of_pairs_is_that_of_transformers(tmp_path: Path, given: dict[str, str]) -> None:
    theirs, metrics, batch, _ = _published("masked pairs", tmp_path, given)
    labels = torch.where(batch["mask"] != 0, batch["targets"], -100)
    with torch.no_grad():
        found = theirs(input_ids=batch["ids"], attention_mask=batch["segments"], token_type_ids=batch["types"])
    tokens = torch.nn.functional.cross_entropy(found.prediction_logits.transpose(1, 2), labels, reduction="sum")
    assert metrics["masked_tokens"].item() == pytest.approx(tokens.item(), rel=1e-5)
    each = torch.nn.functional.cross_entropy(
        found.seq_relationship_logits, batch["relation"].amax(1), reduction="none"
    )
    wanted = (each * batch["mask"].sum(1)).sum()
    assert metrics["relation"].item() == pytest.approx(wanted.item(), rel=1e-5)


@pytest.mark.parametrize("name", ["span", "infilling"])
def test_the_loss_of_what_is_written_is_that_of_transformers(name: str, tmp_path: Path, given: dict[str, str]) -> None:
    theirs, _, batch, ours = _published(name, tmp_path, given)
    labels = torch.where(batch["decoder_segments"] != 0, batch["targets"], -100)
    with torch.no_grad():
        found = theirs(input_ids=batch["ids"], attention_mask=batch["segments"], labels=labels).loss
    assert ours == pytest.approx(found.item(), abs=1e-5)


def test_of_rows_that_mix_old_and_new_exactly_the_share_is_old(tmp_path: Path, given: dict[str, str]) -> None:
    tokenizer = Tokenizer.load(given["tokenizer"])
    write_shards(tmp_path / "old", tokenizer, ["lamps lamps lamps lamps."] * 80)
    replay = {"replay": {"shards": str(tmp_path / "old"), "share": 0.25}}
    lamps = tokenizer.encode(" lamps")[0]
    for name in ("causal", "span"):
        settings = stage(given, name, **replay)
        prepared = prepare(settings, tokenizer, 48)

        def loader(rank: int, world: int, settings: Any = settings, prepared: Any = prepared) -> Any:
            return pretraining.task(settings, prepared, 48, 4 // world, 6, rank, world).loader

        whole, halves = iter(loader(0, 1)), [iter(loader(rank, 2)) for rank in range(2)]
        old = 0
        for _ in range(25):
            batch = next(whole)
            parts = [next(half) for half in halves]
            assert same_arrays(batch, {key: np.concatenate([part[key] for part in parts]) for key in batch})
            old += int(((batch["ids"] == lamps).sum(1) > 8).sum())
        assert old == 25
    done = produce("pretrain", stage(given, "causal", steps=2, **replay), tmp_path / "model")
    assert any(record["field"] == "replay.shards" for record in done.manifest["inputs"])


def test_a_model_of_another_kind_and_settings_without_effect_are_refused(
    tmp_path: Path, given: dict[str, str]
) -> None:
    with pytest.raises(LuhuoError, match="no effect"):
        stage(given, "masked", span={"rate": 0.2})
    with pytest.raises(LuhuoError, match="layout: bert"):
        stage(given, "masked", masked={"relation": "order"})
    model = produce("pretrain", stage(given, "causal", steps=1), tmp_path / "decoder").path
    with pytest.raises(LuhuoError, match="does not fit the objective"):
        produce("pretrain", stage(given, "masked", model=str(model)), tmp_path / "encoder")
    more = produce("pretrain", stage(given, "fim", steps=1, model=str(model)), tmp_path / "fim").path
    marks = load(more).tokenizer
    assert marks is not None and marks.token_text(marks.token_id("<|fim_middle|>")) == "<|fim_middle|>"
    again = produce("pretrain", stage(given, "causal", steps=1, model=str(more)), tmp_path / "again")
    assert load(again.path).tokenizer.fingerprint == marks.fingerprint  # type: ignore[union-attr]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["masked", "span", "infilling", "prefix", "fim"])
def test_the_loss_falls_clearly_below_that_of_guessing_by_frequency(
    name: str, tmp_path: Path, given: dict[str, str]
) -> None:
    settings = stage(given, name, size="200k", length=96, batch=768)
    objective = loss_of(settings)
    rows = tensors(next(iter(rows_of(settings, batch=64))))
    model = run(settings, tmp_path, steps=300, learning_rate=5e-3)
    with torch.no_grad():
        states, targets = objective.outcome(model, rows)
        loss = torch.nn.functional.cross_entropy(model.head(states).float(), targets).item()
    share = torch.bincount(targets).float() / len(targets)
    entropy = -(share[share > 0] * share[share > 0].log()).sum().item()
    assert loss < 0.5 * entropy
