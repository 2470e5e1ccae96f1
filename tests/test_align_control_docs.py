"""What the pages about control, proxy-tuning and AI feedback show is true, in both languages."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from luhuo.align.ai_feedback.constitution import read_constitution
from luhuo.cli import parse_pairs
from luhuo.recipe.schema import load_recipe
from luhuo.stages import configured

DOCS = Path(__file__).parent.parent / "docs"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.parametrize("name", ["controlled", "ai-feedback"])
def test_commands_and_recipes_are_understood_and_both_languages_show_the_same(name: str, tmp_path: Path):
    for language in ("bash", "yaml"):
        assert blocks(f"{name}.md", language) == blocks(f"{name}.zh.md", language) != []
    for block in blocks(f"{name}.md", "bash"):
        program, stage, *words = shlex.split(block)
        assert program == "luhuo"
        configured(stage, parse_pairs(words[: words.index("--out")], "command line"))
    for number, block in enumerate(blocks(f"{name}.md", "yaml")):
        file = tmp_path / f"{number}.yaml"
        file.write_text(block, encoding="utf-8")
        if block.startswith("principles"):
            assert read_constitution(str(file)).principles[0].words("zh").critique
            continue
        for values in load_recipe(file).stages.values():
            settings = dict(values)
            configured(settings.pop("stage"), settings)
