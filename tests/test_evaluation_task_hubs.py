"""Tasks whose data lie at a hub: fetched over HTTP from a local stand-in, read as from a folder, and kept."""

from __future__ import annotations

import pytest

from luhuo.core.errors import LuhuoError
from tests import evaluation_cases as cases
from tests.hub_cases import offered, set_apart
from tests.small_chat import small_model


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A stand-in hub with the quiz as a data set."""
    set_apart(monkeypatch, tmp_path / "cache")
    files = {f"quiz/{path.name}": path.read_bytes() for path in cases.data(tmp_path / "original").iterdir()}
    with offered(monkeypatch, {"datasets/owner/exams": files}) as hub:
        yield hub


@pytest.mark.parametrize("scheme", ["hf", "ms"])
def test_a_task_is_scored_on_a_hub_s_data_as_on_a_folder(served, scheme, tmp_path):
    reference = f"{scheme}:datasets/owner/exams/quiz"
    file = cases.task_file(tmp_path, data=cases.QUIZ["data"] | {"hub": reference})
    model = small_model()
    here = cases.run(model, file, tmp_path / "original/data")
    assert cases.run(model, file, None).rows == here.rows
    before = len(served.requests)
    assert cases.run(model, file, None).summary["metrics"] == here.summary["metrics"]
    assert not [path for _, path, _ in served.requests[before:] if path.endswith(".jsonl")]


def test_a_hub_without_the_data_set_is_one_clear_message(served, tmp_path):
    file = cases.task_file(tmp_path, data=cases.QUIZ["data"] | {"hub": "hf:datasets/owner/none"})
    with pytest.raises(LuhuoError, match="owner/none"):
        cases.run(small_model(), file, None)
