"""What the documents of deduplication show is true, and the command they show runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from luhuo.cli import parse_pairs
from luhuo.corpus.dedup import verdicts
from luhuo.corpus.dedup.stages import DeduplicateStage, Near
from luhuo.stages import configured
from tests.dedup_cases import annotated, record
from tests.docs_cases import commands

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "docs" / "corpus-dedup.md", ROOT / "docs" / "corpus-dedup.zh.md"]


def test_the_command_of_the_pages_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from luhuo.cli import app

    (english,), (chinese,) = map(commands, PAGES)
    assert english == chinese
    monkeypatch.chdir(tmp_path)
    rows = [record("One text.", source) for source in ("a", "b")]
    annotated(tmp_path / "runs/corpus/annotated", rows, 1)
    result = CliRunner().invoke(app, [*english[1:-2], "executor=inline", *english[-2:]])
    assert result.exit_code == 0, result.output
    found = list(verdicts(tmp_path / english[-1], "part-00000"))
    assert sorted(verdict.kept for verdict in found) == [False, True]
    assert isinstance(configured("deduplicate", parse_pairs(english[2:3], "")), DeduplicateStage)


def test_the_settings_shown_are_valid_and_the_same_in_both_languages() -> None:
    shown = []
    for page in PAGES:
        block = re.search(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
        assert block is not None
        shown.append(yaml.safe_load(block[1])["duplicates"])
    assert shown[0] == shown[1]
    assert shown[0].pop("stage") == "deduplicate"
    DeduplicateStage.parse(shown[0])


def test_every_setting_is_explained_in_both_languages() -> None:
    own = DeduplicateStage.model_fields.keys() - {"seed", "annotated"} | {"min_columns", "jaccard"}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert not {name for name in own if name not in text}, page.name
        for name in ("similarity", "jaccard", "min_columns"):
            assert str(Near.model_fields[name].default) in text


def test_the_pages_say_how_many_bands_there_are() -> None:
    bands, rows = Near().bands
    assert f"{bands} bands of {rows}" in PAGES[0].read_text(encoding="utf-8")
    assert f"{bands} 段，每段 {rows} 位" in PAGES[1].read_text(encoding="utf-8")
