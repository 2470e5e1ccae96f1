"""What the documents of PPO show is true: commands are understood, and the InstructGPT road can be gone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from luhuo.align.health import RULES
from luhuo.align.ppo_stage import PpoStage
from luhuo.cli import parse_pairs
from luhuo.recipe.schema import load_recipe, plan
from luhuo.stages import configured
from tests.command_line import ROOT, luhuo
from tests.docs_cases import commands

PAGES = [ROOT / "docs" / "ppo.md", ROOT / "docs" / "ppo.zh.md"]
RECIPE = ROOT / "recipes" / "instructgpt.yaml"


def test_every_command_of_the_pages_is_understood_and_both_languages_show_the_same():
    english, chinese = map(commands, PAGES)
    assert english == chinese and english
    for program, stage, *words in english:
        assert (program, stage) == ("luhuo", "ppo")
        found = configured(stage, parse_pairs(words[: words.index("--out")], "command line"))
        assert isinstance(found, PpoStage) and found.rewards


def test_every_setting_that_only_ppo_has_is_explained_in_both_languages():
    from luhuo.align.rollout_config import RolloutConfig

    own = PpoStage.model_fields.keys() - RolloutConfig.model_fields.keys() - {"seed", "pretraining_length"}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert not {name for name in own if f"`{name}`" not in text}, page.name
        named = {rule.name for rule in RULES} - {"zero_variance"}
        assert not {name for name in named if f"`{name}`" not in text and name != "unscored"}, page.name


@pytest.mark.parametrize("variant", [None, "test"])
def test_the_recipe_is_valid_and_ppo_begins_where_the_reward_model_does(variant: str | None):
    recipe = load_recipe(RECIPE, variant=variant)
    steps = {step.name: step for step in plan(recipe, str(RECIPE))}
    ppo = steps["ppo"].config
    assert ppo["reward_model"] == "${reward}" and ppo["model"] == steps["reward"].config["model"] == "${assistant}"
    assert ppo["pretraining"] == "${shards}"


@pytest.mark.slow
def test_the_instructgpt_road_at_test_size(tmp_path: Path):
    done = luhuo("run", str(RECIPE), "--variant", "test", "--out", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr[-4000:]
    manifest = json.loads((tmp_path / "run" / "ppo" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["metrics"]["steps"] == 4 and "kl" in manifest["metrics"]
    lineage = {ancestor["stage"] for ancestor in manifest["ancestors"].values()}
    assert {"world", "pretrain", "sft", "reward", "shards"} <= lineage
