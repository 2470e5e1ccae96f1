"""Guessing the next tokens changes how fast an answer comes, and nothing else."""

from __future__ import annotations

import random

import pytest
import torch

from luhuo.core.errors import LuhuoError
from luhuo.inference.cache_pool import Running
from luhuo.inference.drafters import DraftModel, PredictionHeads, PromptLookup
from luhuo.inference.engine import Engine
from luhuo.inference.request import Request
from luhuo.inference.sampling import Sampling
from luhuo.inference.speculative import PAUSE, TRIALS, Speculation
from luhuo.model.decoder import Decoder
from tests.small_chat import random_prompts, small_model, with_template

GREEDY = Sampling(max_tokens=24, temperature=0, ignore_eos=True)
FEW = dict.fromkeys(range(30, 36), 100.0)
DRAWN = Sampling(max_tokens=24, seed=3, top_p=0.9, presence_penalty=0.4, ignore_eos=True, logit_bias=FEW)


def repeating(count: int) -> list[list[int]]:
    """Prompts whose parts come again."""
    chance = random.Random(5)
    parts = [[chance.randrange(20, 300) for _ in range(6)] for _ in range(count)]
    return [part * 4 + [31 + i] + part[:3] for i, part in enumerate(parts)]


def kinds() -> dict[str, tuple[Decoder, Decoder | None]]:
    model = small_model()
    near = small_model()
    with torch.no_grad():
        for parameter in near.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)) * 0.01)
    return {
        "what the text repeats": (model, None),
        "another model": (model, small_model(layers=1)),
        "a model that nearly agrees": (model, near),
        "prediction heads": (small_model(mtp_layers=2), None),
    }


