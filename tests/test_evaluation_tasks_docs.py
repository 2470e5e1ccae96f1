"""What docs/evaluation.md shows is what the commands take."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from luhuo.evaluation.stages import EvaluateStage
from luhuo.evaluation.tasks import catalogue
from luhuo.evaluation.tasks.functions import NAMES
from luhuo.evaluation.tasks.spec import TaskSpec
from luhuo.evaluation_commands import stage_pairs

PAGES = [Path(__file__).parent.parent / "docs" / name for name in ("evaluation.md", "evaluation.zh.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_task_file_of_the_page_is_one(page: Path) -> None:
    blocks = re.findall(r"```yaml\n(task: .*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        assert TaskSpec.parse(yaml.safe_load(block)).task == "my_quiz"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_page_names_tasks_and_functions_that_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    shown = set(re.findall(r"^\| `(\w+)\(", text, re.MULTILINE)) | set(re.findall(r"`(\w+)\(document\)", text))
    assert shown == set(NAMES)
    listed = re.search(r"(?:Built in by likelihood|内置的按似然任务)(.*?)(?:docs/evaluation-metrics)", text, re.DOTALL)
    assert listed is not None
    for name in re.findall(r"`(\w+)`", listed[1]):
        assert catalogue.task(name).name == name


def test_the_command_of_the_page_becomes_fields_of_the_stage() -> None:
    pairs = stage_pairs(["hf:a/b"], ["arc_easy,gsm8k"], ["arc_easy=ARC"], {"limit": 500}, {"seed": 1})
    values = {key: yaml.safe_load(value) for key, _, value in (pair.partition("=") for pair in pairs)}
    stage = EvaluateStage.parse(values)
    assert (stage.model, stage.tasks, stage.data, stage.seed) == (
        "hf:a/b",
        ["arc_easy", "gsm8k"],
        {"arc_easy": "ARC"},
        1,
    )
    assert stage.ask.limit == 500
