"""What the page about metrics and tasks shows is true: its commands are understood, its examples run."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from luhuo.cli import parse_pairs
from luhuo.evaluation.tasks import catalogue
from luhuo.evaluation.tasks.show import described
from luhuo.stages import configured

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "docs" / "evaluation-metrics.md", ROOT / "docs" / "evaluation-metrics.zh.md"]
FLAGS = {"--tasks", "--data", "--chat", "--out", "--samples", "--limit"}


def blocks(page: Path, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def test_every_command_is_understood_and_both_languages_show_the_same() -> None:
    english, chinese = (
        [shlex.split(line) for block in blocks(page, "bash") for line in block.splitlines()] for page in PAGES
    )
    assert english == chinese
    for program, verb, *words in english:
        if verb == "evaluate":
            names = words[words.index("--tasks") + 1].split(",")
            assert [task.name for task in catalogue.expand(names)[0]] == names
            assert {word for word in words if word.startswith("--")} <= FLAGS
        elif program == "luhuo":
            configured(verb, parse_pairs(words[: words.index("--out")], "command line"))
        else:
            assert (program, Path(ROOT / words[-1]).is_file()) == ("pytest", True)


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_the_page_give_what_it_says(page: Path) -> None:
    (example,) = blocks(page, "python")
    space: dict[str, object] = {}
    for line in example.splitlines():
        code, _, said = line.partition("#")
        if not said:
            exec(code, space)
            continue
        wanted = re.search(r"[\d.]+", said)
        assert wanted is not None
        assert eval(code, space) == pytest.approx(float(wanted[0]), abs=1e-3)


def test_every_task_of_the_page_is_there_and_can_be_shown() -> None:
    tables = [re.findall(r"^\| (`.*?) \|", page.read_text(encoding="utf-8"), re.M) for page in PAGES]
    named = [{name for cell in table for name in re.findall(r"`([a-z0-9_]+)`", cell)} for table in tables]
    assert named[0] == named[1]
    metrics = {"text", "rouge", "code", "reading", "retrieval", "calibration", "significance", "option_bias"}
    for name in named[0] - metrics:
        found = catalogue.find(name)
        if isinstance(found, catalogue.Task):
            assert found.spec.metrics[0] in described(found, None, None)
