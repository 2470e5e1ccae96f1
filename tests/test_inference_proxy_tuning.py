"""Proxy-tuning: the engine writes from large + alpha · (tuned − base), and everything else stays as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from luhuo.adapter.attach import attach
from luhuo.adapter.config import AdapterConfig
from luhuo.adapter.files import save as save_adapter
from luhuo.adapter.open import open_decoder, open_model
from luhuo.adapter.proxy_files import CONFIG, write_proxy
from luhuo.adapter.proxy_tuning import ProxyTuned
from luhuo.core.artifact import produce
from luhuo.core.errors import LuhuoError
from luhuo.inference import sampler
from luhuo.inference.engine import Engine
from luhuo.inference.request import Request
from luhuo.inference.sampling import Sampling
from luhuo.model.decoder import Decoder
from luhuo.model.save import save
from luhuo.serve.complete import run_complete
from luhuo.stages import configured
from tests.small_chat import random_prompts, small_model, with_template

GREEDY = Sampling(max_tokens=16, temperature=0)
DRAWN = Sampling(
    max_tokens=16, seed=5, temperature=0.8, top_p=0.9, top_k=40, repetition_penalty=1.2, logit_bias={40: 3.0}
)


def small_pair() -> tuple[Decoder, Decoder]:
    """A smaller model than the large one, after and before a change that stands for its tuning."""
    base, tuned = (small_model(hidden_size=32, layers=1, kv_heads=4, head_dim=8) for _ in range(2))
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return tuned, base


def three(alpha: float = 1.0) -> ProxyTuned:
    return ProxyTuned(small_model(), *small_pair(), alpha)


def padded(model: Decoder, rows: int) -> Decoder:
    """The same model, its tables with more rows than the tokenizer has tokens."""
    grown = Decoder(model.config.model_copy(update={"vocab_size": model.config.vocab_size + rows})).eval()
    with torch.no_grad():
        for name, parameter in grown.named_parameters():
            old = model.get_parameter(name)
            parameter.fill_(1.0)[: len(old)] = old
    grown.tokenizer = model.tokenizer
    return grown


def by_hand(model: ProxyTuned, prompt: list[int], sampling: Sampling) -> list[int]:
    """The same answer from full passes of the three models, one row, without any cache."""
    large, tuned, base = model._decoders()
    request = Request(prompt, sampling, model.tokenizer, 200)
    ends = set(model.config.stop_ids) | model.tokenizer.stop_ids  # type: ignore[union-attr]
    while not request.finish_reason:
        ids = torch.tensor([[*prompt, *request.tokens]])
        logits: Tensor = large(ids)[:, -1] + model.alpha * (tuned(ids)[:, -1] - base(ids)[:, -1])
        request.push(sampler.next_tokens([request], logits, ends)[0], ends)
    return request.tokens


@torch.no_grad()
@pytest.mark.parametrize("sampling", [GREEDY, DRAWN], ids=["greedy", "drawn"])
@pytest.mark.parametrize("alpha", [1.0, -0.5])
def test_answers_are_those_of_full_passes_alone_and_in_a_busy_batch(sampling: Sampling, alpha: float):
    model = three(alpha)
    prompts = random_prompts(10)
    expected = [by_hand(model, prompt, sampling) for prompt in prompts]
    busy = Engine(model, max_batch=4, step_tokens=48)
    assert [out.token_ids for out in busy.generate(prompts, sampling)] == expected
    assert [busy.generate([prompt], sampling)[0].token_ids for prompt in prompts[:4]] == expected[:4]


def test_what_the_prefix_cache_kept_gives_the_same_answer():
    model = three()
    prompt = [20 + i % 200 for i in range(100)]
    plain = Engine(model, prefix_cache=False).generate([prompt], DRAWN)[0]
    engine = Engine(model)
    first, second = (engine.generate([prompt], DRAWN)[0] for _ in range(2))
    assert first.token_ids == second.token_ids == plain.token_ids
    assert engine.scheduler.pool.prefix is not None and engine.scheduler.pool.prefix.found == 99  # all but one


def test_a_tight_cache_and_guesses_change_nothing():
    model, prompts = three(), random_prompts(12)
    expected = [out.token_ids for out in Engine(model, speculate="never").generate(prompts, GREEDY)]
    tight = Engine(model, cache_tokens=260, max_batch=8)
    assert [out.token_ids for out in tight.generate(prompts, GREEDY)] == expected
    guessing = Engine(model, speculate="always", draft_model=small_pair()[0])
    assert [out.token_ids for out in guessing.generate(prompts, GREEDY)] == expected


def test_a_cache_in_int8_holds_the_layers_of_all_three():
    model = three()
    exact, rounded = (Engine(model, cache_dtype=kind) for kind in ("fp32", "int8"))
    prompts, one = random_prompts(4), Sampling(max_tokens=1, temperature=0, logprobs=1)
    for a, b in zip(exact.generate(prompts, one), rounded.generate(prompts, one), strict=True):
        assert a.logprobs is not None and b.logprobs is not None
        assert a.logprobs[0] == pytest.approx(b.logprobs[0], abs=0.2)


@pytest.mark.parametrize("sampling", [GREEDY, DRAWN], ids=["greedy", "drawn"])
def test_alpha_0_is_the_large_model_alone(sampling: Sampling):
    prompts = random_prompts(10)
    alone = Engine(small_model(), speculate="never").generate(prompts, sampling)
    mixed = Engine(three(0.0), speculate="never").generate(prompts, sampling)
    assert [out.token_ids for out in mixed] == [out.token_ids for out in alone]


@torch.no_grad()
def test_alpha_1_over_the_base_itself_is_the_tuned_model_to_the_last_bit():
    tuned, base = small_pair()
    ids = torch.tensor(random_prompts(1))
    assert torch.equal(ProxyTuned(base, tuned, base)(ids), tuned(ids))


@torch.no_grad()
def test_scores_and_beams_use_the_combined_logits():
    model = three()
    engine = Engine(model)
    prompt, answer = [30, 31, 32], [40, 41]
    logits = model(torch.tensor([prompt + answer])).log_softmax(-1)[0]
    expected = float(logits[2, 40] + logits[3, 41])
    assert engine.loglikelihood([(prompt, answer)])[0][0] == pytest.approx(expected, abs=1e-4)
    best = engine.generate([prompt], Sampling(max_tokens=4, beams=3, temperature=0, ignore_eos=True))[0]
    assert best.score is not None
    greedy = engine.generate([prompt], Sampling(max_tokens=4, temperature=0, ignore_eos=True))[0]
    assert best.score * 4 >= engine.loglikelihood([(prompt, greedy.token_ids)])[0][0] - 1e-4
    given = engine.generate([prompt + answer], Sampling(max_tokens=1, temperature=0, prompt_logprobs=0))[0]
    assert given.prompt_logprobs is not None and given.prompt_logprobs[-1] is not None
    assert given.prompt_logprobs[-1][0] == pytest.approx(float(logits[3, 41]), abs=1e-4)


@torch.no_grad()
def test_rows_that_only_pad_a_table_have_no_logits():
    tuned, base = small_pair()
    ids = torch.tensor([[30, 31]])
    expected = ProxyTuned(small_model(), tuned, base)(ids)
    found = ProxyTuned(padded(small_model(), 10), tuned, padded(base, 4))(ids)
    torch.testing.assert_close(found, expected)


def test_another_vocabulary_is_refused_with_the_token_that_differs():
    tuned, base = small_pair()
    other = with_template(None)
    text = json.loads(other._core.to_str())
    vocab = text["model"]["vocab"]
    first, second = (next(k for k, v in vocab.items() if v == n) for n in (50, 51))
    vocab[first], vocab[second] = 51, 50
    base.tokenizer = type(other)(type(other._core).from_str(json.dumps(text)), other._config, None)
    with pytest.raises(LuhuoError, match=r"vocabulary(.|\n)*50 = (.|\n)*base: 50 = "):
        ProxyTuned(small_model(), tuned, base)
    bare = padded(small_model(), 10)
    bare.tokenizer = None
    with pytest.raises(LuhuoError, match=str(bare.config.vocab_size)):
        ProxyTuned(bare, tuned, base)


def test_models_that_do_not_go_together_are_refused():
    tuned, base = small_pair()
    with pytest.raises(LuhuoError, match="bfloat16"):
        ProxyTuned(small_model(), tuned, base.to(torch.bfloat16))
    nested = three()
    with pytest.raises(LuhuoError, match="put together"):
        ProxyTuned(nested, *small_pair())
    with pytest.raises(LuhuoError, match="not trained"):
        nested.train()


def test_weights_are_taken_over_from_another_of_the_same_kind():
    engine, other = Engine(three()), three()
    with torch.no_grad():
        other._decoders()[1].embedding.mul_(-1)
    prompts = random_prompts(3)
    expected = [out.token_ids for out in Engine(other).generate(prompts, GREEDY)]
    before = [out.token_ids for out in engine.generate(prompts, GREEDY)]
    engine.update_weights(other)
    assert [out.token_ids for out in engine.generate(prompts, GREEDY)] == expected != before


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """A large model, a small one, and the small one's tuning as an adapter, side by side."""
    _, base = small_pair()
    save(small_model(), tmp_path / "large")
    save(base, tmp_path / "small")
    attach(base, AdapterConfig(method="lora", rank=2), 0)
    with torch.no_grad():
        for name, parameter in base.named_parameters():
            if "lora" in name or parameter.requires_grad:
                parameter.add_(0.3)
    save_adapter(base, tmp_path / "tuned")
    values = json.loads((tmp_path / "tuned" / "adapter_config.json").read_text())
    (tmp_path / "tuned" / "adapter_config.json").write_text(
        json.dumps(values | {"base_model_name_or_path": "../small"})
    )
    return tmp_path


