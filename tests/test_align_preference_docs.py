"""What the pages about preferences show is true: commands and recipe are understood, both languages say the same."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from luhuo.align.preference_stages import CpoStage, DpoStage, KtoStage, OrpoStage, RrhfStage, SimpoStage
from luhuo.cli import parse_pairs
from luhuo.recipe.schema import load_recipe
from luhuo.stages import configured
from tests.docs_cases import unexplained

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "docs" / "preference.md", ROOT / "docs" / "preference.zh.md"]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def test_every_command_is_understood_and_both_languages_show_the_same() -> None:
    assert blocks(PAGES[0], "bash") == blocks(PAGES[1], "bash")
    for block in blocks(PAGES[0], "bash"):
        program, stage, *words = shlex.split(block)
        assert program == "luhuo"
        configured(stage, parse_pairs(words[: words.index("--out")], "command line"))


def test_the_methods_of_the_table_are_stages_with_these_settings() -> None:
    for page in PAGES:
        shown = re.findall(
            r"^\| `([a-z-]+)((?: [a-z_]+=[a-z0-9.]+)*)`", page.read_text(encoding="utf-8"), re.MULTILINE
        )
        assert len(shown) >= 12
        for stage, words in shown:
            values = (
                {"prompts": "x", "rewards": [{"kind": "check"}], "steps": 1}
                if stage == "online-dpo"
                else {"data": "x"}
            )
            configured(stage, {"model": "x"} | values | parse_pairs(words.split(), "table"))


def test_the_recipe_of_the_pages_is_valid(tmp_path: Path) -> None:
    assert blocks(PAGES[0], "yaml") == blocks(PAGES[1], "yaml")
    for number, block in enumerate(blocks(PAGES[0], "yaml")):
        file = tmp_path / f"{number}.yaml"
        file.write_text(block, encoding="utf-8")
        recipe = load_recipe(file)
        for values in recipe.stages.values():
            settings = dict(values)
            configured(settings.pop("stage"), settings)


def test_settings_of_the_methods_are_described_in_both_languages() -> None:
    assert not unexplained(DpoStage, KtoStage, OrpoStage, SimpoStage, CpoStage, RrhfStage)
