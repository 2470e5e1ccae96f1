"""What the pages about distillation show is true: commands are understood, and both languages show the same."""

from __future__ import annotations

from pathlib import Path

from luhuo.align.distill.config import AttentionConfig, StatesConfig
from luhuo.align.distill.endpoint_config import EndpointConfig
from luhuo.align.distill.stages import DistillStage, OnlineDistillStage, TeacherAnswersStage, TeacherLogitsStage
from luhuo.align.rollout_config import RolloutConfig
from luhuo.align.stages import SftStage
from luhuo.cli import parse_pairs
from luhuo.stages import STAGES, configured
from tests.docs_cases import commands, unexplained

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "docs" / "distill.md", ROOT / "docs" / "distill.zh.md"]


def test_every_command_is_understood_and_both_languages_show_the_same() -> None:
    english, chinese = map(commands, PAGES)
    assert english == chinese
    seen = set()
    for program, stage, *words in english:
        assert program == "luhuo"
        configured(stage, parse_pairs(words[: words.index("--out")], "command line"))
        seen.add(stage)
    own = {"distill", "teacher-logits", "teacher-answers", "online-distill", "pretrain-distill"}
    assert seen == own | {"sft"} <= STAGES.keys()


def test_settings_are_described_in_both_languages() -> None:
    kinds = (DistillStage, OnlineDistillStage, TeacherAnswersStage, TeacherLogitsStage)
    assert not unexplained(*kinds, EndpointConfig, StatesConfig, AttentionConfig)


def test_settings_that_only_distillation_has_are_explained_in_both_languages() -> None:
    own = DistillStage.model_fields.keys() - SftStage.model_fields.keys() - {"teacher"}
    own |= OnlineDistillStage.model_fields.keys() - RolloutConfig.model_fields.keys()
    own -= {"seed", "teacher", "method", "data_batch", "data_length"}
    own |= EndpointConfig.model_fields.keys() - {"model", "seconds"}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert not {name for name in own if f"`{name}`" not in text}, page.name
