"""The copybook: lines that only their earlier copy predicts, of the words of their own split."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from luhuo.core.artifact import produce
from luhuo.world.stages import WorldStage


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    stage = WorldStage.parse(
        {
            "megabytes": 0.2,
            "copybook_megabytes": 0.1,
            "dialogues": 100,
            "test_per_family": 2,
            "preferences": 10,
            "prompts": 10,
        }
    )
    return produce("world", stage, tmp_path_factory.mktemp("world") / "w").path


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_line_of_a_page_stands_there_at_least_twice(world: Path):
    for row in rows(world / "copybook" / "train.jsonl"):
        lines = Counter(
            line.strip() for line in re.split("\n|(?<=。)|(?<=[.]) (?=[A-Z])", row["text"]) if line.strip()
        )
        assert min(lines.values()) >= 2, row["text"]


def test_half_of_the_pages_are_records_that_return_in_another_order(world: Path):
    texts = [row["text"].split("\n") for row in rows(world / "copybook" / "train.jsonl")]
    repeated = sum(len(set(lines)) == 1 for lines in texts)
    assert 0.35 < repeated / len(texts) < 0.65


def test_it_has_the_size_asked_for_and_both_languages(world: Path):
    text = "".join(row["text"] for row in rows(world / "copybook" / "train.jsonl"))
    assert 0.1e6 <= len(text.encode()) < 0.11e6
    han = sum("\u4e00" <= c <= "\u9fff" for c in text)
    assert 0.2 < 3 * han / len(text.encode()) < 0.8


def test_names_of_test_people_do_not_occur_in_the_train_copybook(world: Path):
    text = "".join(row["text"] for row in rows(world / "copybook" / "train.jsonl"))
    held_out = {name for row in rows(world / "pages" / "test.jsonl") for name in row["entities"] if len(name) > 3}
    assert held_out
    assert not [name for name in held_out if name in text]
