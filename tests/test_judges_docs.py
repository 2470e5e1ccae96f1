"""The examples of docs/judges.md and docs/arena.md run as they stand, and both languages have the same ones."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml

from luhuo.arena.sheets import Sheet
from luhuo.arena.store import Store, Turn
from luhuo.cli import app
from luhuo.evaluation.judges.rubric import Rubric

DOCS = Path(__file__).parent.parent / "docs"
BLOCK = re.compile(r"```([a-z]+)\n(.*?)```", re.DOTALL)


def examples(name: str, kind: str) -> list[str]:
    return [text for found, text in BLOCK.findall((DOCS / name).read_text(encoding="utf-8")) if found == kind]


def lines(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


@pytest.mark.parametrize("page", ["judges", "arena"])
def test_both_languages_have_the_same_examples_and_tables(page: str) -> None:
    english, chinese = ((DOCS / f"{page}{end}.md").read_text(encoding="utf-8") for end in ("", ".zh"))
    assert BLOCK.findall(english) == BLOCK.findall(chinese) != []
    assert english.count("\n| ") == chinese.count("\n| ") and english.count("\n## ") == chinese.count("\n## ")


def test_every_command_of_the_documents_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LUHUO_CACHE", str(tmp_path / "cache"))
    lines(tmp_path / "own.jsonl", [{"prompt": "a b?", "answers": ["a b", "c c c"], "labels": [1, 1, 2]}] * 6)
    for name, text in (("a", "sky is blue"), ("b", "no")):
        lines(
            tmp_path / f"{name}.jsonl",
            [{"id": i, "prompt": f"Is the sky blue {i}?", "answer": text} for i in range(4)],
        )
    lines(tmp_path / "answers.jsonl", [{"prompt": "q", "answers": [{"text": t, "model": t} for t in ("x", "y")]}])
    with Store.create(tmp_path / "arena.db", {}) as store:
        for winner in ("a", "b", "tie"):
            battle = store.begin("ann", "m1", "m2")
            store.add_turn(battle, Turn("q", "x", "y"))
            store.vote(battle, winner, 1.0)
    command, ran = typer.main.get_command(app), []
    for block in [*examples("judges.md", "bash"), *examples("arena.md", "bash")]:
        for line in block.splitlines():
            words = shlex.split(line)[1:]
            if "serve" in words or words[:2] == ["arena", "runs/quickstart/assistant"]:
                continue  # these wait for people: tests/test_arena.py and tests/test_arena_page.py run them
            if words[:3] == ["arena", "sheet", "status"]:
                rate(tmp_path / "sheet.db")
            assert not command.main(words, prog_name="luhuo", standalone_mode=False), line
            ran.append(line)
    assert len(ran) == 7
    for name in ("runs/validation/report.html", "runs/judged/report.html", "board.html", "sheet.html"):
        assert "<table>" in (tmp_path / name).read_text(encoding="utf-8")
    for name in ("votes.jsonl", "ratings.jsonl"):
        assert json.loads((tmp_path / name).read_text(encoding="utf-8").splitlines()[0])


def rate(path: Path) -> None:
    with Sheet(path) as sheet:
        while (task := sheet.next("ann")) is not None:
            if task.answer is None:
                sheet.write_reference(task.item, "ann", "mine")
            else:
                sheet.rate(task.answer, "ann", {one.id: 3 for one in sheet.criteria})


def test_the_rubric_of_the_document_is_one() -> None:
    (text,) = examples("judges.md", "yaml")
    assert Rubric.parse(yaml.safe_load(text), "docs/judges.md").kind == "pairwise"
