"""Log-likelihoods of choices: what is shared is computed once, and nothing but the time changes."""

from __future__ import annotations

import random

import pytest
import torch

from luhuo.evaluation import likelihood
from luhuo.evaluation.encode import rolling
from luhuo.evaluation.likelihood import Continuation, Scorer
from luhuo.inference.scoring import loglikelihood
from luhuo.model.config import RopeConfig
from luhuo.model.decoder import Decoder
from luhuo.model.initialise import initialise
from tests.small_chat import small_config, small_model, small_tokenizer

SHAPES = {
    "rotary": {},
    "learned positions": {"positions": "learned"},
    "alibi": {"positions": "none", "alibi_slopes": (0.5, 0.25, 0.125, 0.0625)},
    "windows": {"windows": (8, 0)},
    "linear layers": {"linear_layers": (0,)},
    "reads its text again": {
        "rope": RopeConfig(kind="longrope", original_positions=64, short_factors=(1.0,) * 8, long_factors=(4.0,) * 8)
    },
}


def items(seed: int = 0, shared: int = 60) -> list[list[Continuation]]:
    """Items behind two beginnings and none, with choices of one token and of several, some of them beginning alike."""
    chance = random.Random(seed)
    vocab = small_tokenizer().vocab_size

    def some(least: int, most: int) -> list[int]:
        return [chance.randrange(20, vocab) for _ in range(chance.randint(least, most))]

    fronts = [some(shared, shared), some(shared, shared), []]
    found = []
    for number in range(15):
        prompt = [*fronts[number % 3], *some(1, 12)]
        if number % 2:
            choices = [some(1, 1) for _ in range(4)]
        else:
            begin = some(1, 3)
            choices = [[*begin, *some(1, 6)] for _ in range(3)]
        found.append([Continuation((*prompt, *choice), len(choice)) for choice in choices])
    return found


def plainly(model: Decoder, asked: list[list[Continuation]]) -> list[list[tuple[float, bool]]]:
    pairs = [[(s.ids[: -s.count], s.ids[-s.count :]) for s in item] for item in asked]
    return [loglikelihood(model, item) for item in pairs]


def agrees(found: dict, wanted: list[list[tuple[float, bool]]]) -> None:
    assert sorted(found) == list(range(len(wanted)))
    for number, item in enumerate(wanted):
        assert [one.total for one in found[number]] == pytest.approx([total for total, _ in item], abs=2e-4)
        assert [one.greedy for one in found[number]] == [greedy for _, greedy in item]


@pytest.mark.parametrize("name", SHAPES)
def test_choices_score_as_if_each_were_read_alone(name: str) -> None:
    config = small_config().model_copy(update=SHAPES[name])
    model = initialise(Decoder(config), 3).eval()
    asked = items()
    agrees(dict(Scorer(model).score(asked)), plainly(model, asked))


def test_equal_choices_have_equal_scores() -> None:
    model = small_model()
    asked = [[Continuation((30, 31, 32, *choice), len(choice)) for choice in ([33], [33], [34, 35], [34, 35])]]
    found = dict(Scorer(model).score(asked))[0]
    assert found[0] == found[1] and found[2].total == pytest.approx(found[3].total)
    agrees({0: found}, plainly(model, asked))


def test_choices_that_begin_with_different_tokens_share_nothing_and_are_scored() -> None:
    model = small_model()
    asked = [[Continuation((first, 30, 31, 32), 3) for first in (25, 26)], *items(7)[:3]]
    agrees(dict(Scorer(model).score(asked)), plainly(model, asked))


@pytest.mark.parametrize("tokens", [1, 40, 200])
def test_the_size_of_a_pass_changes_nothing(tokens: int) -> None:
    model = small_model()
    asked = items(1)
    agrees(dict(Scorer(model, tokens).score(asked)), plainly(model, asked))


def test_a_shared_beginning_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, read = small_model(), []
    hidden = model.hidden

    def counted(ids: torch.Tensor, **options: object) -> torch.Tensor:
        read.append(ids.numel())
        return hidden(ids, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(model, "hidden", counted)
    asked = items(2, shared=120)
    dict(Scorer(model).score(asked))
    assert sum(read) < sum(len(s.inputs) for item in asked for s in item) / 4


def test_rows_of_different_length_are_read_apart_where_padding_would_cost_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, read = small_model(), []
    hidden = model.hidden

    def counted(ids: torch.Tensor, **options: object) -> torch.Tensor:
        read.append(ids.numel())
        return hidden(ids, **options)  # type: ignore[arg-type]

    asked = items(8, shared=4) + [[Continuation(tuple(range(20, 20 + n)), 1)] for n in (3, 9, 80, 200)]
    wanted = plainly(model, asked)
    monkeypatch.setattr(model, "hidden", counted)
    monkeypatch.setattr(likelihood, "LEAST_PASS", {"cpu": 10**6})
    whole = dict(Scorer(model).score(asked))
    padded, read[:] = sum(read), []
    monkeypatch.setattr(likelihood, "LEAST_PASS", {"cpu": 1})
    apart = dict(Scorer(model).score(asked))
    assert sum(read) < padded / 1.5
    agrees(whole, wanted)
    agrees(apart, wanted)


def test_what_is_scored_is_never_hidden_in_a_shared_beginning() -> None:
    model = small_model()
    vocab = small_tokenizer().vocab_size
    ids = [random.Random(5).randrange(20, vocab) for _ in range(90)]
    asked = [[Continuation((*ids, end), 80)] for end in (21, 22, 23)]
    agrees(dict(Scorer(model).score(asked)), plainly(model, asked))


def test_a_batch_too_large_for_the_memory_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model()
    asked = items(4, shared=4)
    wanted = plainly(model, asked)
    hidden = model.hidden

    def little_memory(ids: torch.Tensor, **options: object) -> torch.Tensor:
        if len(ids) > 4:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return hidden(ids, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(model, "hidden", little_memory)
    agrees(dict(Scorer(model).score(asked)), wanted)


def test_another_error_of_the_model_is_not_taken_for_a_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model()

    def broken(ids: torch.Tensor, **options: object) -> torch.Tensor:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(model, "hidden", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        dict(Scorer(model).score(items()))


def test_logits_are_held_in_bounded_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model()
    asked = items(6)
    monkeypatch.setattr(likelihood, "HEAD_ELEMENTS", 3 * model.config.vocab_size)
    agrees(dict(Scorer(model).score(asked)), plainly(model, asked))


@pytest.mark.parametrize("length", [1, 15, 16, 17, 32, 40])
def test_rolling_windows_score_each_token_once_and_stay_within_the_context(length: int) -> None:
    ids = list(range(100, 101 + length))
    windows = list(rolling(ids, 16))
    scored = [token for window in windows for token in window.ids[-window.count :]]
    assert scored == ids[1:]
    assert all(len(window.inputs) <= 16 for window in windows)
