"""What the pages about pruning show is true: commands and fields are understood, both languages show the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from luhuo.cli import parse_pairs
from luhuo.compress.prune.config import SmallerShape
from luhuo.compress.prune.stages import PruneStage
from luhuo.recipe.schema import load_recipe
from luhuo.stages import configured
from luhuo.train.sparsity_config import Sparsity
from tests.docs_cases import commands, unexplained

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "docs" / "compression-pruning.md", ROOT / "docs" / "compression-pruning.zh.md"]


def test_every_command_is_understood_and_both_languages_show_the_same() -> None:
    english, chinese = map(commands, PAGES)
    assert english == chinese
    assert len(english) == 5
    for program, stage, *words in english:
        assert program == "luhuo"
        configured(stage, parse_pairs(words[: words.index("--out")], "command line"))


@pytest.mark.parametrize("text", ["2:4", "1:4", "4:8", "16:32"])
def test_a_pattern_without_quotes_is_read_as_it_is_written(text: str) -> None:
    """YAML 1.1 takes 2:4 for the number 124, to the base of 60."""
    words = [f"pattern={text}", "model=m", "data=d"]
    stage = configured("prune", parse_pairs(words, "command line"))
    assert isinstance(stage, PruneStage)
    assert stage.pattern == text
    assert Sparsity.parse({"pattern": yaml.safe_load(f"pattern: {text}")["pattern"]}).pattern == text


def test_every_field_is_described_and_explained_in_both_languages() -> None:
    assert not unexplained(PruneStage, SmallerShape, Sparsity)
    own = {*PruneStage.model_fields, *Sparsity.model_fields} - {"model", "data", "seed", "threads"}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        told = set(re.findall(r"`([a-z_]+)(?:: true)?`", text))
        assert not own - told, page.name


def test_the_recipe_is_one_that_runs_after_the_other() -> None:
    recipe = load_recipe(ROOT / "recipes" / "compression-prune.yaml")
    first = load_recipe(ROOT / "recipes" / "compression.yaml", variant="test")
    text = str(recipe.stages)
    places = set(re.findall(rf"runs/{first.name}/(\w+)", text))
    assert places <= set(first.stages)
    assert {values["stage"] for values in recipe.stages.values()} == {"prune", "pretrain", "pretrain-distill"}
