"""Choosing tokens: the distribution is the one the settings describe, and rows do not influence one another."""

from __future__ import annotations

import math
import random
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from luhuo.core.errors import LuhuoError
from luhuo.inference.request import Request, ranked
from luhuo.inference.sampler import choose, edited, inverse_cdf, next_tokens, probabilities, warped
from luhuo.inference.sampling import OutputFormat, Sampling
from tests.small_chat import small_tokenizer

LOGITS = torch.tensor([[2.0, 1.0, 0.0, -1.0, 1.5]])


def kept(**settings: float) -> list[int]:
    chances = probabilities(LOGITS, [Sampling(**settings)])  # type: ignore[arg-type]
    assert math.isclose(chances.sum().item(), 1, abs_tol=1e-6)
    return chances[0].nonzero().flatten().tolist()


def test_without_cuts_the_distribution_is_the_softmax_at_that_temperature():
    chances = probabilities(LOGITS, [Sampling(temperature=0.5)])
    torch.testing.assert_close(chances, (LOGITS / 0.5).softmax(-1))


def test_top_k_keeps_the_k_best():
    assert kept(top_k=2) == [0, 4]
    assert kept(top_k=99) == [0, 1, 2, 3, 4]


def test_top_p_keeps_the_smallest_set_that_reaches_the_mass():
    ordered = LOGITS.softmax(-1)[0].sort(descending=True).values.cumsum(0)
    assert kept(top_p=float(ordered[0]) - 0.01) == [0]
    assert kept(top_p=float(ordered[0]) + 0.01) == [0, 4]
    assert kept(top_p=1e-9) == [0]


def test_min_p_drops_what_is_far_below_the_best():
    assert kept(min_p=math.exp(-0.6)) == [0, 4]
    assert kept(min_p=math.exp(-1.1)) == [0, 1, 4]


def test_equal_logits_are_cut_by_the_smaller_id():
    chances = probabilities(torch.zeros(1, 6), [Sampling(top_k=2)])
    assert chances[0].tolist() == [0.5, 0.5, 0, 0, 0, 0]


def test_each_row_follows_its_own_settings():
    mixed = [Sampling(top_k=1), Sampling(), Sampling(temperature=2.0, top_p=0.5), Sampling(min_p=0.5)]
    together = probabilities(LOGITS.expand(4, -1), mixed)
    alone = torch.cat([probabilities(LOGITS, [settings]) for settings in mixed])
    torch.testing.assert_close(together, alone)


def test_the_inverse_of_the_distribution_hits_each_token_in_its_share():
    chances = torch.tensor([[0.25, 0.0, 0.5, 0.25]])
    picks = [inverse_cdf(chances, [u / 100])[0].item() for u in range(100)]
    assert [picks.count(token) for token in range(4)] == [25, 0, 50, 25]
    assert inverse_cdf(chances, [1 - 1e-16])[0] == 3


def test_over_a_large_vocabulary_every_token_has_its_share_and_the_impossible_none():
    chances = torch.rand(1, 1000, generator=torch.Generator().manual_seed(0)).square()
    chances[0, ::3] = 0
    chances /= chances.sum()
    chance, count = random.Random(0), 200_000
    picks = inverse_cdf(chances.expand(count, -1), [chance.random() for _ in range(count)])
    seen = torch.bincount(picks, minlength=1000).double()
    expected = count * chances[0].double()
    likely = expected > 5
    assert not seen[expected == 0].any()
    chi_square = ((seen - expected).square() / expected)[likely].sum().item()
    degrees = int(likely.sum())
    assert abs(chi_square - degrees) < 4 * math.sqrt(2 * degrees)


def test_the_ends_of_the_unit_interval_are_tokens_that_can_be():
    for seed, kept in ((0, 0.5), (1, 0.01), (2, 1.0)):
        chances = (random_logits(50, seed) * 2).softmax(-1).double()
        chances *= torch.rand(chances.shape, generator=torch.Generator().manual_seed(seed)) <= kept
        for uniform in (0.0, 1 - 2**-53, 1 - 2**-26, 2**-53):
            assert (chances.gather(1, inverse_cdf(chances, [uniform] * 50)[:, None]) > 0).all()


