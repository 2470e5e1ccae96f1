"""`compress-report`: the page, from the report's values alone."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from luhuo.compress.report.limits import shown_bytes
from luhuo.core.atomic import write_text
from luhuo.core.language import language, tr
from luhuo.core.pages import templates
from luhuo.core.progress import clock
from luhuo.report.compression.plot import Picture, Point, picture


def write_page(folder: Path, report: dict[str, Any]) -> Path:
    """Write `folder/report.html` in the user's language and return its path."""
    environment = templates("luhuo.report")
    page = environment.get_template("compression/page.html.jinja").render(
        tr=tr,
        language="zh-CN" if language() == "zh" else "en",
        version=version("luhuo"),
        title=Path(str(report["model"])).name,
        report=report,
        done=[one for one in report["candidates"] if one["status"] == "done"],
        left=[one for one in report["candidates"] if one["status"] != "done"],
        pictures=pictures(report),
        langs=list(report["original"]["perplexity"]),
        tasks=list(report["original"]["tasks"]),
        said=lambda words: tr(words["en"], words["zh"]),
        shown_bytes=shown_bytes,
        clock=clock,
        percent=_percent,
    )
    write_text(folder / "report.html", page)
    return folder / "report.html"


def pictures(report: dict[str, Any]) -> list[Picture]:
    """Size, bytes a token and speed against loss."""
    done = [one for one in report["candidates"] if one["status"] == "done" and one["figures"]["loss"] is not None]
    original, front = report["original"], report["front"]
    limit = next((100 * one["value"] for one in report["limits"] if one["measure"] == "loss"), None)
    loss = tr("increase of perplexity", "困惑度增幅")
    asked = (
        ("size", tr("Size and loss", "大小与损失"), tr("size on disk, MB", "磁盘大小（MB）"), original["size"], 1e6),
        (
            "decode_ratio",
            tr("Speed and loss", "速度与损失"),
            tr("speed of writing, times the original", "生成速度（原模型的倍数）"),
            1.0,
            1.0,
        ),
    )
    found = []
    for key, title, label, there, scale in asked:
        points = [_point(one, key, report) for one in done if one["figures"][key]]
        shown = [report["recommendation"]["name"]] if report["recommendation"] else []
        first = [*shown, *front[key]]
        drawn = picture(
            title, (label, loss), points, front[key], original=there, shown=first, scale=scale, limit=limit
        )
        found += [drawn] if drawn is not None else []
    return found


def _point(one: dict[str, Any], key: str, report: dict[str, Any]) -> Point:
    figures = one["figures"]
    mean, low, high = (100 * figures["loss"][end] for end in ("mean", "low", "high"))
    told = f"{one['label']}: {shown_bytes(figures['size'])}, {mean:+.2f}% ({low:+.2f} … {high:+.2f})"
    best = report["recommendation"] is not None and report["recommendation"]["name"] == one["name"]
    series = " + ".join(step["method"] or step["stage"] for step in one["steps"])
    return Point(one["name"], one["label"], figures[key], mean, low, high, series, told, best)


def _percent(found: dict[str, float] | None, digits: int = 2, sign: bool = True) -> Sequence[str]:
    """A share and the ends of its interval in percent; a dash where there is none."""
    if found is None:
        return ("—", "")
    values = [f"{100 * found[end]:{'+' if sign else ''}.{digits}f}" for end in ("mean", "low", "high")]
    return (f"{values[0]}%", f"{values[1]} … {values[2]}")
