"""A model that several processes share says what it says in one: same tokens, texts and reasons, in any batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from luhuo.core.errors import LuhuoError
from luhuo.inference.engine import Engine
from luhuo.inference.lockstep import FIRST, Lockstep
from luhuo.inference.sampling import Sampling
from luhuo.model.config import MLAConfig
from luhuo.model.decoder import Decoder
from luhuo.train.parallel import spread
from luhuo.train.parallel_config import Parallel
from tests.parallel_cases import together
from tests.small_chat import random_prompts, small_model

LATENT: dict[str, Any] = {"heads": 4, "kv_heads": 4, "head_dim": 12, "qk_norm": "none", "family": "deepseek_v3"}
MODELS: dict[str, dict[str, Any]] = {
    "grouped": {},
    "one key head": {"kv_heads": 1},
    "latent": LATENT | {"mla": MLAConfig(q_rank=16, kv_rank=8, nope_dim=8, rope_dim=4, value_dim=6)},
    "heads that do not divide": {"heads": 3, "kv_heads": 3, "intermediate_size": 90},
}
WAYS: dict[str, dict[str, Any]] = {
    "plain": {"max_batch": 8},
    "in small chunks": {"max_batch": 5, "step_tokens": 16, "prefix_cache": False},
    "with little memory": {"max_batch": 8, "cache_tokens": 400},
    "guessing": {"max_batch": 8, "speculate": "always"},
}


CASES = [("grouped", way) for way in WAYS] + [(kind, "plain") for kind in MODELS if kind != "grouped"]


def prompts() -> list[list[int]]:
    found = random_prompts(14)
    return [*found, *([found[0] * 6 + [40 + i] for i in range(4)])]


def settings() -> list[Sampling]:
    """Greedy and drawn, with what only the first process knows: stop strings, formats, penalties, several answers."""
    kinds = [
        Sampling(max_tokens=60, temperature=0, ignore_eos=True),
        Sampling(max_tokens=12, seed=3, temperature=0.8, top_p=0.9),
        Sampling(max_tokens=12, seed=4, repetition_penalty=1.3, min_tokens=3),
        Sampling(max_tokens=20, seed=5, stop=("a", "e", "h")),
        Sampling(max_tokens=9, seed=6, n=2, logprobs=1),
    ]
    return [kinds[i % len(kinds)] for i in range(18)]


def answered(engine: Engine) -> list[Any]:
    outs = engine.generate(prompts(), settings())
    cancelled = engine.requests([30, 31], Sampling(max_tokens=50, temperature=0))[0]
    engine.submit(cancelled, lambda request: None)
    for _ in range(4):
        engine.step()
    engine.cancel(cancelled)
    last = engine.generate([prompts()[0]], settings()[0])
    return [
        [[c.token_ids, c.text, c.finish_reason] for out in (*outs, *last) for c in out.choices],
        [cancelled.tokens, cancelled.finish_reason],
    ]


def run(rank: int, folder: Path) -> None:
    for kind, way in CASES:
        model = spread(small_model(**MODELS[kind]), Parallel(tp=2))
        assert isinstance(model, Decoder)
        lockstep = Lockstep()
        engine = Engine(model, lockstep=lockstep, **WAYS[way])
        if not lockstep.leads:
            lockstep.follow(engine.scheduler)
            assert engine.idle and engine.scheduler.preemptions == lockstep.share(None)
            continue
        heads = engine.scheduler.pool.cache.keys[0].shape[1]
        found = answered(engine)
        lockstep.end()
        lockstep.share(engine.scheduler.preemptions)
        told = {"answers": found, "heads": heads, "preemptions": engine.scheduler.preemptions}
        (folder / f"{kind} {way}.json").write_text(json.dumps(told))


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("answers")
    together(2, run, folder)
    return folder


@pytest.mark.parametrize(("kind", "way"), CASES)
def test_two_processes_say_what_one_says(answers: Path, kind: str, way: str):
    found = json.loads((answers / f"{kind} {way}.json").read_text())
    assert found["answers"] == answered(Engine(small_model(**MODELS[kind]), **WAYS[way]))
    assert (found["preemptions"] > 0) == (way == "with little memory")


def test_each_process_keeps_its_own_heads_only(answers: Path):
    heads = {kind: json.loads((answers / f"{kind} plain.json").read_text())["heads"] for kind in MODELS}
    assert heads == {"grouped": 1, "one key head": 1, "latent": 1, "heads that do not divide": 3}


def edges(rank: int, folder: Path) -> None:
    """Long messages, what is refused, and what happens when the first process's step fails."""
    lockstep = Lockstep()
    texts = ["", "é" * 10, "x" * (FIRST - 2), "x" * (FIRST - 1), "y" * (3 * FIRST)]
    assert [lockstep.share(text if lockstep.leads else None) for text in texts] == texts
    engine = Engine(spread(small_model(), Parallel(tp=2)), lockstep=lockstep)
    if not lockstep.leads:
        lockstep.follow(engine.scheduler)
        return
    for refused in (
        lambda: engine.loglikelihood([([1], [2])]),
        lambda: engine.embed(["x"]),
        lambda: engine.generate([[1, 2]], Sampling(beams=2)),
        lambda: engine.requests([1, 2], Sampling(prompt_logprobs=1)),
        lambda: engine.update_weights(small_model()),
        lambda: engine.adapters.load("red", folder),
    ):
        with pytest.raises(LuhuoError, match="several processes"):
            refused()
    lockstep.end()
    engine.scheduler.clear()  # what the engine does when a step fails
    with pytest.raises(LuhuoError, match="lost one another"):
        engine.generate([[1, 2]], Sampling(max_tokens=2))


def test_messages_have_any_length_and_what_one_process_cannot_do_alone_is_refused(tmp_path: Path):
    together(2, edges, tmp_path)
