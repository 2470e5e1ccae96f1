"""A report for the terminal, and as one page of HTML that needs nothing else."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

from luhuo.align.data_check.check import Report
from luhuo.align.data_check.findings import Finding
from luhuo.core.atomic import write_text
from luhuo.core.language import language, tr
from luhuo.core.pages import templates
from luhuo.dialogue.preview import preview, printable, runs
from luhuo.tokenizer.tokenizer import Tokenizer

BAR = 40
MARKS = {"error": "✗", "warning": "!", "note": "·"}
COLOURS = {"error": "\x1b[31m", "warning": "\x1b[33m", "note": "\x1b[36m"}
PLAIN = "\x1b[0m"
SHOWN_CHARS = 2000
"""Characters of a rendered row in the terminal."""


def lines(report: Report, tokenizer: Tokenizer, *, colour: bool, examples: int) -> list[str]:
    """The report as lines of text, with so many rendered rows."""
    found = [f"{Path(file).name}: {kind}, {layout}" for file, kind, layout in report.files]
    found += ["", *(f"{name}: {value}" for name, value in figures(report)), ""]
    found += _histogram(report)
    for where, parts in report.examples[:examples]:
        found += ["", tr(f"— {where}, targets marked", f"— {where}，已标出目标")]
        found += [_shortened(preview(part, tokenizer, colour=colour)) for part in parts]
    found.append("")
    for finding in report.findings:
        found += _finding(finding, colour)
    return [*found, verdict(report)]


def brief(findings: list[Finding], *, colour: bool) -> list[str]:
    """One line a finding, as a training run shows them."""
    return [_headline(finding, colour) for finding in findings]


def verdict(report: Report) -> str:
    """The last line."""
    count = {name: sum(f.severity == name for f in report.findings) for name in MARKS}
    if not report.findings:
        return tr("✓ Nothing wrong was found.", "✓ 未发现问题。")
    return tr(
        f"{count['error']} errors, {count['warning']} warnings, {count['note']} notes.",
        f"{count['error']} 项错误，{count['warning']} 项警告，{count['note']} 项提示。",
    )


def figures(report: Report) -> list[tuple[str, str]]:
    """(name, value) of the data's figures."""
    of = report.statistics
    rows = f"{of.rows:,}" + (
        tr(f" (and {report.rejected:,} unusable)", f"（另有 {report.rejected:,} 行不可用）") if report.rejected else ""
    )
    found = [(tr("rows", "行数"), rows)]
    if of.tokens:
        share = of.supervised / of.tokens
        found.append((tr("tokens", "词元数"), f"{of.tokens:,}"))
        found.append((tr("targets", "训练目标"), f"{of.supervised:,} ({share:.1%})"))
        found.append(
            (
                tr("tokens of a conversation", "单条词元数"),
                ", ".join(f"{k} {v:,}" for k, v in of.percentiles().items()),
            )
        )
    if of.turns:
        turns = ", ".join(f"{n}: {count / of.turns.total():.0%}" for n, count in sorted(of.turns.items())[:8])
        found.append((tr("answers in a conversation", "每条的回答数"), turns))
    shares = ", ".join(f"{name} {count / of.rows:.0%}" for name, count in of.languages.most_common(6))
    found.append((tr("languages", "语言"), shares or "–"))
    if of.unequal:
        found.append((tr("the chosen answer is longer", "被选中者更长"), f"{of.longer_chosen / of.unequal:.0%}"))
    if of.labels:
        found.append((tr("labelled good", "标为好"), f"{of.labels[True] / of.labels.total():.0%}"))
    if not report.compared_all:
        found.append((tr("near duplicates", "近似重复"), tr("looked for in the first rows only", "仅比较了前面的行")))
    return found


def write_page(report: Report, tokenizer: Tokenizer, title: str, path: Path) -> Path:
    """Write the report as one HTML page; all text of the data is escaped."""
    environment = templates("luhuo.align.data_check")
    bars = report.statistics.histogram()
    most = max((count for _, count in bars), default=1)
    values: dict[str, Any] = {
        "bars": [(label, count, 100 * count / most) for label, count in bars],
        "examples": [(where, [list(runs(part, tokenizer)) for part in parts]) for where, parts in report.examples],
        "findings": report.findings,
        "figures": figures(report),
    }
    page = environment.get_template("page.html.jinja").render(
        tr=tr,
        language="zh-CN" if language() == "zh" else "en",
        version=version("luhuo"),
        title=title,
        report=report,
        marks=MARKS,
        verdict=verdict(report),
        **values,
    )
    write_text(path, page)
    return path


def _histogram(report: Report) -> list[str]:
    bars = report.statistics.histogram()
    most = max((count for _, count in bars), default=1)
    width = max((len(label) for label, _ in bars), default=0)
    return [f"{label:>{width}} {'█' * round(BAR * count / most)} {count:,}" for label, count in bars]


def _headline(finding: Finding, colour: bool) -> str:
    mark = f"{COLOURS[finding.severity]}{MARKS[finding.severity]}{PLAIN}" if colour else MARKS[finding.severity]
    counted = finding.count > 1 or bool(finding.examples[0].file)  # some things are said of all the data
    count = tr(": ", "：") + f"{finding.count:,} ({finding.share:.1%})" if counted else ""
    return f"{mark} {finding.title}{count} [{finding.code}]"


def _finding(finding: Finding, colour: bool) -> list[str]:
    shown = [one for one in finding.examples if one.file or one.excerpt]
    return [
        _headline(finding, colour),
        *(printable(f"    {one.where}  {one.excerpt}".rstrip()) for one in shown),
        f"    → {finding.fix}",
    ]


def _shortened(text: str) -> str:
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}{PLAIN if PLAIN[0] in text else ''} …"
