"""Shared fixtures: a quiet locale, and two small real stages for recipe tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ["LUHUO_LANG"] = "en"


@pytest.fixture
def small_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add the stages `write`, `join` and `fail` (tests/small_stages.py) to the list."""
    from luhuo import stages

    for name, cls in (("write", "WriteStage"), ("join", "JoinStage"), ("fail", "FailStage")):
        monkeypatch.setitem(stages.STAGES, name, stages.Entry(f"tests.small_stages:{cls}", name, name))


@pytest.fixture
def recipe_file(tmp_path: Path):
    """Write a recipe text to a file and return its path."""

    def write(text: str) -> Path:
        path = tmp_path / "recipe.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write