def test_the_stage_names_the_three_and_the_result_opens_like_a_model(
    folders: Path, capsys: pytest.CaptureFixture[str]
):
    names = {"model": "large", "tuned": "tuned", "base": "small"}
    stage = configured("proxy-tuning", {name: str(folders / folder) for name, folder in names.items()})
    done = produce("proxy-tuning", stage, folders / "steered")
    assert json.loads((done.path / CONFIG).read_text()) == {
        "model": "../large", "tuned": "../tuned", "base": "../small", "alpha": 1.0,
    }  # fmt: skip
    assert {record["field"] for record in done.manifest["inputs"]} == set(names)
    model = open_model(done.path)
    assert isinstance(model, ProxyTuned)
    large, tuned, base = (open_decoder(folders / folder) for folder in names.values())
    expected = ProxyTuned(large, tuned, base)
    ids = torch.tensor([[30, 31, 32]])
    assert torch.equal(model(ids), expected(ids))
    run_complete(str(done.path), "hello", {"max_tokens": 4, "temperature": 0}, echo=True, dtype="auto", device="cpu")
    assert capsys.readouterr().out.startswith("hello")
    moved = folders.rename(folders.with_name("moved"))
    assert torch.equal(open_decoder(moved / "steered")(ids), expected(ids))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model": 1, "tuned": "a", "base": "b", "alpha": 1}', "[" * 30_000])
def test_a_file_that_describes_nothing_is_refused(tmp_path: Path, text: str):
    (tmp_path / CONFIG).write_text(text)
    with pytest.raises(LuhuoError, match="proxy-tuned"):
        open_decoder(tmp_path)


@pytest.mark.parametrize("alpha", ["NaN", "Infinity", "true", '"1"', "null"])
def test_alpha_is_a_finite_number(tmp_path: Path, alpha: str):
    (tmp_path / CONFIG).write_text(f'{{"model": "a", "tuned": "b", "base": "c", "alpha": {alpha}}}')
    with pytest.raises(LuhuoError, match="alpha"):
        open_decoder(tmp_path)


def test_a_directory_that_names_itself_is_refused(tmp_path: Path):
    write_proxy(tmp_path, dict.fromkeys(("model", "tuned", "base"), str(tmp_path)), 1.0)
    with pytest.raises(LuhuoError, match="another one"):
        open_decoder(tmp_path)