def test_rounding_hardly_ever_changes_a_token_even_in_a_long_tail():
    generator, chance = torch.Generator().manual_seed(0), random.Random(0)
    logits = torch.randn(1, 49152, generator=generator) * 2
    logits[0, 7] = 12  # one likely token, on whose last digits the whole tail depends
    flips = 0
    for _ in range(40):
        uniforms = [chance.random() for _ in range(50)]
        noisy = logits + 2e-6 * torch.randn(logits.shape, generator=generator)
        pair = [inverse_cdf(one.softmax(-1).expand(50, -1), uniforms) for one in (logits, noisy)]
        flips += int((pair[0] != pair[1]).sum())
    assert flips <= 1


def test_sampled_frequencies_agree_with_the_distribution():
    chance, count = random.Random(0), 20_000
    settings = Sampling(temperature=0.8, top_p=0.95)
    expected = probabilities(LOGITS, [settings])[0]
    picks = choose(LOGITS.expand(count, -1), [settings] * count, [chance.random() for _ in range(count)])
    seen = torch.bincount(picks, minlength=5).double()
    spot = expected > 0
    assert seen[~spot].sum() == 0
    chi_square = (((seen - count * expected) ** 2)[spot] / (count * expected[spot])).sum().item()
    assert chi_square < 16.3  # 99.9% point of the chi-square distribution with three degrees of freedom


def test_temperature_zero_takes_the_best_token_beside_sampling_rows():
    picks = choose(LOGITS.expand(3, -1), [Sampling(temperature=0), Sampling(), Sampling(temperature=0)], [0, 0.999, 0])
    assert picks.tolist() == [0, 4, 0]


def test_a_temperature_next_to_nothing_is_greedy_and_overflows_nowhere():
    coldest = Sampling(temperature=5e-324)
    assert coldest.greedy
    assert probabilities(LOGITS, [coldest]).isfinite().all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -1},
        {"top_p": 0},
        {"max_tokens": 0},
        {"n": 0},
        {"stopp": ["x"]},
        {"repetition_penalty": 5e-324},
        {"repetition_penalty": 1e30},
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict):
    with pytest.raises(ValidationError):
        Sampling(**wrong)


# The order of the steps and each of them: as in transformers

VOCAB = 3000


def random_logits(rows: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, VOCAB, generator=torch.Generator().manual_seed(seed)) * 3


def written(sampling: Sampling, prompt: list[int], answer: list[int]) -> Request:
    """A request that has written `answer` so far."""
    request = Request(prompt, sampling, small_tokenizer(), 10_000)
    for token in answer:
        request.push(token, frozenset())
    return request


def processors(**settings: Any) -> Any:
    """transformers' own list for these settings."""
    from transformers import GenerationConfig, LogitsProcessorList
    from transformers.generation.utils import GenerationMixin

    config = GenerationConfig(do_sample=True, **settings)
    config._eos_token_tensor = None
    host = type("Host", (GenerationMixin,), {"config": SimpleNamespace(is_encoder_decoder=False)})()
    made = host._get_logits_processor(config, 4, torch.zeros(1, 4), None, LogitsProcessorList(), device="cpu")
    assert len(made)
    return made


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.7},
        {"top_k": 40},
        {"top_k": 2500},
        {"top_p": 0.8},
        {"temperature": 3.0, "top_p": 0.97},
        {"min_p": 0.05},
        {"typical_p": 0.6},
        {"repetition_penalty": 1.4},
        {"repetition_penalty": 0.8},
        {"temperature": 1.3, "top_k": 60, "top_p": 0.9, "min_p": 0.02, "typical_p": 0.95, "repetition_penalty": 1.2},
        {"temperature": 5.0, "top_p": 0.95, "typical_p": 0.4},
    ],
)
def test_each_step_and_their_order_equal_those_of_transformers(settings: dict):
    rows, prompt, answer = 4, [5, 6, 7, 5], [9, 9, 8]
    logits = random_logits(rows)
    sampling = Sampling(**settings)
    theirs = {"top_k": 0} | settings
    expected = processors(**theirs)(torch.tensor([prompt + answer] * rows), logits.clone())
    found = warped(edited([written(sampling, prompt, answer)] * rows, logits), [sampling] * rows)
    assert torch.equal(found.isfinite(), expected.isfinite())
    kept = expected.isfinite()
    torch.testing.assert_close(found[kept], expected[kept])


def test_a_bias_comes_before_the_penalties_as_in_transformers():
    from transformers.generation.logits_process import (
        LogitsProcessorList,
        RepetitionPenaltyLogitsProcessor,
        SequenceBiasLogitsProcessor,
    )

    logits, bias = random_logits(1), {5: 4.5, 20: -30.0, 9: 1.0}
    both = LogitsProcessorList(
        [SequenceBiasLogitsProcessor([[[k], v] for k, v in bias.items()]), RepetitionPenaltyLogitsProcessor(1.5)]
    )
    expected = both(torch.tensor([[5, 6, 9]]), logits.clone())
    request = written(Sampling(logit_bias=bias, repetition_penalty=1.5), [5, 6], [9])
    torch.testing.assert_close(edited([request], logits), expected)


