"""The engine: batching changes nothing, what comes out is what transformers gives, text never breaks."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from luhuo.core.errors import LuhuoError
from luhuo.inference.engine import Engine
from luhuo.inference.request import Request
from luhuo.inference.sampling import Sampling
from luhuo.model.decoder import Decoder
from luhuo.model.encoder import Encoder
from luhuo.model.encoder_config import EncoderConfig
from luhuo.model.encoder_decoder import generate_greedily
from luhuo.model.initialise_stack import initialise_stack
from luhuo.model.save import save
from tests.small_chat import random_prompts, small_model, small_tokenizer
from tests.test_model_encoder_decoder import model_of as encoder_decoder

GREEDY = Sampling(max_tokens=16, temperature=0)
QUESTION = [{"role": "user", "content": "你好"}]


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(small_model(), max_batch=8)


@pytest.mark.parametrize(
    "sampling",
    [
        GREEDY,
        Sampling(max_tokens=16, seed=5),
        Sampling(max_tokens=16, seed=5, temperature=0.7, top_p=0.9, top_k=50, repetition_penalty=1.3),
    ],
)
def test_a_busy_ragged_batch_gives_each_request_what_it_gets_alone(engine: Engine, sampling: Sampling):
    prompts = random_prompts(30)
    together = engine.generate(prompts, sampling)
    for prompt, out in zip(prompts, together, strict=True):
        assert engine.generate([prompt], sampling)[0].token_ids == out.token_ids


def test_requests_with_different_settings_and_lengths_share_a_batch(engine: Engine):
    prompts = random_prompts(24)
    settings = [
        Sampling(max_tokens=1 + i % 11, seed=i, temperature=i % 3 / 2, logprobs=i % 2 or None) for i in range(24)
    ]
    together = engine.generate(prompts, settings)
    for prompt, wanted, out in zip(prompts, settings, together, strict=True):
        alone = engine.generate([prompt], wanted)[0]
        assert alone.token_ids == out.token_ids and alone.finish_reason == out.finish_reason
        assert len(out.token_ids) <= wanted.max_tokens
        assert (out.logprobs is None) == (wanted.logprobs is None)


def test_a_small_cache_budget_changes_the_batch_and_not_the_result(engine: Engine):
    prompts = random_prompts(12)
    tight = Engine(engine.model, max_batch=8, cache_tokens=100)
    expected = [out.token_ids for out in engine.generate(prompts, GREEDY)]
    assert [out.token_ids for out in tight.generate(prompts, GREEDY)] == expected


def differing(model: Decoder, prompts: list[list[int]], found: list[list[int]], expected: list[list[int]]) -> int:
    """How many answers leave the expected one, which they may only where the two best logits are within 1e-4."""
    count = 0
    for prompt, ours, theirs in zip(prompts, found, expected, strict=True):
        if ours == theirs:
            continue
        place = next(i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b)
        with torch.no_grad():
            best = model(torch.tensor([prompt + theirs[:place]]))[0, -1].topk(2).values
        assert float(best[0] - best[1]) < 1e-4, f"answer {ours} to {prompt} should be {theirs}"
        count += 1
    return count


@pytest.mark.parametrize("count", [24, pytest.param(200, marks=pytest.mark.slow)])
def test_greedy_tokens_equal_those_of_transformers_in_every_way_to_run(engine: Engine, tmp_path: Path, count: int):
    from transformers import AutoModelForCausalLM

    save(engine.model, tmp_path)
    theirs: Any = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    start, prompts = random_prompts(1, 60)[0] * 3, random_prompts(count)
    prompts = [start + prompt if i % 4 == 0 else prompt for i, prompt in enumerate(prompts)]
    expected: list[list[int]] = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        with torch.no_grad():
            out = theirs.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=16, do_sample=False)
        expected.append(out[0, len(prompt) :].tolist())
    model = engine.model
    assert isinstance(model, Decoder)
    ways = {
        "alone": Engine(model, max_batch=1, prefix_cache=False, speculate="never"),
        "together": Engine(model, max_batch=32, prefix_cache=False),
        "with the prefix cache": Engine(model, max_batch=8),
        "in small chunks": Engine(model, max_batch=8, step_tokens=16),
        "guessing": Engine(model, max_batch=8, speculate="always"),
        "with little memory": Engine(model, max_batch=16, cache_tokens=400),
    }
    for name, way in ways.items():
        found = [out.token_ids for out in way.generate(prompts, GREEDY)]
        assert differing(model, prompts, found, expected) <= 2, name
    assert ways["with little memory"].scheduler.preemptions > 0


def test_log_probabilities_are_those_of_the_model(engine: Engine):
    prompt = random_prompts(3)[2]
    out = engine.generate([prompt], GREEDY.model_copy(update={"logprobs": 3}))[0]
    with torch.no_grad():
        logits = engine.model(torch.tensor([prompt + out.token_ids]))[0, len(prompt) - 1 : -1]
    scores = logits.log_softmax(-1)
    assert out.logprobs is not None and out.top_logprobs is not None
    expected = scores[range(len(out.token_ids)), out.token_ids]
    torch.testing.assert_close(torch.tensor(out.logprobs), expected, atol=1e-4, rtol=1e-4)
    for best, row, token in zip(out.top_logprobs, scores, out.token_ids, strict=True):
        assert list(best) == row.topk(3).indices.tolist() and token in best
    assert engine.loglikelihood([(prompt, out.token_ids)])[0] == (pytest.approx(sum(out.logprobs), abs=1e-3), True)


def test_log_likelihood_of_texts_is_the_same_alone_and_together(engine: Engine):
    pairs = [("hello ", "world"), ("你好", "，世界"), ("", "the answer"), ("how are you ", "today today")]
    together = engine.loglikelihood(pairs)
    for pair, result in zip(pairs, together, strict=True):
        alone = engine.loglikelihood([pair])[0]
        assert result == (pytest.approx(alone[0], abs=1e-4), alone[1])
    ids = [small_tokenizer().encode("hello"), small_tokenizer().encode(" world")]
    assert engine.loglikelihood([(ids[0], ids[1])])[0][0] == pytest.approx(together[0][0], abs=1e-4)


def test_n_gives_different_answers_and_a_seed_gives_the_same_again(engine: Engine):
    sampling = Sampling(max_tokens=8, n=3, seed=1)
    first, second = (engine.generate(["hello"], sampling)[0] for _ in range(2))
    texts = [tuple(choice.token_ids) for choice in first.choices]
    assert len(set(texts)) == 3 and first.choices[0] is first
    assert texts == [tuple(choice.token_ids) for choice in second.choices]


def test_an_end_token_stops_and_is_reported_but_is_no_text(engine: Engine):
    prompt, tokenizer = random_prompts(1)[0], small_tokenizer()
    third = engine.generate([prompt], GREEDY)[0].token_ids[2]
    ending = Engine(engine.model)
    ending.end_tokens = frozenset({third})
    out = ending.generate([prompt], GREEDY)[0]
    assert out.finish_reason == "stop" and out.token_ids[-1] == third and third not in out.token_ids[:-1]
    assert out.text == tokenizer.decode(out.token_ids[:-1])
    on = ending.generate([prompt], GREEDY.model_copy(update={"ignore_eos": True}))[0]
    assert on.finish_reason == "length" and len(on.token_ids) == 16


def feed(text: str, stop: tuple[str, ...]) -> tuple[list[str], Request]:
    """The pieces that a stream gives out while the tokens of `text` arrive one by one."""
    tokenizer = small_tokenizer()
    request = Request([0], Sampling(stop=stop, max_tokens=200), tokenizer, 300)
    pieces = []
    for token in [*tokenizer.encode(text), tokenizer.end_of_turn_id]:
        request.push(token, frozenset({tokenizer.end_of_turn_id}))
        pieces.append(request.take_text())
        if request.finish_reason:
            break
    return pieces, request


@pytest.mark.parametrize(
    ("text", "stop", "expected"),
    [
        ("one\n\nUser: two", ("\n\nUser:",), "one"),
        ("答案是四十二。问：", ("。问",), "答案是四十二"),
        ("abcabd!", ("abd",), "abc"),
        ("xx STOP yy END", ("END", "STOP"), "xx "),
        ("no stop here", ("zzz",), "no stop here"),
        ("ends with st", ("stop",), "ends with st"),
    ],
)
def test_stop_strings_work_across_tokens_and_are_never_shown(text: str, stop: tuple[str, ...], expected: str):
    assert len(small_tokenizer().encode(stop[0])) > 1
    pieces, request = feed(text, stop)
    assert request.completion().text == expected == "".join(pieces)
    assert request.finish_reason == "stop"


def test_a_stream_never_gives_half_a_character():
    pieces, _ = feed("龘😀é天", ())
    assert "".join(pieces) == "龘😀é天"
    assert all("\ufffd" not in piece for piece in pieces)
    assert len([piece for piece in pieces if piece]) < len(pieces)


def test_streamed_text_and_tokens_are_those_of_generate(engine: Engine):
    for prompt in random_prompts(5):
        out = engine.generate([prompt], GREEDY)[0]
        chunks = list(engine.stream(prompt, GREEDY))
        assert "".join(chunk.text for chunk in chunks) == out.text
        assert [token for chunk in chunks for token in chunk.token_ids] == out.token_ids
        assert chunks[-1].finish_reason == out.finish_reason
        assert all(chunk.finish_reason is None for chunk in chunks[:-1])


def test_chat_answers_one_conversation_or_several_through_the_template(engine: Engine):
    prompt = f"<|im_start|>user\n{QUESTION[0]['content']}<|im_end|>\n<|im_start|>assistant\n"
    expected = engine.generate([small_tokenizer().encode(prompt, special=True)], GREEDY)[0]
    assert engine.chat(QUESTION, GREEDY).token_ids == expected.token_ids
    assert [out.token_ids for out in engine.chat([QUESTION] * 2, GREEDY)] == [expected.token_ids] * 2


def test_an_answer_ends_at_the_context_and_a_prompt_that_fills_it_is_refused(engine: Engine):
    out = engine.generate([[20] * 250], Sampling(max_tokens=100, temperature=0, ignore_eos=True))[0]
    assert len(out.token_ids) == 6 and out.finish_reason == "length"
    with pytest.raises(LuhuoError) as caught:
        engine.generate([[20] * 256], GREEDY)
    assert caught.value.found == 256 and "256" in str(caught.value.expected)


def test_foreign_token_ids_are_refused(engine: Engine):
    with pytest.raises(LuhuoError, match="vocabulary"):
        engine.generate([[99_999]], GREEDY)


def test_a_model_without_tokenizer_still_generates_from_ids():
    model = small_model()
    model.tokenizer = None
    out = Engine(model).generate([[5, 6, 7]], GREEDY)[0]
    assert len(out.token_ids) == 16 and out.text == ""
    with pytest.raises(LuhuoError, match="no tokenizer"):
        Engine(model).generate(["text"], GREEDY)


@pytest.mark.parametrize("name", ["t5", "tied", "bart"])
def test_an_encoder_decoder_answers_through_the_same_engine(name: str):
    model = encoder_decoder(name)
    chance = random.Random(1)
    prompts = [[chance.randrange(2, 53) for _ in range(chance.randrange(1, 20))] for _ in range(9)]
    expected = [generate_greedily(model, torch.tensor([prompt]), max_tokens=9)[0] for prompt in prompts]
    wanted = Sampling(max_tokens=9, temperature=0)
    ways: list[dict[str, Any]] = [{}, {"max_batch": 3}, {"cache_tokens": 70}, {"cache_dtype": "fp32"}]
    for options in ways:
        engine = Engine(model, **options)
        assert [out.token_ids for out in engine.generate(prompts, wanted)] == expected, options
    engine, drawn = Engine(model), Sampling(max_tokens=9, seed=4)
    together = [out.token_ids for out in engine.generate(prompts, drawn)]
    assert [engine.generate([prompt], drawn)[0].token_ids for prompt in prompts] == together
    with pytest.raises(LuhuoError, match="int8"):
        Engine(model, cache_dtype="int8")
    with pytest.raises(LuhuoError, match="decoders only"):
        engine.loglikelihood([([3], [4])])


def test_an_encoder_embeds_and_says_that_it_does_not_write():
    shape = {"hidden_size": 24, "layers": 2, "heads": 3, "head_dim": 8, "intermediate_size": 40, "max_positions": 64}
    config = EncoderConfig.parse({"vocab_size": small_tokenizer().vocab_size, **shape})
    model = initialise_stack(Encoder(config), 0).eval()
    model.tokenizer = small_tokenizer()
    engine = Engine(model)
    assert engine.idle and engine.embed(["hello", "你好"]).shape == (2, 24)
    with pytest.raises(LuhuoError, match="does not write"):
        engine.generate(["hello"])


def test_a_decoder_embeds_by_the_mean_of_its_states(engine: Engine):
    texts = ["hello world", "你好，世界", "the answer is 42"]
    found = engine.embed(texts)
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(3))
    with torch.no_grad():
        states = small_model().hidden(torch.tensor([small_tokenizer().encode(texts[1])]))[0]
    torch.testing.assert_close(found[1], F.normalize(states.mean(0), dim=0), atol=1e-5, rtol=1e-5)
    assert engine.embed([]).shape == (0, 64)


def test_unknown_formats_of_the_cache_are_refused():
    with pytest.raises(LuhuoError, match="number format"):
        Engine(small_model(), cache_dtype="int3")
