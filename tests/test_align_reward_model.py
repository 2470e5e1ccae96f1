"""Reward models: what they score, what they learn from, how they are kept, and that others read them alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from luhuo.align.reward_data import Comparison, assemble
from luhuo.align.reward_files import is_reward_model, load_reward_model, save_reward_model
from luhuo.align.reward_measures import calibration, judge, score
from luhuo.align.reward_model import RewardEncoder, RewardModel, ends, with_head
from luhuo.align.reward_objective import PairwiseReward, PointwiseReward, ProcessReward
from luhuo.core.errors import LuhuoError
from luhuo.model.encoder import Encoder
from luhuo.model.encoder_config import EncoderConfig
from luhuo.train.gradients import Gradients
from luhuo.train.ranks import Ranks
from tests.reward_cases import read
from tests.small_chat import small_model, small_tokenizer

KINDS = ("decoder", "encoder", "mean")


def encoder(pooling: str = "first") -> Encoder:
    """A random BERT over the small tokenizer."""
    config = EncoderConfig.parse(
        {
            "vocab_size": small_tokenizer().vocab_size,
            "hidden_size": 32,
            "layers": 2,
            "heads": 2,
            "head_dim": 16,
            "intermediate_size": 48,
            "max_positions": 256,
            "token_types": 2,
            "pooling": pooling,
            "pad_id": small_tokenizer().pad_id,
        }
    )
    model, chance = Encoder(config), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=chance) * 0.3)
    model.tokenizer = small_tokenizer()
    return model.eval()


def reward_model(kind: str = "decoder") -> RewardModel | RewardEncoder:
    return with_head(small_model() if kind == "decoder" else encoder("mean" if kind == "mean" else "first"), seed=0)


def text(seed: int, length: int) -> list[int]:
    return torch.randint(20, 300, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


def packed(rows: list[list[list[int]]], width: int, *, left: bool = False) -> dict[str, torch.Tensor]:
    """Rows of texts as segments 1, 2, …, padded on the right or the left."""
    ids, segments = torch.full((len(rows), width), 1), torch.zeros(len(rows), width, dtype=torch.int32)
    for i, row in enumerate(rows):
        at = width - sum(map(len, row)) if left else 0
        for number, one in enumerate(row, 1):
            ids[i, at : at + len(one)], segments[i, at : at + len(one)] = torch.tensor(one), number
            at += len(one)
    return {"ids": ids, "segments": segments}


# The score


@pytest.mark.parametrize("kind", KINDS)
def test_a_score_is_the_same_alone_packed_and_padded_on_either_side(kind: str) -> None:
    model, texts = reward_model(kind), [text(i, n) for i, n in enumerate((7, 3, 12, 5))]
    with torch.no_grad():
        alone = torch.cat([model.scores({"ids": torch.tensor([one])})[0] for one in texts])
        for left in (False, True):
            together = model.scores(packed([[*texts[:2]], [*texts[2:]]], 24, left=left)).flatten()
            torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
            padded = model.scores(packed([[one] for one in texts], 16, left=left))[:, 0]
            torch.testing.assert_close(padded, alone, rtol=1e-5, atol=1e-5)


def test_a_decoder_is_read_at_the_last_real_token_of_each_text() -> None:
    model, batch = reward_model(), packed([[text(0, 6), text(1, 4)]], 16)
    with torch.no_grad():
        tokens, scores = model.token_scores(batch), model.scores(batch)
    torch.testing.assert_close(scores[0], tokens[0, [5, 9]])
    changed = {**batch, "ids": batch["ids"].clone()}
    changed["ids"][0, 5] = 33
    with torch.no_grad():
        other = model.scores(changed)
    assert abs(other[0, 0] - scores[0, 0]) > 1e-3
    torch.testing.assert_close(other[0, 1], scores[0, 1])


def test_rows_with_fewer_texts_have_zeros_and_places_say_so() -> None:
    batch = packed([[text(0, 3), text(1, 4)], [text(2, 5)]], 8)
    first, last = ends(batch["segments"])
    assert first.tolist() == [[0, 3], [0, -1]] and last.tolist() == [[2, 6], [4, -1]]
    with torch.no_grad():
        assert reward_model().scores(batch)[1, 1] == 0


def test_a_new_head_has_scores_of_unit_size_and_the_body_is_the_models_own() -> None:
    base = small_model(hidden_size=256)
    model = with_head(base, seed=3)
    assert isinstance(model, RewardModel)
    assert model.score.weight.std().item() == pytest.approx(1 / 257**0.5, rel=0.15)
    assert model.embedding is base.embedding and model.blocks is base.blocks and model.unembedding is None
    assert torch.equal(with_head(base, seed=3).score.weight, model.score.weight)
    assert not torch.equal(with_head(base, seed=4).score.weight, model.score.weight)


@pytest.mark.parametrize("kind", KINDS)
def test_normalising_gives_these_scores_mean_zero_and_deviation_one(kind: str) -> None:
    model = reward_model(kind)
    batch = packed([[text(i, 5 + i)] for i in range(20)], 30)
    with torch.no_grad():
        for _ in range(2):  # normalised again it stays
            scores = model.scores(batch)
            model.normalise(scores.mean().item(), scores.std().item())
        scores = model.scores(batch)
    assert scores.mean().item() == pytest.approx(0, abs=1e-5) and scores.std().item() == pytest.approx(1, rel=1e-4)


# What is learned


def comparisons(count: int = 6, ways: int = 2) -> list[Comparison]:
    from array import array
    from itertools import combinations

    items = []
    for number in range(count):
        prompt = text(number, 4)
        texts = [array("I", prompt + text(100 * number + k, 3 + (number + k) % 4)) for k in range(ways)]
        pairs = tuple((a, b, 0.0) for a, b in combinations(range(ways), 2))
        items.append(Comparison(tuple(texts), tuple(len(one) - 4 for one in texts), pairs))
    return items


def tensors(batch: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(values) for name, values in batch.items()}


def gradients(model: torch.nn.Module, objective: Any, batch: dict[str, torch.Tensor], rows: int) -> tuple[float, dict]:
    model.zero_grad(set_to_none=True)
    weight, total = Gradients(model, objective, Ranks(), rows).compute(batch, 1)  # type: ignore[arg-type]
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return (total["loss"] / weight).item(), found


def same(a: tuple[float, dict], b: tuple[float, dict]) -> None:
    assert a[0] == pytest.approx(b[0], rel=1e-5)
    assert a[1].keys() == b[1].keys()
    for name, value in a[1].items():
        torch.testing.assert_close(b[1][name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("ways", [2, 4])
def test_loss_and_gradients_are_equal_for_any_micro_batch_split_and_packing(ways: int) -> None:
    model, items = reward_model().train(), comparisons(6, ways)
    objective = PairwiseReward(0.01)
    one_each = tensors(assemble([[item] for item in items], "pairwise", 60, 1))
    whole = gradients(model, objective, one_each, 0)
    for rows in (1, 2, 4):
        same(whole, gradients(model, objective, one_each, rows))
    together = tensors(assemble([items[:3], items[3:]], "pairwise", 160, 1))
    same(whole, gradients(model, objective, together, 1))


def test_equal_scores_cost_ln_2_and_a_ranking_counts_as_one_comparison() -> None:
    model = reward_model()
    with torch.no_grad():
        model.score.weight.zero_()  # type: ignore[union-attr]
    for ways in (2, 4):
        batch = tensors(assemble([[item] for item in comparisons(3, ways)], "pairwise", 60, 1))
        loss, weight, metrics = PairwiseReward(0.01).loss(model, batch)
        assert weight.item() == pytest.approx(3) and (loss / weight).item() == pytest.approx(np.log(2))
        assert metrics["accuracy"].item() == 0


def test_a_margin_is_asked_for_beyond_the_lead_and_the_centre_is_pulled_to_zero() -> None:
    model, items = reward_model(), comparisons(1)
    batch = tensors(assemble([items], "pairwise", 40, 1))
    with torch.no_grad():
        better, worse = model.scores(batch)[0].tolist()
        batch["margin"][0, 0] = 0.7
        loss = PairwiseReward(0.5).loss(model, batch)[0].item()
    assert loss == pytest.approx(np.logaddexp(0, -(better - worse - 0.7)) + 0.5 * (better + worse) ** 2, rel=1e-5)


def test_a_score_of_exactly_zero_is_a_score() -> None:
    model = reward_model()
    with torch.no_grad():
        model.score.weight.zero_()  # type: ignore[union-attr]
    batch = tensors(assemble([comparisons(2)], "pairwise", 60, 1))
    batch = {name: batch[name] for name in ("ids", "segments")}
    known = {"labels": torch.tensor([[0.0, 1.0, 0.0, 1.0]]), "known": torch.tensor([[1.0, 1.0, 1.0, 0.0]])}
    loss, weight, _ = PointwiseReward("regression").loss(model, batch | known)
    assert (loss.item(), weight.item()) == (1.0, 3.0)
    loss, weight, _ = PointwiseReward("binary").loss(model, batch | known)
    assert loss.item() == pytest.approx(3 * np.log(2)) and weight.item() == 3


@pytest.mark.parametrize("kind", KINDS)
def test_every_objective_teaches_what_it_is_shown(kind: str, tmp_path: Path) -> None:
    rows: dict[str, list[dict[str, Any]]] = {
        "preference": [{"prompt": f"{i}", "chosen": "good", "rejected": "bad"} for i in range(4)],
        "ranking": [{"prompt": f"{i}", "answers": ["bad", "good", "fair"], "ranks": [3, 1, 2]} for i in range(4)],
        "unpaired-preference": [
            {"prompt": f"{i}", "completion": w, "label": w == "good"} for i in range(3) for w in ("good", "no")
        ],
        "scored": [
            {"prompt": f"{i}", "completion": w, "score": s} for i in range(3) for w, s in (("a", -1), ("b", 2.5))
        ],
        "stepwise": [
            {"prompt": f"{i}", "completions": ["good", "bad", "good"], "labels": [1, 0, True]} for i in range(3)
        ],
    }
    objectives = {
        "pairwise": PairwiseReward(0.01),
        "binary": PointwiseReward("binary"),
        "regression": PointwiseReward("regression"),
        "process": ProcessReward(),
    }
    for layout, given in rows.items():
        data, model = read(tmp_path, given), reward_model(kind).train()
        assert set(data.layouts.values()) == {layout}
        batch = tensors(assemble([data.items], data.kind, sum(map(len, data.items)), 1))
        optimiser = torch.optim.Adam(model.parameters(), lr=0.003 if kind == "decoder" else 0.01)
        for _ in range(60):
            optimiser.zero_grad()
            loss, weight, _ = objectives[data.kind].loss(model, batch)
            (loss / weight).backward()
            optimiser.step()
        told = judge(data.items, data.kind, score(model.eval(), data.items, pad_id=1))
        assert told.get("accuracy", 1.0) == 1.0 and told.get("error", 0.0) < 0.6, layout
        if layout == "stepwise":
            assert told["solutions"]["accuracy"] == 1.0 and told["n"] == 9


# Measures


def test_calibration_compares_confidence_with_what_came_true() -> None:
    sure = np.full(100, np.log(9))  # a confidence of 0.9
    assert calibration(sure, np.arange(100) < 90)["ece"] == pytest.approx(0, abs=1e-9)
    told = calibration(sure, np.arange(100) < 60)
    assert told["ece"] == pytest.approx(0.3)
    assert told["bins"] == [{"confidence": pytest.approx(0.9), "accuracy": 0.6, "n": 100}]


def test_a_score_that_only_counts_tokens_is_found_out() -> None:
    items = comparisons(40)
    lengths = [np.array(item.answers, dtype=float) for item in items]
    told = judge(items, "pairwise", lengths)
    assert told["length"]["score"]["r"] == pytest.approx(1) and told["length"]["lead"]["r"] == pytest.approx(1)
    chance = np.random.default_rng(0)
    told = judge(items, "pairwise", [chance.normal(size=2) for _ in items])
    assert told["length"]["lead"]["low"] < 0 < told["length"]["lead"]["high"]


# Files


@pytest.mark.parametrize("kind", KINDS[:2])
def test_a_saved_model_scores_the_same_here_and_in_transformers(kind: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model = reward_model(kind)
    model.normalise(0.25, 2.0)
    save_reward_model(model, tmp_path)
    assert is_reward_model(tmp_path)
    texts = [text(i, 4 + 3 * i) for i in range(4)]
    batch = packed([[one] for one in texts], 16)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path)
    with torch.no_grad():
        ours = model.scores(batch)[:, 0]
        again = load_reward_model(tmp_path, device="cpu").scores(batch)[:, 0]
        mask = (batch["segments"] != 0).long()
        other = theirs(input_ids=batch["ids"], attention_mask=mask).logits[:, 0]
    offset = getattr(model, "offset", 0.0)
    torch.testing.assert_close(again, ours, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(other + offset, ours, rtol=1e-5, atol=1e-5)
    assert theirs.config.num_labels == 1 and (kind == "encoder" or offset != 0)


def test_what_is_no_reward_model_is_said_to_be_none(tmp_path: Path) -> None:
    from luhuo.model.save import save

    save(small_model(), tmp_path)
    assert not is_reward_model(tmp_path)
    with pytest.raises(LuhuoError, match="no reward model"):
        load_reward_model(tmp_path)
