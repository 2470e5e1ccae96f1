"""What `luhuo arena` does: the page until a signal comes, the leaderboard, and votes in and out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from luhuo.arena.board import board
from luhuo.arena.store import Store
from luhuo.core.atomic import atomic_path, write_text
from luhuo.core.errors import LuhuoError
from luhuo.core.language import tr
from luhuo.core.progress import say
from luhuo.evaluation.judges.page import Section, number, page, percent, span
from luhuo.evaluation.ratings import Intervals
from luhuo.evaluation.votes import Cleaning, Vote, read_votes


def serve(
    models: Sequence[str],
    votes: Path,
    host: str,
    port: int,
    hosts: tuple[str, ...],
    settings: Mapping[str, Any],
    title: str = "",
) -> None:
    """Open the models and the page. Raises `LuhuoError` for models that cannot be opened, or an address taken."""
    from luhuo.rank.run import listen  # isort: skip (it says which packages are missing)
    from luhuo.arena.app import create_app
    from luhuo.arena.players import open_players

    if not votes.exists():
        Store.create(votes, {}).close()
    Store(votes).close()
    players = open_players(models, settings)
    told = tr("Arena at", "竞技场："), tr("every vote is kept", "所有投票都已保存")
    listen(lambda: create_app(votes, players, (*hosts, host), title=title), host, port, told)


def read_any(path: Path, cleaning: Cleaning) -> tuple[list[Vote], dict[str, int]]:
    """Votes of an arena's file, or of a file in a public layout, and what was left out of the latter."""
    if not path.is_file():
        raise LuhuoError(tr("There is no such file.", "没有这个文件。"), where=path)
    with path.open("rb") as handle:
        ours = handle.read(16) == b"SQLite format 3\0"
    if ours:
        with Store(path) as store:
            return list(store.votes()), {}
    votes, told = read_votes(path, cleaning)
    return votes, {name: count for name, count in told.items() if name != "kept"}


def show(
    path: Path,
    out: Path | None,
    *,
    style: bool,
    cleaning: Cleaning,
    as_json: bool,
    intervals: Intervals = "sandwich",
    anchor: tuple[str, float] | None = None,
) -> None:
    """Print the leaderboard; `out` gets it as a page (`.html`) or as JSON. Raises `LuhuoError` without votes."""
    votes, left_out = read_any(path, cleaning)
    found = board(votes, style=style, cleaning=cleaning, intervals=intervals, anchor=anchor)
    found["left_out"] = {**left_out, **found["left_out"]}
    if not found["groups"]:
        raise LuhuoError(
            tr("No vote counts yet.", "尚无有效投票。"),
            found=", ".join(map(str, found["left_out"].items())),
            where=path,
        )
    if out is not None:
        html = out.suffix in (".html", ".htm")
        write_text(out, report(found) if html else json.dumps(found, ensure_ascii=False, indent=2) + "\n")
    if as_json:
        print(json.dumps(found, ensure_ascii=False, indent=2))
    else:
        _print(found)


def anchored(text: str) -> tuple[str, float]:
    """A model and its rating, of "MODEL=RATING". Raises `LuhuoError`."""
    name, _, value = text.rpartition("=")
    try:
        return name, float(value)
    except ValueError:
        raise LuhuoError(tr("This is no anchor.", "这不是锚定。"), expected="MODEL=RATING", found=text) from None


def export(path: Path, out: Path) -> None:
    """Write votes as JSON lines in the public arenas' layout. Raises `LuhuoError` without votes."""
    count = 0
    with Store(path) as store, atomic_path(out) as temporary:
        with temporary.open("w", encoding="utf-8") as handle:
            for row in store.rows():
                handle.write(json.dumps(row, ensure_ascii=False) + "\n")
                count += 1
        if not count:
            raise LuhuoError(tr("There are no votes yet.", "尚无投票。"), where=path)
    say(tr(f"{count} votes in {out}", f"{out}：共 {count} 票"))


def report(found: Mapping[str, Any]) -> str:
    """A leaderboard as a self-contained page."""
    sections = []
    for place, group in enumerate(found["groups"], 1):
        name = f" {place}" if len(found["groups"]) > 1 else ""
        note = tr(f"{group['votes']} votes. ", f"{group['votes']} 票。")
        if found["left_out"]:
            told = ", ".join(f"{key} {count}" for key, count in sorted(found["left_out"].items()))
            note += tr(f"Left out: {told}. ", f"未计入：{told}。")
        sections.append(Section(tr("Leaderboard", "排行榜") + name, _columns(), _table(group), note + group["note"]))
        models = [row["model"] for row in group["rows"]]
        cells = {(one["model"], one["against"]): one for one in group["matrix"]}
        rows = [[a, *(_cell(cells.get((a, b))) for b in models)] for a in models]
        note = tr("Share of points of the row against the column (votes).", "行对列的得分率（票数）。")
        sections.append(Section(tr("Pairs", "两两对战") + name, [tr("model", "模型"), *models], rows, note))
        weights = [(key, number(w), span(low, high)) for key, (w, low, high) in group["style"].items()]
        columns = tr("feature", "特征"), tr("weight", "权重"), "95%"
        sections.append(Section(tr("Style", "风格") + name, columns, weights))
    return page(tr("Arena", "竞技场"), sections)


def _columns() -> list[str]:
    names = [tr("model", "模型"), tr("rank", "名次"), tr("rating", "评分"), "95%", tr("votes", "票数")]
    return [*names, tr("win rate", "胜率")]


def _table(group: Mapping[str, Any]) -> list[list[str]]:
    return [
        [
            row["model"],
            str(row["rank"]),
            number(row["rating"], 0),
            f"{number(row['low'], 0)} … {number(row['high'], 0)}",
            str(row["votes"]),
            percent(row["win_rate"]),
        ]
        for row in group["rows"]
    ]


def _cell(one: Mapping[str, Any] | None) -> str:
    return "–" if one is None else f"{percent(one['share'])} ({one['votes']})"


def _print(found: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    told = ", ".join(f"{key} {count}" for key, count in sorted(found["left_out"].items()))
    console.print(tr(f"{found['votes']} votes count", f"有效票 {found['votes']}") + (f" ({told})" if told else ""))
    for group in found["groups"]:
        table = Table(*_columns())
        for row in _table(group):
            table.add_row(*row)
        console.print(table)
        if group["note"]:
            console.print(group["note"], markup=False)
