"""Beam search: the same answers, scores and order as in transformers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from luhuo.inference.beam import beam_search
from luhuo.inference.request import Completion
from luhuo.inference.sampling import Sampling
from luhuo.model.save import save
from tests.small_chat import random_prompts, small_model

LIMIT = 7


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def theirs(model, tmp_path_factory: pytest.TempPathFactory):
    from transformers import AutoModelForCausalLM

    folder: Path = tmp_path_factory.mktemp("model")
    save(model, folder)
    return AutoModelForCausalLM.from_pretrained(folder).eval()


def search(model, prompt: list[int], ends: list[int], **settings) -> list[Completion]:
    return beam_search(model, prompt, Sampling(max_tokens=LIMIT, **settings), frozenset(ends), 100)


def ends_that_matter(model, prompt: list[int]) -> list[int]:
    """Tokens that the search without ends writes in the middle: as ends they change what it finds."""
    best = search(model, prompt, [], beams=3, n=3)
    return sorted({best[0].token_ids[2], best[1].token_ids[4]})


@pytest.mark.parametrize(
    ("beams", "length_penalty", "early_stopping"),
    [(2, 1.0, False), (4, 1.0, True), (3, 0.0, "never"), (3, 2.0, "never"), (3, 2.0, False), (4, -1.0, False)],
)
def test_answers_and_scores_equal_those_of_transformers(model, theirs, beams, length_penalty, early_stopping):
    settings = {"length_penalty": length_penalty, "early_stopping": early_stopping}
    for prompt in random_prompts(3):
        ends = ends_that_matter(model, prompt)
        ids = torch.tensor([prompt])
        expected = theirs.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=LIMIT,
            num_beams=beams,
            num_return_sequences=beams,
            do_sample=False,
            eos_token_id=ends,
            pad_token_id=1,
            return_dict_in_generate=True,
            output_scores=True,
            **settings,
        )
        found = search(model, prompt, ends, beams=beams, n=beams, **settings)
        rows = [row[len(prompt) :].tolist() for row in expected.sequences]
        for one, row in zip(found, rows, strict=True):
            assert one.token_ids == row[: len(one.token_ids)] and set(row[len(one.token_ids) :]) <= {1}
            assert one.finish_reason == ("stop" if one.token_ids[-1] in ends else "length")
        scores = [one.score for one in found]
        torch.testing.assert_close(torch.tensor(scores), expected.sequences_scores, atol=1e-4, rtol=1e-4)
        assert scores == sorted(scores, reverse=True)


def test_penalties_and_bans_act_on_the_beams_as_in_transformers(model, theirs):
    prompt = random_prompts(1)[0]
    ids = torch.tensor([prompt])
    expected = theirs.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=LIMIT,
        num_beams=3,
        do_sample=False,
        repetition_penalty=1.5,
        pad_token_id=1,
        eos_token_id=None,
    )
    found = search(model, prompt, [], beams=3, repetition_penalty=1.5)
    assert found[0].token_ids == expected[0, len(prompt) :].tolist()


def test_one_beam_is_greedy_and_more_never_find_less(model):
    for prompt in random_prompts(4):
        totals = []
        for beams in (1, 2, 8):
            sampling = {"beams": beams, "length_penalty": 0.0, "logprobs": 0}
            best = search(model, prompt, [], **sampling)[0]
            assert best.logprobs is not None and sum(best.logprobs) == pytest.approx(best.score, abs=1e-4)
            totals.append(best.score)
        with torch.no_grad():
            greedy = model(torch.tensor([prompt]))[0, -1].argmax().item()
        assert search(model, prompt, [], beams=1)[0].token_ids[0] == greedy
        assert totals[-1] >= totals[0] - 1e-5


def test_the_text_ends_before_a_stop_string(model):
    prompt = random_prompts(1)[0]
    whole = search(model, prompt, [], beams=2)[0]
    stop = whole.text[2:4]
    cut = search(model, prompt, [], beams=2, stop=(stop,))[0]
    assert cut.text == whole.text[: whole.text.index(stop)] and cut.stop_reason == stop
