"""The examples of the documentation run as they stand there."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from luhuo import sandbox
from luhuo.align.rewards import Rewards, parse_rewards

DOCS = Path(__file__).parents[1] / "docs"


def blocks(name: str, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", (DOCS / name).read_text(encoding="utf-8"), re.S)


@pytest.mark.parametrize("name", ["rewards.md", "rewards.zh.md"])
def test_the_rewards_of_the_page_are_read_and_every_kind_is_in_its_table(name: str, tmp_path: Path) -> None:
    (text,) = blocks(name, "yaml")
    assert len(parse_rewards(yaml.safe_load(text)["rewards"])) == 4
    source = (DOCS.parent / "src/luhuo/align/rewards/config.py").read_text(encoding="utf-8")
    kinds = re.findall(r'kind: Literal\["(\w+)"\]', source)
    listed = re.findall(r"^\| `(\w+)` \|", (DOCS / name).read_text(encoding="utf-8"), re.M)
    assert sorted(kinds) == sorted(listed)
    (function,) = blocks(name, "python")
    (tmp_path / "mine.py").write_text(function, encoding="utf-8")
    rewards = Rewards(parse_rewards([{"kind": "function", "file": str(tmp_path / "mine.py")}]))
    assert rewards.score({"keywords": ["a", "b"]}, "a") == 0.5
    assert rewards.score({}, "a") is None


@pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")
@pytest.mark.parametrize("name", ["sandbox.md", "sandbox.zh.md"])
def test_the_sandboxs_example_runs_and_its_rows_are_its_cases(name: str) -> None:
    (text,) = blocks(name, "python")
    space: dict[str, Any] = {}
    exec(text, space)
    assert space["done"].stdout == "火炉\n" and space["report"].share == 1.0
    rows = re.findall(r"^\| `((?:Call|Program).*?)` \| `(\{.*?\})` \|", (DOCS / name).read_text("utf-8"), re.M)
    assert len(rows) == 4
    for case, row in rows:
        assert eval(case, vars(sandbox).copy()) == sandbox.read_case(yaml.safe_load(row))