def test_presence_and_frequency_are_taken_off_for_the_answer_only_as_openai_says():
    logits = torch.zeros(1, VOCAB)
    request = written(Sampling(presence_penalty=0.5, frequency_penalty=0.25), [5, 6], [6, 9, 9, 9])
    found = edited([request], logits)[0]
    assert found[5] == 0 and found[6] == -0.75 and found[9] == -0.5 - 3 * 0.25 and found[10] == 0


def test_the_penalties_of_a_long_answer_are_those_of_its_counts():
    chance = random.Random(0)
    prompt, answer = ([chance.randrange(VOCAB) for _ in range(400)] for _ in range(2))
    sampling = Sampling(repetition_penalty=1.3, frequency_penalty=0.1, presence_penalty=-0.2, max_tokens=500)
    logits = random_logits(1)
    seen, counts = torch.zeros(VOCAB, dtype=torch.bool), torch.bincount(torch.tensor(answer), minlength=VOCAB)
    seen[prompt + answer] = True
    expected = torch.where(seen, torch.where(logits > 0, logits / 1.3, logits * 1.3), logits)
    expected = expected - 0.1 * counts + 0.2 * (counts > 0)
    torch.testing.assert_close(edited([written(sampling, prompt, answer)], logits), expected)


def test_bad_words_are_never_completed_and_their_beginnings_stay_free():
    tokenizer, word = small_tokenizer(), "苹果"
    ways = [tokenizer.encode(word), tokenizer.encode(" " + word)]
    sampling = Sampling(bad_words=(word,))
    for way in ways:
        at_the_end = edited([written(sampling, [1], way[:-1])], torch.zeros(1, 400))[0]
        before = edited([written(sampling, [1], way[:-2])], torch.zeros(1, 400))[0]
        assert at_the_end[way[-1]] == -torch.inf
        assert len(way) == 1 or before[way[-2]] == 0


def test_an_answer_cannot_end_before_its_least_length():
    ends = frozenset({2})
    sampling = Sampling(min_tokens=3, stop_token_ids=(7,), stop=("a",), temperature=0)
    logits = torch.zeros(1, 400)
    logits[0, 2], logits[0, 7] = 9, 8
    request = written(sampling, [1], [])
    [letter] = small_tokenizer().encode("a")
    logits[0, letter] = 5
    while request.finish_reason is None:
        [token] = next_tokens([request], logits, ends)
        request.push(token, ends)
    assert request.tokens == [letter] * 3 + [2] and request.completion().text == "aaa"


def test_a_stop_token_ends_the_answer_is_named_and_is_no_text():
    [first, second] = small_tokenizer().encode("ab")
    request = written(Sampling(stop_token_ids=(second,)), [1], [first, second])
    out = request.completion()
    assert (out.text, out.finish_reason, out.stop_reason, out.token_ids) == ("a", "stop", second, [first, second])


def test_the_stop_text_can_stay_and_the_earliest_one_counts():
    tokens = small_tokenizer().encode("one two three")
    for keep, text in ((False, "one "), (True, "one two")):
        request = Request([1], Sampling(stop=("three", "two"), include_stop=keep), small_tokenizer(), 100)
        pieces = []
        for token in tokens:
            request.push(token, frozenset())
            pieces.append(request.take_text())
            if request.finish_reason:
                break
        assert "".join(pieces) == request.completion().text == text and request.stop_reason == "two"


def test_an_echo_begins_the_text_and_is_searched_for_no_stop_string():
    tokenizer = small_tokenizer()
    request = Request(tokenizer.encode("stop 你好"), Sampling(echo=True, stop=("stop",)), tokenizer, 100)
    assert request.take_text() == "stop 你好"
    for token in tokenizer.encode("，世界stop"):
        if request.finish_reason is None:
            request.push(token, frozenset())
    assert request.take_text() == "，世界" and request.completion().text == "stop 你好，世界"


# Rows of one batch


