"""The pages on text quality name every signal and limit, and their commands and settings are read by the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from luhuo.cli import app
from luhuo.corpus import rules, signals
from luhuo.corpus.factory.stages import AnnotateStage, FilterStage
from luhuo.stages import stage_class

DOCS = Path(__file__).parents[1] / "docs"
PAGES = ("corpus-quality.md", "corpus-quality.zh.md")


@pytest.fixture(params=PAGES)
def page(request: pytest.FixtureRequest) -> str:
    return (DOCS / request.param).read_text(encoding="utf-8")


def test_every_signal_is_described(page: str) -> None:
    named = set(re.findall(r"`([a-z0-9_]+\.[a-z0-9_]+)`", page))
    named |= {f"repetition.duplicate_{n}gram" for n in range(6, 10)}  # "5 … 10"
    measured = {name for lang in ("en", "zh", "de") for name in signals.measure(["text"], lang)[0]}
    assert measured <= named
    families = {name.partition(".")[0] for name in measured}
    trained = {"harmful.classifier", "quality.score", "perplexity.char", "perplexity.worst"}
    assert {name for name in named if name.partition(".")[0] in families} <= measured | trained


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_every_rule_stands_there_with_its_limits(page: str, lang: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUHUO_LANG", "zh" if "信号" in page else "en")
    rows = re.findall(r"^\| `([\w.]+)` \| ([≥≤][^|]*) \| `(\w+)`([^|]*) \| ([^|]*) \|", page, re.M)
    told = {(signal, limits, reason, bool(flag), why) for signal, limits, reason, flag, why in rows}
    for table, flagged in ((rules.load(lang), False), (rules.flags(lang), True)):
        for rule in table.values():
            low = [] if rule.min is None else [f"≥ {rule.min}"]
            high = [] if rule.max is None else [f"≤ {rule.max}"]
            assert (rule.signal, ", ".join(low + high), rule.reason, flagged, rule.why.rstrip(".。")) in told


def test_the_recipe_part_and_the_commands_are_understood(page: str) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", page, re.S)
    settings = yaml.safe_load(block)["cleaned"]
    assert settings.pop("stage") == "filter" and FilterStage.parse(settings).rules["en"]
    for models in re.findall(r"`models: (\{.*?\})`", page):
        values = {"sources": [{"name": "a", "path": "a"}], "models": yaml.safe_load(models.replace("[runs", "[ runs"))}
        AnnotateStage.parse(values)
    for line in re.findall(r"^luhuo (.*)$", page, re.M):
        name, *words = line.split()
        if "=" in line:
            pairs = dict(word.split("=", 1) for word in words if "=" in word)
            stage_class(name).parse({key: yaml.safe_load(value) for key, value in pairs.items()})
        else:
            assert CliRunner().invoke(app, [name, "--help"]).exit_code == 0


def test_both_pages_have_the_same_figures() -> None:
    def figures(name: str) -> list[str]:
        text = (DOCS / name).read_text(encoding="utf-8")
        tables = [line for line in text.splitlines() if line.startswith("|")]
        return [number.replace(",", "") for line in tables for number in re.findall(r"\d[\d,]*\.\d+%?", line)]

    assert figures(PAGES[0]) == figures(PAGES[1])
