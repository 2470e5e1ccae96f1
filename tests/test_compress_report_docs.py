"""The examples of docs/compression-report.md run as they stand, and both languages have the same ones."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import typer

from luhuo.cli import app
from luhuo.compress.report.limits import MEASURES, parse_limits
from luhuo.model.load import load_decoder
from luhuo.model.save import save
from tests.compression_cases import model_folder, write_texts

DOCS = Path(__file__).parent.parent / "docs"
BLOCK = re.compile(r"```([a-z]+)\n(.*?)```", re.DOTALL)
PAGES = [(DOCS / f"compression-report{end}.md").read_text(encoding="utf-8") for end in ("", ".zh")]


def test_both_languages_have_the_same_examples_tables_and_pictures() -> None:
    english, chinese = PAGES
    assert BLOCK.findall(english) == BLOCK.findall(chinese) != []
    for mark in ("\n| ", "\n## ", "](images/", "`--"):
        assert english.count(mark) == chinese.count(mark), mark


@pytest.mark.parametrize("page", PAGES)
def test_the_limits_of_the_table_are_understood_and_are_all_there_are(page: str) -> None:
    table = page[page.index("| `1GB`") :]
    shown = [text for row in table.splitlines() if row.startswith("| `") for text in re.findall("`([^`]+)`", row)]
    assert {limit.measure for text in shown for limit in parse_limits(text)} == set(MEASURES)


def test_the_commands_of_the_document_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With fewer tokens, one way, and without timing, which other tests look at."""
    monkeypatch.chdir(tmp_path)
    save(load_decoder(model_folder(tmp_path / "model"), "int4"), tmp_path / "small")
    (tmp_path / "texts").mkdir()
    write_texts(tmp_path / "texts/texts.jsonl", documents=100)
    quick = {
        "compress-report": "--tokens 600 --length 64 --turns 0 --methods rtn-4-bit",
        "compression-measure": "tokens=600 length=64 turns=0 memory=false",
    }
    commands = [
        shlex.split(line) for kind, text in BLOCK.findall(PAGES[0]) if kind == "bash" for line in text.splitlines()
    ]
    assert [command[1] for command in commands] == list(quick)
    for command in commands:
        words = [*command[1:], *quick[command[1]].split()]
        typer.main.get_command(app).main(words, prog_name="luhuo", standalone_mode=False)
    report = json.loads((tmp_path / "report/report.json").read_text(encoding="utf-8"))
    assert report["candidates"][0]["status"] == "done"
    assert (tmp_path / "measured/measures.json").is_file() and (tmp_path / "report/report.html").is_file()
