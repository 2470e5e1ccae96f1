"""The state of a project for a terminal."""

from __future__ import annotations

from typing import Any

from luhuo.core.language import tr


def print_status(told: dict[str, Any]) -> None:
    """Print what `progress` and `wins` found."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(
        tr(
            f"{told['judged']} of {told['items']} items judged by somebody",
            f"{told['items']} 道题中已有人评判 {told['judged']} 道",
        )
    )
    people = Table(
        *(tr("name", "名字"), tr("judged", "已评"), tr("all bad", "全都不好"), tr("skipped", "跳过")),
        tr("seconds each", "每题秒数"),
    )
    for one in told["people"]:
        numbers = (one["judgements"], one["bad"], one["skipped"])
        people.add_row(one["name"], *map(str, numbers), f"{one['seconds']:.0f}")
    agreement = Table(tr("agreement", "一致性"), "κ", "95%", tr("same opinion", "意见相同"), tr("pairs", "对数"))
    everyone = {"people": [tr("everyone", "全体")], **told["agreement"]}
    for one in [everyone, *told["agreement"]["pairs"]]:
        interval = "–" if one["low"] is None else f"{one['low']:.2f} – {one['high']:.2f}"
        share = "–" if one["share"] is None else f"{one['share']:.0%}"
        agreement.add_row(" · ".join(one["people"]), _two(one["kappa"]), interval, share, str(one["n"]))
    models = Table(
        tr("models", "模型"), tr("wins", "胜"), tr("ties", "平"), tr("share of the first", "前者占比"), "95%"
    )
    for one in told["models"]:
        wins, share = " : ".join(map(str, one["wins"])), "–" if one["share"] is None else f"{one['share']:.0%}"
        models.add_row(
            " · ".join(one["models"]), wins, str(one["ties"]), share, f"{one['low']:.0%} – {one['high']:.0%}"
        )
    for table in (people, agreement, models):
        if table.row_count:
            console.print(table)


def _two(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
