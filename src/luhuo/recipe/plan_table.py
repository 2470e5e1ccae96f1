"""A plan as a table in the terminal, with what to change where a stage does not fit."""

from __future__ import annotations

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from luhuo.core.language import tr
from luhuo.model.info_table import amount, size
from luhuo.recipe.planning import Row
from luhuo.train.plan.machine import Machine
from luhuo.train.plan.training import assumptions


def print_plan_of(machine: Machine, rows: list[Row]) -> None:
    """Print each stage's needs, then advice, then what the figures rest on."""
    heads = (
        tr("stage", "阶段"),
        tr("parameters", "参数量"),
        tr("weights + gradients + optimiser", "权重 + 梯度 + 优化器"),
        tr("activations", "激活"),
        tr("peak", "峰值"),
        tr("time", "时间"),
        tr("disk", "磁盘"),
    )
    table = Table(*heads, box=SIMPLE, padding=(0, 1, 0, 0))
    for row in rows:
        parts = ["-"] * 3
        if row.training is not None:
            need = row.training.memory
            held = (need.weights + need.average, need.gradients, need.optimiser)
            parts = [amount(row.training.parameters), " + ".join(map(size, held)), size(need.activations)]
        mark = "" if row.training is None or row.training.fits else " ✗"
        peak = "-" if row.peak is None else size(row.peak) + mark
        table.add_row(_named(row), *parts, peak, duration(row.seconds), size(row.disk))
    console = Console()
    console.print(table)
    for note in dict.fromkeys(row.note for row in rows if row.note):
        names = ", ".join(row.name for row in rows if row.note == note)
        console.print(f"{names}: {note}", soft_wrap=True, highlight=False)
    for row in rows:
        if row.training is not None and not row.training.fits:
            _advise(console, row, machine)
    console.print(assumptions(machine), style="dim", soft_wrap=True)


def _named(row: Row) -> str:
    return row.name if row.name == row.stage else f"{row.name} ({row.stage})"


def _advise(console: Console, row: Row, machine: Machine) -> None:
    assert row.training is not None
    need = tr(
        f"{row.name} does not fit: {size(row.training.memory.peak)} a process, {size(machine.memory)} there.",
        f"{row.name} 放不下：每进程需 {size(row.training.memory.peak)}，可用 {size(machine.memory)}。",
    )
    console.print(need, style="bold", soft_wrap=True)
    for change in row.training.changes:
        settings = " ".join(f"{name}={str(value).lower()}" for name, value in change.settings.items())
        console.print(
            tr(
                f"  fits with {settings}: {size(change.peak)}, {duration(change.seconds)}",
                f"  可改用 {settings}：{size(change.peak)}，{duration(change.seconds)}",
            ),
            soft_wrap=True,
        )
    if not row.training.changes:
        console.print(
            tr(
                "  No setting tried makes it fit: take more memory or more processes.",
                "  所试设置均放不下：请增加内存或进程。",
            )
        )


def duration(seconds: float | None) -> str:
    """Seconds in a readable unit; "-" where not known."""
    if seconds is None:
        return "-"
    for limit, unit, english, chinese in (
        (120, 1, "s", "秒"),
        (7200, 60, "min", "分钟"),
        (172_800, 3600, "h", "小时"),
    ):
        if seconds < limit:
            return f"{seconds / unit:.1f} " + tr(english, chinese)
    return f"{seconds / 86_400:.1f} " + tr("days", "天")