MIXED = [
    Sampling(seed=1),
    Sampling(temperature=0),
    Sampling(seed=2, top_k=5, logprobs=2),
    Sampling(seed=3, top_p=0.7, min_p=0.01, repetition_penalty=1.5),
    Sampling(seed=4, temperature=40.0, top_p=0.99),
    Sampling(seed=5, typical_p=0.5, frequency_penalty=1.0, logit_bias={3: 5.0}),
    Sampling(seed=6, top_n_sigma=1.0, presence_penalty=0.4, logprobs=0),
    Sampling(temperature=0, repetition_penalty=2.0, logprobs=1, logprobs_mode="processed"),
]


def run(settings: list[Sampling], rows: list[int], steps: int = 12) -> list[Request]:
    """Requests on logits that depend on the row and the step only."""
    requests = [Request([row, 3, 3], settings[row], None, 100) for row in rows]
    for step in range(steps):
        logits = random_logits(len(settings), step)
        for request, token in zip(requests, next_tokens(requests, logits[rows]), strict=True):
            request.push(token, frozenset())
    return requests


def test_a_seeded_request_gives_the_same_in_any_batch():
    together = run(MIXED, list(range(len(MIXED))))
    for row, request in enumerate(together):
        [alone] = run(MIXED, [row])
        assert alone.tokens == request.tokens
        assert alone.logprobs == pytest.approx(request.logprobs) and len(alone.logprobs) == len(request.logprobs)


def test_a_flat_distribution_is_cut_right_although_the_best_logits_do_not_decide():
    logits = random_logits(2) / 100
    kept = probabilities(logits, [Sampling(top_p=0.9), Sampling(top_k=2)]) > 0
    ordered = logits[0].softmax(-1).sort(descending=True)
    wanted = int((ordered.values.cumsum(0) < 0.9).sum()) + 1
    assert wanted > 1024 and set(kept[0].nonzero()[:, 0].tolist()) == set(ordered.indices[:wanted].tolist())
    assert kept[1].sum() == 2


def test_top_n_sigma_keeps_what_is_within_so_many_deviations_of_the_best():
    logits = random_logits(3)
    found = warped(logits, [Sampling(top_n_sigma=1.5)] * 3).isfinite()
    floor = logits.amax(-1, keepdim=True) - 1.5 * logits.std(-1, correction=0, keepdim=True)
    assert torch.equal(found, logits >= floor)
    hot = warped(logits, [Sampling(top_n_sigma=1.5, temperature=7.0)] * 3).isfinite()
    assert torch.equal(hot, found)


def test_log_probabilities_are_the_models_or_those_sampled_from():
    logits = random_logits(1)
    for mode, expected in (
        ("raw", logits.log_softmax(-1)),
        ("processed", warped(logits, [Sampling(temperature=0.5, top_k=3)]).log_softmax(-1)),
    ):
        sampling = Sampling(temperature=0.5, top_k=3, logprobs=5, logprobs_mode=mode, seed=0)  # type: ignore[arg-type]
        request = Request([1], sampling, None, 10)
        [token] = next_tokens([request], logits)
        assert request.logprobs == [pytest.approx(expected[0, token].item(), abs=1e-5)]
        best = expected[0].topk(5)
        assert list(request.top_logprobs[0])[:3] == best.indices[:3].tolist()
        assert list(request.top_logprobs[0].values()) == pytest.approx(best.values.tolist(), abs=1e-5)


def test_the_best_of_several_are_those_with_the_best_mean_log_probability():
    sampling = Sampling(n=2, best_of=4, max_tokens=2)
    requests = []
    for choice, scores in enumerate(([-1.0, -2.0], [-0.1], [-3.0, -0.1], [-0.2, -0.2])):
        request = Request([1], sampling, None, 10, choice)
        request.logprobs, request.tokens, request.finish_reason = scores, [choice], "stop"
        requests.append(request)
    best = ranked(requests, 2)
    assert [out.token_ids for out in best] == [[1], [3]] and best[0].choices == best
    assert best[0].score == -0.1 and best[0].logprobs is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_tokens": 5, "max_tokens": 4},
        {"n": 3, "best_of": 2},
        {"n": 3, "beams": 2},
        {"stop": [""]},
        {"logit_bias": {1: math.nan}},
        {"typical_p": 0},
        {"format": {}},
        {"beams": 2, "format": {"regex": "a"}},
    ],
)
def test_settings_that_contradict_one_another_are_one_message(wrong: dict):
    with pytest.raises(LuhuoError, match="Sampling"):
        Sampling.parse(wrong)


def test_a_format_is_part_of_the_settings():
    assert Sampling.parse({"format": {"choices": ["a"]}}).format == OutputFormat(choices=("a",))
