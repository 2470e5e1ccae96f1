"""What the documents say of data: each row they show has the layout it is shown under, each command runs."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from luhuo.align.data_check.findings import KINDS
from luhuo.align.data_check.samples import read_samples
from luhuo.align.stages import SftStage
from luhuo.cli import app
from luhuo.dialogue.preferences import read_stepwise
from luhuo.model.save import save
from tests.small_chat import small_model

DOCS = Path(__file__).parents[1] / "docs"
PAIR = re.compile(r"`([a-z-]+)`[^\n]*\n```json\n(.*?)\n```", re.DOTALL)
LANGUAGES = ("", ".zh")


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_row_shown_has_the_layout_it_is_shown_under(language: str, tmp_path: Path):
    shown = PAIR.findall((DOCS / f"data-formats{language}.md").read_text(encoding="utf-8"))
    assert len(shown) == len({name for name, _ in shown}) == 27
    for name, row in shown:
        file = tmp_path / f"{name}.jsonl"
        file.write_text(row + "\n", encoding="utf-8")
        _, layout, samples = read_samples(file, pytest.fail)
        assert layout == name and len(list(samples)) == 1
    assert len(list(read_stepwise(tmp_path / "stepwise.jsonl")[1])) == 1


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_finding_is_documented_and_no_other(language: str):
    text = (DOCS / f"data-check{language}.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    assert {code for row in rows for code in re.findall(r"`(\w+)`", row)} == set(KINDS)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_field_named_for_fine_tuning_is_one(language: str):
    text = (DOCS / f"sft{language}.md").read_text(encoding="utf-8")
    fields = set(re.findall(r"^\| `(\w+):", text, re.MULTILINE))
    assert len(fields) == 10 and fields <= set(SftStage.model_fields)


@pytest.mark.parametrize("page", ["data-check.md", "sft.md"])
def test_commands_of_the_documents_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    save(small_model(), tmp_path / "model")
    for name in ("train", "more", "valid", "test"):
        rows = [{"prompt": f"What is {name} {i}?", "completion": f"It is {name} {i}."} for i in range(4)]
        Path(f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    block = re.findall(r"```bash\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)[0]
    for command in block.strip().splitlines():
        words = shlex.split(re.sub(r"runs/quickstart/\w+", "model", command))
        assert words.pop(0) == "luhuo"
        small = ["length=128", "steps=1", "threads=1", "device=cpu"] if words[0] == "sft" else []
        result = CliRunner().invoke(app, [*words, *small], catch_exceptions=False)
        assert result.exit_code == 0, result.output
