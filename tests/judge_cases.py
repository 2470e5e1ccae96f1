"""Judges, pairs and rubrics for the tests of judging."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from luhuo.core.artifact import Done, produce
from luhuo.evaluation.judges.config import JudgeConfig
from luhuo.evaluation.judges.pairwise import Pair
from luhuo.evaluation.judges.verdict import Shown
from luhuo.stages import configured
from tests.chat_endpoint import Messages, Says, chat_endpoint

DATA = os.environ.get("LUHUO_TEST_DATA")


needs_data = pytest.mark.skipif(not DATA, reason="LUHUO_TEST_DATA names no folder of benchmark data")


FOLDER = Path(DATA or "")


@contextmanager
def server(says: Says) -> Iterator[tuple[dict[str, Any], list[Messages]]]:
    """A judge behind an endpoint: (its configuration, the messages it was asked)."""
    with chat_endpoint(says) as (place, asked):
        yield {"name": "asked", "responder": {"endpoint": place | {"concurrency": 1}}}, asked


def verdict_rubric() -> str:
    from luhuo.evaluation.judges.rubric import BUNDLED

    return str(BUNDLED / "verdict.yaml")


def spoken(config: dict[str, Any]) -> JudgeConfig:
    """A judge that compares in words."""
    return JudgeConfig.parse(config | {"rubric": verdict_rubric()})


def pair(a: str, b: str, question: str = "Why?", name: str = "q") -> Pair:
    return Pair(name, "x", "y", Shown((question,), (a,), (b,)))


def shown_first(asked: str) -> str:
    found = re.search(r"\[Answer A\]\n(.*?)\n\n\[Answer B\]", asked, re.S)
    assert found
    return found[1]


def prefers(wanted: str) -> Says:
    """A judge who prefers the answer that holds a word."""
    return lambda messages: "[[A]]" if wanted in shown_first(messages[-1]["content"]) else "[[B]]"


# The stages


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def run(name: str, target: Path, **values: Any) -> Done:
    return produce(name, configured(name, values), target)


def read(done: Done, name: str) -> Any:
    return json.loads((done.path / name).read_text(encoding="utf-8"))


def answers(folder: Path, models: dict[str, str], count: int = 6) -> dict[str, str]:
    return {
        model: write(
            folder / f"{model}.jsonl",
            [
                {"id": i, "prompt": f"Q{i}?", "answer": f"{text} {i}", "category": ["maths", "prose"][i % 2]}
                for i in range(count)
            ],
        )
        for model, text in models.items()
    }
