"""Tables in the terminal: the plan, the outcome of a run, the reference of a stage."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from luhuo.core.language import tr
from luhuo.core.stage import Stage
from luhuo.recipe.runner import Outcome

HEADLINE_ROWS = 6


def print_cells(headings: list[str], rows: list[list[str]]) -> None:
    """Rows of cells under their headings."""
    table = Table(*headings)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def print_plan(rows: list[tuple[str, str, str]]) -> None:
    """What a recipe would do."""
    words = {
        "run": tr("would run", "将运行"),
        "reuse": tr("unchanged", "未变"),
        "depends": tr("runs if its inputs change", "输入变化时运行"),
    }
    for name, stage, state in rows:
        print(f"{name:16} {stage:12} {words[state]}")


def print_outcome(outcome: Outcome) -> None:
    """The summary table of a recipe, where its report lies, and what to type next."""
    table = Table(tr("stage", "阶段"), tr("seconds", "秒"), tr("MB", "MB"), tr("results", "结果"))
    for row in outcome.rows:
        numbers = {k: v for k, v in row["metrics"].items() if isinstance(v, (int, float))}
        shown = [f"{k} {v:,.3f}" if isinstance(v, float) else f"{k} {v:,}" for k, v in numbers.items()]
        more = [
            tr(
                f"… {len(shown) - HEADLINE_ROWS} more in summary.json",
                f"……另有 {len(shown) - HEADLINE_ROWS} 项见 summary.json",
            )
        ]
        text = "\n".join(shown[:HEADLINE_ROWS] + (more if len(shown) > HEADLINE_ROWS else []))
        seconds = tr("unchanged", "未变") if row["reused"] else f"{row['seconds']:.1f}"
        table.add_row(row["name"], seconds, f"{row['bytes'] / 1e6:.1f}", text, end_section=True)
    console = Console()
    console.print(table)
    console.print(tr("Report:", "报告："), str(outcome.out / "report.html"))
    if outcome.next_command:
        console.print(tr("Next:", "下一步："), outcome.next_command)


def print_reference(name: str, summary: str, stage: type[Stage]) -> None:
    """The fields of a stage: name, type, default, description."""
    print(f"luhuo {name}: {summary}\n")
    print(tr("usage:", "用法：") + f" luhuo {name} KEY=VALUE… [--config FILE] [--out DIR] [--force]\n")
    table = Table(tr("field", "字段"), tr("type", "类型"), tr("default", "默认"), tr("description", "说明"))
    for row in stage.reference():
        table.add_row(row["name"], row["type"], row["default"], row["description"])
    Console().print(table)
