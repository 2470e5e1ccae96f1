"""Looking through a corpus in the terminal: lines that are queries, and what is printed."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from luhuo.browse import terminal
from luhuo.browse.query import Query, Range
from luhuo.core.errors import LuhuoError
from tests.corpus_view_cases import PHONE, english, make_corpus


@pytest.mark.parametrize(
    ("line", "query"),
    [
        ("village gate", Query(text="village gate")),
        ('"two words" lang=zh', Query(text="two words", lang="zh")),
        ("/a b|c/", Query(text="a b|c", regex=True)),
        ("gopher.words>=5 gopher.words<=9.5", Query(signals=(Range(name="gopher.words", min=5, max=9.5),))),
        ("state=dropped reason=symbols", Query(state="dropped", reason="symbols")),
    ],
)
def test_a_line_is_a_query(line: str, query: Query) -> None:
    assert terminal.parse(line, Query()) == query


def test_filters_stay_until_they_are_emptied_or_all_are_forgotten() -> None:
    query = terminal.parse("village lang=zh gopher.words>=5", Query())
    assert terminal.parse("state=kept", query) == query.model_copy(update={"state": "kept"})
    assert terminal.parse("lang=", query).lang == ""
    assert terminal.parse("all", query) == Query()
    for line in ("state=splendid", "gopher.words>=x", '"open'):
        with pytest.raises(LuhuoError):
            terminal.parse(line, query)


def shown(folder: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """What a person sees who types these lines."""
    screen = io.StringIO()
    monkeypatch.setattr(terminal, "Console", lambda **_: Console(file=screen, width=160, highlight=False))
    waiting = iter(lines)

    def ask() -> str:
        try:
            return next(waiting)
        except StopIteration:
            raise EOFError from None

    terminal.browse(folder, Query(), ask)
    return screen.getvalue()


def test_a_person_searches_and_reads_a_document_in_the_terminal(
    clean_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = shown(clean_corpus, [PHONE, "1", "/(/", "9", "?", "all reason=mojibake_gbk", "1", "q", "1"], monkeypatch)
    assert "<电话号码>" in screen and "not a regular expression" in screen and "no such document" in screen
    assert "mojibake_gbk" in screen and "damage.gbk" in screen and "state=kept" in screen


def test_text_of_the_corpus_cannot_steer_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert terminal.plain("a\x1b[31mb\x07\nc") == "a�[31mb�\nc"
    documents = [{"text": f"{english(n)} [bold red]oops[/]"} for n in range(30)]
    screen = shown(make_corpus(tmp_path, documents=documents), ["oops", "1"], monkeypatch)
    assert "[bold red]oops[/]" in screen


def test_one_query_on_the_command_line_is_printed(clean_corpus: Path) -> None:
    command = [sys.executable, "-m", "luhuo", "corpus-browse", str(clean_corpus), "--query", "lang=zh 钟楼"]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "140"}, check=False)
    assert done.returncode == 0 and "钟楼" in done.stdout, done.stderr
    assert "Traceback" not in done.stderr
