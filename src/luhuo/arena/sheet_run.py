"""What `luhuo arena sheet` does."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from luhuo.arena.sheet_report import report, summary
from luhuo.arena.sheets import Sheet, read_criteria
from luhuo.core.atomic import atomic_path, write_text
from luhuo.core.config import unknown_key
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.rank.importing import read_answers

REFERENCES = ("each", "any", "none")


def make(path: Path, answers: Path, criteria: Path | None, references: str, title: str, seed: int) -> None:
    """Make the sheet `path`. Raises `LuhuoError` for files that hold nothing to rate; then it leaves no file."""
    if references not in REFERENCES:
        raise unknown_key(references, list(REFERENCES), "--references", tr("choice", "选项"))
    if not answers.is_file():
        raise LuhuoError(tr("There is no such file.", "没有这个文件。"), where=answers)
    scales, counts = read_criteria(criteria), Counter[str]()
    items = list(read_answers(answers, counts))
    if not items:
        told = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
        raise LuhuoError(tr("There is nothing to rate.", "没有可评的内容。"), found=told, where=answers)
    settings = {"criteria": scales.model_dump(mode="json")["criteria"], "references": references}
    with Sheet.create(path, settings | {"title": title, "seed": seed}) as sheet:
        sheet.add(items)
    say(tr(f"{len(items)} items in {path}", f"{path}：共 {len(items)} 题"))
    say(tr(f"Next: luhuo arena sheet serve {path}", f"接着：luhuo arena sheet serve {path}"))


def serve(path: Path, host: str, port: int, hosts: tuple[str, ...]) -> None:
    """Open the sheet's page. Raises `LuhuoError` where the address is taken, or the file is none."""
    from luhuo.rank.run import listen  # isort: skip (it says which packages are missing)
    from luhuo.arena.sheet_app import create_app

    told = tr("Sheet at", "评分表："), tr("every rating is kept", "所有评分都已保存")
    listen(lambda: create_app(path, (*hosts, host)), host, port, told)


def status(path: Path, out: Path | None) -> None:
    """Print the summary as JSON; `out` gets it as a page (`.html`) or as JSON."""
    with Sheet(path) as sheet:
        found = summary(sheet)
    text = json.dumps(found, ensure_ascii=False, indent=2)
    if out is not None:
        write_text(out, report(found) if out.suffix in (".html", ".htm") else text + "\n")
    print(text)


def export(path: Path, out: Path) -> None:
    """Write one row an answer. Raises `LuhuoError` where nothing was rated."""
    count = 0
    with Sheet(path) as sheet, atomic_path(out) as temporary:
        with temporary.open("w", encoding="utf-8") as handle:
            for row in sheet.rows():
                count += bool(row["ratings"])
                handle.write(json.dumps(row, ensure_ascii=False) + "\n")
        if not count:
            raise LuhuoError(tr("Nothing was rated yet.", "尚无评分。"), where=path)
    say(tr(f"{count} rated answers in {out}", f"{out}：共 {count} 个已评回答"))
