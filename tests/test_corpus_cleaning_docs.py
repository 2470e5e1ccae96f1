"""What the pages on personal data, decontamination and instruction data show can be run as it stands there."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from luhuo.core.artifact import produce
from luhuo.dialogue.clean.reasons import REASONS
from luhuo.dialogue.instructions import wordings
from luhuo.stages import configured

DOCS = Path(__file__).parent.parent / "docs"
PAGES = ("corpus-privacy", "decontamination", "dialogue-cleaning")
ROW = {"instruction": "What is the capital of France?", "output": "Paris."}


def blocks(page: str, kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", (DOCS / f"{page}.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("lang", ["", ".zh"])
@pytest.mark.parametrize("page", PAGES)
def test_programs_of_the_pages_run(page: str, lang: str) -> None:
    for block in blocks(page + lang, "python"):
        exec(compile(block, page, "exec"), {})


@pytest.mark.parametrize("lang", ["", ".zh"])
def test_commands_of_the_page_on_instruction_data_run(
    lang: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("alpaca.jsonl", "chat.jsonl"):
        Path(name).write_text(json.dumps(ROW) + "\n", encoding="utf-8")
    Path("reviews.csv").write_text("review,stars\nI loved it,5\nBroken on arrival,1\n", encoding="utf-8")
    names = []
    for command in blocks(f"dialogue-cleaning{lang}", "bash"):
        _, name, *words = shlex.split(command)
        values = dict(word.split("=", 1) for word in words[: words.index("--out")])
        names.append(name)
        parsed = configured(name, {key: yaml.safe_load(value) for key, value in values.items()})
        if name != "difficulty":  # needs a model: tests/test_align_difficulty.py
            produce(name, parsed, tmp_path / name)
    assert names == ["clean-dialogue", "difficulty", "instructions"]
    assert len((tmp_path / "instructions/instructions.jsonl").read_text().splitlines()) >= 2
    recipe, templates = blocks(f"dialogue-cleaning{lang}", "yaml")
    for stage in yaml.safe_load(recipe)["stages"].values():
        configured(stage.pop("stage"), stage)
    Path("own.yaml").write_text(templates, encoding="utf-8")
    assert len(wordings.load("own.yaml").of("zh", inverted=True)) == 1


@pytest.mark.parametrize("lang", ["", ".zh"])
def test_every_reason_and_set_of_templates_is_on_the_page(lang: str) -> None:
    page = (DOCS / f"dialogue-cleaning{lang}.md").read_text(encoding="utf-8")
    assert [code for code in REASONS if f"`{code}`" not in page] == []
    assert [name for name in wordings.built_in() if f"`{name}`" not in page] == []
