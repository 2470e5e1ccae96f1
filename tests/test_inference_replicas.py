"""Copies of a model in other processes answer as one engine does."""

from __future__ import annotations

from pathlib import Path

import pytest

from luhuo.core.errors import LuhuoError, RunFailed
from luhuo.inference.engine import Engine
from luhuo.inference.replicas import Replicas
from luhuo.inference.sampling import Sampling
from luhuo.model.load import load
from luhuo.model.save import save
from tests.small_chat import random_prompts, small_model


def test_copies_give_the_answers_of_one_engine_in_order_and_say_when_they_die(tmp_path: Path):
    save(small_model(), tmp_path)
    prompts = ["hello", "你好", *random_prompts(7)]
    wanted = [
        Sampling(max_tokens=6, seed=i, n=1 + i % 2, logprobs=2, logit_bias={40: 1.0}, prompt_logprobs=1)
        for i in range(len(prompts))
    ]
    model = load(tmp_path, "fp32", "cpu")
    expected = Engine(model).generate(prompts, wanted)
    with Replicas(str(tmp_path), dtype="fp32", max_batch=4) as replicas:
        found = replicas.generate(prompts, wanted)
        for ours, theirs in zip(found, expected, strict=True):
            assert [choice.token_ids for choice in ours.choices] == [choice.token_ids for choice in theirs.choices]
            assert [choice.text for choice in ours.choices] == [choice.text for choice in theirs.choices]
            assert ours.top_logprobs is not None and theirs.top_logprobs is not None
            assert list(ours.top_logprobs[0]) == list(theirs.top_logprobs[0])
            assert ours.prompt_logprobs is not None and len(ours.prompt_logprobs) == ours.prompt_tokens
        with pytest.raises(LuhuoError, match="context"):
            replicas.generate([[30] * 300])
        assert len(replicas.generate(["again"], Sampling(max_tokens=2))) == 1
        for process in replicas._processes:
            process.kill()
        with pytest.raises(RunFailed, match="died"):
            replicas.generate(["hello"])


def test_a_model_that_cannot_be_loaded_is_refused(tmp_path: Path):
    with pytest.raises(LuhuoError):
        Replicas(str(tmp_path / "nothing"), devices=["cpu"])