@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize("sampling", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_answers_are_the_same_with_and_without_guesses(kind: str, sampling: Sampling):
    model, draft = kinds()[kind]
    plain = Engine(model, speculate="never", max_batch=4)
    guessing = Engine(model, speculate="always", draft_model=draft, max_batch=4)
    prompts = repeating(5) + random_prompts(5)
    expected = [out.token_ids for out in plain.generate(prompts, sampling)]
    assert [out.token_ids for out in guessing.generate(prompts, sampling)] == expected
    assert guessing.scheduler.speculation is not None and guessing.scheduler.speculation.proposed > 0


def test_a_draft_that_agrees_is_always_right_also_when_tokens_are_drawn():
    model = small_model()
    for sampling in (GREEDY, Sampling(max_tokens=40, seed=9, ignore_eos=True)):
        engine = Engine(model, speculate="always", draft_model=small_model())
        engine.generate(random_prompts(4), sampling)
        speculation = engine.scheduler.speculation
        assert speculation is not None and speculation.accepted == speculation.proposed > 50


def test_guesses_end_with_the_answer():
    model = small_model()
    engine = Engine(model, speculate="always", draft_model=small_model())
    prompt = random_prompts(2)[1]
    plain = Engine(model, speculate="never").generate([prompt], GREEDY)[0].token_ids
    for count in (1, 2, 3, 5):
        out = engine.generate([prompt], GREEDY.model_copy(update={"max_tokens": count}))[0]
        assert out.token_ids == plain[:count] and out.finish_reason == "length"
    ending = plain[6]
    for one in (engine, Engine(model, speculate="never")):
        one.end_tokens = frozenset({ending})
    stopped = engine.generate([prompt], GREEDY.model_copy(update={"ignore_eos": False}))[0]
    assert stopped.token_ids == plain[: plain.index(ending) + 1] and stopped.finish_reason == "stop"


def test_drawn_tokens_have_the_distribution_of_the_model():
    """Chi-square of the third token of 2,000 answers against its exact distribution (second token given)."""
    model = small_model(opinionated=False)
    with torch.no_grad():
        model.embedding.mul_(4)
    engine = Engine(model, speculate="always", draft_model=small_model(layers=1), max_batch=64)
    sampling = Sampling(max_tokens=3, n=2000, seed=4, logit_bias=FEW, ignore_eos=True)
    answers = [choice.token_ids for choice in engine.generate([[25, 40, 41]], sampling)[0].choices]
    speculation = engine.scheduler.speculation
    assert speculation is not None and 0 < speculation.accepted < speculation.proposed
    with torch.no_grad():
        first = model(torch.tensor([[25, 40, 41]]))[0, -1, 30:36].softmax(-1)
        both = torch.stack([model(torch.tensor([[25, 40, 41, t]]))[0, -1, 30:36].softmax(-1) for t in range(30, 36)])
    expected = (first[:, None] * both * 2000).flatten()
    seen = torch.zeros(36)
    for one, two, _ in answers:
        seen[(one - 30) * 6 + two - 30] += 1
    statistic = float(((seen - expected) ** 2 / expected).sum())
    assert statistic < 66.6  # the 0.1% point of chi-square with 35 degrees of freedom


def running(ids: list[int], sampling: Sampling = GREEDY) -> Running:
    return Running(Request(ids, sampling, None, 100), list(ids), most=100)


def test_prompt_lookup_continues_the_longest_repetition():
    one = running([1, 2, 3, 9, 2, 3, 7, 1, 2, 3])
    lookup = PromptLookup()
    assert lookup.propose(one, 3) == [9, 2, 3]
    one.ids += [7, 2, 3]
    assert lookup.propose(one, 2) == [7, 2]
    assert lookup.propose(running([1, 2, 3, 4, 5]), 3) == []


def test_prediction_heads_keep_what_a_whole_pass_would_give():
    model = small_model(mtp_layers=3)
    heads, ids = PredictionHeads(model), list(range(30, 60))
    one = running(ids[:1])
    with torch.inference_mode():
        for new in (5, 1, 3, 1, 2, 4):  # tokens that the passes of the model read
            one.ids = ids[: one.filled + new + 1]
            hidden = model.hidden(torch.tensor([one.ids]))[0]
            heads_seen = hidden[one.filled : one.filled + new]
            one.filled += new
            heads.observe(one, heads_seen)
            assert heads.propose(one, 3) == guessed_from_scratch(model, one.ids)


def guessed_from_scratch(model: Decoder, ids: list[int]) -> list[int]:
    found: list[int] = []
    hidden = model.hidden(torch.tensor([ids[:-1]]))
    for depth in range(len(model.mtp)):
        text = [*ids, *found]
        hidden = model.mtp_hidden(depth, hidden, torch.tensor([text[depth + 1 :]]))
        found.append(int(model.head(hidden[:, -1]).argmax()))
    return found


def test_guessing_stops_where_it_does_not_pay_and_is_tried_again():
    speculation = Speculation(PromptLookup(), always=False)
    one = running([1, 2, 3, 1, 2])
    assert speculation.drafts([one]) == [[]]
    for _ in range(TRIALS):
        speculation.record(1, 1.0, 1, False)
    assert speculation.drafts([one]) == [[3, 1, 2]]
    for _ in range(TRIALS):
        speculation.record(1, 3.0, 2, True)
    tried = [bool(speculation.drafts([one])[0]) for _ in range(PAUSE + 2)]
    assert not any(tried[:PAUSE]) and tried[-1]
    for _ in range(TRIALS):
        speculation.record(1, 1.5, 3, True)
    assert speculation.drafts([one]) == [[3, 1, 2]]
    assert speculation.drafts([one] * 9) == [[]] * 9


def test_guesses_grow_while_they_are_right_and_shrink_when_they_are_not():
    speculation, one = Speculation(PromptLookup(), always=True), running([1])
    speculation.judge(one, [1, 2, 3, 4], 4)
    assert one.guesses == 8
    speculation.judge(one, [1] * 8, 3)
    assert one.guesses == 8
    for _ in range(5):
        speculation.judge(one, [1], 0)
    assert one.guesses == 1 and (speculation.proposed, speculation.accepted) == (17, 7)


def test_a_draft_model_with_another_tokenizer_is_refused():
    other = small_model(layers=1)
    other.tokenizer = with_template("{{ messages }}")
    assert DraftModel(other, small_model()).model is other  # a template is no other tokenizer
    other.tokenizer = None
    with pytest.raises(LuhuoError, match="tokenizer"):
        Engine(small_model(), draft_model=other)
    with pytest.raises(LuhuoError, match="speculate"):
        Engine(small_model(), speculate="sometimes")  # type: ignore[arg-type]
