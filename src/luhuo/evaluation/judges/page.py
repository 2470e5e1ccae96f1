"""`report.html` of judgements, of judges, and of a leaderboard: self-contained tables in the user's language."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from luhuo.core.language import language, tr
from luhuo.core.pages import templates


@dataclass(frozen=True)
class Section:
    """A table with a heading; the first column names its rows."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


def page(title: str, sections: Sequence[Section]) -> str:
    """The HTML of tables. Sections without rows are left out."""
    environment = templates("luhuo.evaluation.judges")
    shown = [one for one in sections if one.rows]
    lang = "zh-Hans" if language() == "zh" else "en"
    return environment.get_template("page.html.jinja").render(
        title=title, sections=shown, lang=lang, version=version("luhuo")
    )


def number(value: float | None, digits: int = 2) -> str:
    """A number, or a dash where there is none."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def percent(value: float | None) -> str:
    """A share in percent, or a dash."""
    return "–" if value is None else f"{100 * value:.1f}%"


def span(low: float | None, high: float | None, digits: int = 2) -> str:
    """An interval, or a dash."""
    return "–" if low is None or high is None else f"{number(low, digits)} … {number(high, digits)}"


def validation_page(found: Mapping[str, Any]) -> str:
    """The table of judge-validation."""
    names = (tr("judge", "评判者"), tr("set", "集合"))
    rows = [_validated(row) for row in found["table"]]
    columns = (*names, "κ", "95%", tr("agrees", "一致率"), tr("κ of people", "人与人 κ"), tr("n", "条数"))
    columns += (
        tr("not judged", "未能评判"),
        tr("shown first wins", "先出现者胜"),
        tr("same in both orders", "两序一致"),
    )
    columns += (tr("longer wins", "较长者胜"), tr("… with people", "……人"), tr("tokens", "词元"), tr("seconds", "秒"))
    between = [(" · ".join(one["judges"]), one["set"], *_kappa(one), str(one["n"])) for one in found["judges"]]
    failed = [(one["judge"], one["set"], one["reason"]) for one in found["failed"]]
    return page(
        tr("Judges and people", "评判者与人"),
        [
            Section(
                tr("Agreement with people", "与人的一致性"),
                columns,
                rows,
                tr(
                    "κ is agreement beyond chance with the label most people gave; 0.5 is a judge without favour for "
                    "what is shown first.",
                    "κ 为与多数人标签的超机遇一致性；“先出现者胜”为 50% 表示不偏向先出现的回答。",
                ),
            ),
            Section(tr("Judges among each other", "评判者之间"), (*names, "κ", "95%", tr("n", "条数")), between),
            Section(tr("Could not judge", "无法评判"), (*names, tr("reason", "原因")), failed),
        ],
    )


def _kappa(one: Mapping[str, Any]) -> tuple[str, str]:
    return number(one["value"]), span(one["low"], one["high"])


def _validated(row: Mapping[str, Any]) -> list[str]:
    bias, cost = row["bias"] or {"first": None, "consistent": None, "length": {}}, row["cost"] or {}
    length, people = bias["length"], row["people"]["fleiss"] or {}
    told = ", ".join(f"{name} {count}" for name, count in row["reasons"].items())
    return [
        row["judge"],
        row["set"],
        *_kappa(row["kappa"]),
        percent(row["accuracy"]),
        number(people.get("value")),
        str(row["n"]),
        f"{row['unjudged']}" + (f" ({told})" if told else ""),
        percent(bias["first"]),
        percent(bias["consistent"]),
        percent(length.get("judge")),
        percent(length.get("people")),
        f"{cost['prompt_tokens'] + cost['tokens']:,.0f}" if cost else "–",
        number(cost.get("seconds"), 0),
    ]


def judge_page(found: Mapping[str, Any]) -> str:
    """The report of the stage judge."""
    sections = [_validity(found)]
    for name, report in found["judges"].items():
        sections += _ratings(name, report) if found["kind"] == "single" else _duels(name, report)
    sections.append(_costs(found))
    return page(tr("Judged answers", "回答评判"), sections)


def _validity(found: Mapping[str, Any]) -> Section:
    rows = []
    for name, report in found["judges"].items():
        for one in report["validity"] or [None]:
            if one is None:
                rows.append((name, tr("NOT VALIDATED", "未经验证"), "–", "–", "–"))
            else:
                rows.append((name, one["set"], *_kappa(one["kappa"]), percent(one["accuracy"])))
    columns = (tr("judge", "评判者"), tr("set", "集合"), "κ", "95%", tr("agrees", "一致率"))
    return Section(tr("How far these judges agree with people", "这些评判者与人的一致性"), columns, rows)


def _duels(judge: str, report: Mapping[str, Any]) -> list[Section]:
    rows, parts = [], []
    for duel in report["duels"]:
        names, level = " : ".join(duel["models"]), duel.get("length_controlled")
        told = ", ".join(f"{name} {count}" for name, count in duel["reasons"].items())
        raw = duel.get("preference")
        rows.append(
            (
                names,
                *(str(duel[key]) for key in ("wins", "ties", "losses")),
                percent(duel["win_rate"]),
                span(100 * duel["low"], 100 * duel["high"], 1),
                f"{raw['win_rate']:.1f} ± {raw['standard_error']:.1f}" if raw else "–",
                f"{level['win_rate']:.1f} ± {level['standard_error']:.1f}" + (" (!)" if level["moved"] else "")
                if level
                else "–",
                f"{duel['unjudged']}" + (f" ({told})" if told else ""),
            )
        )
        parts += [
            (
                f"{names} · {name}",
                percent(one["win_rate"]),
                span(100 * one["low"], 100 * one["high"], 1),
                str(one["n"]),
            )
            for name, one in duel.get("categories", {}).items()
        ]
    columns = (
        tr("models", "模型"),
        tr("wins", "胜"),
        tr("ties", "平"),
        tr("losses", "负"),
        tr("win rate", "胜率"),
        "95%",
    )
    columns += (
        tr("mean preference ± s.e.", "平均偏好 ± 标准误"),
        tr("at equal length ± s.e.", "等长度下 ± 标准误"),
        tr("not judged", "未能评判"),
    )
    bias = report["bias"]
    note = tr(
        f"Shown first wins {percent(bias['first'])}; same verdict in both orders {percent(bias['consistent'])}. "
        "(!): length control moves the rate much; look at the answers before believing either.",
        f"先出现者胜 {percent(bias['first'])}；两序结论一致 {percent(bias['consistent'])}。"
        "（!）：长度控制使胜率变化很大，请先查看回答。",
    )
    board = [
        (row["model"], str(row["rank"]), number(row["rating"], 0), span(row["low"], row["high"], 0), str(row["votes"]))
        for row in report["leaderboard"] or ()
    ]
    short = (tr("model", "模型"), tr("rank", "名次"), tr("rating", "评分"), "95%", tr("votes", "票数"))
    by = (tr("models · category", "模型 · 类别"), tr("win rate", "胜率"), "95%", tr("n", "条数"))
    return [
        Section(tr(f"Win rates by {judge}", f"胜率（{judge}）"), columns, rows, note),
        Section(tr(f"By category ({judge})", f"分类别（{judge}）"), by, parts),
        Section(tr(f"Leaderboard by {judge}", f"排行榜（{judge}）"), short, board),
    ]


def _ratings(judge: str, report: Mapping[str, Any]) -> list[Section]:
    rows = []
    for model, one in report["models"].items():
        told = ", ".join(f"{name} {count}" for name, count in one["reasons"].items())
        lost = f"{one['unjudged']}" + (f" ({told})" if told else "")
        for group, rating in one["ratings"].items() or [("all", None)]:
            mean = number(rating["mean"]) if rating else "–"
            interval = span(rating["low"], rating["high"]) if rating else "–"
            rows.append(
                (model, group, mean, interval, str(rating["n"]) if rating else "0", lost if group == "all" else "")
            )
    columns = (
        tr("model", "模型"),
        tr("part", "部分"),
        tr("rating", "评分"),
        "95%",
        tr("n", "条数"),
        tr("not judged", "未能评判"),
    )
    return [Section(tr(f"Ratings by {judge}", f"评分（{judge}）"), columns, rows)]


def _costs(found: Mapping[str, Any]) -> Section:
    rows = []
    for name, report in found["judges"].items():
        cost = report["cost"]
        tokens = [f"{cost[key]:,.0f}" for key in ("prompt_tokens", "tokens")]
        rows.append(
            (
                name,
                str(cost["asked"]),
                str(cost["kept"]),
                *tokens,
                number(cost["seconds"], 0),
                number(cost["price"], 4),
            )
        )
    columns = (
        tr("judge", "评判者"),
        tr("asked now", "本次询问"),
        tr("known before", "已有"),
        tr("tokens read", "输入词元"),
    )
    columns += (tr("tokens written", "输出词元"), tr("seconds", "秒"), tr("price", "价格"))
    return Section(tr("What the verdicts cost when they were given", "这些评判首次给出时的花费"), columns, rows)
