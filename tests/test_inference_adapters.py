"""LoRA adapters by name: each answer is that of the merged model, whatever else is in the batch or was cached."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from luhuo.adapter.attach import attach, merge
from luhuo.adapter.config import AdapterConfig
from luhuo.adapter.files import load, save
from luhuo.core.errors import LuhuoError
from luhuo.inference.engine import Engine
from luhuo.inference.sampling import Sampling
from luhuo.kernels.native import library
from luhuo.model.config import MLAConfig
from luhuo.model.decoder import Decoder
from luhuo.model.quantised import quantise_model
from luhuo.tokenizer.tokenizer import Tokenizer
from tests.small_chat import random_prompts, small_model, with_template
from tests.test_inference_engine import differing

GREEDY = Sampling(max_tokens=16, temperature=0)
KINDS = {
    "red": {"rank": 4, "targets": ["all"]},
    "blue": {"rank": 3, "targets": ["q_proj", "v_proj", "down_proj"], "rslora": True},
    "green": {"rank": 2, "targets": ["gate_proj"], "layers": [1]},
    "gold": {"rank": 3, "method": "adalora", "targets": ["o_proj", "k_proj"]},
}


def made(folder: Path, number: int = 0, model: Decoder | None = None, **config) -> Path:
    """A saved adapter of a small model that changes what the model says."""
    model = model or small_model()
    adapter = attach(model, AdapterConfig(**config), seed=number)
    random = torch.Generator().manual_seed(number)
    with torch.no_grad():
        for parameter in adapter.own().values():
            parameter.copy_(torch.randn(parameter.shape, generator=random) * 0.35)
    save(model, folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("adapters")
    return {name: made(root / name, number, **config) for number, (name, config) in enumerate(KINDS.items())}


def merged(folder: Path) -> Decoder:
    model = small_model()
    load(model, folder)
    merge(model)
    return model.eval()


def loaded(folders: dict[str, Path], **options) -> Engine:
    engine = Engine(small_model(), **options)
    for name, folder in folders.items():
        engine.adapters.load(name, folder)
    return engine


def by_turns(count: int, names: Sequence[str | None]) -> list[str | None]:
    return [names[i % len(names)] for i in range(count)]


def check(engine: Engine, folders: dict[str, Path], prompts: list[list[int]], names: Sequence[str | None]) -> None:
    """Answers are those of the merged models, but where two tokens are equally good."""
    found = [out.token_ids for out in engine.generate(prompts, GREEDY, adapter=names)]
    for name in set(names):
        model = merged(folders[name]) if name else small_model()
        mine = [i for i, other in enumerate(names) if other == name]
        alone = Engine(model, max_batch=1, prefix_cache=False, speculate="never")
        expected = [alone.generate([prompts[i]], GREEDY)[0].token_ids for i in mine]
        assert differing(model, [prompts[i] for i in mine], [found[i] for i in mine], expected) <= 1, name


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {"max_batch": 12, "speculate": "never"},
        {"max_batch": 4, "step_tokens": 16},
        {"max_batch": 8, "speculate": "always"},
        {"max_batch": 8, "cache_tokens": 400},
        {"max_batch": 40, "prefix_cache": False},
    ],
)
def test_every_row_of_a_mixed_batch_is_answered_by_its_own_adapter(
    folders: dict[str, Path], options: dict, native: bool, monkeypatch: pytest.MonkeyPatch
):
    if not native:
        monkeypatch.setattr("luhuo.inference.decode_step.library", lambda: None)
    elif library() is None:
        pytest.skip("no compiled kernels")
    prompts = random_prompts(20)
    prompts += [prompts[0] * 8 + prompts[3]] * 5  # a long beginning that all have, and each computes for itself
    names = by_turns(25, [None, *KINDS])
    check(loaded(folders, **options), folders, prompts, names)


def test_adapters_change_the_answers(folders: dict[str, Path]):
    engine, prompts = loaded(folders), random_prompts(8)
    answers = [[out.token_ids for out in engine.generate(prompts, GREEDY, adapter=name)] for name in (None, *KINDS)]
    assert all(a != b for i, a in enumerate(answers) for b in answers[:i])


def test_seeded_samples_do_not_depend_on_what_else_runs(folders: dict[str, Path]):
    engine, prompts, wanted = loaded(folders), random_prompts(20), Sampling(max_tokens=12, seed=3)
    names = by_turns(20, [None, "red", "blue"])
    together = engine.generate(prompts, wanted, adapter=names)
    alone = [engine.generate([p], wanted, adapter=name)[0] for p, name in zip(prompts, names, strict=True)]
    assert [one.token_ids for one in together] == [one.token_ids for one in alone]


def test_what_one_adapter_cached_is_found_by_itself_only(folders: dict[str, Path]):
    engine, prompt = loaded(folders), random_prompts(1, 60)[0] * 4
    for name in (None, "red", "blue"):
        for cached in (0, len(prompt) // 32 * 32):
            (request,) = engine.requests(prompt, GREEDY, name)
            engine.submit(request, lambda request: None)
            while not request.finish_reason:
                engine.step()
            assert (request.cached_tokens > 0) == (cached > 0), name


def test_an_adapter_of_an_old_name_does_not_find_what_the_old_one_cached(folders: dict[str, Path]):
    engine, prompt = loaded({"red": folders["red"]}), random_prompts(1, 60)[0] * 4
    engine.generate([prompt], GREEDY, adapter="red")
    pool = engine.scheduler.pool
    assert pool.kept > 0
    engine.adapters.unload("red")
    assert pool.kept == 0
    engine.adapters.load("red", folders["blue"])
    check(engine, {"red": folders["blue"]}, [prompt], ["red"])


def test_without_requests_for_adapters_the_model_is_as_it_was(folders: dict[str, Path]):
    engine = loaded(folders)
    model = engine.model
    engine.generate(random_prompts(3), GREEDY, adapter="red")
    assert all(module._modules.get("adapter") is None for module in model.modules())
    assert model.state_dict().keys() == small_model().state_dict().keys()
    check(engine, folders, random_prompts(4), [None] * 4)


def test_slots_are_used_again_and_the_others_stay_what_they_are(folders: dict[str, Path]):
    engine, prompts = loaded(folders), random_prompts(6)
    before = [out.token_ids for out in engine.generate(prompts, GREEDY, adapter="gold")]
    engine.adapters.unload("red")
    engine.adapters.unload("green")
    assert [out.token_ids for out in engine.generate(prompts, GREEDY, adapter="gold")] == before
    engine.adapters.load("new", folders["green"])
    assert [one.slot for one in engine.adapters] == [2, 4, 1]
    check(engine, folders | {"new": folders["green"]}, prompts, by_turns(6, ["new", "gold", "blue"]))
    for name in ("blue", "gold", "new"):
        engine.adapters.unload(name)
    assert len(engine.adapters) == 0
    check(engine, folders, prompts, [None] * 6)


def test_an_adapter_in_use_is_not_unloaded(folders: dict[str, Path]):
    engine = loaded({"red": folders["red"]})
    (request,) = engine.requests(random_prompts(1)[0], GREEDY, "red")
    engine.submit(request, lambda request: None)
    for _ in range(3):
        with pytest.raises(LuhuoError, match="in use"):
            engine.adapters.unload("red")
        engine.step()
    engine.cancel(request)
    engine.step()
    engine.adapters.unload("red")


def test_a_request_whose_adapter_has_gone_is_told_so(folders: dict[str, Path]):
    engine = loaded({"red": folders["red"]})
    (request,) = engine.requests(random_prompts(1)[0], GREEDY, "red")
    engine.adapters.unload("red")
    engine.submit(request, lambda request: None)
    engine.step()
    assert request.finish_reason == "error" and "red" in (request.error or "")
    with pytest.raises(LuhuoError, match="no adapter of this name"):
        engine.requests([1, 2], GREEDY, "red")


def test_loading_while_others_generate_changes_none_of_their_answers(folders: dict[str, Path]):
    engine, prompts = loaded({"red": folders["red"]}, max_batch=4), random_prompts(24)
    names = by_turns(24, [None, "red"])
    expected = [out.token_ids for out in engine.generate(prompts, GREEDY, adapter=names)]
    stop = threading.Event()

    def shuffle() -> None:
        while not stop.is_set():
            engine.adapters.load("blue", folders["blue"])
            engine.adapters.unload("blue")

    thread = threading.Thread(target=shuffle)
    thread.start()
    try:
        for _ in range(3):
            assert [out.token_ids for out in engine.generate(prompts, GREEDY, adapter=names)] == expected
    finally:
        stop.set()
        thread.join()


def test_scores_beams_and_log_probabilities_of_prompts_are_the_adapters(folders: dict[str, Path]):
    engine, alone = loaded(folders), Engine(merged(folders["red"]))
    pairs = [([30, 31, 32], [40, 41]), ([33], [50, 51, 52])]
    for (ours, ours_best), (theirs, theirs_best) in zip(
        engine.loglikelihood(pairs, adapter="red"), alone.loglikelihood(pairs), strict=True
    ):
        assert ours == pytest.approx(theirs, abs=1e-3) and ours_best == theirs_best
    beams = Sampling(max_tokens=6, beams=3)
    assert engine.generate([[30, 31]], beams, "red")[0].token_ids == alone.generate([[30, 31]], beams)[0].token_ids
    wanted = GREEDY.model_copy(update={"prompt_logprobs": 2})
    ours, theirs = (e.generate([[30, 31, 32]], wanted, a)[0] for e, a in ((engine, "red"), (alone, None)))
    assert ours.prompt_logprobs is not None and theirs.prompt_logprobs is not None
    for one, other in zip(ours.prompt_logprobs[1:], theirs.prompt_logprobs[1:], strict=True):
        assert one is not None and other is not None and one[0] == pytest.approx(other[0], abs=1e-3)


@pytest.mark.parametrize("scheme", ["bf16", "int8", "int4"])
def test_weights_kept_in_fewer_bits_take_adapters_too(folders: dict[str, Path], scheme: str):
    model, attached, prompts = small_model(), small_model(), random_prompts(24)
    for one in (model, attached):
        if scheme == "bf16":
            one.bfloat16()
        else:
            quantise_model(one, scheme)
    load(attached, folders["red"])
    engine = Engine(model)
    engine.adapters.load("red", folders["red"])
    found = engine.generate(prompts * 2, GREEDY, adapter=["red"] * 24 + [None] * 24)
    alone = [Engine(attached).generate(prompts, GREEDY), engine.generate(prompts, GREEDY)]
    for ours, theirs in zip((found[:24], found[24:]), alone, strict=True):
        # Activations are rounded to bf16 in front of matrices, so near-ties fall differently.
        same = [a.token_ids[:6] == b.token_ids[:6] for a, b in zip(ours, theirs, strict=True)]
        assert sum(same) >= 18


def test_a_tokenizer_with_another_template_and_other_ends_is_the_adapters(folders: dict[str, Path], tmp_path: Path):
    folder = made(tmp_path / "chat", 7, rank=2, targets=["all"])
    with_template("{% for m in messages %}[{{ m.content }}]{% endfor %}").save(folder)
    engine = loaded({"red": folders["red"], "chat": folder})
    theirs, messages = Tokenizer.load(folder), [{"role": "user", "content": "hello"}]
    assert engine.chat(messages, GREEDY, adapter="red").prompt_tokens != len(theirs.encode("[hello]"))
    assert engine.chat(messages, GREEDY, adapter="chat").prompt_tokens == len(theirs.encode("[hello]"))


def test_what_cannot_share_a_batch_is_refused_with_what_to_do(tmp_path: Path):
    engine = Engine(small_model())
    made(tmp_path / "ia3", method="ia3")
    made(tmp_path / "prompt", method="prompt", tokens=4)
    made(tmp_path / "whole", rank=2, train=["embed_tokens"])
    for name in ("ia3", "prompt", "whole"):
        with pytest.raises(LuhuoError, match="cannot share a batch") as caught:
            engine.adapters.load(name, tmp_path / name)
        assert "alone" in str(caught.value)
    with pytest.raises(LuhuoError, match="no adapter here"):
        engine.adapters.load("nothing", tmp_path)
    with pytest.raises(LuhuoError, match="does not fit"):
        engine.adapters.load("wide", made(tmp_path / "wide", model=small_model(hidden_size=32), rank=2))
    file = made(tmp_path / "huge", rank=2) / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"r": 4096}))
    with pytest.raises(LuhuoError, match="rank is larger"):
        engine.adapters.load("huge", tmp_path / "huge")
    assert len(engine.adapters) == 0


def test_an_adapter_of_other_weights_is_refused(folders: dict[str, Path], tmp_path: Path):
    from luhuo.model.save import save as save_model

    save_model(small_model(), tmp_path / "one")
    save_model(small_model(opinionated=False), tmp_path / "other")
    model = small_model()
    attach(model, AdapterConfig(rank=2)).base = str(tmp_path / "one")
    save(model, tmp_path / "adapter")
    engine = Engine(small_model())
    engine.adapters.load("mine", tmp_path / "adapter", base=str(tmp_path / "one"))
    with pytest.raises(LuhuoError, match="another model"):
        engine.adapters.load("theirs", tmp_path / "adapter", base=str(tmp_path / "other"))
    with pytest.raises(LuhuoError, match="already"):
        engine.adapters.load("mine", tmp_path / "adapter")


def test_latent_attention_takes_adapters_of_all_but_what_it_folds_into_queries(tmp_path: Path):
    shape = {"heads": 4, "kv_heads": 4, "head_dim": 12, "qk_norm": "none", "family": "deepseek_v3"}
    shape["mla"] = MLAConfig(q_rank=16, kv_rank=8, nope_dim=8, rope_dim=4, value_dim=6)
    fine = made(tmp_path / "fine", model=small_model(**shape), rank=2, targets=["q_a_proj", "o_proj", "down_proj"])
    bad = made(tmp_path / "bad", model=small_model(**shape), rank=2, targets=["kv_b_proj"])
    engine, alone = Engine(small_model(**shape)), small_model(**shape)
    engine.adapters.load("fine", fine)
    load(alone, fine)
    merge(alone)
    prompts = random_prompts(6)
    found = [out.token_ids for out in engine.generate(prompts, GREEDY, adapter="fine")]
    expected = [out.token_ids for out in Engine(alone.eval()).generate(prompts, GREEDY)]
    assert differing(alone, prompts, found, expected) <= 1
    with pytest.raises(LuhuoError, match="cannot share a batch"):
        engine.adapters.load("bad", bad)
